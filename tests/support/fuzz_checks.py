"""Invariants of the import for any bytes: compare each result with the oracles and with other ways to read."""

import csv
import gzip
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import attrs
import jsonschema

from rollcall.adapters import memory
from rollcall.application import decoding, records, screening
from rollcall.application.receipts import from_dict
from rollcall.application.values import Block
from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import REJECTIONS_SHOWN, Receipt, Status
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Code, escaped
from rollcall.domain.user import USERS, User
from support.builders import NOON, a_user, completed
from support.fakes import Desk
from support.fast_path import without_fast_path
from support.kept import CHOICES
from support.reference_ledger import Dropped, Model, Origin, Verdict, proof
from support.reference_ledger import Row as LedgerRow
from support.reference_reader import (
    LINE,
    OWN_LABELS,
    RECORD,
    UNSAFE_DELIMITERS,
    Limits,
    Row,
    Sheet,
    Values,
    restored,
    row_verdict,
    sheet_of,
    text_of,
    unpacked,
)

# The first bytes of an input choose among these, the rest is the upload.
POLICIES = (
    Policy(),
    Policy(max_rejected=Tolerance("0")),
    Policy(max_rejected=Tolerance("2")),
    Policy(max_rejected=Tolerance("33.3%")),
    Policy(on_repeat=OnRepeat.IMPORT, on_new_version=OnNewVersion.IMPORT),
    Policy(unique_by=("name",)),
    Policy(unique_by=("name", "country"), on_duplicate=OnDuplicate.UPDATE),
    Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT),
    Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT, max_rejected=Tolerance("2")),
)
ENCODINGS = (
    ("utf-8",),
    ("utf-8", "cp932"),
    ("cp932",),
    ("utf-8", "cp1252"),
    ("gb18030",),
    ("iso2022_jp",),
    ("utf-16",),
    ("utf-7",),
)
OPENINGS = (
    "",
    "name,country,age\n",
    "age;note;country;name\r\n",
    "Name\tCountry\tAge\r",
    "sep=|\nname|country|age\n",
    # In the order of earlier versions, in which spreadsheets leave out the last cell.
    "name,country,age,rollcall_line,rollcall_reason,rollcall_import,rollcall_record\r\n",
    "rollcall_import;age;name;country;rollcall_line\n",
)
FORMS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: data,
    lambda data: b"\xef\xbb\xbf" + data,
    lambda data: b"\xff\xfe" + data.decode(errors="replace").encode("utf-16-le"),
    lambda data: b"\xfe\xff" + data.decode(errors="replace").encode("utf-16-be"),
    lambda data: data.decode(errors="replace").encode("utf-16"),
    lambda data: data.decode(errors="replace").encode("cp932", "replace"),
    lambda data: data.decode(errors="replace").encode("iso2022_jp", "replace"),
    lambda data: gzip.compress(data, mtime=0),
    lambda data: gzip.compress(data[:40], mtime=0) + gzip.compress(data[40:], mtime=0) + bytes(3),
)
LIMITS = (
    Limits(),
    Limits(quoted_bytes=24, quoted_line_ends=3),
    # The fast path assumes that clean records are short, so these limits apply to the precise path only.
    Limits(quoted_bytes=24, quoted_line_ends=3, record_bytes=60, beginning=15),
)
SAVED_AS = (None, "utf-8-sig", "utf-16")

MARKS = {"utf-8": b"\xef\xbb\xbf", "utf-16-le": b"\xff\xfe", "utf-16-be": b"\xfe\xff"}

MOST_CSV_BYTES = 16 * 1024

# It leaves two rows to correct, and one user for duplicates.
LOADED = completed(b"name,country,age\nAnn,X,1\nBob,X,b\nCy,X,c\n")
LOADED_BEFORE = (False, True)
SECRET = b"secret"  # of every verdict in a test
LOADED_REJECTED: frozenset[Origin] = frozenset((1, line, proof(SECRET, line)) for line in (3, 4))

# A placeholder for import, line and proof. A generator of inputs cannot guess a proof.
_without_proof = re.compile(rb"i([0-9]{1,9})-([0-9]{1,9})-\?")


def with_proofs(upload: bytes) -> bytes:
    """Fill in the proofs of an upload: valid ones for rejected rows of `LOADED`, a foreign ledger's for others."""

    def token(found: re.Match[bytes]) -> bytes:
        import_id, line = int(found[1]), int(found[2])
        origin = (import_id, line, proof(SECRET, line))
        if origin not in LOADED_REJECTED:
            origin = (import_id, line, proof(b"another", line))
        return b"i%d-%d-%b" % (import_id, line, origin[2].encode("ascii"))

    return _without_proof.sub(token, upload)


