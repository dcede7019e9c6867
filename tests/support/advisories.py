"""Check the pinned requirements for known vulnerabilities; `./dev audit` runs this.

pip-audit asks a service that publishes advisories. It also says "no known vulnerabilities" where a package index
knows no advisories at all, as many mirrors do. So each service is first asked about a release that is known to be
vulnerable, and is trusted only if it reports that release. If no service can be asked, the check says so and
passes: nothing was found, and a developer without a network cannot change that.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parents[2]
# pip-audit's services; the first one that can be trusted is used.
SERVICES = ("pypi", "osv")
# It sent passwords to the target of a redirect: CVE-2018-18074.
KNOWN_TO_BE_VULNERABLE = "requests==2.19.0"

_PIP_AUDIT = (sys.executable, "-m", "pip_audit", "--progress-spinner=off", "--format=json", "--timeout=15")
_PATIENCE_SECONDS = 900


class NoAnswerError(Exception):
    """pip-audit timed out or failed; the message is its last line."""


@attrs.frozen
class Audit:
    """Advisories of a service for some releases.

    Attributes:
        audited: The releases that the service knows, such as "requests 2.19.0".
        unknown: The names of the packages that the service does not know.
        vulnerable: A phrase for each vulnerability.
    """

    audited: frozenset[str]
    unknown: frozenset[str]
    vulnerable: tuple[str, ...]

    @classmethod
    def read(cls, report: dict[str, Any]) -> "Audit":
        """Read a report of pip-audit."""
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
        """One phrase for each vulnerable or unknown release."""
        # The service knows an unknown package by another name, or its release was withdrawn.
        return [*self.vulnerable, *(f"{name}: not known there as it is pinned" for name in sorted(self.unknown))]


def pinned() -> list[Path]:
    """List the files of pinned requirements."""
    return sorted(path for pattern in ("requirements/*.txt", "*/requirements.txt") for path in ROOT.glob(pattern))


def ask(service: str, arguments: Iterable[str | Path], given: str = "") -> Audit:
    """Ask a service through pip-audit; nothing is resolved or installed.

    Args:
        service: One of `SERVICES`.
        arguments: Further arguments for pip-audit.
        given: The standard input of pip-audit.

    Raises:
        NoAnswerError: The service did not answer.
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
    """Return why a service cannot be trusted, or None if it can."""
    try:
        audit = ask(service, ["--no-deps", "--requirement=/dev/stdin"], KNOWN_TO_BE_VULNERABLE)
    except NoAnswerError as error:
        return str(error)
    return None if audit.vulnerable else f"it knows nothing of the vulnerabilities of {KNOWN_TO_BE_VULNERABLE}"


def main() -> None:
    """Ask the first service that can be trusted, and exit with the complaints."""
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
