"""The account of one import, and the law that it must balance."""

from bisect import insort
from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from operator import attrgetter

import attrs

from rollcall.domain.rejection import Code, Rejection, counted

REJECTIONS_SHOWN = 100


class Status(StrEnum):
    """What became of an upload."""

    LOADED = "loaded"
    PARTIALLY_LOADED = "partially_loaded"
    REFUSED = "refused"
    SKIPPED = "skipped"

    @property
    def registers(self) -> bool:
        """Whether users came into the table."""
        return self in {Status.LOADED, Status.PARTIALLY_LOADED}


class Action(StrEnum):
    """What somebody can do next about an upload; terminal, notification and page word it."""

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
        import_id: The import that it concerns; None for this upload itself.
    """

    action: Action
    import_id: int | None = None


class ConservationError(ArithmeticError):
    """Rows were lost or made up between reading and registering: an import that must not commit."""


@attrs.frozen(kw_only=True)
class Counts:
    """How many rows went where. What was read is all accounted for, or this cannot be built.

    Attributes:
        read: Rows read, without the header and blank rows.
        registered: Rows that became new users.
        updated: Rows that changed users who were there before.
        unchanged: Rows that had nothing to change.
        rejected: Rows refused for faults of their own.
        withheld: The good rows of an upload that was refused as a whole.
        blank: Blank lines and rows of blank cells, which count as nothing.

    Raises:
        ConservationError: The rows read are not all accounted for.
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
    """Write what is no text for every reader as an escape: NUL, and surrogates without their other half."""
    return key.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


@attrs.frozen(kw_only=True)
class Source:
    """What was imported, and how it was understood.

    Attributes:
        bucket: The bucket's name, or "file:" for a file of this machine.
        key: The object key, or the absolute path. NUL and lone surrogates are written as Python escapes them,
            because databases and other programs do not take them as text.
        version: See `Upload.version`.
        size: In bytes, as stored; None if it is gone.
        last_modified: When the store took it in; None if it is gone.
        sequencer: See `Upload.sequencer`.
        sha256: Hexadecimal, of the bytes after decompression; of the stored bytes if those cannot be
            decompressed; None if they were not read.
        encoding: The encoding in which it was read; None where none fitted.
        delimiter: What separates its cells; None where no header was understood.
        compression: "gzip" or None.
        ignored_columns: The labels that no field has, in their order.
        last_line_ended: Whether the last line had a line end, without which it may have been cut off; None where
            the rows were not read.
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


@attrs.frozen
class FaultTotal:
    """How often one fault occurred in the whole upload.

    Attributes:
        code: The kind of fault.
        column: The column at fault, None for the record as a whole.
        count: How many rows have it.
        first_line: The first line that has it.
    """

    code: Code
    column: str | None
    count: int
    first_line: int


@attrs.frozen(kw_only=True)
class Receipt:
    """The account of one import.

    Attributes:
        status: What became of the upload.
        code: Why, where the status is not `loaded`.
        message: The same as one sentence for the uploader, without any command.
        remedies: What can be done next.
        source: What was imported.
        policy: The rules it was judged by, as they were set.
        counts: How many rows went where.
        totals: How often each fault occurred, exact for the whole upload, the most frequent first.
        rejections: The first `REJECTIONS_SHOWN` refused rows.
        rejected_rows: Where the file of all refused rows lies; None if none was.
        started: When the import began.
        seconds: How long it took.
        corrects: The import whose corrected rows these are; None for a file of users, and for rows of no import.
        import_id: The number of the import; for a redelivery, of the import that counts.
        first_receipt: For a redelivery, the receipt of the import that counts.
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
        """Rows read in a second, over the whole import."""
        return round(self.counts.read / self.seconds) if self.seconds else 0


@attrs.define
class Tally:
    """The running count of an import, of the same size however many rows are bad."""

    read: int = 0
    rejected: int = 0
    blank: int = 0
    rejections: list[Rejection] = attrs.Factory(list)
    _totals: dict[tuple[Code, str | None], FaultTotal] = attrs.Factory(dict)

    def reject(self, rejection: Rejection) -> None:
        """Count one refused row, whatever its place in the file."""
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
        """How many of the rows read were not refused."""
        return self.read - self.rejected

    @property
    def totals(self) -> tuple[FaultTotal, ...]:
        """How often each fault occurred, the most frequent first."""
        return tuple(sorted(self._totals.values(), key=lambda total: (-total.count, total.first_line)))

    def headline(self) -> str:
        """Say in one sentence how many rows were refused, and the fault to mend first with an example."""
        worst = self.totals[0]
        return (
            f"{self.rejected:,} of {counted(self.read, 'row')} rejected: "
            f"{worst.column or 'the row'} {worst.code.says}, e.g. line {worst.first_line}"
        )
