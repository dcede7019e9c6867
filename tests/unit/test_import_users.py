"""The whole use case in memory: each upload exactly once or not at all, each row registered or explained."""

import csv
import gzip
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, BinaryIO

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostile_cost import Disk
from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    ReportNotStoredError,
    RepositoryUnavailableError,
    StoreUnavailableError,
    TableConstraintError,
    UnknownImportError,
)
from rollcall.application.import_users import Progress
from rollcall.application.ports import StoredObject, UserRepository
from rollcall.application.receipts import from_dict, to_json
from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import Counts, Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.domain.user import USERS
from support.builders import completed, completed_text
from support.fakes import Clock, Desk
from support.privacy import require_quiet
from support.reference_reader import Limits, Sheet, sheet_of
from support.strategies import CsvUpload, csv_uploads, refused_uploads

GOOD = completed(b"name,country,age\nAnn,Chile,30\nBob,Kenya,41\n")
OTHER = completed(b"name,country,age\nCem,Japan,52\n")
MIXED = completed(b"name,country,age\nAnn,Chile,30\nBob,Kenya,old\n,Peru,9\nDee,Oman,7\n")
BAD = completed(b"name,country,age\n,Chile,x\n")

ANN_AND_BOB: list[tuple[str | int, ...]] = [("Ann", "Chile", 30), ("Bob", "Kenya", 41)]

# Pieces of a file for the oracles to judge.
nasty_lines = st.lists(
    st.sampled_from(
        (
            *("Ann,Chile,30", "é,ü,007", "Bob,Kenya", "x,y,z", '"a\nb",c,5', ",,", ""),
            *('"', '"a"b', "\n", "\r\n", "\r", ",", "1"),
        )
    ),
    max_size=15,
).map("".join)


def _counts(receipt: Receipt) -> tuple[int, int, int]:
    return receipt.counts.registered, receipt.counts.rejected, receipt.counts.withheld


def _receipt_key(receipt: Receipt) -> str:
    return f"{receipt.source.key}/{receipt.source.version}/receipt.json"


def _stored_receipt(desk: Desk, receipt: Receipt) -> Receipt:
    """Return the receipt that is stored under a receipt's key."""
    return from_dict(json.loads(desk.stored()[_receipt_key(receipt)]))


def _verdict(upload: CsvUpload) -> tuple[Status, Code | None]:
    if upload.faults and not upload.users:
        return Status.REFUSED, Code.TOO_MANY_REJECTIONS
    return (Status.PARTIALLY_LOADED, Code.ROWS_REJECTED) if upload.faults else (Status.LOADED, None)


@given(upload=csv_uploads())
def test_every_row_of_an_upload_is_registered_or_explained(upload: CsvUpload) -> None:
    """In any dialect, encoding and compression; the counts include every row read."""
    desk = Desk()
    receipt = desk.load(desk.drop(upload.data))
    kinds = Counter(kind for _, faults in upload.faults for kind in faults)

    assert (receipt.status, receipt.code) == _verdict(upload)
    assert list(desk.users.users()) == list(upload.users)
    assert receipt.counts == Counts(
        read=upload.read, registered=len(upload.users), rejected=len(upload.faults), blank=upload.blank
    )
    assert [
        (rejection.line, tuple((fault.code, fault.column) for fault in rejection.faults))
        for rejection in receipt.rejections
    ] == list(upload.faults)
    assert {(total.code, total.column): total.count for total in receipt.totals} == kinds
    assert receipt.source.encoding == upload.encoding
    assert receipt.source.delimiter == upload.delimiter
    assert receipt.source.compression == upload.compression
    assert receipt.source.ignored_columns == upload.ignored_columns
    assert receipt.source.size == len(upload.data)


@given(lines=nasty_lines)
def test_a_broken_file_is_judged_line_by_line(lines: str) -> None:
    """The oracles give the expected rows and rejections."""
    text = completed_text(f"name,country,age\n{lines}")
    sheet = sheet_of(text, Limits())
    assert isinstance(sheet, Sheet)
    good = [row.values for row in sheet.rows if row.values]
    desk = Desk()
    receipt = desk.load(desk.drop(text.encode()))

    assert [USERS.values(user) for user in desk.users.users()] == good
    assert _counts(receipt) == (len(good), len(sheet.rows) - len(good), 0)
    assert [rejection.line for rejection in receipt.rejections] == [
        row.line for row in sheet.rows if not row.values
    ]


@given(refused=refused_uploads())
def test_an_upload_that_is_not_valid_csv_is_refused(refused: tuple[bytes, Code]) -> None:
    """Nothing is registered, and the receipt gives the reason in one line."""
    data, code = refused
    desk = Desk()
    desk.uploads.put("users.csv", io.BytesIO(data))
    receipt = desk.load(ObjectReference(key="users.csv"))

    assert (receipt.status, receipt.code) == (Status.REFUSED, code)
    assert desk.rows() == []
    assert receipt.message
    assert receipt.message.isprintable()
    assert desk.users.get_import(1).receipt == receipt


