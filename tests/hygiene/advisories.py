"""Whether what is pinned is known to be vulnerable; `./dev audit` runs this.

pip-audit asks a service that publishes advisories. It says "no known vulnerabilities", too, where a package index
knows of none at all, as many mirrors do. So each service is first asked about a release that is known to be
vulnerable, and is believed only if it says so. Where none can be asked, that is said, and is no failure: it is no
finding, and nobody who works without a network can mend it.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[2]
# Of pip-audit's services; the first one that answers is believed.
SERVICES = ("pypi", "osv")
# It sent passwords to whomever it was redirected to: CVE-2018-18074.
KNOWN_TO_BE_VULNERABLE = "requests==2.19.0"

_PIP_AUDIT = (sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json", "--timeout=15")
_PATIENCE_SECONDS = 900


class NoAnswerError(Exception):
    """pip-audit came to no end, and its last words."""


@attrs.frozen
class Audit:
    """What a service says of some releases.

    Attributes:
        audited: Those that it knows, such as "requests 2.19.0".
        unknown: The names of those that it does not.
        vulnerable: A phrase for each vulnerability.
    """

    audited: frozenset[str]
    unknown: frozenset[str]
    vulnerable: tuple[str, ...]

    @classmethod
    def read(cls, report: dict[str, Any]) -> "Audit":
        """Read what pip-audit reports."""
        known = [one for one in report["dependencies"] if "skip_reason" not in one]
        return cls(
            audited=frozenset(f"{one['name']} {one['version']}" for one in known),
            unknown=frozenset(one["name"] for one in report["dependencies"] if "skip_reason" in one),
            vulnerable=tuple(
                f"{one['name']} {one['version']}: {found['id']}, "
                + (f"mended in {', '.join(found['fix_versions'])}" if found["fix_versions"] else "not mended yet")
                for one in known
                for found in one["vulns"]
            ),
        )

    @property
    def complaints(self) -> list[str]:
        """Say what is wrong, a phrase for each."""
        # A service that knows the others knows these by another name, or they were withdrawn.
        return [*self.vulnerable, *(f"{name}: not known there as it is pinned" for name in sorted(self.unknown))]


def pinned() -> list[Path]:
    """List the files of pinned requirements."""
    return sorted(path for pattern in ("requirements/*.txt", "*/requirements.txt") for path in ROOT.glob(pattern))


def ask(service: str, arguments: Iterable[str | Path], given: str = "") -> Audit:
    """Have pip-audit ask a service; nothing is resolved or installed.

    Args:
        service: One of `SERVICES`.
        arguments: What of.
        given: Its standard input.

    Raises:
        NoAnswerError: There was no answer.
    """
    command: Sequence[str | Path] = [
        *_PIP_AUDIT,
        "--disable-pip",
        f"--vulnerability-service={service}",
        *arguments,
    ]
    try:
        ended = subprocess.run(  # noqa: S603 - ours
            command, input=given, capture_output=True, check=False, text=True, timeout=_PATIENCE_SECONDS
        )
        return Audit.read(json.loads(ended.stdout))
    except subprocess.TimeoutExpired:
        raise NoAnswerError(f"none within {_PATIENCE_SECONDS} s") from None
    except ValueError:
        raise NoAnswerError(ended.stderr.strip().rpartition("\n")[2]) from None


def why_not(service: str) -> str | None:
    """Tell why a service cannot be believed; None if it can."""
    try:
        audit = ask(service, ["--no-deps", "--requirement=/dev/stdin"], KNOWN_TO_BE_VULNERABLE)
    except NoAnswerError as error:
        return str(error)
    return None if audit.vulnerable else f"it knows nothing of the vulnerabilities of {KNOWN_TO_BE_VULNERABLE}"


def main() -> None:
    """Ask the first service that can be believed, and complain by the exit status."""
    files = pinned()
    for service in SERVICES:
        if reason := why_not(service):
            sys.stdout.write(f"{service} cannot be asked: {reason}\n")
            continue
        audits = []
        for file in files:
            try:
                audits.append(ask(service, ["--require-hashes", f"--requirement={file}"]))
            except NoAnswerError as error:
                sys.exit(f"{service} gave no answer about {file.relative_to(ROOT)}: {error}")
        if complaints := sorted({complaint for audit in audits for complaint in audit.complaints}):
            sys.exit("\n".join(complaints))
        audited = frozenset[str]().union(*(audit.audited for audit in audits))
        sys.stdout.write(f"{service} knows no vulnerability of the {len(audited)} releases that are pinned\n")
        return
    sys.stdout.write(
        f"NOT AUDITED: no service for advisories could be asked, so nothing is known of {len(files)} files of "
        "pinned requirements. Run ./dev audit where there is a network.\n"
    )


if __name__ == "__main__":
    main()