_validator = jsonschema.Draft202012Validator(
    json.loads((Path(__file__).parents[2] / "src/rollcall/entrypoints/api/receipt.schema.json").read_text("utf-8"))
)


@contextmanager
def by_turns() -> Iterator[None]:
    """Try the fast path again after each record that was judged cell by cell."""
    with patch.object(screening, "BATCH_BYTES", 1), patch.object(screening, "JUDGED_BYTES", 1):
        yield


@contextmanager
def in_pieces(size: int) -> Iterator[None]:
    """Read and process uploads in pieces of this size."""
    with (
        patch.object(memory, "_PIECE_BYTES", size),
        patch.object(decoding, "CHUNK_BYTES", size),
        patch.object(screening, "BATCH_BYTES", size),
    ):
        yield


@contextmanager
def precisely_in_pieces(size: int) -> Iterator[None]:
    """Read uploads without the fast path, in pieces of this size."""
    with without_fast_path(), in_pieces(size):
        yield


OTHER_WAYS: tuple[Callable[[], AbstractContextManager[object]], ...] = (
    without_fast_path,
    partial(in_pieces, 1),
    partial(in_pieces, 3),
    partial(in_pieces, 7),
    partial(precisely_in_pieces, 5),
    by_turns,
)
CIRCUMSTANCES = (POLICIES, ENCODINGS, OPENINGS, FORMS, LIMITS, OTHER_WAYS, SAVED_AS, LOADED_BEFORE)


@attrs.frozen
class Case:
    """One decoded input.

    Attributes:
        policy: The operator's settings.
        encodings: The encodings that are tried.
        upload: The bytes to upload.
        limits: The limits of a quoted cell and of a record.
        other_way: Another way to read the upload, with the same result.
        saved_as: The encoding in which corrected rows are saved; None for the file's own.
        loaded_before: Whether `LOADED` is imported before.
    """

    policy: Policy
    encodings: tuple[str, ...]
    upload: bytes
    limits: Limits
    other_way: Callable[[], AbstractContextManager[None]]
    saved_as: str | None
    loaded_before: bool

    @classmethod
    def of(cls, data: bytes) -> "Case":
        """Decode an input."""
        numbers = data[:CHOICES].ljust(CHOICES, b"\0")
        choices: list[Any] = [
            choice[number % len(choice)] for choice, number in zip(CIRCUMSTANCES, numbers, strict=True)
        ]
        policy, encodings, opening, form, *others = choices
        upload = form(with_proofs(opening.encode() + data[CHOICES:]))
        return cls(policy, encodings, completed(upload), *others)

    def ledger(self) -> Model:
        """Return the expected ledger and table before the upload."""
        ledger = Model(Policy())
        if self.loaded_before:
            loaded = dropped("loaded.csv", LOADED, sheet_of(LOADED.decode(), Limits()))
            ledger.commit(loaded, ledger.judge(loaded), 1, SECRET)
        ledger.policy = self.policy
        return ledger


def dropped(key: str, content: bytes, sheet: Sheet | Code) -> Dropped:
    """Return an upload as the reference ledger takes it."""
    fault = sheet if isinstance(sheet, Code) else None
    rows = () if isinstance(sheet, Code) else sheet.rows
    return Dropped(
        key=key,
        version="1",
        content=content,
        rows=tuple(LedgerRow(row.line, row.values, row.origin) for row in rows),
        modified=NOON,
        fault=fault,
    )


@attrs.frozen
class Expected:
    """What the references expect of an upload whose rows are judged."""

    sheet: Sheet
    verdict: Verdict

    @property
    def refused(self) -> bool:
        """Whether too many rows are rejected."""
        return self.verdict.status == Status.REFUSED

    @property
    def rejected(self) -> tuple[Row, ...]:
        """The rejected rows, in the order of the file."""
        codes = self.verdict.rejected_on_merge
        return tuple(
            attrs.evolve(row, values=None, faults=((Code(codes[row.line]), None),)) if row.line in codes else row
            for row in self.sheet.rows
            if row.line in self.verdict.rejected
        )


@attrs.frozen
class Outcome:
    """The result of importing one upload."""

    receipt: Receipt
    users: list[Values]
    reports: dict[str, bytes]


_read_block = memory._read  # noqa: SLF001 - the only place where memory reads a block
_row_for_copy = re.compile('(?:(?:"(?:[^"]|"")*"|[^",]*)(?:,(?!$)|$))+')