@pytest.mark.parametrize("data", [GOOD, MIXED, BAD, b"", gzip.compress(MIXED, mtime=0)])
def test_the_receipt_is_in_the_ledger_and_among_the_reports(data: bytes) -> None:
    """Both equal the returned receipt."""
    desk = Desk()
    receipt = desk.load(desk.drop(data, "in box/users.csv"))
    stored = desk.stored()[_receipt_key(receipt)]

    assert _receipt_key(receipt) == "in box/users.csv/1/receipt.json"
    assert from_dict(json.loads(stored)) == receipt
    assert stored.endswith(b"}\n")
    assert desk.users.get_import(1).receipt == receipt
    assert receipt.import_id == 1


@given(upload=csv_uploads(max_rows=4))
def test_the_rejected_rows_file_matches_the_receipt(upload: CsvUpload) -> None:
    """The receipt names their file; without rejected rows there is no file."""
    desk = Desk()
    receipt = desk.load(desk.drop(upload.data))
    files = {key: data for key, data in desk.stored().items() if not key.endswith("receipt.json")}
    lines = []
    for data in files.values():
        encoding = {"utf-8": "utf-8-sig"}.get(upload.encoding, "utf-16")
        text = data.decode(encoding)
        text = text.split("\r\n", 1)[1] if text.startswith("sep=") else text
        rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=upload.delimiter, strict=True)
        lines = [int(row["rollcall_line"]) for row in rows]

    assert lines == [line for line, _ in upload.faults]
    assert [f"memory:{key}" for key in files] == ([receipt.rejected_rows] if upload.faults else [])


@given(uploads=st.lists(csv_uploads(max_rows=2), max_size=3), order=st.lists(st.integers(0, 2), max_size=8))
def test_uploads_are_registered_once_in_any_order_of_delivery(uploads: list[CsvUpload], order: list[int]) -> None:
    """The table holds the rows of the first upload of each content, as the receipts say."""
    desk = Desk()
    references = [desk.drop(upload.data, f"{at}.csv") for at, upload in enumerate(uploads)]
    delivered = [at for at in order if at < len(uploads)]
    registered = [desk.load(references[at]).counts.registered for at in delivered]
    first = {uploads[at].data: at for at in reversed(delivered)}
    # Plain or compressed, the content is the same.
    contents = {_inside(data): uploads[at].users for data, at in sorted(first.items(), key=lambda each: each[1])}

    assert sum(registered) == len(desk.rows())
    assert Counter(desk.users.users()) == Counter(user for users in contents.values() for user in users)


def _inside(data: bytes) -> bytes:
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def test_a_redelivery_is_skipped_and_returns_the_first_receipt() -> None:
    """The first receipt stays unchanged, in the ledger and among the reports."""
    desk = Desk()
    reference = desk.drop(MIXED)
    first = desk.load(reference)
    stored = desk.stored()
    again = desk.load(reference)

    assert (again.status, again.code) == (Status.SKIPPED, Code.REDELIVERY)
    assert again.first_receipt == first
    assert again.import_id == first.import_id == 1
    assert again.counts == Counts()
    assert desk.stored() == stored
    assert desk.times_stored(_receipt_key(first)) == 1
    assert [entry.receipt for entry in desk.users.entries()] == [first]
    assert len(desk.rows()) == 2


def test_a_redelivery_stores_a_missing_receipt_again() -> None:
    """The stored receipt is the first one, from the ledger, not that of the redelivery."""
    desk = Desk()
    reference = desk.drop(GOOD)
    first = desk.load(reference)
    lost = attrs.evolve(desk, reports=MemoryObjectStore())
    lost.load(reference)

    assert from_dict(json.loads(lost.stored()[_receipt_key(first)])) == first


def test_a_redelivery_replaces_the_receipt_of_an_earlier_refusal() -> None:
    """The later import died before its receipt was stored."""
    desk = Desk()
    reference = desk.drop(MIXED)
    desk.load(reference, Policy(max_rejected=Tolerance("0")))
    with pytest.raises(StoreUnavailableError):
        attrs.evolve(desk, into=_FullStore("receipt")).load(reference)
    again = desk.load(reference)

    assert again.first_receipt
    assert again.first_receipt.status is Status.PARTIALLY_LOADED
    assert _stored_receipt(desk, again) == again.first_receipt


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize(
    ("data", "counts"),
    [(GOOD, (0, 0, 2)), (MIXED, (0, 2, 2))],
)
def test_what_the_table_does_not_take_is_refused_with_exact_counts(
    data: bytes, counts: tuple[int, int, int], passes: int
) -> None:
    """And judged again when it is delivered again: the constraint may be gone."""
    # If the first pass registers rows, they are rejected once more when the content is known.
    reasons = ["the rows violate constraint c of table users"] * (3 - passes)

    def refuse() -> None:
        if reasons:
            raise TableConstraintError(reasons.pop())

    desk = Desk(users=MemoryUserRepository(patience=0, before_commit=refuse))
    reference = desk.drop(data)
    refused = desk.importer(one_pass_from=(passes - 1) * len(data) * 2)(reference)

    assert (refused.status, refused.code) == (Status.REFUSED, Code.TABLE_CONSTRAINT)
    assert refused.message == "the rows violate constraint c of table users"
    assert _counts(refused) == counts
    assert bool(refused.rejected_rows) == bool(counts[1])
    assert _stored_receipt(desk, refused) == refused == desk.users.get_import(refused.import_id or 0).receipt
    assert desk.rows() == []
    assert _counts(desk.load(reference)) == (counts[2], counts[1], 0)


