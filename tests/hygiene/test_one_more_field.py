"""One more field of the user: CONTRIBUTING's recipe, played on a copy of the project."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

ATTRIBUTE = "    email: str = field(Email())\n"
IMPORT = "from rollcall.domain.fields import Text, WholeNumber\n"
# Suites that write out the fields, and read files, tables and documents of the record.
SUITES = [f"tests/unit/test_{name}.py" for name in ("user", "docs", "openapi", "header", "api_rows")]
MOST_FILES = 5
SECONDS = 300


def test_a_field_is_one_attribute_its_documents_and_few_tests(tmp_path: Path) -> None:
    """The table, the header, messages and the Web API derive from the attribute."""
    copied = tmp_path / "project"
    _copy_what_git_knows(copied)
    _replace(copied / "src/rollcall/domain/user.py", IMPORT, IMPORT.replace("import ", "import Email, "))
    with (copied / "src/rollcall/domain/user.py").open("r+", encoding="utf-8") as file:
        before, after = file.read().split("\n\n\nUSERS = ")
        file.seek(0)
        file.write(f"{before}\n{ATTRIBUTE}\n\nUSERS = {after}")
    row = "an address such as ann@example.com"
    _replace(copied / "docs/csv.md", "from 0 to 150 |\n\n", f"from 0 to 150 |\n  | `email` | {row} |\n\n")
    _replace(copied / "README.md", "in digits |\n", f"in digits |\n| `email` | {row} |\n")
    document = _run(copied, "-c", "from rollcall.entrypoints.__main__ import main; main()", "openapi")
    (copied / "docs/openapi.json").write_text(document, encoding="utf-8")

    assert '"email"' in document
    outcome = _run(copied, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SUITES)
    to_edit = set(re.findall(r"^(?:FAILED|ERROR) (tests/\S+?)::", outcome, re.MULTILINE))
    assert " passed" in outcome
    assert len(to_edit) <= MOST_FILES, to_edit


def _copy_what_git_knows(copied: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z"],  # noqa: S607 - as above
        cwd=ROOT,
        check=True,
        capture_output=True,
        timeout=SECONDS,
    ).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (ROOT / name).is_file():
            (copied / name).parent.mkdir(parents=True, exist_ok=True)
            (copied / name).write_bytes((ROOT / name).read_bytes())


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def _run(copied: Path, *arguments: str) -> str:
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "ROLLCALL_"))
    }
    ended = subprocess.run(  # noqa: S603 - our own words
        [sys.executable, *arguments],
        cwd=copied,
        env={**inherited, "PYTHONPATH": str(copied / "src"), "CI": ""},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert "Traceback" not in ended.stderr, ended.stderr
    return ended.stdout
