"""Find what looks like a secret in the files of this repository; `./dev audit` runs this.

detect-secrets searches, with all its detectors. `no_secrets.toml` lists the findings that are not secrets, each
with a reason: by file and by hash of the finding, so that a moved line stays listed and a changed value does not.
"""

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

import attrs

KNOWN = Path(__file__).parents[1] / "hygiene" / "no_secrets.toml"
ROOT = Path(__file__).parents[2]

# Most findings would be the hashes of pinned requirements; a line of less than ten characters holds no secret.
_PASSED_OVER = [r"^ +--hash=sha256:[0-9a-f]{64}( \\)?$", r"^.{0,9}$"]
_SHA1 = re.compile("[0-9a-f]{40}")


@attrs.frozen(order=True)
class Leak:
    """A finding that looks like a secret; the secret itself is not kept.

    Attributes:
        path: The file, relative to the root of the repository.
        sha1: The SHA-1 of the finding.
        line: The line, from 1.
        kind: The kind of secret that it looks like.
    """

    path: str
    sha1: str
    line: int = attrs.field(default=0, eq=False)
    kind: str = attrs.field(default="", eq=False)


def known(text: str) -> set[Leak]:
    """Read the list of findings that are not secrets.

    Raises:
        ValueError: An entry has no reason, or holds anything but hashes.
    """
    listed = set()
    for entry in tomllib.loads(text)["file"]:
        if not entry["why"].strip():
            raise ValueError(f"{entry['path']} has no reason")
        for sha1 in entry["hashes"]:
            if not _SHA1.fullmatch(sha1):
                raise ValueError(f"{entry['path']} has an entry that is not the SHA-1 of what was found")
            listed.add(Leak(entry["path"], sha1))
    return listed


def complaints(found: Iterable[Leak], listed: set[Leak]) -> Iterator[str]:
    """Yield a sentence for each leak that is not listed, and for each listed leak that was not found."""
    found = sorted(found)
    for leak in found:
        if leak not in listed:
            yield (
                f"{leak.path}:{leak.line} looks like a secret ({leak.kind}). If it is one, it is known to the "
                f"world once it is pushed: replace it everywhere. If not, say why in {KNOWN.name}:\n"
                f'[[file]]\npath = "{leak.path}"\nwhy = ""\nhashes = ["{leak.sha1}"]'
            )
    for leak in sorted(listed.difference(found)):
        yield f"{leak.path} has no longer what {KNOWN.name} lists as {leak.sha1}: remove it there"


def to_look_into() -> list[str]:
    """List the files that are under version control or could come under it."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)  # noqa: S603 - ours
    paths = [path for path in listed.stdout.decode().split("\0") if path]
    return [path for path in paths if (ROOT / path).is_file() and ROOT / path != KNOWN]


def look_into(paths: Iterable[str]) -> list[Leak]:
    """Search files with detect-secrets, without asking the network whether a finding is valid.

    Args:
        paths: Files, relative to the current folder.
    """
    # Only ./dev audit installs it.
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class  # noqa: PLC0415 - see above
    from detect_secrets.core.secrets_collection import SecretsCollection  # noqa: PLC0415 - see above
    from detect_secrets.settings import default_settings, get_settings  # noqa: PLC0415 - see above

    secrets = SecretsCollection()
    with default_settings():
        settings = get_settings()
        assert len(settings.plugins) == len(get_mapping_from_secret_type_to_class())
        assert not any("verification" in name for name in settings.filters)
        settings.filters["detect_secrets.filters.regex.should_exclude_line"] = {"pattern": _PASSED_OVER}
        secrets.scan_files(*paths)
    return [Leak(path, one.secret_hash, one.line_number, one.type) for path, one in secrets]


def main() -> None:
    """Search every file, and exit with the complaints."""
    paths = to_look_into()
    listed = known(KNOWN.read_text(encoding="utf-8"))
    if said := list(complaints(look_into(paths), listed)):
        sys.exit("\n".join(said))
    sys.stdout.write(
        f"{len(paths)} files: no secrets; {len(listed)} that look like some are listed with reasons\n"
    )


if __name__ == "__main__":
    main()
