"""The example of a record of your own, the whole way on PostgreSQL."""

import csv
import io
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from support.builders import asked
from support.command_line import CommandLine, ended

EXAMPLE = Path(__file__).parents[2] / "examples/members"
UNIQUE = {"ROLLCALL_UNIQUE_BY": "external_id", "ROLLCALL_ON_DUPLICATE": "update"}
# What an uploader writes in place of each rejected cell.
RIGHT = {
    "\N{FULLWIDTH DIGIT SEVEN}": "7",
    "xx-3": "NO-0003",
    "bob at example.com": "bob@example.com",
    "31.2.2001": "28.2.2001",
    "many": "8",
    "1.999": "2",
    "perhaps": "no",
    "owner": "guest",
    "123": "",
    "1850-01-01": "1950-01-01",
    "2000000": "1000000",
}


WRONG = r"""import attrs
from rollcall.domain.fields import Text
from rollcall.domain.record import field

@attrs.frozen
class Member:
    name: str = field(Text(9, pattern=r"\d+", example="1"))
"""


@pytest.fixture
def url(new_database: Callable[[], AbstractContextManager[str]]) -> Iterator[str]:
    """A database without any table."""
    with new_database() as made:
        yield made


@pytest.fixture
def members(tmp_path: Path, url: str) -> Iterator[CommandLine]:
    """`rollcall` in a folder with the example, whose record it uses."""
    shutil.copy(EXAMPLE / "records.py", tmp_path)
    shutil.copy(EXAMPLE / "members.csv", tmp_path)
    started = CommandLine(tmp_path, {"ROLLCALL_DATABASE_URL": url, "ROLLCALL_RECORD": "records:Member", **UNIQUE})
    yield started
    started.end_all()


def corrected(rejected: Path) -> None:
    """Correct each rejected cell of a file."""
    rows = list(csv.DictReader(io.StringIO(rejected.read_text(encoding="utf-8-sig"), newline="")))
    for row in rows:
        for column, cell in row.items():
            if not column.startswith("rollcall_"):
                row[column] = RIGHT.get(cell.removeprefix("'"), cell) or ("Ann" if column == "氏名" else "")
    with rejected.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


def test_the_example_is_imported_corrected_and_undone(members: CommandLine, url: str) -> None:
    assert members("migrate").out.endswith(
        "made the table members, made the unique index members_unique_by_external_id\n"
    )
    checked, imported = (members(command, "members.csv", "--json").records[0] for command in ("check", "import"))
    assert checked["counts"] == imported["counts"]
    assert (imported["counts"]["registered"], imported["counts"]["rejected"]) == (2, 11)
    assert {total["code"] for total in imported["totals"]} == {"blank-cell", "constraint-error", "type-error"}

    [rejected] = (members.folder / "members.csv.rollcall").rglob("rejected-*.csv")
    corrected(rejected)
    [again] = members("import", rejected, "--json").records
    assert (again["status"], again["counts"]["registered"]) == ("loaded", 11), again["rejections"]

    users = members("users", "--json").records
    assert len(users) == 13
    assert users[0] == {
        "external_id": "JP-0001",
        "name": "山田太郎",
        "email": "taro@example.jp",
        "born": "1990-04-01",
        "points": 120,
        "fee": "1500.00",
        "active": True,
        "role": "member",
        "token": None,
        "phone": "03-1234-5678",
        "country": "日本",
        "note": None,
    }
    assert members("undo", "2").code == 0
    assert asked(url, "select count(*) from members") == [(2,)]


def test_a_nightly_file_changes_only_what_differs(members: CommandLine, url: str) -> None:
    """An optional value may come and go."""
    members("migrate")
    members("import", "members.csv")
    file = members.folder / "members.csv"
    text = file.read_text(encoding="utf-8").replace(",03-1234-5678,", ",,").replace(",120,", ",121,")
    (members.folder / "next.csv").write_text(text, encoding="utf-8")
    [receipt] = members("import", "next.csv", "--json").records

    assert [receipt["counts"][count] for count in ("registered", "updated", "unchanged")] == [0, 1, 1]
    assert asked(url, "select points, phone from members order by id limit 1") == [(121, None)]


