"""Import one upload: judge every row, register the good rows exactly once, and account for every row."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import takewhile
from typing import BinaryIO, Literal

import attrs

from rollcall.application.decoding import (
    CHUNK_BYTES,
    Content,
    DamagedGzipError,
    Inspection,
    blocks,
    read_utf8,
    size_fault,
)
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
from rollcall.domain.upload import ObjectReference, Upload


@attrs.frozen(kw_only=True)
class Progress:
    """The progress of an import.

    Attributes:
        step: The rows are imported. If the upload may be there already, it is checked as a whole before that.
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
        one_pass_from: The size in bytes from which an upload's rows are registered while it is still being read.
            Reading a smaller one twice costs nothing.
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
    one_pass_from: int = CHUNK_BYTES

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
                return _Import(self, stored, started, progress, seconds_left, again=again).run()
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
            return _Import(self, stored, self.now(), lambda _: None, seconds_left, again=False).refuse(fault)

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


@attrs.frozen(kw_only=True)
class _Judged:
    """The rows of an upload, after each was judged.

    Attributes:
        header: The header.
        tally: The counts.
        rejected: The file of rejected rows.
        last_line_ended: Whether the last line of the upload has an end.
        registering: Whether the good rows were passed to the repository. If not, too many rows are rejected.
    """

    header: Header
    tally: Tally
    rejected: RejectedRowsFile
    last_line_ended: bool
    registering: bool


@attrs.frozen
class _Known:
    """An upload whose content is known.

    Attributes:
        upload: The upload, with its version.
        content: Its content.
        corrects: The origin of its first corrected row; None for a file of users.
    """

    upload: Upload
    content: Content
    corrects: Origin | None = None

    def announced_as(self, entry: LedgerEntry | None) -> "_Known":
        """Return this with the sequencer of an earlier delivery if this delivery has none."""
        if not entry or self.upload.sequencer:
            return self
        return attrs.evolve(self, upload=attrs.evolve(self.upload, sequencer=entry.receipt.source.sequencer))

    def source(self, judged: _Judged | None = None) -> Source:
        """Return the source as the receipt describes it, as far as it was read."""
        return attrs.evolve(
            Source.of(self.upload),
            sha256=self.content.sha256,
            encoding=self.content.encoding,
            delimiter=judged.header.delimiter if judged else None,
            compression=self.content.compression,
            ignored_columns=tuple(map(escaped, judged.header.ignored)) if judged else (),
            last_line_ended=judged.last_line_ended if judged else None,
        )


