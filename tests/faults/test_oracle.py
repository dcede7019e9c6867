"""The oracle finds everything that is lost, doubled, changed or unexplained."""

from collections.abc import Callable
from pathlib import Path

import pytest

from rollcall.domain.user import USERS
from support.builders import add_user, asked
from support.command_line import CommandLine
from support.oracle import Found, Oracle, foreign_users
from support.uploads import FaultyUpload, made_upload

Broken = Callable[[str, Path], object]

IMPORTED = ", ".join((*USERS.columns, "import_id"))


def _imported(folder: Path, database_url: str) -> tuple[Oracle, FaultyUpload]:
    upload = made_upload("list.csv", rows=50, seed=1)
    add_user(database_url)
    file = folder / upload.key
    file.write_bytes(upload.content)
    assert CommandLine(folder, {"ROLLCALL_DATABASE_URL": database_url})("import", file).code == 3
    [receipt] = folder.glob("list.csv.rollcall/*/receipt.json")
    oracle = Oracle(
        database_url=database_url,
        read_report=lambda address: Path(address).read_bytes(),
        receipt_address=lambda _: str(receipt),
        foreign=foreign_users(database_url),
    )
    return oracle, upload


def test_an_undisturbed_import_has_no_findings(tmp_path: Path, database_url: str) -> None:
    """Neither has the empty database before it."""
    oracle, upload = _imported(tmp_path, database_url)

    oracle.require_all_settled([upload])
    assert upload.bad
    assert upload.good


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        ("delete from users where id = (select max(id) from users)", Found(lost=1)),
        (
            f"insert into users ({IMPORTED}) select {IMPORTED} from users "  # noqa: ISC004, S608 - one statement, ours
            "where id = (select max(id) from users)",
            Found(duplicated=1),
        ),
        ("update users set import_id = 99 where id = (select max(id) from users)", Found(1, 1)),
        ("update imports set undone_at = now()", Found(duplicated=44)),
    ],
)
def test_lost_and_doubled_rows_are_found(tmp_path: Path, database_url: str, broken: str, found: Found) -> None:
    """Even if the counts in the ledger agree."""
    oracle, upload = _imported(tmp_path, database_url)
    asked(database_url, broken)

    assert oracle.found([upload]) == found


@pytest.mark.parametrize(
    "break_it",
    [
        lambda url, _: asked(url, "update users set age = 42 where import_id is null"),
        lambda _, folder: next(folder.glob("*/*/receipt.json")).unlink(),
        lambda _, folder: next(folder.glob("*/*/rejected-*.csv")).write_bytes(b""),
        lambda url, _: asked(url, "delete from imports"),
    ],
    ids=["prior data", "receipt", "rejected rows", "ledger"],
)
def test_other_missing_parts_are_found(tmp_path: Path, database_url: str, break_it: Broken) -> None:
    """The promise covers the reports and the users of no import."""
    oracle, upload = _imported(tmp_path, database_url)
    break_it(database_url, tmp_path)

    with pytest.raises((AssertionError, FileNotFoundError)):
        oracle.require_all_settled([upload])