def read_as_copy_would(record_type: RecordType, block: Block) -> list[User] | None:
    """Read a block of accepted rows, and compare it with COPY's reading, which trims nothing."""
    text = block.csv.decode()
    for row in text.split("\n")[:-1]:
        assert "\r" not in row
        assert _row_for_copy.fullmatch(row), "a quote inside an unquoted cell"
    users = _read_block(record_type, block)
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert list(rows) == [[str(value) for value in USERS.values(user)] for user in users or ()]
    return users


@contextmanager
def limited(limits: Limits) -> Iterator[None]:
    """Apply limits to quoted cells and records."""
    with ExitStack() as stack:
        stack.enter_context(patch.object(screening, "WORTHWHILE_BYTES", 0))
        if limits != LIMITS[0]:
            stack.enter_context(patch.object(records, "MAX_QUOTED_BYTES", limits.quoted_bytes))
            stack.enter_context(patch.object(records, "MAX_QUOTED_LINE_ENDS", limits.quoted_line_ends))
            stack.enter_context(patch.object(records, "MAX_RECORD_BYTES", limits.record_bytes))
            # The fast path ignores the limits: clean records are always far below the real ones.
            stack.enter_context(without_fast_path())
        if limits.record_bytes != LIMITS[0].record_bytes:
            stack.enter_context(patch.object(records, "BEGINNING_BYTES", limits.beginning))
        yield


def check(data: bytes) -> None:
    """Run every check on one input.

    Raises:
        AssertionError: A check failed.
        Exception: The import raised an unexpected error.
    """
    case = Case.of(data)
    with limited(case.limits):
        desk, outcome = imported(case)
        published(outcome)
        _, otherwise = imported(case, case.other_way())
        assert outcome == otherwise, "read in another way it is another upload"
        expected = as_expected(case, outcome)
    # Under lower limits, rejected rows are longer when they are uploaded again, and are rejected again.
    if expected and case.limits == LIMITS[0] and outcome.receipt.rejected_rows:
        comes_back(case, desk, outcome, expected)


def imported(case: Case, how: AbstractContextManager[None] | None = None) -> tuple[Desk, Outcome]:
    """Import the upload into a new in-memory Rollcall."""
    desk = Desk()
    with how or nullcontext(), patch.object(memory, "_read", read_as_copy_would):
        if case.loaded_before:
            desk.load(desk.drop(LOADED, "loaded.csv"))
        receipt = drop(desk, case, case.upload, "users.csv", MOST_CSV_BYTES)
    reports = {key: data for key, data in desk.stored().items() if key.startswith("users.csv/")}
    return desk, Outcome(receipt, registered(desk), reports)


def registered(desk: Desk) -> list[Values]:
    """Return the values of all users, in order."""
    return [USERS.values(user) for user in desk.users.users()]


def drop(desk: Desk, case: Case, upload: bytes, key: str, max_csv_bytes: int = 10**9) -> Receipt:
    """Import another upload."""
    before = len(registered(desk))
    importer = desk.importer(case.policy, encodings=case.encodings, max_csv_bytes=max_csv_bytes)
    receipt = importer(desk.drop(upload, key))
    assert len(registered(desk)) - before == receipt.counts.registered
    return receipt


def published(outcome: Outcome) -> None:
    """Check that the stored receipt equals the returned one and matches the schema."""
    shown = json.loads(outcome.reports[f"users.csv/{outcome.receipt.source.version}/receipt.json"])
    _validator.validate(shown)
    assert from_dict(shown) == outcome.receipt


def as_expected(case: Case, outcome: Outcome) -> Expected | None:
    """Compare a result with the references. Return None if no row was judged."""
    ledger = case.ledger()
    before = [row.user for row in ledger.table]
    receipt = outcome.receipt
    content = unpacked(case.upload)
    assert receipt.source.compression == ("gzip" if case.upload.startswith(b"\x1f\x8b") else None)
    text = text_of(case.upload, case.encodings, MOST_CSV_BYTES)
    # An upload that is not wholly decompressed is identified by its stored bytes.
    known_by = case.upload if content is None or text is Code.SIZE_LIMIT else content
    assert receipt.source.sha256 == hashlib.sha256(known_by).hexdigest()
    if isinstance(text, Code):
        assert (receipt.status, receipt.code) == (Status.REFUSED, text)
        assert outcome.users == before
        return None
    assert receipt.source.encoding == text[0]
    sheet = sheet_of(text[1], case.limits)
    upload = dropped("users.csv", known_by, sheet)
    verdict = ledger.admit(upload, again=False)
    if verdict or isinstance(sheet, Code):
        assert verdict
        assert (receipt.status, receipt.code) == (verdict.status, verdict.code)
        assert outcome.users == before
        return None
    expected = Expected(sheet, ledger.judge(upload))
    judged_as_expected(outcome, text[1], expected)
    assert receipt.import_id
    ledger.commit(upload, expected.verdict, receipt.import_id, SECRET)
    assert outcome.users == [row.user for row in ledger.table]
    return expected