class _Import:
    """One run of the use case, for one upload."""

    def __init__(
        self,
        case: ImportUsers,
        stored: StoredObject,
        started: datetime,
        progress: Callable[[Progress], None],
        seconds_left: Callable[[], float | None],
        *,
        again: bool,
    ) -> None:
        self._case = case
        self._stored = stored
        self._started = started
        self._progress = progress
        self._seconds_left = seconds_left
        self._again = again

    def run(self) -> Receipt:
        """Import the upload."""
        upload = self._stored.upload
        if upload.size > self._case.max_upload_bytes:
            return self.refuse(size_fault("the file", self._case.max_upload_bytes))
        one_pass = upload.size >= self._case.one_pass_from and not self._case.users.resembles_import(upload)
        inspection = Inspection(self._case.encodings, self._case.max_csv_bytes)
        bytes_read = 0

        def read() -> Iterator[bytes]:
            nonlocal bytes_read
            for block in self._stored.read():
                bytes_read += len(block)
                if not one_pass:
                    self._progress(Progress(step="checking", bytes_read=bytes_read, bytes_total=upload.size))
                yield block

        texts = inspection.read(read())
        try:
            if one_pass and (receipt := self._import_in_one_pass(inspection, texts, lambda: bytes_read)):
                return receipt
            for _ in texts:
                pass
            content = inspection.finish(lambda: blocks(self._stored.reread()))
        except ObjectUnreadableError as error:
            return self.refuse(Fault(Code.SOURCE_UNREADABLE, str(error)))
        corrects = None if content.fault else self._find_corrected(content)
        return self._import_known(_Known(upload.with_content(content.sha256 or ""), content, corrects))

    def refuse(self, fault: Fault) -> Receipt:
        """Refuse the upload without reading it."""
        upload = self._stored.upload
        unread_version = f"{upload.size}-{upload.last_modified.isoformat()}"
        return self._import_known(_Known(upload.with_content(unread_version), Content(fault=fault)))

    def _import_in_one_pass(
        self, inspection: Inspection, texts: Iterator[bytes], bytes_read: Callable[[], int]
    ) -> Receipt | None:
        """Register the rows while the upload is being read.

        Args:
            inspection: The inspection of the upload.
            texts: The text that the inspection yields.
            bytes_read: Returns the number of stored bytes that were read.

        Returns:
            The committed receipt. None if nothing was committed, because the upload can be judged only when its
            content is known.
        """
        reader = RecordReader(texts)
        header = read_header(reader, self._case.users.record_type)
        encoding = inspection.encoding
        if isinstance(header, Fault) or header.corrects or not encoding:
            return None
        upload = self._stored.upload
        request = ImportRequest(upload, None, self._case.policy, seconds_left=self._seconds_left(), reading=True)
        try:
            with self._case.users.importing(request) as importing, self._case.spool() as spool:
                judged = self._judge_rows(reader, header, encoding, importing, spool, bytes_read)
                content = inspection.content
                if not content or content.fault:
                    return None
                known = _Known(upload.with_content(content.sha256 or ""), content)
                importing.identify(self._request(known))
                known = known.announced_as(importing.history.same_upload)
                if admit(known.upload, importing.history, self._case.policy):
                    return None
                self._case.reports.require_writable(known.source())
                receipt = self._commit(self._decide(known, judged, importing, spool), importing)
        except TableConstraintError:
            return None
        return self._stored_receipt(receipt, known)

    def _import_known(self, known: _Known) -> Receipt:
        """Import the upload, or refuse it by the fault of its content."""
        refusal = None
        try:
            answer = self._judge(known)
        except TableConstraintError as error:
            refusal = _refused(Fault(Code.TABLE_CONSTRAINT, str(error)))
        if refusal:
            # That import is rolled back. A second one registers no user, and commits the refusal.
            answer = self._judge(known, refusal)
        # The import has returned its connection, so a query to the ledger can use it.
        if not isinstance(answer, Receipt):
            return self._answer_again(known, *answer)
        return self._stored_receipt(answer, known)

    def _judge(self, known: _Known, refusal: Decision | None = None) -> Receipt | tuple[Decision, LedgerEntry]:
        """Reach a verdict and commit it.

        Args:
            known: The upload.
            refusal: The decision by which no row of the upload may be registered; None if rows may be registered.

        Returns:
            The committed receipt, or one without an import id that the ledger does not keep; or, if the upload has
            a verdict that stands, the decision and its ledger entry.

        Raises:
            TableConstraintError: The database rejects the rows; nothing was committed.
        """
        with self._case.users.importing(self._request(known)) as importing:
            history = importing.history
            known = known.announced_as(history.same_upload)
            decision = admit(known.upload, history, self._case.policy, corrects=known.corrects, again=self._again)
            if decision and history.same_upload and history.already_registered:
                return decision, history.same_upload
            if not decision and known.content.fault:
                decision = _refused(known.content.fault)
            self._case.reports.require_writable(known.source())
            receipt = (
                self._receipt(known, importing.verdict.import_id, decision)
                if decision
                else self._load(known, importing, refusal)
            )
            return self._commit(receipt, importing)

    def _request(self, known: _Known) -> ImportRequest:
        return ImportRequest(
            known.upload,
            # Two requests with the same user are two users, and no file is a repeat of a request.
            None if known.upload.is_request else known.content.sha256,
            self._case.policy,
            corrects=known.corrects and known.corrects.import_id,
            seconds_left=self._seconds_left(),
        )

    def _commit(self, receipt: Receipt, importing: Importing) -> Receipt:
        if not self._keeps(receipt):
            return attrs.evolve(receipt, import_id=None)
        self._stored.verify()
        importing.commit(receipt)
        return receipt

    def _stored_receipt(self, receipt: Receipt, known: _Known) -> Receipt:
        if self._keeps(receipt):
            self._case.store_committed(receipt, known.upload.identity)
        return receipt

    def _keeps(self, receipt: Receipt) -> bool:
        return receipt.status is not Status.REFUSED or self._case.keeps_refusals

    def _answer_again(self, known: _Known, decision: Decision, entry: LedgerEntry) -> Receipt:
        """Return the receipt of a redelivery, and store the first receipt again if it was lost."""
        known = known.announced_as(entry)
        if not self._case.reports.has(entry.receipt):
            self._case.store_committed(entry.receipt, known.upload.identity)
        if decision.status is Status.REFUSED:
            return self._receipt(known, entry.import_id, decision)  # the import stays undone
        because_of = decision.because_of or entry
        receipt = self._receipt(known, because_of.import_id, decision)
        return attrs.evolve(receipt, first_receipt=entry.receipt)

    def _find_corrected(self, content: Content) -> Origin | None:
        """Return the origin of the first corrected row that names its import; if none does, that of the first row.

        Returns:
            The origin; None for a file without corrected rows.
        """
        first = None
        with self._rereading():
            reader, header = self._read_from_start(self._stored.reread(), content)
            if isinstance(header, Header) and header.corrects:
                for origin in origins(reader, header):
                    if origin.import_id != NO_IMPORT:
                        return origin
                    first = first or origin
        return first

    def _load(self, known: _Known, importing: Importing, refusal: Decision | None) -> Receipt:
        with self._rereading():
            stream = self._stored.reread()
            reader, header = self._read_from_start(stream, known.content)
            if isinstance(header, Fault):
                return self._receipt(known, importing.verdict.import_id, _refused(header))
            with self._case.spool() as spool:
                encoding = known.content.encoding or ""
                judged = self._judge_rows(
                    reader, header, encoding, importing, spool, stream.tell, registering=not refusal
                )
                return self._decide(known, judged, importing, spool, refusal)

    def _judge_rows(
        self,
        reader: RecordReader,
        header: Header,
        encoding: str,
        importing: Importing,
        spool: BinaryIO,
        bytes_read: Callable[[], int],
        *,
        registering: bool = True,
    ) -> _Judged:
        """Judge every row, and register the good rows until it is certain that the upload is refused."""
        tally = Tally()
        policy = self._case.policy
        tolerance = policy.max_rejected
        rejected = self._new_rejected_rows(spool, header, encoding, importing.verdict)
        for screened in screen(reader, header):
            _count(tally, screened)
            for row in screened.rejected:
                rejected.add(row)
            if registering and (rejected.overflowed or tolerance.certainly_exceeded_by(tally.rejected)):
                registering = False
                importing.discard_rows()
            if registering and screened.accepted.spans:
                importing.register(screened.accepted)
            self._progress(
                Progress(
                    step="importing",
                    bytes_read=bytes_read(),
                    bytes_total=self._stored.upload.size,
                    rows=tally.read,
                )
            )
        if (
            registering
            and tolerance.exceeded_by(tally.rejected, tally.read)
            and not (header.corrects or policy.rejects_duplicates)
        ):
            # The upload is refused in any case, and a merge would reject no further rows, so it is not needed.
            registering = False
            importing.discard_rows()
        return _Judged(
            header=header,
            tally=tally,
            rejected=rejected,
            last_line_ended=reader.last_line_ended,
            registering=registering,
        )

    def _decide(
        self,
        known: _Known,
        judged: _Judged,
        importing: Importing,
        spool: BinaryIO,
        refusal: Decision | None = None,
    ) -> Receipt:
        """Merge the rows, decide, and store the rejected rows."""
        tolerance = self._case.policy.max_rejected
        corrects = judged.header.corrects
        given = judged.header.columns.values()
        merge_result = importing.merge(given) if judged.registering else MergeResult(registered=0)
        overflowed = judged.rejected.overflowed
        rejected = judged.tally.rejected + merge_result.rejected_on_merge
        refused = bool(refusal) or overflowed or tolerance.exceeded_by(rejected, judged.tally.read)
        keep_origins = not (refused and corrects)
        registering = judged.registering
        if merge_result.rejected_on_merge or (judged.rejected.holds_origins and not keep_origins):
            judged = self._judge_again(known, judged, importing, merge_result, spool, keep_origins=keep_origins)
            overflowed |= judged.rejected.overflowed
        if overflowed and corrects and keep_origins:
            judged = self._judge_again(known, judged, importing, merge_result, spool, keep_origins=False)
        decision = judge(judged.tally, tolerance, overflowed=overflowed) or refusal
        if decision and registering:
            importing.discard_rows()
        # Store rejected rows only if the upload did not change meanwhile.
        self._stored.verify()
        where = None
        if judged.tally.rejected:
            name, content = judged.rejected.content()
            where = self._case.reports.store_rejected_rows(known.source(judged), name, content)
        import_id = importing.verdict.import_id
        return self._receipt(known, import_id, decision, judged, merge_result, rejected_rows=where)

    def _judge_again(
        self,
        known: _Known,
        judged: _Judged,
        importing: Importing,
        merge_result: MergeResult,
        spool: BinaryIO,
        *,
        keep_origins: bool,
    ) -> _Judged:
        """Count and write all rejected rows again, including those that the merge rejected.

        The merge gives only their lines, so the upload is read once more from this machine.

        Args:
            known: The upload.
            judged: Its rows as they were judged before.
            importing: The open import of this upload.
            merge_result: Gives line and code of each row that the merge rejected, in the order of the file.
            spool: Takes the new rejected-rows file.
            keep_origins: Whether rejected rows keep the origins that they correct. A refused upload drops them:
                correcting only its rejected rows would lose its good rows.
        """
        header, encoding = judged.header, known.content.encoding or ""
        rejected = self._new_rejected_rows(spool, header, encoding, importing.verdict)
        tally = Tally()
        unique_by = self._case.policy.unique_by
        faults = ((line, merge_fault(code, unique_by)) for line, code in merge_result.rows_rejected_on_merge)
        with self._rereading():
            reader, _ = self._read_from_start(self._stored.reread(), known.content)
            for screened in screen(reader, header, faults):
                _count(tally, screened)
                for row in screened.rejected:
                    rejected.add(row if keep_origins else attrs.evolve(row, origin=None))
        return attrs.evolve(judged, tally=tally, rejected=rejected)

    def _new_rejected_rows(
        self, spool: BinaryIO, header: Header, encoding: str, verdict: Verdict
    ) -> RejectedRowsFile:
        tried_before = takewhile(lambda tried: tried != encoding, self._case.encodings)
        return RejectedRowsFile(
            spool, header, encoding, verdict, tuple(tried_before), self._case.max_rejected_bytes
        )

    def _read_from_start(self, stream: BinaryIO, content: Content) -> tuple[RecordReader, Header | Fault]:
        reader = RecordReader(read_utf8(stream, content))
        return reader, read_header(reader, self._case.users.record_type)

    @contextmanager
    def _rereading(self) -> Iterator[None]:
        """Translate an error of decoding: the whole upload was decoded before, so it must have changed.

        Raises:
            ObjectChangedError: The upload can no longer be decoded.
        """
        try:
            yield
        except (DamagedGzipError, UnicodeError):
            # Without the cause, which may show cells.
            raise_without_context(ObjectChangedError(self._stored.upload.key))

    def _receipt(
        self,
        known: _Known,
        import_id: int,
        decision: Decision | None = None,
        judged: _Judged | None = None,
        merge_result: MergeResult | None = None,
        *,
        rejected_rows: str | None = None,
    ) -> Receipt:
        tally = judged.tally if judged else Tally()
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
            source=known.source(judged),
            policy=self._case.policy.as_dict(),
            counts=Counts(read=tally.read, rejected=tally.rejected, blank=tally.blank, **fate),
            totals=tally.totals,
            rejections=tuple(tally.rejections),
            rejected_rows=rejected_rows or None,
            started=self._started,
            seconds=self._case.seconds_since(self._started),
            import_id=import_id or None,
            corrects=(known.corrects and known.corrects.import_id) or None,
        )


def _count(tally: Tally, screened: Screened) -> None:
    tally.read += screened.read
    tally.blank += screened.blank
    for row in screened.rejected:
        tally.reject(row.rejection)


def _refused(fault: Fault) -> Decision:
    return Decision(Status.REFUSED, fault.code, fault.message, remedies=(Remedy(Action.CORRECT_ORIGINAL),))
