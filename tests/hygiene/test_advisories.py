"""How reports in pip-audit's own format are read."""

import re
from typing import Any

from support.advisories import KNOWN_TO_BE_VULNERABLE, ROOT, Audit, pinned

VULNERABLE = {
    "name": "requests",
    "version": "2.19.0",
    "vulns": [
        {"id": "PYSEC-2018-28", "fix_versions": ["2.20.0"], "aliases": ["CVE-2018-18074"], "description": "…"},
        {"id": "PYSEC-2023-74", "fix_versions": [], "aliases": [], "description": "…"},
    ],
}
SOUND = {"name": "attrs", "version": "26.1.0", "vulns": []}
UNKNOWN = {"name": "uv", "skip_reason": "Dependency not found on PyPI and could not be audited: uv (0.13.9)"}


def audit(*dependencies: dict[str, Any]) -> Audit:
    """Read a report of some releases."""
    return Audit.read({"dependencies": list(dependencies), "fixes": []})


def test_each_vulnerability_is_reported_with_its_fix() -> None:
    assert audit(SOUND, VULNERABLE).complaints == [
        "requests 2.19.0: PYSEC-2018-28, mended in 2.20.0",
        "requests 2.19.0: PYSEC-2023-74, not mended yet",
    ]


def test_a_release_that_the_service_does_not_know_is_reported() -> None:
    """pip-audit itself skips such a release."""
    unknown = audit(SOUND, UNKNOWN)

    assert unknown.complaints == ["uv: not known there as it is pinned"]
    assert unknown.audited == {"attrs 26.1.0"}


def test_a_sound_release_gives_no_complaint() -> None:
    """The vulnerable example above is the release that each service is tried with."""
    assert audit(SOUND).complaints == []
    assert f"{VULNERABLE['name']}=={VULNERABLE['version']}" == KNOWN_TO_BE_VULNERABLE


def test_every_requirement_is_pinned_with_a_hash() -> None:
    for path in pinned():
        requirements = re.split(r"^(?=[\w.-]+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]

        assert requirements
        assert all(re.match(r"[\w.\[\]-]+==\S+.*\\\n +--hash=sha256:[0-9a-f]{64}", one) for one in requirements)


def test_every_file_of_pinned_requirements_is_audited() -> None:
    """The files for a single command are included."""
    hashed = {
        path
        for folder in ("requirements", "benchmarks", "src")
        for path in (ROOT / folder).glob("*.txt")
        if "--hash=sha256:" in path.read_text(encoding="utf-8")
    }

    assert hashed <= set(pinned())
    assert hashed >= {
        ROOT / "requirements/dev.txt",
        ROOT / "requirements/audit.txt",
        ROOT / "requirements/lock.txt",
    }