def judged_as_expected(outcome: Outcome, text: str, expected: Expected) -> None:
    """Compare status, counts, rejections and rejected-rows file with the references."""
    receipt, sheet, verdict, rejected = outcome.receipt, expected.sheet, expected.verdict, expected.rejected
    assert (receipt.status, receipt.code) == (verdict.status, verdict.code)
    assert receipt.corrects == (sheet.corrects[0] if sheet.corrects else None)
    assert receipt.source.last_line_ended == text.endswith(("\r", "\n"))
    assert receipt.source.delimiter == sheet.delimiter
    assert receipt.source.ignored_columns == tuple(map(escaped, sheet.ignored))
    assert attrs.asdict(receipt.counts) == {**verdict.counts, "blank": sheet.blank}
    assert [
        (rejection.line, rejection.last_line, tuple((fault.code, fault.column) for fault in rejection.faults))
        for rejection in receipt.rejections
    ] == [(row.line, row.last_line, row.faults) for row in rejected[:REJECTIONS_SHOWN]]
    assert sum(total.count for total in receipt.totals) == sum(len(row.faults) for row in rejected)
    assert bool(receipt.rejected_rows) == bool(rejected)
    if receipt.rejected_rows:
        written_as_expected(outcome, expected)


@attrs.frozen
class RejectedFile:
    """A rejected-rows file as a spreadsheet opens it.

    Attributes:
        beginning: The byte order mark, or no bytes.
        separator_line: The `sep=` line, or an empty text.
        delimiter: Its delimiter.
        encoding: Its encoding.
        rows: The header and the rows.
    """

    beginning: bytes
    separator_line: str
    delimiter: str
    encoding: str
    rows: list[list[str]]

    @classmethod
    def of(cls, outcome: Outcome) -> "RejectedFile":
        """Open the rejected-rows file of a result."""
        source = outcome.receipt.source
        assert source.encoding
        assert source.delimiter
        delimiter = "," if source.delimiter in UNSAFE_DELIMITERS else source.delimiter
        data = stored(outcome)
        encoding = "utf-8" if data.startswith(MARKS["utf-8"]) else source.encoding
        beginning = MARKS.get(encoding, b"")
        assert data.startswith(beginning)
        text = data.removeprefix(beginning).decode(encoding)
        separator_line = f"sep={delimiter}\r\n"
        if not text.startswith(separator_line):
            separator_line = ""
        rows = csv.reader(
            io.StringIO(text.removeprefix(separator_line), newline=""), delimiter=delimiter, strict=True
        )
        return cls(beginning, separator_line, delimiter, encoding, list(rows))

    def saved(self, rows: list[list[str]], encoding: str | None) -> bytes:
        """Return the file with other rows, in its own or another encoding."""
        text = io.StringIO(newline="")
        text.write(self.separator_line)
        csv.writer(text, delimiter=self.delimiter, lineterminator="\r\n").writerows(rows)
        if encoding:
            return text.getvalue().encode(encoding, "backslashreplace")
        return self.beginning + text.getvalue().encode(self.encoding, "backslashreplace")


def stored(outcome: Outcome) -> bytes:
    """Bytes of the rejected-rows file."""
    assert outcome.receipt.rejected_rows
    return outcome.reports[outcome.receipt.rejected_rows.removeprefix("memory:")]


def written_as_expected(outcome: Outcome, expected: Expected) -> None:
    """Compare the cells and origin of each row in the rejected-rows file."""
    sheet = expected.sheet
    file = RejectedFile.of(outcome)
    header, *rows = file.rows
    assert header[-len(OWN_LABELS) :] == list(OWN_LABELS)
    assert len(rows) == len(expected.rejected)
    for written, row in zip(rows, expected.rejected, strict=True):
        *cells, line, _, record, token = (restored(cell, file.delimiter) for cell in written)
        assert cells == ([row.cells[place] for place in sheet.written_places] if row.cells else [""] * len(cells))
        if row.cells:
            assert record == (row.cells[sheet.place(RECORD)] if sheet.has(RECORD) else "")
        elif row.whole_text:
            assert record == row.whole_text
        assert written[-1] == token, "a spreadsheet may run what says which row it was"
        import_id, origin_line, digits = origin_of(outcome, row, expected)
        assert (line, token) == (
            str(origin_line),
            f"i{import_id}-{origin_line}-{digits}" if digits else str(import_id),
        )