def test_an_undone_upload_whose_key_is_loaded_again_is_refused() -> None:
    """The refusal's receipt matches the published schema, and neither reports nor ledger keep it."""
    desk = Desk()
    first, second = desk.drop(GOOD), desk.drop(OTHER)
    before = desk.load(first)
    desk.users.undo(before.import_id or 0, datetime(2026, 1, 1, tzinfo=UTC))
    desk.load(second)
    again = desk.load(first, again=True)

    assert (again.status, again.code) == (Status.REFUSED, Code.KEY_ALREADY_LOADED)
    assert (again.import_id, again.first_receipt) == (before.import_id, None)
    assert _stored_receipt(desk, again) == before
    assert desk.users.get_import(before.import_id or 0).undone


def test_a_redelivery_overwrites_a_damaged_receipt() -> None:
    desk = Desk()
    reference = desk.drop(GOOD)
    first = desk.load(reference)
    whole = desk.stored()[_receipt_key(first)]
    for other in (b"", whole[:-1], b"x" * len(whole), whole.replace(b"loaded", b"LOADED")):
        desk.reports.put(_receipt_key(first), io.BytesIO(other))
        desk.load(reference)

        assert desk.stored()[_receipt_key(first)] == whole


def test_the_same_content_under_another_key_is_skipped() -> None:
    """Plain or compressed; the receipt names the first import."""
    desk = Desk()
    desk.load(desk.drop(GOOD, "a.csv"))
    repeat = desk.load(desk.drop(GOOD, "b.csv"))
    compressed = desk.load(desk.drop(gzip.compress(GOOD), "c.csv.gz"))

    assert (repeat.status, repeat.code) == (Status.SKIPPED, Code.REPEAT)
    assert (compressed.status, compressed.code) == (Status.SKIPPED, Code.REPEAT)
    assert repeat.message
    assert "import 1 (a.csv)" in repeat.message
    assert desk.rows() == ANN_AND_BOB


def test_the_same_content_is_registered_again_if_allowed() -> None:
    """The policy allows it."""
    desk = Desk()
    desk.load(desk.drop(GOOD, "a.csv"))
    repeat = desk.load(desk.drop(GOOD, "b.csv"), Policy(on_repeat=OnRepeat.IMPORT))

    assert repeat.status is Status.LOADED
    assert desk.rows() == ANN_AND_BOB * 2


@pytest.mark.parametrize("data", [BAD, b"nothing,here\n", MIXED])
def test_a_refused_or_undone_import_does_not_cause_a_skip(data: bytes) -> None:
    """It was refused, or undone."""
    desk = Desk()
    first = desk.load(desk.drop(data, "a.csv"))
    if first.status.registers:
        desk.users.undo(1, datetime(2026, 1, 2, tzinfo=UTC))
    second = desk.load(desk.drop(data, "b.csv"))

    assert (second.status, second.code) == (first.status, first.code)


def test_a_new_version_of_a_loaded_key_is_refused() -> None:
    """It is most likely the same list, corrected."""
    desk = Desk()
    desk.load(desk.drop(GOOD))
    version = desk.load(desk.drop(OTHER))

    assert (version.status, version.code) == (Status.REFUSED, Code.KEY_ALREADY_LOADED)
    assert version.source.version == "2"
    assert version.import_id == 2
    assert desk.rows() == ANN_AND_BOB


def test_a_new_version_is_registered_if_allowed() -> None:
    """The policy allows it, also after a refusal."""
    desk = Desk()
    desk.load(desk.drop(GOOD))
    second = desk.drop(OTHER)
    desk.load(second)
    loaded = desk.load(second, Policy(on_new_version=OnNewVersion.IMPORT))

    assert loaded.status is Status.LOADED
    assert loaded.import_id == 3
    assert desk.rows() == [*ANN_AND_BOB, ("Cem", "Japan", 52)]


def test_a_new_version_is_registered_after_the_first_is_undone() -> None:
    desk = Desk()
    desk.load(desk.drop(GOOD))
    desk.users.undo(1, datetime(2026, 1, 2, tzinfo=UTC))
    second = desk.load(desk.drop(OTHER))

    assert second.status is Status.LOADED
    assert desk.rows() == [("Cem", "Japan", 52)]


def test_an_older_version_can_still_be_imported() -> None:
    """The announced version is read, not the current one."""
    desk = Desk()
    first = desk.drop(GOOD)
    desk.drop(OTHER)
    receipt = desk.load(first)

    assert receipt.source.version == "1"
    assert desk.rows() == ANN_AND_BOB


def test_an_undone_upload_stays_undone_until_imported_again() -> None:
    """After any number of deliveries."""
    desk = Desk()
    reference = desk.drop(GOOD)
    first = desk.load(reference)
    desk.users.undo(1, datetime(2026, 1, 2, tzinfo=UTC))
    skipped = desk.load(reference)

    assert (skipped.status, skipped.code, skipped.import_id) == (Status.SKIPPED, Code.UNDONE, 1)
    assert skipped.first_receipt == first
    assert desk.rows() == []

    again = desk.load(reference, again=True)

    assert (again.status, again.import_id) == (Status.LOADED, 2)
    assert desk.rows() == ANN_AND_BOB
    assert _stored_receipt(desk, again) == again
    assert desk.load(reference).code is Code.REDELIVERY


