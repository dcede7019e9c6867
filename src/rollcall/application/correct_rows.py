"""Correct rejected rows in the browser: write a file of corrected rows, which is imported like any other."""

import csv
import hashlib
import io
from collections.abc import Sequence
from itertools import count

import attrs

from rollcall.application.errors import UnreadableCellError
from rollcall.application.find_upload import FindUpload
from rollcall.application.header import IMPORT, LINE
from rollcall.application.ports import RangeReader, UserRepository, WebUploads
from rollcall.application.records import can_be_read
from rollcall.application.rejected_rows import origin_of, token_of
from rollcall.application.rejections import Rejections
from rollcall.application.reports import Reports
from rollcall.application.spreadsheets import safe_row
from rollcall.domain.correction import Origin
from rollcall.domain.errors import RollcallError
from rollcall.domain.ledger import LedgerEntry
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Code, counted
from rollcall.domain.upload import WebUpload

MAX_ROWS = 10_000

_DELIMITER = ","


@attrs.frozen
class CorrectedRow:
    """A corrected row.

    Attributes:
        line: The line of the rejected row; see `PageRow.line`.
        cells: The cells, in the order of the record's columns.
        proof: See `PageRow.proof`. Without it, the line is looked up in the file of rejected rows.
    """

    line: int
    cells: Sequence[str]
    proof: str | None = None


class CorrectionsRefusedError(RollcallError):
    """Corrected rows are not imported.

    Args:
        code: `UNDONE`, `ALREADY_CORRECTED` or `NOTHING_TO_CORRECT`.
        reason: The reason, as a sentence that shows no cell.
        rows: The indexes of the rows at fault, 0-based; empty if the import is.
    """

    def __init__(self, code: Code, reason: str, rows: Sequence[int] = ()) -> None:
        super().__init__(reason)
        self.code = code
        self.rows = rows


@attrs.frozen(kw_only=True)
class CorrectRows:
    """The use case.

    Attributes:
        find: Returns the state of an upload.
        uploads: The store of uploads; each object there is imported.
        reports: The receipts and rejected rows of imports.
        store: The store of these reports.
        users: The repository of users and ledger.
    """

    find: FindUpload
    uploads: WebUploads
    reports: Reports
    store: RangeReader
    users: UserRepository

    def __call__(self, entry: LedgerEntry, rows: Sequence[CorrectedRow], owner: str) -> WebUpload:
        """Write a file of corrected rows, each with the proof that it was rejected.

        Args:
            entry: The import that rejected the rows.
            rows: The corrected rows.
            owner: The uploader of the corrections; see `owner`.

        Returns:
            The upload of the corrections. The same rows of the same uploader have the same upload, unless its
            import was undone.

        Raises:
            CorrectionsRefusedError: The import was undone, or a row cannot be corrected.
            UnreadableCellError: A cell cannot be in a file.
            ObjectNotFoundError: The file of rejected rows does not exist.
            WrongPositionError: The file of rejected rows was changed.
            StoreUnavailableError: A store failed.
            RepositoryUnavailableError: The database failed.
            SchemaError: The database is not prepared.
        """
        if entry.undone:
            raise CorrectionsRefusedError(
                Code.UNDONE, f"import {entry.import_id} was undone; import the original file again first"
            )
        require_readable(self.users.record_type, rows)
        origins = self._origins(entry, rows)
        content = _written(self.users.record_type.columns, rows, origins)
        name = f"corrections-of-import-{entry.import_id}.csv"
        for attempt in count():
            digest = hashlib.sha256(f"{owner} {entry.import_id} {attempt} ".encode() + content).hexdigest()
            upload = WebUpload.written(owner, digest[:32])
            found = self.find(upload)
            if found.copy and not (found.entry and found.entry.undone):
                return upload
            if not found.copy:
                break
        self._require_uncorrected(origins)
        # A list of its own: it is no other version of any file.
        self.uploads.create(upload.key(name, as_new=True), io.BytesIO(content))
        return upload

    def _origins(self, entry: LedgerEntry, rows: Sequence[CorrectedRow]) -> list[Origin]:
        """Return the origin of each row.

        Raises:
            CorrectionsRefusedError: A line was not rejected, or occurs twice.
        """
        known = self._known(entry, rows) if entry.active else {}
        origins: list[Origin] = []
        wrong = []
        for number, row in enumerate(rows):
            # A row that an earlier import rejected keeps that origin, which only the import can confirm.
            mine = [
                origin
                for origin in known.pop(row.line, ())
                if entry.rejected(origin) or (origin.provable and origin.import_id != entry.import_id)
            ]
            if len(mine) == 1:
                origins += mine
            else:
                wrong.append(number)
        if wrong:
            raise CorrectionsRefusedError(
                Code.NOTHING_TO_CORRECT,
                f"{counted(len(wrong), 'row')} of {len(rows):,} cannot be corrected: the line was not rejected by "
                f"import {entry.import_id}, or that registered nobody, or the line occurs twice",
                wrong,
            )
        return origins

    def _known(self, entry: LedgerEntry, rows: Sequence[CorrectedRow]) -> dict[int, set[Origin]]:
        """Return the possible origins of rows by their lines. The file is read only for rows without a proof."""
        known: dict[int, set[Origin]] = {}
        for row in rows:
            origin = origin_of(row.proof or "")
            if origin and origin.line == row.line and entry.rejected(origin):
                known[row.line] = {origin}
        others = {row.line for row in rows} - known.keys()
        rejections = (
            Rejections.of(entry.receipt, self.reports, self.store, self.users.record_type) if others else None
        )
        return known | (rejections.origins(others) if rejections else {})

    def _require_uncorrected(self, origins: Sequence[Origin]) -> None:
        corrected = self.users.corrected(origins)
        if corrected:
            raise CorrectionsRefusedError(
                Code.ALREADY_CORRECTED,
                f"{counted(len(corrected), 'row')} of {len(origins):,} was corrected and registered before",
                [number for number, origin in enumerate(origins) if origin in corrected],
            )


def require_readable(record_type: RecordType, rows: Sequence[CorrectedRow]) -> None:
    """Check whether a file can contain the cells of corrected rows.

    Raises:
        UnreadableCellError: A cell cannot be in a file.
    """
    for number, row in enumerate(rows):
        for column, cell in zip(record_type.columns, row.cells, strict=True):
            if not can_be_read(cell):
                raise UnreadableCellError(number, column)


def _written(columns: Sequence[str], rows: Sequence[CorrectedRow], origins: Sequence[Origin]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=_DELIMITER, lineterminator="\r\n")
    writer.writerow([*columns, LINE, IMPORT])
    for origin, row in sorted(zip(origins, rows, strict=True), key=lambda pair: pair[0]):
        # The importer removes the marks.
        writer.writerow(safe_row([*row.cells, str(origin.line), token_of(origin)], _DELIMITER))
    return text.getvalue().encode("utf-8-sig")
