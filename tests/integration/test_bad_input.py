"""Bad input gives one clear sentence and the right exit code, no traceback, and registers nobody."""

import gzip
import os
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest

from rollcall.domain.user import USERS
from support.builders import MORE, MORE_CELLS
from support.command_line import CommandLine, ended, imports, users

NOBODY = 65534
HEADER = ",".join([*MORE, "name,country,age\n"]).encode()


def test_files_that_are_not_lists_of_users_are_refused(rollcall: CommandLine, database_url: str) -> None:
    """A refusal is a verdict, not a failure: it is printed and stored in the ledger."""
    lacking = [column for column in USERS.columns if column not in {"name", "age"}]
    latin = HEADER + MORE_CELLS.encode() + b"Ann,C\xf4te d'Ivoire,30\n"
    files = {
        "empty": (b"", "empty-file", "the file is empty; the first line must name the columns"),
        "blank": (b" \n\n,,\n", "empty-file", "the file holds nothing; the first line must name the columns"),
        "no header": (
            b"Ann,Chile,30\nBob,UK,20\n",
            "missing-label",
            f"no column is called {', '.join(USERS.columns)}; the first line has 'Ann', 'Chile', '30'",
        ),
        "wrong header": (
            b"name,land,age\nAnn,Chile,30\n",
            "missing-label",
            f"no column is called {', '.join(lacking)}; the first line has 'name', 'land', 'age' and must name",
        ),
        "twice": (HEADER.replace(b"age", b"age,Name"), "duplicate-label", "2 columns are called name"),
        "latin": (
            latin,
            "encoding-error",
            f"the first byte that does not fit is in line 2, byte offset {latin.index(0xF4)}",
        ),
        "workbook": (b"PK\x03\x04[Content_Types].xml", "format-error", "is an Excel workbook (.xlsx), not a CSV"),
        "cut": (gzip.compress(HEADER)[:-9], "compression-error", "damaged or cut short"),
        "nobody": (
            HEADER + f"{MORE_CELLS}Ann,Chile,x\n{MORE_CELLS}Bob,UK,-1\n".encode(),
            "too-many-rejections",
            "2 of 2 rows rejected: age is of the wrong kind, e.g. line 2; no row is good",
        ),
    }
    for name, (content, _, _) in files.items():
        (rollcall.folder / name).write_bytes(content)

    outcome = rollcall("import", *files, "--json")

    assert (outcome.code, outcome.err) == (4, "")
    for receipt, (_, code, message) in zip(outcome.records, files.values(), strict=True):
        assert (receipt["status"], receipt["code"]) == ("refused", code)
        assert message in receipt["message"]
    assert users(database_url) == []
    assert imports(database_url) == [("refused", 0)] * len(files)


def test_a_refusal_gives_a_person_the_reason(rollcall: CommandLine) -> None:
    """The verdict on the file, and the reason."""
    (rollcall.folder / "users.csv").write_text("name;land;age\nAnn;Chile;30\n")

    outcome = rollcall("import", "users.csv")

    assert (outcome.code, outcome.err) == (4, "")
    [head, reason, next_step, command] = outcome.out.splitlines()
    assert head == "refused  users.csv"
    assert reason.startswith("  no column is called country")
    assert "; the first line has 'name', 'land', 'age' and must" in reason
    assert next_step == "  next: correct the file itself, then import it again:"
    assert command.endswith("rollcall import users.csv")


def test_a_file_with_only_a_header_is_loaded(rollcall: CommandLine, database_url: str) -> None:
    """An empty list has no fault."""
    (rollcall.folder / "users.csv").write_bytes(HEADER)

    outcome = rollcall("import", "users.csv")

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith("loaded  users.csv\n  0 rows read (import 1, ")
    assert imports(database_url) == [("loaded", 0)]


def test_a_path_that_is_not_a_file_is_named(rollcall: CommandLine, database_url: str) -> None:
    """A missing file, a folder, a pipe, a file used as a folder, a name that is too long."""
    here = rollcall.folder
    (here / "file").touch()
    (here / "folder").mkdir()
    os.mkfifo(here / "pipe")

    outcome = rollcall("import", "missing", "folder", "pipe", "/dev/stdin", "file/inside", "x" * 300)

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.splitlines() == [
        f"rollcall: there is no {here / 'missing'}",
        f"rollcall: {here / 'folder'}: it is a folder",
        f"rollcall: {here / 'pipe'}: it is not a regular file; save the list in one and name that",
        "rollcall: /dev/stdin: it is not a regular file; save the list in one and name that",
        f"rollcall: there is no {here / 'file/inside'}",
        f"rollcall: there is no '{str(here / ('x' * 300)).lstrip('/')}'",
    ]
    assert imports(database_url) == []


def test_a_folder_without_write_access_stops_the_import(
    rollcall: CommandLine, sample: Path, database_url: str
) -> None:
    """Nothing is registered without a receipt; the command that the message advises works."""
    sample.with_name(f"{sample.name}.rollcall").touch()

    outcome = rollcall("import", sample)

    assert outcome.code == 1
    assert outcome.sentence.startswith("nothing is registered, and the reports could not be stored: ")
    assert outcome.sentence.endswith(
        ": not a directory; to store them elsewhere, run the command again with --reports FOLDER"
    )
    assert imports(database_url) == []
    assert rollcall("import", sample, "--reports", "elsewhere").code == 0


