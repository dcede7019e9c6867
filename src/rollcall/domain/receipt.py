"""The receipt of an import. Its counts must add up."""

from bisect import insort
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from operator import attrgetter
from typing import Self

import attrs

from rollcall.domain.errors import RollcallError
from rollcall.domain.rejection import Code, Rejection, counted
from rollcall.domain.upload import Upload

REJECTIONS_SHOWN = 100


class Status(StrEnum):
    """The outcome for an upload as a whole."""

    LOADED = "loaded"
    PARTIALLY_LOADED = "partially_loaded"
    REFUSED = "refused"
    SKIPPED = "skipped"

    @property
    def registers(self) -> bool:
        """Whether an import with this status registers users."""
        return self in {Status.LOADED, Status.PARTIALLY_LOADED}


class Action(StrEnum):
    """A possible next step after an import. Terminal, notification and page put it into words."""

    CORRECT_REJECTED_ROWS = "correct-rejected-rows"
    CORRECT_ORIGINAL = "correct-original"
    UNDO = "undo"
    IMPORT_AGAIN = "import-again"
    IMPORT_AS_NEW = "import-as-new"


@attrs.frozen
class Remedy:
    """One possible next step.

    Attributes:
        action: What to do.
        import_id: The import that the step concerns; None for this upload itself.
    """

    action: Action
    import_id: int | None = None


class ConservationError(RollcallError, ArithmeticError):
    """The receipt's counts do not add up, or differ from the registered rows; the import must not commit."""


@attrs.frozen(kw_only=True)
class Counts:
    """The number of rows for each outcome.

    The rows read must equal the sum of registered, updated, unchanged, rejected and withheld rows.

    Attributes:
        read: Rows read, without the header and blank rows.
        registered: Rows that became new users.
        updated: Rows that changed existing users.
        unchanged: Rows that changed nothing: skipped duplicates, rows identical to what is stored, and rows that a
            later row of the file overrides.
        rejected: Rejected rows.
        withheld: The good rows of a refused upload.
        blank: Blank lines and rows of blank cells, which are not among the rows read.

    Raises:
        ConservationError: The counts do not add up.
    """

    read: int = 0
    registered: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    withheld: int = 0
    blank: int = 0

    def __attrs_post_init__(self) -> None:
        accounted = self.registered + self.updated + self.unchanged + self.rejected + self.withheld
        if self.read != accounted:
            raise ConservationError(f"{self.read} rows were read but {accounted} are accounted for")


def _as_text(key: str) -> str:
    """Return a key with NUL and lone surrogates as escapes, because JSON readers and databases refuse them."""
    return key.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


@attrs.frozen(kw_only=True)
class Source:
    """The upload that was imported, and how it was read.

    Attributes:
        bucket: The bucket's name, or "file:" for a file of this machine.
        key: The object key, or the absolute path. NUL and lone surrogates are written as Python escapes them,
            because databases and other programs do not take them as text.
        version: See `Upload.version`.
        size: The stored size in bytes; None if the upload is gone.
        last_modified: When the store received the upload; None if the upload is gone.
        sequencer: See `Upload.sequencer`.
        sha256: The hexadecimal SHA-256 of the bytes after decompression. If they cannot be decompressed, that of
            the stored bytes. None if the bytes were not read.
        encoding: The encoding of the text; None if no encoding fitted.
        delimiter: The character that separates the cells; None if the header could not be read.
        compression: "gzip" or None.
        ignored_columns: The labels of columns that are no field of the record, in the order of the file.
        last_line_ended: Whether the last line had a line end. Without one, the upload may have been cut off. None
            if the rows were not read.
    """

    bucket: str
    key: str = attrs.field(converter=_as_text)
    version: str
    size: int | None = None
    last_modified: datetime | None = None
    sequencer: str | None = None
    sha256: str | None = None
    encoding: str | None = None
    delimiter: str | None = None
    compression: str | None = None
    ignored_columns: tuple[str, ...] = ()
    last_line_ended: bool | None = None

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """Return the source of an upload that was not read."""
        return cls(
            bucket=upload.bucket,
            key=upload.key,
            version=upload.version or "",
            size=upload.size,
            last_modified=upload.last_modified,
            sequencer=upload.sequencer,
        )