def test_importing_a_registered_upload_again_is_a_redelivery() -> None:
    """Importing again is for undone uploads."""
    desk = Desk()
    reference = desk.drop(GOOD)
    desk.load(reference)

    assert desk.load(reference, again=True).code is Code.REDELIVERY
    assert desk.rows() == ANN_AND_BOB


def test_a_refused_upload_is_judged_again() -> None:
    """It registered nothing, and the policy may have changed; each verdict has its own import id."""
    desk = Desk()
    reference = desk.drop(MIXED)
    refused = desk.load(reference, Policy(max_rejected=Tolerance("0")))
    loaded = desk.load(reference)

    assert (refused.status, refused.code) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
    assert _counts(refused) == (0, 2, 2)
    assert (loaded.status, loaded.import_id) == (Status.PARTIALLY_LOADED, 2)
    with pytest.raises(UnknownImportError):
        desk.users.get_import(1)
    assert len(desk.rows()) == 2
    assert _stored_receipt(desk, loaded) == loaded


@given(
    upload=csv_uploads(max_rows=4),
    text=st.sampled_from(["all", "0", "1", "2", "0%", "25%", "50%", "99.9%"]),
)
def test_an_upload_over_the_tolerance_registers_nobody(upload: CsvUpload, text: str) -> None:
    """Its good rows are withheld, but every fault is reported, so that one correction is enough."""
    desk = Desk()
    tolerance = Tolerance(text)
    receipt = desk.load(desk.drop(upload.data), Policy(max_rejected=tolerance))
    bad, good = len(upload.faults), len(upload.users)
    refused = tolerance.exceeded_by(bad, bad + good)

    assert (receipt.code is Code.TOO_MANY_REJECTIONS) == refused
    assert list(desk.users.users()) == ([] if refused else list(upload.users))
    assert _counts(receipt) == ((0, bad, good) if refused else (good, bad, 0))
    assert len(receipt.rejections) == bad
    assert bool(receipt.rejected_rows) == bool(bad)


@pytest.mark.parametrize("encodings", [("utf-8",), ("utf-8", "cp932")])
@pytest.mark.parametrize(
    ("row", "policy"),
    [
        ("Bob,Kenya,x\n", Policy()),
        ("Ann,Kenya,1\n", Policy(unique_by=("name",), on_duplicate=OnDuplicate.REJECT)),
        # In cp932 each letter is one byte, the pair looks like UTF-8, and in UTF-8 each takes three bytes.
        (f"{'ﾃｩ' * 90},Kenya,x\n", Policy()),
        ("x\n", Policy()),
    ],
    ids=["screened", "merged", "written again", "short"],
)
def test_rejected_rows_take_no_more_disk_than_allowed(
    row: str, policy: Policy, encodings: tuple[str, ...]
) -> None:
    """The upload is refused with exact totals and the first rows, so that the original can be corrected."""
    desk, disk = Desk(), Disk()
    importer = desk.importer(policy, max_rejected_bytes=1_000_000, encodings=encodings)
    receipt = attrs.evolve(importer, spool=lambda: disk)(
        desk.drop(f"name,country,age\nAnn,日本,1\n{row * 20_000}".encode(encodings[-1]))
    )

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.TOO_MANY_REJECTIONS)
    assert "disk space" in (receipt.message or "")
    assert [total.count for total in receipt.totals] == [receipt.counts.rejected] == [20_000]
    assert desk.rows() == []
    stored = desk.read((receipt.rejected_rows or "").removeprefix("memory:"))
    # The last piece of text may be too much, in each of its copies: 1 byte a letter, then 3 in UTF-8, twice.
    assert 300_000 < disk.largest + len(stored) <= 1_000_000 + 7 * 70_000


def test_a_file_with_a_header_only_is_loaded() -> None:
    """A file without rows has no fault."""
    desk = Desk()
    receipt = desk.load(desk.drop(b"name,country,age\n"))

    assert (receipt.status, receipt.counts) == (Status.LOADED, Counts())


@attrs.frozen
class _Shaky:
    """A stored object that changes while it is read.

    Attributes:
        stored: The object.
        steps: An item for each read or check before the change is noticed.
    """

    stored: StoredObject
    steps: Iterator[int]

    @property
    def upload(self) -> Upload:
        return self.stored.upload

    def read(self) -> Iterator[bytes]:
        """Read it; the change may be noticed."""
        yield from self.stored.read()
        self.verify()

    def reread(self) -> BinaryIO:
        return self.stored.reread()

    def verify(self) -> None:
        """Raise once the steps are used up."""
        if next(self.steps, None) is None:
            raise ObjectChangedError(self.upload.key)


class _ShakyStore(MemoryObjectStore):
    """A bucket whose objects change while they are read."""

    def __init__(self, steps: int) -> None:
        super().__init__("inbox", Clock())
        self._steps = steps

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[Any]:
        with super().open(reference) as stored:
            yield _Shaky(stored, iter(range(self._steps)))