def test_an_unreadable_file_is_named(rollcall: CommandLine, sample: Path) -> None:
    """Root may read everything, so the process opens files as another user; it loads its modules as root."""
    sample.chmod(0)
    script = f"""
import os
from rollcall.entrypoints.__main__ import main
as_root = os.open
def as_nobody(*arguments, **options):
    os.seteuid({NOBODY})
    try:
        return as_root(*arguments, **options)
    finally:
        os.seteuid(0)
if os.geteuid() == 0:
    os.open = as_nobody
main()
"""

    outcome = ended(rollcall.start("check", sample, program=[sys.executable, "-c", script]))

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.sentence == f"{sample}: permission denied"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["import"], "missing argument 'FILE…|s3://BUCKET/KEY…'; see rollcall import --help"),
        (["undo", "first"], "invalid value for 'ID': 'first' is not a valid integer; see rollcall undo --help"),
        (["users", "--limit", "-1"], "invalid value for '--limit': -1 is not in the range x>=0"),
        (["export"], "no such command 'export'"),
        (["import", "s3://", "--reports", "reports"], "s3:// names no object; give s3://BUCKET/KEY"),
        (
            ["import", "users.csv", "--reports", "s3://"],
            "--reports is 's3://'; give a folder or s3://bucket[/prefix]",
        ),
    ],
)
def test_wrong_usage_is_explained(rollcall: CommandLine, arguments: list[str], sentence: str) -> None:
    """With the given value, the allowed values, and the command that gives help."""
    outcome = rollcall(*arguments)

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.sentence.startswith(sentence)


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        (
            "ROLLCALL_MAX_REJECTED",
            "many",
            "ROLLCALL_MAX_REJECTED is 'many'; give all, a count such as 10, or a percentage such as 2.5%",
        ),
        (
            "ROLLCALL_DATABASE_UR",
            "postgresql://canary:s3cret@127.0.0.1/",
            "ROLLCALL_DATABASE_UR is '(hidden)'; give one of the existing settings: ROLLCALL_BUCKET_OWNER, ",
        ),
    ],
)
def test_a_wrong_setting_stops_the_start(rollcall: CommandLine, name: str, value: str, told: str) -> None:
    """With its name, its value unless that is a secret, and the allowed values."""
    outcome = rollcall("imports", **{name: value})

    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.sentence.startswith(told)


@pytest.mark.parametrize("command", ["import", "check", "watch", "imports", "users", "undo", "migrate"])
def test_help_works_with_wrong_settings(rollcall: CommandLine, command: str) -> None:
    """Help is for people whose settings are wrong."""
    outcome = rollcall(command, "--help", ROLLCALL_MAX_REJECTED="many", ROLLCALL_WHAT="1")

    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.startswith(f"Usage: rollcall {command} ")


def test_the_version_works_with_wrong_settings(rollcall: CommandLine) -> None:
    outcome = rollcall("--version", ROLLCALL_MAX_REJECTED="many")

    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize(
    ("command", "address", "code"),
    [
        ("imports", "mysql://canary:s3cret@127.0.0.1:1/users", 2),
        ("imports", "postgresql://canary:with@s3cret@127.0.0.1:1/users", 2),
        ("imports", "postgresql://canary:s3cret%ZZ@127.0.0.1:1/users", 1),
        ("migrate", "postgresql://canary:s3cret@127.0.0.1:1/users?what=this", 1),
        ("migrate", "postgresql://canary:s3cret@127.0.0.1:1/users", 1),
    ],
)
def test_a_password_is_never_shown(rollcall: CommandLine, command: str, address: str, code: int) -> None:
    """Neither the settings nor a failed connection shows it, with any fault in the address."""
    outcome = rollcall(command, ROLLCALL_DATABASE_URL=address)

    assert (outcome.code, outcome.out) == (code, "")
    assert outcome.sentence
    assert "s3cret" not in outcome.err


def test_an_unreachable_database_is_named(rollcall: CommandLine, sample: Path) -> None:
    """By host and port; the file stays unchanged, with no reports beside it."""
    outcome = rollcall("import", sample, ROLLCALL_DATABASE_URL="postgresql://127.0.0.1:1/users")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.sentence.startswith("the database could not be reached: ")
    assert '"127.0.0.1", port 1 failed: Connection refused' in outcome.sentence
    assert list(rollcall.folder.iterdir()) == [sample]


def test_a_database_without_utf_8_is_refused(
    rollcall: CommandLine,
    sample: Path,
    database_server: str,
    new_database: Callable[[], AbstractContextManager[str]],
) -> None:
    """Such a database could not store every name."""
    with new_database() as url:
        name = urlsplit(url).path.removeprefix("/")
        with psycopg.connect(database_server, autocommit=True) as connection:
            connection.execute(f"drop database {name}".encode())
            connection.execute(f"create database {name} template template0 encoding 'LATIN1' locale 'C'".encode())
        there = attrs.evolve(rollcall, environment={"ROLLCALL_DATABASE_URL": url})

        for command in ("import", sample), ("migrate",):
            outcome = there(*command)

            assert (outcome.code, outcome.out) == (1, "")
            assert "has the encoding LATIN1, in which not every name can be stored" in outcome.sentence
