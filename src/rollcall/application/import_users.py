"""Import one upload: judge every row, register the good rows exactly once, and account for every row."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import takewhile
from typing import BinaryIO, Literal

import attrs

from rollcall.application.decoding import Content, DamagedGzipError, Inspection, read_text, size_fault
from rollcall.application.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectUnreadableError,
    TableConstraintError,
    raise_without_context,
)
from rollcall.application.header import Header, read_header
from rollcall.application.ports import Importing, ObjectReader, StoredObject, UserRepository
from rollcall.application.records import RecordReader
from rollcall.application.rejected_rows import RejectedRowsFile
from rollcall.application.reports import Reports
from rollcall.application.screening import Screened, merge_fault, origins, screen
from rollcall.application.values import ImportRequest, MergeResult
from rollcall.domain.correction import NO_IMPORT, Origin, Verdict
from rollcall.domain.decision import Decision, admit, judge
from rollcall.domain.ledger import LedgerEntry
from rollcall.domain.policy import MAX_CSV_BYTES, MAX_REJECTED_BYTES, MAX_UPLOAD_BYTES, Policy
from rollcall.domain.receipt import Action, Counts, Receipt, Remedy, Source, Status, Tally
from rollcall.domain.rejection import Code, Fault, escaped
from rollcall.domain.upload import ObjectReference


@attrs.frozen(kw_only=True)
class Progress:
    """The progress of an import.

    Attributes:
        step: First the upload is downloaded and checked as a whole, then its rows are imported.
        bytes_read: The bytes read in this step.
        bytes_total: The upload's size in bytes.
        rows: The rows read so far.
    """

    step: Literal["checking", "importing"]
    bytes_read: int
    bytes_total: int
    rows: int = 0


@attrs.frozen(kw_only=True)
class ImportUsers:
    """The use case that imports uploads.

    Attributes:
        uploads: The store of uploads.
        reports: The receipts and rejected rows.
        users: The repository of users and ledger.
        policy: The operator's settings.
        encodings: The names of the encodings to try, in order.
        max_upload_bytes: The largest size of an upload as stored, in bytes.
        max_csv_bytes: The largest size of an upload after decompression, in bytes.
        max_rejected_bytes: The largest disk space that its rejected rows may use, in bytes.
        keeps_refusals: Whether a refused upload is committed to the ledger and has reports. If not, its receipt is
            only returned, and has no import id.
        now: Returns the current time, with its time zone.
        spool: Opens a temporary file for bytes that do not fit in memory. It is read back, then closed.
    """

    uploads: ObjectReader
    reports: Reports
    users: UserRepository
    policy: Policy = Policy()
    encodings: Sequence[str] = ("utf-8",)
    max_upload_bytes: int = MAX_UPLOAD_BYTES
    max_csv_bytes: int = MAX_CSV_BYTES
    max_rejected_bytes: int = MAX_REJECTED_BYTES
    keeps_refusals: bool = True
    now: Callable[[], datetime]
    spool: Callable[[], BinaryIO]

    def __call__(
        self,
        reference: ObjectReference,
        *,
        again: bool = False,
        progress: Callable[[Progress], None] = lambda _: None,
        seconds_left: Callable[[], float | None] = lambda: None,
    ) -> Receipt:
        """Import one upload.

        Args:
            reference: The object, with its version if one was announced.
            again: Whether to import the upload again if its import was undone.
            progress: Called from time to time with the progress.
            seconds_left: Returns the seconds until the caller's deadline, after which a rival delivery may end
                this import. Returns None if no rival may.

        Returns:
            The receipt. It is committed and stored when this method returns.

            If an announced upload is gone or has changed, the receipt is not committed, because the ledger needs
            an upload. It is stored only if the reference names a bucket and there is no receipt yet. If the ledger
            has an entry of the upload, the receipt of that entry is stored instead.

        Raises:
            ObjectNotFoundError: The object does not exist, and the reference is not an announcement.
            ObjectChangedError: The object changed while it was read, and the reference is not an announcement.
            StoreUnavailableError: A store failed; deliver again.
            ReportNotStoredError: The store of reports failed; the message says what is registered. Deliver again.
            ImportInProgressError: The same upload or content is being imported elsewhere; deliver again later.
            RepositoryUnavailableError: The database failed; deliver again.
            SchemaError: The database is not prepared.
            ConservationError: The counts of rows do not add up, which is a fault of this program. Nothing was
                registered.
        """
        started = self.now()
        try:
            with self.uploads.open(reference) as stored:
                return _Import(self, stored, started, progress, seconds_left).run(again=again)
        except (ObjectNotFoundError, ObjectChangedError) as error:
            if not reference.announced:
                raise
            receipt = self._skipped(reference, error, started)
        # Without a bucket, the key may be relative to any folder, so the place of the receipt is not known.
        if reference.bucket:
            self._store_skipped(receipt, reference.identity)
        return receipt

    def refuse(
        self, reference: ObjectReference, fault: Fault, seconds_left: Callable[[], float | None] = lambda: None
    ) -> Receipt:
        """Refuse an upload without reading it, because it cannot be judged here.

        Args:
            reference: The version of the object.
            fault: The reason.
            seconds_left: See `__call__`.

        Returns:
            The receipt, which is committed and stored. If the upload already has a verdict that stands, the
            receipt is that of a redelivery.

        Raises:
            ObjectNotFoundError: The object does not exist.
            ObjectChangedError: The object is not in the announced state.
            StoreUnavailableError: A store failed.
            ImportInProgressError: The same upload or content is being imported elsewhere.
            RepositoryUnavailableError: The database failed.
            SchemaError: The database is not prepared.
        """
        with self.uploads.open(reference) as stored:
            refusal = _Import(self, stored, self.now(), lambda _: None, seconds_left)
            return refusal.run(again=False, unread=Content(fault=fault))

    def _skipped(self, reference: ObjectReference, error: Exception, started: datetime) -> Receipt:
        """Return the receipt of an announced upload that is gone, or not in the announced state."""
        return Receipt(
            status=Status.SKIPPED,
            code=Code.SOURCE_GONE if isinstance(error, ObjectNotFoundError) else Code.SOURCE_CHANGED,
            message=str(error),
            source=Source(
                bucket=reference.bucket,
                key=reference.key,
                # If both were announced, the version is "null", which later objects replace.
                version=(reference.etag or "").strip('"') or reference.version or "",
                sequencer=reference.sequencer,
            ),
            policy=self.policy.as_dict(),
            started=started,
            seconds=self.seconds_since(started),
            import_id=None,
        )

    def _store_skipped(self, receipt: Receipt, identity: str | None) -> None:
        """Store the receipt of an upload that is gone or changed, unless a receipt or a ledger entry exists.

        If the ledger has an entry, store the receipt of that entry, unless it is stored already.
        """
        entry = identity and self.users.find_import(identity)
        if not entry and not self.reports.has_receipt(receipt.source):
            self.reports.store_receipt(receipt)
            # A rival that still found the object may have committed meanwhile; this receipt then replaced its
            # receipt.
            entry = identity and self.users.find_import(identity)
        if identity and entry and not self.reports.has(entry.receipt):
            self.store_committed(entry.receipt, identity)

    def seconds_since(self, started: datetime) -> float:
        """Return the seconds since a time; 0 if the clock was put back since."""
        return max(0.0, (self.now() - started).total_seconds())

    def store_committed(self, receipt: Receipt, identity: str) -> None:
        """Store the receipt that the ledger has for an upload.

        If this process was frozen after the commit, a rival may have judged the upload again, and this receipt is
        out of date. The ledger is therefore queried after the receipt is stored: the process could also be frozen
        between a query and the storing.

        Args:
            receipt: The committed receipt, as the caller knows it.
            identity: See `Upload.identity`.

        Raises:
            ReportNotStoredError: The receipt could not be stored; deliver again.
            RepositoryUnavailableError: The ledger could not be queried; deliver again.
        """
        self.reports.store_receipt(receipt)
        while (newest := self.users.find_import(identity)) and newest.receipt != receipt:
            receipt = newest.receipt
            self.reports.store_receipt(receipt)


class _Import:
    """One run of the use case, for one upload."""

    def __init__(
        self,
        case: ImportUsers,
        stored: StoredObject,
        started: datetime,
        progress: Callable[[Progress], None],
        seconds_left: Callable[[], float | None],
    ) -> None:
        self._case = case
        self._stored = stored
        self._upload = stored.upload
        self._started = started
        self._progress = progress
        self._seconds_left = seconds_left
        self._content = Content()
        self._header: Header | None = None
        self._tally = Tally()
        self._corrects: Origin | None = None
        self._last_line_ended: bool | None = None

    def run(self, *, again: bool, unread: Content | None = None) -> Receipt:
        """Import the upload, or refuse it by the fault of its unread content."""
        if unread:
            self._content = unread
        stream = None if unread else self._fetch()
        unread_version = f"{self._upload.size}-{self._upload.last_modified.isoformat()}"
        self._upload = self._upload.with_content(self._content.sha256 or unread_version)
        if stream and not self._content.fault:
            self._corrects = self._find_corrected(stream)
        refusal = None
        try:
            answer = self._judge(stream, again=again)
        except TableConstraintError as error:
            refusal = _refused(Fault(Code.TABLE_CONSTRAINT, str(error)))
        if refusal:
            # That import is rolled back. A second one registers no user, and commits the refusal.
            answer = self._judge(stream, again=again, refusal=refusal)
        # The import has returned its connection, so a query to the ledger can use it.
        if not isinstance(answer, Receipt):
            return self._answer_again(*answer)
        if self._keeps(answer):
            self._case.store_committed(answer, self._upload.identity)
        return answer

    def _judge(
        self, stream: BinaryIO | None, *, again: bool, refusal: Decision | None = None
    ) -> Receipt | tuple[Decision, LedgerEntry]:
        """Reach a verdict and commit it.

        Args:
            stream: The upload; None if it is too large or unreadable.
            again: See `ImportUsers`.
            refusal: The decision by which no row of the upload may be registered; None if rows may be registered.

        Returns:
            The committed receipt, or one without an import id that the ledger does not keep; or, if the upload has
            a verdict that stands, the decision and its ledger entry.

        Raises:
            TableConstraintError: The database rejects the rows; nothing was committed.
        """
        request = ImportRequest(
            self._upload,
            # Two requests with the same user are two users, and no file is a repeat of a request.
            None if self._upload.is_request else self._content.sha256,
            self._case.policy,
            corrects=self._corrects and self._corrects.import_id,
            seconds_left=self._seconds_left(),
        )
        with self._case.users.importing(request) as importing:
            history = importing.history
            self._remember_sequencer(history.same_upload)
            decision = admit(self._upload, history, self._case.policy, corrects=self._corrects, again=again)
            if decision and history.same_upload and history.already_registered:
                return decision, history.same_upload
            if not decision and self._content.fault:
                decision = _refused(self._content.fault)
            self._case.reports.require_writable(self._source)
            if decision or not stream:
                receipt = self._receipt(decision, importing.verdict.import_id)
            else:
                receipt = self._load(stream, importing, refusal)
            if not self._keeps(receipt):
                return attrs.evolve(receipt, import_id=None)
            self._stored.verify()
            importing.commit(receipt)
        return receipt

    def _keeps(self, receipt: Receipt) -> bool:
        return receipt.status is not Status.REFUSED or self._case.keeps_refusals

    def _remember_sequencer(self, entry: LedgerEntry | None) -> None:
        """Use the sequencer of an earlier delivery if this delivery has none."""
        if entry and not self._upload.sequencer:
            self._upload = attrs.evolve(self._upload, sequencer=entry.receipt.source.sequencer)

    def _answer_again(self, decision: Decision, entry: LedgerEntry) -> Receipt:
        """Return the receipt of a redelivery, and store the first receipt again if it was lost."""
        if not self._case.reports.has(entry.receipt):
            self._case.store_committed(entry.receipt, self._upload.identity)
        if decision.status is Status.REFUSED:
            return self._receipt(decision, entry.import_id)  # the import stays undone
        because_of = decision.because_of or entry
        receipt = self._receipt(decision, because_of.import_id)
        return attrs.evolve(receipt, first_receipt=entry.receipt)

    @property
    def _source(self) -> Source:
        return attrs.evolve(
            Source.of(self._upload),
            sha256=self._content.sha256,
            encoding=self._content.encoding,
            delimiter=self._header.delimiter if self._header else None,
            compression=self._content.compression,
            ignored_columns=tuple(map(escaped, self._header.ignored)) if self._header else (),
            last_line_ended=self._last_line_ended,
        )

    def _fetch(self) -> BinaryIO | None:
        """Download the upload and inspect its content in the same pass.

        Returns:
            The stream of the upload; None if it is too large or unreadable.
        """
        size = self._stored.upload.size
        if size > self._case.max_upload_bytes:
            self._content = Content(fault=size_fault("the file", self._case.max_upload_bytes))
            return None
        inspection = Inspection(self._case.encodings, self._case.max_csv_bytes)
        seen = 0

        def watch(data: bytes) -> None:
            nonlocal seen
            inspection.watch(data)
            seen += len(data)
            self._progress(Progress(step="checking", bytes_read=seen, bytes_total=size))

        try:
            stream = self._stored.fetch(watch)
        except ObjectUnreadableError as error:
            self._content = Content(fault=Fault(Code.SOURCE_UNREADABLE, str(error)))
            return None
        self._content = inspection.finish()
        return stream

    def _find_corrected(self, stream: BinaryIO) -> Origin | None:
        """Return the origin of the first corrected row that names its import; if none does, that of the first row.

        Returns:
            The origin; None for a file without corrected rows.
        """
        first = None
        with self._rereading():
            reader, header = self._read_from_start(stream)
            if isinstance(header, Header) and header.corrects:
                for origin in origins(reader, header):
                    if origin.import_id != NO_IMPORT:
                        return origin
                    first = first or origin
        return first

    def _load(self, stream: BinaryIO, importing: Importing, refusal: Decision | None) -> Receipt:
        with self._rereading():
            reader, header = self._read_from_start(stream)
            if isinstance(header, Fault):
                return self._receipt(_refused(header), importing.verdict.import_id)
            self._header = header
            with self._case.spool() as spool:
                return self._load_rows(stream, reader, header, importing, spool, refusal)

    def _load_rows(
        self,
        stream: BinaryIO,
        reader: RecordReader,
        header: Header,
        importing: Importing,
        spool: BinaryIO,
        refusal: Decision | None,
    ) -> Receipt:
        self._tally = Tally()
        tolerance = self._case.policy.max_rejected
        rejected = self._new_rejected_rows(spool, importing.verdict)
        registering = refusal is None
        for screened in screen(reader, header):
            self._count(screened)
            for row in screened.rejected:
                rejected.add(row)
            if registering and (rejected.overflowed or tolerance.certainly_exceeded_by(self._tally.rejected)):
                registering = False
                importing.discard_rows()
            if registering and screened.accepted.spans:
                importing.register(screened.accepted)
            self._progress(
                Progress(
                    step="importing",
                    bytes_read=stream.tell(),
                    bytes_total=self._stored.upload.size,
                    rows=self._tally.read,
                )
            )
        self._last_line_ended = reader.last_line_ended
        if (
            registering
            and tolerance.exceeded_by(self._tally.rejected, self._tally.read)
            and not (header.corrects or self._case.policy.rejects_duplicates)
        ):
            # The upload is refused in any case, and a merge would reject no further rows, so it is not needed.
            registering = False
            importing.discard_rows()
        merge_result = importing.merge() if registering else MergeResult(registered=0)
        overflowed = rejected.overflowed
        too_many = tolerance.exceeded_by(self._tally.rejected + merge_result.rejected_on_merge, self._tally.read)
        refused = bool(refusal) or overflowed or too_many
        keep_origins = not (refused and header.corrects)
        if merge_result.rejected_on_merge or (rejected.holds_origins and not keep_origins):
            rejected = self._judge_again(stream, header, importing, merge_result, spool, keep_origins=keep_origins)
            overflowed |= rejected.overflowed
        if overflowed and header.corrects and keep_origins:
            rejected = self._judge_again(stream, header, importing, merge_result, spool, keep_origins=False)
        decision = judge(self._tally, tolerance, overflowed=overflowed) or refusal
        if decision and registering:
            importing.discard_rows()
        # Store rejected rows only if the upload did not change meanwhile.
        self._stored.verify()
        where = None
        if self._tally.rejected:
            name, content = rejected.content()
            where = self._case.reports.store_rejected_rows(self._source, name, content)
        return self._receipt(decision, importing.verdict.import_id, merge_result, rejected_rows=where)

    def _judge_again(
        self,
        stream: BinaryIO,
        header: Header,
        importing: Importing,
        merge_result: MergeResult,
        spool: BinaryIO,
        *,
        keep_origins: bool,
    ) -> RejectedRowsFile:
        """Count and write all rejected rows again, including those that the merge rejected.

        The merge gives only their lines, so the upload is read once more.

        Args:
            stream: The upload.
            header: The header of the upload.
            importing: The open import of this upload.
            merge_result: Gives line and code of each row that the merge rejected, in the order of the file.
            spool: Takes the new rejected-rows file.
            keep_origins: Whether rejected rows keep the origins that they correct. A refused upload drops them:
                correcting only its rejected rows would lose its good rows.

        Returns:
            The new file with all rejected rows.
        """
        rejected = self._new_rejected_rows(spool, importing.verdict)
        self._tally = Tally()
        unique_by = self._case.policy.unique_by
        faults = ((line, merge_fault(code, unique_by)) for line, code in merge_result.rows_rejected_on_merge)
        reader, _ = self._read_from_start(stream)
        for screened in screen(reader, header, faults):
            self._count(screened)
            for row in screened.rejected:
                rejected.add(row if keep_origins else attrs.evolve(row, origin=None))
        return rejected

    def _count(self, screened: Screened) -> None:
        self._tally.read += screened.read
        self._tally.blank += screened.blank
        for row in screened.rejected:
            self._tally.reject(row.rejection)

    def _new_rejected_rows(self, spool: BinaryIO, verdict: Verdict) -> RejectedRowsFile:
        if not self._header:
            raise AssertionError("rows are rejected by a header")
        encoding = self._content.encoding or "utf-8"
        tried_before = takewhile(lambda tried: tried != encoding, self._case.encodings)
        return RejectedRowsFile(
            spool, self._header, encoding, verdict, tuple(tried_before), self._case.max_rejected_bytes
        )

    def _read_from_start(self, stream: BinaryIO) -> tuple[RecordReader, Header | Fault]:
        stream.seek(0)
        reader = RecordReader(read_text(stream, self._content))
        return reader, read_header(reader)

    @contextmanager
    def _rereading(self) -> Iterator[None]:
        """Translate an error of decoding: the whole upload was decoded before, so it must have changed.

        Raises:
            ObjectChangedError: The upload can no longer be decoded.
        """
        try:
            yield
        except (DamagedGzipError, UnicodeDecodeError):
            # Without the cause, which may show cells.
            raise_without_context(ObjectChangedError(self._stored.upload.key))

    def _receipt(
        self,
        decision: Decision | None,
        import_id: int,
        merge_result: MergeResult | None = None,
        *,
        rejected_rows: str | None = None,
    ) -> Receipt:
        tally = self._tally
        code: Code | None
        message: str | None
        remedies: tuple[Remedy, ...] = ()
        if decision:
            status, code, message, remedies = decision.status, decision.code, decision.message, decision.remedies
        elif tally.rejected:
            status, code, message = Status.PARTIALLY_LOADED, Code.ROWS_REJECTED, tally.headline()
            remedies = (Remedy(Action.CORRECT_REJECTED_ROWS if import_id else Action.CORRECT_ORIGINAL),)
        else:
            status, code, message = Status.LOADED, None, None
        if decision or not merge_result:
            fate = {"withheld": tally.good}
        else:
            fate = {
                "registered": merge_result.registered,
                "updated": merge_result.updated,
                "unchanged": merge_result.unchanged,
            }
        return Receipt(
            status=status,
            code=code,
            message=message,
            remedies=remedies,
            source=self._source,
            policy=self._case.policy.as_dict(),
            counts=Counts(read=tally.read, rejected=tally.rejected, blank=tally.blank, **fate),
            totals=tally.totals,
            rejections=tuple(tally.rejections),
            rejected_rows=rejected_rows or None,
            started=self._started,
            seconds=self._case.seconds_since(self._started),
            import_id=import_id or None,
            corrects=(self._corrects and self._corrects.import_id) or None,
        )


def _refused(fault: Fault) -> Decision:
    return Decision(Status.REFUSED, fault.code, fault.message, remedies=(Remedy(Action.CORRECT_ORIGINAL),))