@pytest.mark.parametrize("steps", [0, 1, 2])
@pytest.mark.parametrize("data", [GOOD, MIXED])
def test_an_upload_that_changes_during_the_import_is_skipped(data: bytes, steps: int) -> None:
    """The change is noticed at the download, before the rejected rows are stored, or before the commit."""
    desk = Desk(uploads=_ShakyStore(steps))
    reference = desk.drop(data)
    receipt = desk.load(reference)

    assert (receipt.status, receipt.code) == (Status.SKIPPED, Code.SOURCE_CHANGED)
    assert receipt.source.key == reference.key
    assert receipt.source.version == reference.version
    assert desk.rows() == []
    assert list(desk.users.entries()) == []
    assert _stored_receipt(desk, receipt) == receipt


@attrs.frozen
class _Garbled:
    """An object whose content is no longer text when it is read after the download."""

    stored: StoredObject

    @property
    def upload(self) -> Upload:
        return self.stored.upload

    def read(self) -> Iterator[bytes]:
        return self.stored.read()

    def reread(self) -> BinaryIO:
        """Return other content than was read before."""
        return io.BytesIO(self.stored.reread().read() + b"Canary,Chile,1\n\xff\n")

    def verify(self) -> None:
        """Notice no change."""


class _GarblingStore(MemoryObjectStore):
    """A bucket of garbled objects."""

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[Any]:
        with super().open(reference) as stored:
            yield _Garbled(stored)


def test_an_error_about_a_changed_upload_shows_no_cell() -> None:
    """Some loggers follow an exception to its causes, including suppressed ones."""
    desk = Desk(uploads=_GarblingStore())
    desk.drop(GOOD)
    with pytest.raises(ObjectChangedError) as changed:
        desk.importer(one_pass_from=1000)(ObjectReference(key="users.csv"))

    require_quiet(changed.value)


def test_an_announced_upload_that_is_missing_is_skipped() -> None:
    """An announced upload; a key that a person named raises instead."""
    desk = Desk()
    receipt = desk.load(ObjectReference(bucket="inbox", key="gone.csv", version="1"))

    assert (receipt.status, receipt.code) == (Status.SKIPPED, Code.SOURCE_GONE)
    assert receipt.message
    assert from_dict(json.loads(desk.stored()["gone.csv/1/receipt.json"])) == receipt
    with pytest.raises(ObjectNotFoundError):
        desk.load(ObjectReference(key="gone.csv"))
    assert [*desk.stored()] == ["gone.csv/1/receipt.json"]


def test_replaceable_versions_are_distinguished_by_etag() -> None:
    """S3 calls each such version "null"; the ETag gives each its own receipt."""
    desk = Desk()
    desk.load(ObjectReference(bucket="inbox", key="gone.csv", version="null", etag='"e1"'))
    desk.load(ObjectReference(bucket="inbox", key="gone.csv", version="null", etag='"e2"'))

    assert [*desk.stored()] == ["gone.csv/e1/receipt.json", "gone.csv/e2/receipt.json"]


def test_an_upload_in_another_state_than_announced_is_skipped() -> None:
    """The other state has an announcement of its own."""
    desk = Desk()
    desk.drop(GOOD)
    receipt = desk.load(ObjectReference(bucket="inbox", key="users.csv", etag='"another"'))

    assert (receipt.status, receipt.code) == (Status.SKIPPED, Code.SOURCE_CHANGED)
    assert receipt.source.version == "another"
    assert from_dict(json.loads(desk.stored()["users.csv/another/receipt.json"])) == receipt


class _EmptiedStore(MemoryObjectStore):
    """A bucket whose objects were removed."""

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[Any]:
        """Find nothing."""
        raise ObjectNotFoundError(reference.key)
        yield


def test_a_late_delivery_does_not_overwrite_the_receipt() -> None:
    """The late delivery finds no upload, but the result of the import stays."""
    desk = Desk()
    reference = desk.drop(GOOD)
    first = desk.load(reference)

    late = attrs.evolve(desk, through=_EmptiedStore()).load(reference)

    assert late.code is Code.SOURCE_GONE
    assert _stored_receipt(desk, first) == first


@pytest.mark.parametrize("data", [GOOD, b""])
def test_a_late_delivery_stores_the_missing_receipt_of_an_import(data: bytes) -> None:
    """The import may have died before its receipt was stored."""
    desk = Desk()
    reference = desk.drop(data)
    with pytest.raises(StoreUnavailableError):
        attrs.evolve(desk, into=_FullStore("receipt")).load(reference)

    late = attrs.evolve(desk, through=_EmptiedStore()).load(reference)

    [entry] = desk.users.entries()
    assert late.code is Code.SOURCE_GONE
    assert _stored_receipt(desk, entry.receipt) == entry.receipt


def test_a_late_delivery_stores_the_receipt_of_the_last_verdict() -> None:
    """The stored receipt is that of the first verdict, which the ledger no longer holds."""
    desk = Desk()
    reference = desk.drop(MIXED)
    desk.load(reference, Policy(max_rejected=Tolerance("0")))
    with pytest.raises(StoreUnavailableError):
        attrs.evolve(desk, into=_FullStore("receipt")).load(reference)

    attrs.evolve(desk, through=_EmptiedStore()).load(reference)

    [entry] = desk.users.entries()
    assert entry.receipt.status is Status.PARTIALLY_LOADED
    assert _stored_receipt(desk, entry.receipt) == entry.receipt