@attrs.frozen
class FaultTotal:
    """How often one fault occurred in the whole upload.

    Attributes:
        code: The kind of fault.
        column: The column at fault; None for the record as a whole.
        count: The number of rows with this fault.
        first_line: The physical line, 1-based, of the first row with this fault.
    """

    code: Code
    column: str | None
    count: int
    first_line: int


@attrs.frozen(kw_only=True)
class Receipt:
    """The report on one import.

    Attributes:
        status: The outcome for the upload as a whole.
        code: The reason; None if the status is `loaded`.
        message: The reason as one sentence for the uploader, without any command.
        remedies: The possible next steps.
        source: The upload, and how it was read.
        policy: The operator's settings under which the upload was judged.
        counts: The number of rows for each outcome.
        totals: How often each fault occurred in the whole upload, the most frequent first.
        rejections: The first `REJECTIONS_SHOWN` rejected rows.
        rejected_rows: The location of the file of all rejected rows; None if no row was rejected.
        started: When the import began.
        seconds: How long the import took.
        corrects: The import whose rejected rows the upload corrects; None for a file of users, and for rows that
            name no import.
        import_id: The number of the import; for a redelivery, that of the first import.
        first_receipt: For a redelivery, the receipt of the first import.
    """

    status: Status
    code: Code | None = None
    message: str | None = None
    remedies: tuple[Remedy, ...] = ()
    source: Source
    policy: Mapping[str, str]
    counts: Counts = Counts()
    totals: tuple[FaultTotal, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    rejected_rows: str | None = None
    started: datetime
    seconds: float
    import_id: int | None
    corrects: int | None = None
    first_receipt: "Receipt | None" = None

    @property
    def rows_per_second(self) -> int:
        """The number of rows read a second, over the whole import."""
        return round(self.counts.read / self.seconds) if self.seconds else 0


@attrs.define
class Tally:
    """The running counts of an import. Its size does not grow with the number of rejected rows."""

    read: int = 0
    rejected: int = 0
    blank: int = 0
    rejections: list[Rejection] = attrs.Factory(list)
    _totals: dict[tuple[Code, str | None], FaultTotal] = attrs.Factory(dict)

    def reject(self, rejection: Rejection) -> None:
        """Count one rejected row. Rows may come in any order."""
        self.rejected += 1
        if len(self.rejections) < REJECTIONS_SHOWN or rejection.line < self.rejections[-1].line:
            insort(self.rejections, rejection, key=attrgetter("line"))
            del self.rejections[REJECTIONS_SHOWN:]
        for fault in rejection.faults:
            kind = fault.code, fault.column
            so_far = self._totals.get(kind) or FaultTotal(*kind, count=0, first_line=rejection.line)
            first_line = min(so_far.first_line, rejection.line)
            self._totals[kind] = FaultTotal(*kind, so_far.count + 1, first_line)

    @property
    def good(self) -> int:
        """The number of rows read that were not rejected."""
        return self.read - self.rejected

    @property
    def totals(self) -> tuple[FaultTotal, ...]:
        """How often each fault occurred, the most frequent first."""
        return tuple(sorted(self._totals.values(), key=lambda total: (-total.count, total.first_line)))

    def headline(self) -> str:
        """Return one sentence with the number of rejected rows and an example of the most frequent fault."""
        worst = self.totals[0]
        return (
            f"{self.rejected:,} of {counted(self.read, 'row')} rejected: "
            f"{worst.column or 'the row'} {worst.code.says}, e.g. line {worst.first_line}"
        )
