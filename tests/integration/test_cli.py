"""The command line with good files, and with files that are mostly good."""

import json
import os
import re
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import attrs
import pytest

from rollcall.adapters.embedded_postgres import running
from rollcall.application.receipts import from_dict
from rollcall.application.rejected_rows import token_of
from rollcall.domain.correction import Verdict
from rollcall.entrypoints.cli import cli
from support.builders import MORE, MORE_CELLS, WRITTEN, asked, completed, completed_text
from support.case_files import CASES, EXPECTED, path_of, require_as_expected
from support.command_line import (
    LARGE,
    CommandLine,
    Outcome,
    ended,
    go_on_with,
    imports,
    screen,
    stop_midway,
    users,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from mypy_boto3_s3 import S3Client

SAMPLE = [
    ("Taro", "Japan", 30),
    ("Alice", "USA", 28),
    ("Bob", "UK", 35),
    ("Maria", "Germany", 25),
    ("Li", "China", 32),
]
GOOD_OF_MESSY = [
    ("Søren Ørsted", "Danmark", 41),
    ("山田太郎", "日本", 29),
    ("O'Brien, Mary", "Ireland", 52),
    ("Nguyễn Thị Minh", "Việt Nam", 38),
]
COMMANDS = ("import", "check", "watch", "imports", "users", "undo", "migrate")
NOWHERE = "postgresql://127.0.0.1:1/nowhere"
# A locale without UTF-8, such as Latin-1 or that of a bare cron; Python would correct it by default.
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
# All the examples, and files from other projects' test suites.
FILES = [
    *sorted((Path(__file__).parents[2] / "examples").glob("*.csv")),
    *sorted(CASES.glob("*.csv")),
]


def _tree(folder: Path) -> list[str]:
    """Return every path in a folder."""
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def _words(outcome: Outcome) -> str:
    """Return the output on one line, independent of the width of the terminal."""
    return " ".join(outcome.out.split())


def test_an_upload_is_registered_with_a_summary(rollcall: CommandLine, sample: Path, database_url: str) -> None:
    """The sample registers five users, and two lines say so."""
    outcome = rollcall("import", sample)

    assert (outcome.code, outcome.err) == (0, "")
    assert re.fullmatch(
        r"loaded  sample_users\.csv\n"
        r"  5 rows read: 5 registered \(import 1, \d+\.\d\d s, [\d,]+ rows/s\)\n",
        outcome.out,
    )
    assert users(database_url) == SAMPLE


def test_bad_rows_are_listed_and_good_rows_registered(
    rollcall: CommandLine, messy: Path, database_url: str
) -> None:
    """Each has its line and reason; the last line of the output is the command that imports the corrected rows."""
    outcome = rollcall("import", messy)

    assert outcome.code == 3
    assert users(database_url) == GOOD_OF_MESSY
    [head, counts, ignored, *table, _, command] = outcome.out.splitlines()
    assert head == "partially loaded  messy_users.csv"
    assert counts.startswith("  8 rows read: 4 registered, 4 rejected (import 1, ")
    assert ignored == "  columns ignored: Note"
    n = len(MORE)
    assert table == [
        "  line  reason",
        "     5  [type-error] age is 'thirty', not a whole number; give digits only, 0 to 150",
        "     6  [blank-cell] name is blank; give 1 to 200 characters",
        "     7  [constraint-error] age is '151'; give 0 to 150",
        f"     8  [missing-cell] the row has {2 + n} cells where the header has {4 + n}; add what is missing",
    ]
    [folder] = Path(f"{messy}.rollcall").iterdir()
    [rejected] = folder.glob("rejected-*.csv")
    assert command == f"    rollcall import {rejected.relative_to(rollcall.folder)}"
    assert _tree(folder) == ["receipt.html", "receipt.json", rejected.name]
    assert "thirty" in rejected.read_text(encoding="utf-8-sig")


def test_corrected_rows_are_registered(rollcall: CommandLine, messy: Path, database_url: str) -> None:
    """The command at the end of the summary registers them."""
    command = rollcall("import", messy).out.splitlines()[-1].split()[-1]
    rejected = rollcall.folder / command
    rows = rejected.read_text(encoding="utf-8-sig").splitlines()
    corrected = rows[1].replace("thirty", "30")
    rejected.write_text("\n".join([rows[0], corrected]), encoding="utf-8-sig")

    outcome = rollcall("import", command)

    assert outcome.code == 0
    assert users(database_url) == [*GOOD_OF_MESSY, ("José Álvarez", "España", 30)]


def test_many_bad_rows_are_counted_by_fault(rollcall: CommandLine) -> None:
    """Only the first rows are listed; the totals are exact."""
    rows = "".join(f"Ann,Chile,{'x' if number < 30 else 999}\n" for number in range(1000))
    (rollcall.folder / "users.csv").write_text(completed_text(f"name,country,age\nAnn,Chile,1\n{rows}"))

    outcome = rollcall("check", "users.csv")

    assert outcome.code == 3
    assert outcome.out.splitlines()[-6:] == [
        "    22  [type-error] age is 'x', not a whole number; give digits only, 0 to 150",
        "  and 980 more; all of them by fault:",
        "  rows  first line  fault",
        "   970          33  age is outside its limits",
        "    30           3  age is of the wrong kind",
        "not checked: whether this upload, its content or another version of it is already imported",
    ]


def test_the_same_upload_is_imported_once(rollcall: CommandLine, sample: Path, database_url: str) -> None:
    """The second run says so, and is not a failure."""
    first = rollcall("import", sample)
    again = rollcall("import", sample)

    assert (first.code, again.code) == (0, 0)
    assert again.out.splitlines() == [
        "skipped  sample_users.csv",
        "  this upload is already imported as import 1; nothing was registered again",
    ]
    assert users(database_url) == SAMPLE


def test_the_same_content_is_imported_once(rollcall: CommandLine, sample: Path, database_url: str) -> None:
    """Another name does not register the users again; the message names the first import."""
    copy = sample.with_name("copy.csv")
    copy.write_bytes(sample.read_bytes())
    rollcall("import", sample)

    outcome = rollcall("import", copy, "--json")

    assert outcome.code == 0
    [receipt] = outcome.records
    assert (receipt["status"], receipt["code"]) == ("skipped", "repeat")
    assert f"already imported as import 1 ({sample})" in receipt["message"]
    assert users(database_url) == SAMPLE


def test_an_undo_that_finds_less_wants_a_yes(rollcall: CommandLine, sample: Path, database_url: str) -> None:
    """Without a person to ask, it names both numbers and changes nothing."""
    rollcall("import", sample)
    asked(database_url, "delete from users where name = 'Taro'")

    refused = rollcall("undo", "1")

    assert refused.code == 1
    assert "registered 5 users, and only 4 of them are still in the table" in refused.err
    assert "--yes" in refused.err
    assert rollcall("undo", "1", "--yes").out == "import 1 is undone: 4 users removed\n"


def test_an_edited_loaded_file_is_refused_without_as_new(
    rollcall: CommandLine, sample: Path, database_url: str
) -> None:
    """Importing it would most likely register everyone twice; the message gives every next step."""
    rollcall("import", sample)
    sample.write_text(f"{sample.read_text()}{MORE_CELLS}Zoë,France,41\n", encoding="utf-8")

    refused = rollcall("import", sample)

    assert refused.code == 4
    assert refused.out.startswith("refused  sample_users.csv\n")
    for way_on in (
        "another version of this file is already loaded as import 1",
        "next: undo import 1: rollcall undo 1",
        "or: import it as a list of new users: rollcall import --as-new sample_users.csv",
    ):
        assert way_on in _words(refused)
    assert users(database_url) == SAMPLE

    as_new = rollcall("import", sample, "--as-new")

    assert as_new.code == 0
    assert users(database_url) == [*SAMPLE, *SAMPLE, ("Zoë", "France", 41)]


def test_an_undone_file_is_skipped_without_again(rollcall: CommandLine, sample: Path, database_url: str) -> None:
    """Undo removes the users; only `--again` imports the same file once more."""
    rollcall("import", sample)
    undone = rollcall("undo", "1")

    assert (undone.code, undone.out) == (0, "import 1 is undone: 5 users removed\n")
    assert users(database_url) == []

    skipped = rollcall("import", sample)

    assert skipped.code == 0
    assert "undone next: import it again: rollcall import --again sample_users.csv" in _words(skipped)
    assert users(database_url) == []
    assert rollcall("imports").out.splitlines()[1].split()[:3] == ["1", "undone", "5"]

    again = rollcall("import", sample, "--again")

    assert again.code == 0
    assert users(database_url) == SAMPLE

    one = rollcall.folder / "one.csv"
    one.write_text(completed_text("name,country,age\nZoë,France,41\n"), encoding="utf-8")
    rollcall("import", one)

    assert rollcall("undo", "3").out == "import 3 is undone: 1 user removed\n"


@pytest.mark.parametrize(
    ("settings", "asked"),
    [
        ({"ROLLCALL_DATABASE_URL": "memory:"}, "a database in memory"),
        ({}, "the database {name} at {host}"),
        (
            {"ROLLCALL_DATABASE_URL": "postgresql://rollcall:s3cret@", "PGHOST": "{host}", "PGDATABASE": "{name}"},
            "the database {name} at {host}",
        ),
    ],
    ids=["memory", "named", "in libpq's variables"],
)
def test_a_message_that_nothing_was_found_names_the_database(
    rollcall: CommandLine, settings: dict[str, str], asked: str, database_url: str
) -> None:
    """The most likely cause is the wrong database; its password is not shown."""
    address = urlsplit(database_url)
    known = {
        "name": address.path.removeprefix("/"),
        "host": dict(parse_qsl(address.query)).get("host") or address.netloc.rpartition("@")[2],
    }
    settings = {name: value.format(**known) for name, value in settings.items()}

    asked = f"; asked: {asked.format(**known)}"

    unknown, nobody = rollcall("undo", "7", **settings), rollcall("users", **settings)
    nothing = rollcall("imports", **settings)

    assert unknown.code == 1
    assert unknown.sentence.startswith("there is no import 7")
    assert unknown.sentence.endswith(asked)
    assert nobody == Outcome(0, f"no users{asked}\n", "")
    assert nothing == Outcome(0, f"no imports yet{asked}\n", "")


def test_an_unknown_correction_names_the_database(rollcall: CommandLine) -> None:
    """The row may have been rejected in another database."""
    (rollcall.folder / "a.csv").write_text(
        completed_text("name,country,age,rollcall_line,rollcall_import\nAnn,Chile,1,2,7\n")
    )

    outcome = rollcall("import", "a.csv", ROLLCALL_DATABASE_URL="memory:")

    assert outcome.code == 4
    assert "  asked: a database in memory\n" in outcome.out


def test_json_output_is_only_receipts(rollcall: CommandLine, sample: Path, messy: Path) -> None:
    """One receipt a line, in the order of the arguments, equal to the stored receipt."""
    outcome = rollcall("import", "--json", sample, messy)

    assert (outcome.code, outcome.err) == (3, "")
    assert [receipt["status"] for receipt in outcome.records] == ["loaded", "partially_loaded"]
    assert outcome.out.isascii()
    for receipt, path in zip(outcome.records, (sample, messy), strict=True):
        [stored] = Path(f"{path}.rollcall").glob("*/receipt.json")
        assert json.loads(stored.read_bytes()) == receipt
        assert receipt["source"]["key"] == str(path)

    listed = rollcall("imports", "--json")

    assert (listed.code, listed.err) == (0, "")
    assert listed.records == [{**receipt, "undone": False} for receipt in reversed(outcome.records)]
    assert rollcall("imports", "2", "--json").records == listed.records[:1]


def test_the_history_lists_the_result_of_each_import(rollcall: CommandLine, sample: Path, messy: Path) -> None:
    """The newest first; a single import with the whole summary of its run."""
    told = rollcall("import", sample, messy)
    listed = rollcall("imports")
    one = rollcall("imports", "2")

    assert re.fullmatch(
        r"import  status            registered  rejected  started           upload\n"
        r"     2  partially loaded           4         4  \d{4}-\d\d-\d\d \d\d:\d\d  messy_users\.csv\n"
        r"     1  loaded                     5         0  \d{4}-\d\d-\d\d \d\d:\d\d  sample_users\.csv\n",
        listed.out,
    )
    assert one.out.startswith("import 2, started ")
    assert one.out.splitlines()[1:] == told.out.splitlines()[2:]


def test_users_are_listed_in_the_order_of_their_files(rollcall: CommandLine, sample: Path, messy: Path) -> None:
    """All, those of one import, or the first few; as a table or as JSON lines."""
    rollcall("import", sample, messy)
    everybody = rollcall("users", "--json")
    some = rollcall("users", "--import", "2", "--limit", "2", "--json")
    table = rollcall("users", "--import", "1", "--limit", "2")

    shown, of_messy = ([tuple(map(one.get, WRITTEN)) for one in outcome.records] for outcome in (everybody, some))
    assert shown == [*SAMPLE, *GOOD_OF_MESSY]
    assert everybody.out.isascii()
    assert of_messy == GOOD_OF_MESSY[:2]
    *lines, note = table.out.splitlines()
    assert [line[:19] for line in lines] == ["name   country  age", "Taro   Japan     30", "Alice  USA       28"]
    assert note == "the first 2; more with --limit, all with --json"


def test_several_files_give_the_worst_exit_code(
    rollcall: CommandLine, sample: Path, messy: Path, database_url: str
) -> None:
    """A missing or refused file does not stop the import of the others."""
    (rollcall.folder / "wrong.csv").write_text("vorname,land\nAnn,Chile\n")

    with_refused = rollcall("import", "wrong.csv", messy, "--json")
    with_missing = rollcall("import", "missing.csv", "wrong.csv", sample, "--json")

    assert with_refused.code == 4
    assert [receipt["status"] for receipt in with_refused.records] == ["refused", "partially_loaded"]
    assert with_missing.code == 1
    assert [receipt["status"] for receipt in with_missing.records] == ["refused", "loaded"]
    assert with_missing.sentence == f"there is no {rollcall.folder / 'missing.csv'}"
    assert users(database_url) == [*GOOD_OF_MESSY, *SAMPLE]


def test_a_check_gives_the_verdict_of_an_import(rollcall: CommandLine, tmp_path: Path) -> None:
    """For every file, the receipts agree except for time, id and place; a check needs no database."""

    def verdict(receipt: dict[str, Any]) -> dict[str, Any]:
        of_this_run = {"started", "seconds", "rows_per_second", "import_id", "rejected_rows", "remedies"}
        return {name: value for name, value in receipt.items() if name not in of_this_run}

    settings = {"ROLLCALL_ON_REPEAT": "import"}
    for path in FILES:
        (tmp_path / path.name).write_bytes(completed(path.read_bytes()))
    files = sorted(tmp_path.iterdir())
    before = _tree(tmp_path)
    checked = rollcall("check", "--json", *files, **settings, ROLLCALL_DATABASE_URL=NOWHERE)

    assert _tree(tmp_path) == before

    imported = rollcall("import", "--json", "--reports", tmp_path / "reports", *files, **settings)

    assert len(files) > 50
    assert {receipt["status"] for receipt in imported.records} == {"loaded", "partially_loaded", "refused"}
    assert list(map(verdict, checked.records)) == list(map(verdict, imported.records))
    assert checked.code == imported.code == 4
    assert checked.err == ""


@pytest.mark.parametrize(("status", "code"), [("loaded", 0), ("partially_loaded", 3), ("refused", 4)])
def test_a_check_gives_the_expected_verdict_on_every_case(rollcall: CommandLine, status: str, code: int) -> None:
    """The verdict of tests/cases/expected.json, and the exit code."""
    names = [name for name, expected in EXPECTED.items() if expected["status"] == status]

    outcome = rollcall("check", "--json", *map(path_of, names), ROLLCALL_DATABASE_URL=NOWHERE)

    assert outcome.code == code
    for name, receipt in zip(names, outcome.records, strict=True):
        require_as_expected(name, from_dict(receipt))


def test_a_check_says_what_it_did_not_check(rollcall: CommandLine, sample: Path) -> None:
    """Only the database knows earlier imports."""
    outcome = rollcall("check", sample, ROLLCALL_DATABASE_URL=NOWHERE)

    assert outcome.code == 0
    [head, _, left_out] = outcome.out.splitlines()
    assert head == "would be loaded  sample_users.csv"
    assert left_out.startswith("not checked: whether this upload, its content or another version of it")
    assert _tree(rollcall.folder) == ["sample_users.csv"]


def test_a_check_names_unchecked_users_and_corrections(rollcall: CommandLine) -> None:
    """A check finds duplicates within the file; only the database knows earlier users and corrections."""
    (rollcall.folder / "users.csv").write_text(completed_text("name,country,age\nAnn,Chile,30\nAnn,Chile,31\n"))
    two, three = (token_of(Verdict(1, b"secret").origin(line)) for line in (2, 3))
    corrected = completed_text(
        "name,country,age,rollcall_line,rollcall_import\n"
        f"Ann,Chile,30,2,{two}\nBob,Chile,31,2,{two}\nCem,Chile,1,3,{three}\n"
    )
    (rollcall.folder / "corrected.csv").write_text(corrected)

    unique = rollcall("check", "users.csv", ROLLCALL_UNIQUE_BY="name", ROLLCALL_ON_DUPLICATE="reject")
    corrections = rollcall("check", "corrected.csv")

    first = "not checked: whether this upload, its content or another version of it is already imported"
    assert "  2 rows read: 1 registered, 1 rejected" in unique.out
    assert unique.out.splitlines()[-1] == f"{first}; whether its users already exist"
    assert "  3 rows read: 2 registered, 1 rejected" in corrections.out
    assert corrections.out.splitlines()[-1] == f"{first}; whether its rows were already corrected"


def test_reports_go_to_the_given_folder(rollcall: CommandLine, messy: Path) -> None:
    """By option or by setting; then there are no reports beside the file."""
    outcome = rollcall("import", messy, "--reports", "here/and/there")
    by_setting = (rollcall.folder / "sét").as_uri()
    rollcall("import", messy, "--as-new", ROLLCALL_REPORTS=by_setting, **PLAIN_C)

    assert outcome.code == 3
    [receipt] = (rollcall.folder / "here/and/there" / messy.relative_to("/")).glob("*/receipt.json")
    [rejected] = receipt.parent.glob("rejected-*.csv")
    assert json.loads(receipt.read_bytes())["rejected_rows"] == str(rejected)
    assert list((rollcall.folder / "sét" / messy.relative_to("/")).glob("*/receipt.json"))
    assert not Path(f"{messy}.rollcall").exists()


def test_an_upload_in_s3_is_imported_with_its_reports_in_s3(
    rollcall: CommandLine,
    messy: Path,
    database_url: str,
    s3_client: "S3Client",
    new_bucket: "Callable[[bool], str]",
) -> None:
    """As from a file, and skipped the second time; a missing object is named."""
    incoming, reports = new_bucket(True), new_bucket(False)  # noqa: FBT003 - with versions and without
    s3_client.put_object(Bucket=incoming, Key="march/users 1.csv", Body=messy.read_bytes())
    command = "import", f"s3://{incoming}/march/users 1.csv", "--reports", f"s3://{reports}/from", "--json"

    first, again = rollcall(*command), rollcall(*command)
    missing = rollcall("import", f"s3://{incoming}/none.csv", "--reports", f"s3://{reports}")

    assert (first.code, again.code, first.err) == (3, 0, "")
    [receipt], [second] = first.records, again.records
    assert (receipt["source"]["bucket"], receipt["source"]["key"]) == (incoming, "march/users 1.csv")
    assert (second["status"], second["code"]) == ("skipped", "redelivery")
    assert users(database_url) == GOOD_OF_MESSY
    folder = f"from/march/users 1.csv/{receipt['source']['version']}"
    stored = {found["Key"] for found in s3_client.list_objects_v2(Bucket=reports)["Contents"]}
    assert stored == {
        f"{folder}/receipt.html",
        f"{folder}/receipt.json",
        receipt["rejected_rows"].removeprefix(f"s3://{reports}/"),
    }
    assert missing.code == 1
    assert missing.sentence == f"there is no s3://{incoming}/none.csv"


def test_an_upload_in_s3_needs_a_place_for_its_reports(rollcall: CommandLine) -> None:
    """S3 has no folder beside an upload that differs from uploads."""
    outcome = rollcall("import", "s3://incoming/users.csv")

    assert outcome.code == 2
    assert outcome.sentence == (
        "an upload in S3 needs a store for its receipt: give --reports; see rollcall import --help"
    )


def test_a_database_in_memory_can_be_used_for_a_trial(rollcall: CommandLine, sample: Path) -> None:
    """It is empty in every run."""
    for _ in range(2):
        outcome = rollcall("import", sample, "--json", ROLLCALL_DATABASE_URL="memory:")

        assert outcome.code == 0
        assert outcome.records[0]["status"] == "loaded"


def test_only_migrate_creates_the_tables_of_your_own_database(
    rollcall: CommandLine, sample: Path, new_database: "Callable[[], AbstractContextManager[str]]"
) -> None:
    """Before that, the message names the command; a second migration changes nothing."""
    with new_database() as url:
        there = attrs.evolve(rollcall, environment={"ROLLCALL_DATABASE_URL": url})
        too_early = there("import", sample)

        assert too_early.code == 1
        assert too_early.sentence.endswith("has no tables of Rollcall yet; run: rollcall migrate")
        assert not Path(f"{sample}.rollcall").exists()

        first, second = there("migrate"), there("migrate")

        assert first.code == 0
        assert re.fullmatch(r"applied (\d{4}\.\w+, )+made the table users\n", first.out)
        assert (second.code, second.out) == (0, "the schema is up to date\n")
        assert there("import", sample).code == 0
        assert users(url) == SAMPLE


def test_without_a_setting_the_embedded_database_is_used(rollcall: CommandLine, sample: Path, messy: Path) -> None:
    """Nobody has to install, start or migrate a database, and later runs find the users."""
    data = rollcall.folder / "data"
    alone = CommandLine(rollcall.folder, {"ROLLCALL_DATA": str(data)})
    imported, again, unknown = alone("import", sample), alone("import", sample), alone("undo", "7")
    script = Path(sys.executable).with_name("rollcall")
    program, elsewhere = [str(script)], {"PATH": "/nowhere"}
    in_part = ended(alone.start("import", messy, "--reports", "out put", program=program, environment=elsewhere))

    assert (imported.code, imported.err) == (0, "")
    assert imported.out.startswith("loaded")
    assert again.out.startswith("skipped")
    assert unknown.sentence.endswith(f"; asked: the embedded PostgreSQL in {data}")
    next_command = in_part.out.splitlines()[-1]
    assert next_command.startswith(f"    ROLLCALL_DATA={data} {script} import --reports='out put' 'out put/")
    assert not (data / "postgres" / "postmaster.pid").exists()
    with running(data) as url:
        assert users(url) == [*SAMPLE, *GOOD_OF_MESSY]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_every_command_has_examples(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Each example is a line of its own that begins with the command."""
    code = cli.main([command, "--help"], prog_name="rollcall", standalone_mode=False)

    told = capsys.readouterr().out
    assert code == 0
    assert told.startswith(f"Usage: rollcall {command} [OPTIONS]")
    _, examples = told.split("\n  Examples:\n")
    assert re.match(rf"    (\w+=\S+ )?rollcall {command}\b", examples)
    assert "\\b" not in told


def test_without_a_command_the_help_is_shown(rollcall: CommandLine) -> None:
    """The same help, but with the exit code of wrong usage."""
    asked, alone = rollcall("--help"), rollcall()

    assert (asked.code, alone.code) == (0, 2)
    assert asked.out == alone.out
    for command in COMMANDS:
        assert re.search(rf"^  {command} +\w.+\.$", asked.out, re.MULTILINE)


def test_the_version_is_shown(rollcall: CommandLine) -> None:
    """The installed version, by the installed script."""
    script = Path(sys.executable).with_name("rollcall")
    outcome = ended(rollcall.start("--version", program=[str(script)]))

    assert (outcome.code, outcome.out) == (0, f"rollcall, version {version('rollcall')}\n")


def test_a_pipe_gets_plain_text(rollcall: CommandLine, messy: Path) -> None:
    """No colours, no progress bar, no trailing spaces, no cut line."""
    outcome = rollcall("import", messy, FORCE_COLOR="1", COLUMNS="20")

    assert outcome.err == ""
    assert "\x1b" not in outcome.out
    assert "\r" not in outcome.out
    assert not re.search(r" $", outcome.out, re.MULTILINE)
    assert len(outcome.out.splitlines()) == 10


def test_a_terminal_shows_progress_and_is_left_clean(rollcall: CommandLine, large: Path) -> None:
    """The bar shows bytes, rows and remaining time; at the end, only the summary is left."""
    code, sent = rollcall.on_a_terminal("import", large)

    assert code == 0
    assert re.search(r"importing .* \d+% \d\.\d/\d\.\d MB [\d,]+ rows", re.sub(r"\x1b\[[0-9;]*m", "", sent))
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h")
    [head, counts, *rest] = screen(sent)
    assert head == "loaded  large.csv"
    assert counts.startswith(f"  {LARGE:,} rows read: {LARGE:,} registered (import 1, ")
    assert len(rest) <= 1  # of a line too long for 80 columns


def test_an_interrupt_leaves_the_terminal_clean(rollcall: CommandLine, large: Path, database_url: str) -> None:
    """No bar and no hidden cursor, only one sentence."""

    def interrupt(process: Popen[bytes]) -> None:
        stop_midway(process, database_url)
        go_on_with(process, signal.SIGINT)

    code, sent = rollcall.on_a_terminal("import", large, meanwhile=interrupt)

    assert code == 1
    assert sent.count("\x1b[?25l") == sent.count("\x1b[?25h")
    assert " ".join(screen(sent)).strip().startswith("rollcall: interrupted; ")


def test_a_closed_pipe_causes_no_complaint(rollcall: CommandLine) -> None:
    """As after `head`, which reads only the first lines."""
    many = "".join(f"Somebody {number},Somewhere,1\n" for number in range(5_000))
    (rollcall.folder / "users.csv").write_text(completed_text(f"name,country,age\n{many}"))
    rollcall("import", "users.csv")
    for command in ("users", "--json"), ("users", "--limit", "5000"):
        process = rollcall.start(*command)
        assert process.stdout
        process.stdout.read(1)
        process.stdout.close()
        process.stdout = None

        assert ended(process).err == ""


@pytest.mark.parametrize("locale", [{}, PLAIN_C], ids=["UTF-8", "C"])
def test_file_names_cannot_control_the_terminal(
    rollcall: CommandLine, locale: dict[str, str], database_url: str
) -> None:
    """Files with names of any bytes are imported, and their names are shown escaped on one line."""
    names = [b"with  spaces.csv", b"new\nline.csv", b"esc\x1b[31m.csv", b"[red]x :smile:.csv", b"'\".csv"]
    names += [b"-dash.csv", "café 日本.csv".encode(), b"caf\\xe9.csv", b"\\x5c.csv", b"\\xc3\\xa9.csv"]
    if sys.platform == "linux":
        names.append(b"caf\xe9.csv")  # other file systems want UTF-8
    folder = os.fsencode(rollcall.folder)
    for number, name in enumerate(names):
        Path(os.fsdecode(folder + b"/" + name)).write_text(
            completed_text(f"name,country,age\nAnn,Chile,{number}\nBob,Chile,no{number}\n")
        )

    outcome = rollcall("import", "--", *names, **locale)
    listed = rollcall("imports")
    again = rollcall("import", "--json", "--", *names, **locale)

    assert (outcome.code, outcome.err) == (3, "")
    shown = [line.removeprefix("partially loaded  ") for line in outcome.out.splitlines() if line[0] != " "]
    if not locale:
        escaped = [re.sub(rb"\\(?=x(5c|[89a-f]))", rb"\\x5c", name) for name in names]
        assert shown == [
            name.decode("utf-8", "backslashreplace").replace("\n", r"\n").replace("\x1b", r"\x1b")
            for name in escaped
        ]
        assert [line.split(maxsplit=7)[-1] for line in listed.out.splitlines()[:0:-1]] == shown
    assert [age for _, _, age in users(database_url)] == list(range(len(names)))
    assert imports(database_url) == [("partially_loaded", 1)] * len(names)
    # The reports of each file are beside it, under the same bytes, and no other file was made.
    assert sorted(os.fsencode(path.name) for path in rollcall.folder.iterdir()) == sorted(
        [*names, *(name + b".rollcall" for name in names)]
    )
    assert again.code == 0
    assert [receipt["code"] for receipt in again.records] == ["redelivery"] * len(names)

    # Each printed command finds its file when it is pasted.
    commands = [
        line.removeprefix("    rollcall import ") for line in outcome.out.splitlines() if line[:4] == "    "
    ]
    files = " ".join(command for command in commands if ".rollcall/" in command)
    paths = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    pasted = ended(
        rollcall.start(
            f"rollcall import --json {files}", program=["bash", "-c"], environment={**locale, "PATH": paths}
        )
    )
    assert (pasted.code, pasted.err) == (4, "")
    assert [record["source"]["key"].split("/")[-3] for record in pasted.records] == [
        f"{record['source']['key'].split('/')[-1]}.rollcall" for record in again.records
    ]


def test_folders_of_reports_are_skipped(rollcall: CommandLine, messy: Path) -> None:
    """`*` matches them too, after the files beside them are imported."""
    rollcall("import", messy)
    names = sorted(path.name for path in rollcall.folder.iterdir())

    again, checked = rollcall("import", *names), rollcall("check", "--json", *names)

    assert names == ["messy_users.csv", "messy_users.csv.rollcall"]
    assert (again.code, again.err) == (0, "")
    assert again.out.splitlines()[:2] == [
        "skipped, because it contains reports: messy_users.csv.rollcall",
        "skipped  messy_users.csv",
    ]
    assert (checked.code, checked.err, len(checked.records)) == (3, "", 1)


@pytest.mark.parametrize("columns", ["0", "²"])
def test_a_terminal_without_a_width_shows_all(rollcall: CommandLine, columns: str) -> None:
    """Results and errors."""
    code, sent = rollcall.on_a_terminal("check", "missing.csv", COLUMNS=columns, LINES=columns)

    assert code == 1
    assert "there is no" in " ".join(screen(sent))


@pytest.mark.parametrize(
    ("event", "sentence"),
    [
        ("KeyboardInterrupt", "interrupted before anything was done"),
        (
            "ModuleNotFoundError(name='click')",
            "the command line needs the package click: pip install 'rollcall[cli,embedded]'",
        ),
    ],
)
def test_an_end_while_modules_load_is_one_sentence(rollcall: CommandLine, event: str, sentence: str) -> None:
    """Ctrl-C, or a package that is not installed."""
    loading = f"""
import sys
class Loading:
    def find_spec(name, *_):
        if name == "click":
            raise {event}
sys.meta_path.insert(0, Loading)
from importlib.metadata import entry_points
[script] = entry_points(group="console_scripts", name="rollcall")
script.load()()
"""
    outcome = ended(rollcall.start("imports", program=[sys.executable, "-c", loading]))

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.sentence == sentence


def test_duplicates_are_rejected_by_the_setting(
    rollcall: CommandLine, new_database: "Callable[[], AbstractContextManager[str]]"
) -> None:
    """After `migrate` made the index; before that, an import names the command."""
    (rollcall.folder / "twice.csv").write_bytes(
        completed(b"name,country,age\nAnn,Chile,30\nBob,UK,20\nAnn,Chile,31\n")
    )
    with new_database() as url:
        environment = {"ROLLCALL_DATABASE_URL": url, "ROLLCALL_UNIQUE_BY": "country,name"}
        environment["ROLLCALL_ON_DUPLICATE"] = "reject"
        rollcall("migrate", ROLLCALL_DATABASE_URL=url)
        unprepared = rollcall("import", "twice.csv", **environment)
        prepared = rollcall("migrate", **environment)
        imported = rollcall("import", "twice.csv", "--json", **environment)

    assert (unprepared.code, prepared.code, imported.code) == (1, 0, 3)
    assert unprepared.sentence.endswith("the setting by name,country; run: rollcall migrate")
    assert [(total["code"], total["first_line"]) for total in json.loads(imported.out)["totals"]] == [
        ("duplicate-row", 4)
    ]