def test_a_file_that_lacks_a_column_takes_no_values_away(members: CommandLine, url: str) -> None:
    members("migrate")
    members("import", "members.csv")
    text = "external_id,name,email,points,fee,active,role,country\n"
    text += "DE-0002,Zoë,zoe@example.de,5,1,no,guest,Deutschland\n"
    (members.folder / "fewer.csv").write_text(text, encoding="utf-8")
    [receipt] = members("import", "fewer.csv", "--json").records

    assert receipt["counts"]["updated"] == 1
    query = "select name, points, born::text, token is null from members where external_id = 'DE-0002'"
    assert asked(url, query) == [("Zoë", 5, "1985-12-03", False)]


def test_no_other_file_of_the_folder_is_run(members: CommandLine) -> None:
    """An uploader may put files into the folder that is watched from there."""
    for name in "psycopg_c", "brotli", "json", "rich":
        (members.folder / f"{name}.py").write_text("raise SystemExit('it was run')\n", encoding="utf-8")
    installed = (str(Path(sys.prefix, "bin", "rollcall")),)

    assert ended(members.start("migrate", program=installed)).code == 0
    assert ended(members.start("import", "members.csv", program=installed)).code == 3


def test_the_record_in_force_is_shown(members: CommandLine) -> None:
    shown = members("record").out

    assert "declared by records:Member, table members\n" in shown
    assert "'member', 'guest' or 'staff'" in shown
    assert "氏名, Full name" in shown
    assert "| `born` | a date as 'YYYY-MM-DD' or 'D.M.YYYY'" in members("record", "--markdown").out


def test_the_example_row_is_a_good_row(members: CommandLine) -> None:
    """Its columns and cells are those of the record."""
    page = members("record", "--markdown").out
    example = page.partition("```csv\n")[2].partition("```")[0]
    (members.folder / "example.csv").write_text(example, encoding="utf-8")

    assert members("check", "example.csv").code == 0


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ({"ROLLCALL_RECORD": "Member"}, "ROLLCALL_RECORD is 'Member'; give module:Class"),
        ({"ROLLCALL_RECORD": "nowhere:Member"}, "cannot be used: No module named 'nowhere'; it is looked for in "),
        (
            {"ROLLCALL_RECORD": "records:Nobody"},
            "AttributeError: module 'records' has no attribute 'Nobody'",
        ),
        (
            {"ROLLCALL_RECORD": "records:Email"},
            "cannot be used: Email has code of its own",
        ),
        ({"ROLLCALL_RECORD": "broken:Member"}, "cannot be used: SyntaxError: "),
        ({"ROLLCALL_RECORD": "wrong:Member"}, r"the pattern \d+ is not understood; write it with ASCII"),
        ({"ROLLCALL_RECORD": "wrong:Member"}, "(wrong.py, line 7)"),
        ({"ROLLCALL_UNIQUE_BY": "phone"}, "ROLLCALL_UNIQUE_BY is 'phone'; give some of external_id, name, email"),
        (
            {"ROLLCALL_UNIQUE_BY": "active"},
            "ROLLCALL_UNIQUE_BY is 'active'; give some of external_id, ",
        ),
    ],
)
def test_a_wrong_record_stops_the_start(members: CommandLine, setting: dict[str, str], sentence: str) -> None:
    (members.folder / "wrong.py").write_text(WRONG, encoding="utf-8")
    (members.folder / "broken.py").write_text("class Member(:\n", encoding="utf-8")
    outcome = members("check", "members.csv", **setting)

    assert outcome.code == 2
    assert sentence in outcome.sentence