class _SlowStore(MemoryObjectStore):
    """A store of reports that runs other work just before a receipt is stored."""

    def __init__(self, inner: MemoryObjectStore, meanwhile: Callable[[], object]) -> None:
        super().__init__("reports", Clock())
        self.inner = inner
        self.waiting = [meanwhile]

    def open(self, reference: ObjectReference) -> Any:  # noqa: ANN401 - as the inner one
        return self.inner.open(reference)

    def put(self, key: str, content: BinaryIO) -> str:
        """Run the other work, then store the report."""
        while self.waiting:
            self.waiting.pop()()
        return self.inner.put(key, content)


def test_a_missing_upload_does_not_overwrite_a_rivals_receipt() -> None:
    """The rival may store its receipt after this delivery read the ledger and before it stores its own."""
    desk = Desk()
    reference = desk.drop(GOOD)
    into = _SlowStore(desk.reports, meanwhile=lambda: desk.load(reference))

    attrs.evolve(desk, through=_EmptiedStore(), into=into).load(reference)

    [entry] = desk.users.entries()
    assert _stored_receipt(desk, entry.receipt) == entry.receipt


def test_nothing_is_stored_for_a_missing_key_without_a_bucket() -> None:
    """The key may be relative to any folder, and reports must not be stored in an unknown place."""
    desk = Desk()
    receipt = desk.load(ObjectReference(key="gone.csv", version="1"))

    assert receipt.code is Code.SOURCE_GONE
    assert desk.stored() == {}


def test_a_missing_upload_whose_receipt_cannot_be_stored_fails() -> None:
    """The delivery fails with the store's error."""
    desk = Desk(into=_FullStore("receipt"))
    with pytest.raises(StoreUnavailableError):
        desk.load(ObjectReference(bucket="inbox", key="gone.csv", version="1"))


def test_a_named_key_that_changes_during_the_import_raises() -> None:
    """The person can try again when the upload is complete."""
    desk = Desk(uploads=_ShakyStore(1))
    desk.drop(GOOD)
    with pytest.raises(ObjectChangedError):
        desk.load(ObjectReference(key="users.csv"))

    assert desk.rows() == []


def test_an_upload_over_the_size_limit_is_refused_unread() -> None:
    """Its size is known beforehand."""
    desk = Desk()
    seen: list[Progress] = []
    reference = desk.drop(GOOD)
    receipt = desk.importer(max_upload_bytes=len(GOOD) - 1)(reference, progress=seen.append)

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.SIZE_LIMIT)
    assert (
        receipt.message
        == f"the file is larger than the {len(GOOD) - 1} bytes that are allowed; split it into files"
    )
    assert receipt.source.sha256 is None
    assert seen == []
    assert desk.importer(max_upload_bytes=len(GOOD))(reference).status is Status.LOADED


def test_an_upload_too_large_after_decompression_is_refused() -> None:
    """Its stored size is below the limit."""
    desk = Desk()
    reference = desk.drop(gzip.compress(GOOD * 1000))
    receipt = desk.importer(max_upload_bytes=10_000, max_csv_bytes=10_000)(reference)

    assert (receipt.status, receipt.code) == (Status.REFUSED, Code.SIZE_LIMIT)
    assert desk.rows() == []


class _UnversionedStore(MemoryObjectStore):
    """A bucket without versions, such as a folder."""

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[Any]:
        """Open an object that only its content identifies."""
        with super().open(reference) as stored:
            yield attrs.evolve(stored, upload=attrs.evolve(stored.upload, version=None))


def test_without_versions_the_content_is_the_version() -> None:
    """The same bytes under the same key are the same upload; other bytes are a new version."""
    desk = Desk(uploads=_UnversionedStore("inbox", Clock()))
    reference = ObjectReference(key="users.csv")
    codes = []
    for data in (GOOD, GOOD, OTHER):
        desk.drop(data)
        codes.append(desk.load(reference).code)

    assert codes == [None, Code.REDELIVERY, Code.KEY_ALREADY_LOADED]
    assert desk.users.get_import(1).receipt.source.version == hashlib.sha256(GOOD).hexdigest()


def test_without_versions_an_unread_upload_has_size_and_time() -> None:
    """Its refusal has a receipt, and it is judged again once the limit allows it."""
    desk = Desk(uploads=_UnversionedStore("inbox", Clock()))
    desk.drop(GOOD)
    refused = desk.importer(max_upload_bytes=1)(ObjectReference(key="users.csv"))

    assert refused.code is Code.SIZE_LIMIT
    assert refused.source.version.startswith(f"{len(GOOD)}-2026-01-01T00:00:")
    assert _stored_receipt(desk, refused) == refused
    assert desk.load(ObjectReference(key="users.csv")).status is Status.LOADED


def test_rejected_rows_are_in_the_encoding_of_the_upload() -> None:
    """If that encoding is listed."""
    desk = Desk()
    reference = desk.drop("name,country,age\n山田,日本,29\n鈴木,日本,二十\n".encode("cp932"))
    receipt = desk.importer(encodings=("utf-8", "cp932"))(reference)
    (rejected,) = (data for key, data in desk.stored().items() if "rejected-" in key)

    assert receipt.source.encoding == "cp932"
    assert desk.rows() == [("山田", "日本", 29)]
    assert "鈴木,日本,二十,3," in rejected.decode("cp932")