def origin_of(outcome: Outcome, row: Row, expected: Expected) -> Origin:
    """Return the origin of a rejected row as the rejected-rows file should state it."""
    if row.origin and not expected.refused:
        return row.origin
    if expected.sheet.holds_corrected_rows:
        return 0, row.line, proof(b"", row.line)  # no ledger has import 0
    assert outcome.receipt.import_id
    return outcome.receipt.import_id, row.line, proof(SECRET, row.line)


def comes_back(case: Case, desk: Desk, outcome: Outcome, expected: Expected) -> None:
    """Upload the rejected rows three times: uncorrected, corrected, and corrected again."""
    here = outcome.receipt.import_id
    assert here is not None
    if any(row.origin and row.origin[0] >= here for row in expected.rejected):
        return  # it names an import that does not exist yet
    file = RejectedFile.of(outcome)
    assert not looks_otherwise(case, file, stored(outcome)), "it says its encoding, or leaves no doubt"
    before, correctable = registered(desk), LOADED_REJECTED if case.loaded_before else frozenset()
    # A row that lost only its line is complete in the file, because its proof contains the line.
    if not any(row.origin and row.faults[0][1] == LINE for row in expected.rejected):
        drop(desk, case, stored(outcome), "uncorrected.csv")
        assert registered(desk) == before, "left uncorrected, rows were registered"

    header, *rows = file.rows
    wanted: list[Values] = []
    taken = set(expected.verdict.corrected)
    origins = [origin_of(outcome, row, expected) for row in expected.rejected]
    for number, (cells, row, origin) in enumerate(zip(rows, expected.rejected, origins, strict=True)):
        values = correct(cells, number, row, expected.sheet, everything=bool(case.policy.unique_by))
        if origin not in taken and (origin[0] == here or origin in correctable):
            wanted.append(values)
            taken.add(origin)
    upload = file.saved([header, *rows], case.saved_as)
    if not case.saved_as and looks_otherwise(case, file, upload):
        return  # an encoding that is tried earlier decodes the corrections to another text
    corrected = drop(desk, case, upload, "corrected.csv")
    if expected.refused:
        assert (corrected.status, corrected.code) == (Status.REFUSED, Code.NOTHING_TO_CORRECT)
        wanted = []
    elif corrected.status is Status.REFUSED:
        assert len(wanted) < len(rows), "every row is corrected"
        assert corrected.code in {Code.TOO_MANY_REJECTIONS, Code.NOTHING_TO_CORRECT}
        wanted = []
    assert registered(desk) == before + wanted, "corrected rows are not registered as they are"

    again = drop(desk, case, file.saved([header, *rows, []], case.saved_as), "again.csv")
    assert not again.counts.registered, "corrected rows are registered twice"
    assert registered(desk) == before + wanted


def looks_otherwise(case: Case, file: RejectedFile, data: bytes) -> bool:
    """Return whether a file without a byte order mark is decoded to another text than was written.

    If several encodings decode it to the same text, as with ASCII, any of them is right.
    """
    text = text_of(data, case.encodings, len(data))
    return not isinstance(text, Code) and text[1] != data.removeprefix(file.beginning).decode(file.encoding)


def correct(cells: list[str], number: int, row: Row, sheet: Sheet, *, everything: bool) -> Values:
    """Replace the bad cells of a row, or all of its cells, with good ones.

    Args:
        cells: The row in the rejected-rows file.
        number: A number that makes the new cells unique.
        row: The rejected row, as the oracle read it.
        sheet: The upload that contains the row.
        everything: Whether good cells are also replaced.

    Returns:
        The values to be registered.
    """
    values: list[str | int] = []
    good_values = USERS.values(a_user(f"Person {number}", f"Land {number}", number % 151))
    for column, good in zip(USERS.columns, good_values, strict=True):
        place = sheet.place(column)
        kept = (
            row_verdict([row.cells[place]] * len(USERS.columns))[USERS.columns.index(column)]
            if row.cells
            else None
        )
        if everything or kept is None or isinstance(kept, Code):
            cells[sheet.written_places.index(place)] = str(good)
            values.append(good)
        else:
            values.append(kept)
    return tuple(values)