def test_lone_surrogates_are_an_encoding_error() -> None:
    """UTF-7 decodes to lone surrogates without an error, but no text contains them."""
    desk = Desk()
    reference = desk.drop(b"name,country,age\n+2AA-,Chile,30\nAnn,Chile,30\n")
    receipt = desk.importer(encodings=("utf-7",))(reference)

    assert receipt.code is Code.ENCODING_ERROR
    assert desk.rows() == []


@attrs.define
class _WatchedStore(MemoryObjectStore):
    """A store of reports that counts users and imports whenever a report is stored."""

    users: UserRepository
    seen: list[tuple[str, int, int]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        super().__init__("reports", Clock())

    def put(self, key: str, content: BinaryIO) -> str:
        """Record the report's name and the numbers of users and imports, then store it."""
        name = key.rsplit("/", 1)[-1][:8]
        self.seen.append((name, len(list(self.users.users())), len(list(self.users.entries()))))
        return super().put(key, content)


def test_rejected_rows_are_stored_before_the_commit() -> None:
    """So every file that the ledger names exists, and no receipt promises what is not committed."""
    desk = Desk()
    into = _WatchedStore(desk.users)
    attrs.evolve(desk, into=into).load(desk.drop(MIXED))

    assert into.seen == [("rejected", 0, 0), ("receipt.", 2, 1)]


class _FullStore(MemoryObjectStore):
    """A store that fails for keys that contain a word."""

    def __init__(self, word: str) -> None:
        super().__init__("reports", Clock())
        self.word = word

    def put(self, key: str, content: BinaryIO) -> str:
        if self.word in key:
            raise StoreUnavailableError(key, "it is full")
        return super().put(key, content)


def test_nothing_is_registered_if_rejected_rows_cannot_be_stored() -> None:
    """The next delivery starts from the same state."""
    desk = Desk()
    reference = desk.drop(MIXED)
    with pytest.raises(ReportNotStoredError, match="nothing is registered, and the reports could not be stored: "):
        attrs.evolve(desk, into=_FullStore("rejected-")).load(reference)

    assert desk.rows() == []
    assert list(desk.users.entries()) == []
    assert desk.load(reference).status is Status.PARTIALLY_LOADED


def test_a_redelivery_stores_a_receipt_that_could_not_be_stored() -> None:
    """The users are registered only once; each delivery before it fails with a message that says so."""
    desk = Desk()
    reference = desk.drop(MIXED)
    for _ in range(2):
        with pytest.raises(ReportNotStoredError) as failed:
            attrs.evolve(desk, into=_FullStore("receipt")).load(reference)

        assert str(failed.value) == (
            "import 1 is committed (users registered: 2, updated: 0), but its receipt could not be stored: "
            "users.csv/1/receipt.json: it is full"
        )

    assert len(desk.rows()) == 2

    again = desk.load(reference)

    assert again.code is Code.REDELIVERY
    assert again.first_receipt
    assert _stored_receipt(desk, again) == again.first_receipt
    assert len(desk.rows()) == 2


@attrs.define
class _FrozenStore(MemoryObjectStore):
    """A store of reports that lets other work finish before the first receipt, as if the worker were frozen.

    Attributes:
        behind: The store that gets every report.
        meanwhile: The other work.
    """

    behind: MemoryObjectStore
    meanwhile: Callable[[], object]

    def put(self, key: str, content: BinaryIO) -> str:
        """Do the other work before the first receipt, then store the report."""
        if key.endswith("receipt.json"):
            meanwhile, self.meanwhile = self.meanwhile, lambda: None
            meanwhile()
        return self.behind.put(key, content)


@pytest.mark.parametrize("first", [Policy(), Policy(max_rejected=Tolerance("0"))], ids=["loaded", "refused"])
def test_a_worker_frozen_after_its_commit_keeps_newer_receipts(first: Policy) -> None:
    """Meanwhile the upload was undone and imported again, or judged again by another policy."""
    desk = Desk()
    reference = desk.drop(MIXED)

    def meanwhile() -> None:
        if first == Policy():
            desk.users.undo(1, datetime(2026, 1, 2, tzinfo=UTC))
        desk.load(reference, Policy(max_rejected=Tolerance("2")), again=True)

    attrs.evolve(desk, into=_FrozenStore(desk.reports, meanwhile)).load(reference, first)

    [entry] = desk.users.entries()
    assert entry.receipt.status is Status.PARTIALLY_LOADED
    assert _stored_receipt(desk, entry.receipt) == entry.receipt


def test_no_receipt_is_stored_if_the_commit_fails() -> None:
    """Nobody is registered either, and the next delivery starts from the same state."""
    failing = [RepositoryUnavailableError("the connection was lost")]

    def fail_once() -> None:
        if failing:
            raise failing.pop()

    desk = Desk(users=MemoryUserRepository(before_commit=fail_once))
    reference = desk.drop(MIXED)
    with pytest.raises(RepositoryUnavailableError):
        desk.load(reference)

    assert desk.rows() == []
    assert [key for key in desk.stored() if key.endswith("receipt.json")] == []
    assert desk.load(reference).status is Status.PARTIALLY_LOADED


@pytest.mark.parametrize("passes", [1, 2])
def test_progress_is_reported_in_every_pass(passes: int) -> None:
    """From the first byte to the last, never backwards."""
    data = completed(b"name,country,age\n" + b"Ann,Chile,30\n" * 21_000)
    desk = Desk()
    seen: list[Progress] = []
    importer = desk.importer(one_pass_from=(passes - 1) * len(data) * 2)
    receipt = importer(desk.drop(data), progress=seen.append)
    checking = [progress for progress in seen if progress.step == "checking"]
    importing = [progress for progress in seen if progress.step == "importing"]

    assert seen == checking + importing
    assert bool(checking) == (passes == 2)
    assert all(progress.bytes_total == len(data) for progress in seen)
    for step in (checking, importing)[-passes:]:
        assert len(step) >= 2
        assert [progress.bytes_read for progress in step] == sorted(progress.bytes_read for progress in step)
        assert step[-1].bytes_read == len(data)
    assert [progress.rows for progress in importing] == sorted(progress.rows for progress in importing)
    assert importing[-1] == Progress(
        step="importing", bytes_read=len(data), bytes_total=len(data), rows=receipt.counts.read
    )


def test_a_receipt_has_the_start_and_duration_of_the_import() -> None:
    """By the clock of the use case."""
    desk = Desk()
    receipt = desk.load(desk.drop(GOOD))

    assert receipt.started == datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
    assert receipt.seconds == 1.0


def test_a_clock_set_back_gives_no_negative_duration() -> None:
    """A negative duration would break the published schema."""
    times = [datetime(2026, 1, 1, 12, tzinfo=UTC), datetime(2026, 1, 1, 11, tzinfo=UTC)]
    desk = Desk()
    reference = desk.drop(GOOD)
    receipt = attrs.evolve(desk.importer(), now=lambda: times.pop(0) if len(times) > 1 else times[0])(reference)

    assert receipt.seconds == 0
    assert receipt.rows_per_second == 0


@given(
    lines=st.lists(nasty_lines, max_size=4),
    policy=st.sampled_from([Policy(), Policy(max_rejected=Tolerance("0"))]),
)
def test_no_report_shows_a_cell_of_a_good_row(lines: list[str], policy: Policy) -> None:
    """With any other rows and any policy, in the first receipt and in that of a redelivery."""
    canary = "\nC4NARY,C4NARY,30\n"
    # An open quote before the canary would make it part of a bad cell.
    text = "name,country,age" + canary + canary.join(line.replace('"', "") for line in lines) + canary
    desk = Desk()
    reference = desk.drop(text.encode())
    receipts = [desk.load(reference, policy), desk.load(reference, policy)]

    assert receipts[0].counts.read - receipts[0].counts.rejected > len(lines)
    assert not any("C4NARY" in to_json(receipt) for receipt in receipts)
    assert not any(b"C4NARY" in data for data in desk.stored().values())


def _without_chance(receipt: Receipt) -> Receipt:
    """Return a receipt without times and numbers; a verdict that is given up uses one up."""
    where = receipt.rejected_rows and "stored"
    return attrs.evolve(
        receipt, started=datetime.min.replace(tzinfo=UTC), seconds=0, import_id=None, rejected_rows=where
    )


@given(
    st.one_of(csv_uploads().map(lambda upload: upload.data), refused_uploads().map(lambda refused: refused[0])),
    st.sampled_from((Policy(), Policy(max_rejected=Tolerance("1")), Policy(unique_by=("name",)))),
    st.sampled_from((("utf-8",), ("utf-8", "cp932"), ("cp932", "utf-8"))),
)
def test_one_pass_and_two_passes_give_the_same(data: bytes, policy: Policy, encodings: tuple[str, ...]) -> None:
    """The same receipt, the same users and the same reports."""
    outcomes = []
    for one_pass_from in (0, len(data) + 1):
        desk = Desk(uploads=MemoryObjectStore("inbox", Clock(), version_suffix=""))
        importer = desk.importer(policy, encodings=encodings, one_pass_from=one_pass_from)
        receipt = importer(desk.drop(data))
        outcomes.append((_without_chance(receipt), desk.rows(), len(desk.stored())))

    assert outcomes[0] == outcomes[1]


def test_an_encoding_that_fails_late_gives_way_to_the_next() -> None:
    """No row that was read in the first encoding stays registered."""
    rows = b"Ann,Chile,30\n" * 10_000 + "山田,日本,29\n".encode("cp932")
    desk = Desk()
    receipt = desk.importer(encodings=("utf-8", "cp932"))(desk.drop(completed(b"name,country,age\n" + rows)))

    assert (receipt.source.encoding, receipt.counts.registered) == ("cp932", 10_001)
    assert desk.rows()[-1] == ("山田", "日本", 29)
    assert len(desk.rows()) == 10_001


class _Forgetful(MemoryUserRepository):
    """A ledger that resembles nothing, as if a rival had committed after it was asked."""

    def resembles_import(self, _upload: Upload) -> bool:
        return False


def test_a_repeat_is_recognised_when_its_content_is_known() -> None:
    """Its rows are discarded."""
    desk = Desk(users=_Forgetful())
    desk.load(desk.drop(GOOD))
    again = desk.load(desk.drop(GOOD, "again.csv"))

    assert (again.status, again.code) == (Status.SKIPPED, Code.REPEAT)
    assert desk.rows() == ANN_AND_BOB
