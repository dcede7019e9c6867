"""The errors of Rollcall. Their texts show no cell, so entry points may show and log them.

RollcallError
├── UploadError                      concerns one upload; the next one may go well
│   ├── ObjectNotFoundError
│   ├── ObjectChangedError
│   ├── ObjectUnreadableError
│   ├── FormRefusedError
│   ├── StoreUnavailableError        retryable
│   │   └── ReportNotStoredError
│   └── ImportInProgressError        retryable
├── RetryableError                   another try may succeed
│   ├── RepositoryUnavailableError
│   │   └── TableLockedError
│   └── NotPublishedError
├── SchemaError
│   ├── NotAdoptedError
│   └── NotMigratedError
├── TableConstraintError
├── UnreadableCellError
├── UploadNotAcceptedError
├── WrongPositionError
├── UnknownImportError
├── UndoRefusedError
│   └── UndoUnconfirmedError
├── ConservationError                in the domain: the counts of a receipt do not add up
├── DeclarationError                 in the domain: a record or one of its fields is declared wrongly
├── SettingError                     in the settings
├── RegistrationRefusedError         in the use case: a checked upload is not registered
├── CorrectionsRefusedError          in the use case: corrected rows are not imported
└── UnknownEventError                in the entry points
"""

from typing import NoReturn

from rollcall.domain.errors import RollcallError
from rollcall.domain.rejection import Fault


class UploadError(RollcallError):
    """One upload could not be imported; another upload may go well."""


class RetryableError(RollcallError):
    """Another try may succeed."""


class ObjectNotFoundError(UploadError, LookupError):
    """The object, or the requested version of it, does not exist."""

    def __init__(self, address: str) -> None:
        super().__init__(f"there is no {address}")


class ObjectChangedError(UploadError):
    """The object is not in the announced state, or it changed while it was read."""

    def __init__(self, address: str) -> None:
        super().__init__(f"{address} changed while it was read; try again when it is complete")


class ObjectUnreadableError(UploadError):
    """The store gives the object's content only after another request by its owner.

    Args:
        reason: The reason, as a sentence without the object's address.
    """


class FormRefusedError(UploadError):
    """A form was not signed, does not fit what was signed, or was used before; nothing was stored.

    Args:
        reason: The reason, as a sentence that shows no field.

    Attributes:
        too_long: Whether the file has more bytes than were signed.
    """

    def __init__(self, reason: str, *, too_long: bool = False) -> None:
        super().__init__(reason)
        self.too_long = too_long


class StoreUnavailableError(UploadError, RetryableError):
    """The store could not be reached, or refused the request; another try may succeed.

    Args:
        address: The requested object or listing.
        reason: The store's answer, as the end of a sentence.
    """

    def __init__(self, address: str, reason: str) -> None:
        super().__init__(f"{address}: {reason}")


class ReportNotStoredError(StoreUnavailableError):
    """A report on an import could not be stored; another try stores it.

    Args:
        state: What is registered, and which report could not be stored.
        reason: The place where the report could not be stored, and the reason.
    """


def raise_without_context(error: Exception) -> NoReturn:
    """Raise an error without a cause or context, because some loggers also log the context."""
    try:
        raise error
    finally:
        error.__context__ = None


class ImportInProgressError(UploadError, RetryableError):
    """The same upload, or the same content, is being imported elsewhere; try again later."""

    def __init__(self) -> None:
        super().__init__(
            "the same file is being imported by somebody else at this moment; try again when that is done"
        )


class RepositoryUnavailableError(RetryableError):
    """The database could not be reached, or failed; everything that was not committed is rolled back.

    Args:
        reason: The reason, as a sentence that shows no row.
    """


class TableLockedError(RepositoryUnavailableError):
    """Another session holds a lock that an import needs; another try succeeds once the lock is released.

    Args:
        reason: The locked table and the holder of the lock, as a sentence.
    """


class NotPublishedError(RetryableError):
    """A notification was not published, or it is not known whether it was; another try may succeed.

    Args:
        receiver: The receiver, such as a topic.
        reason: The receiver's answer, as the end of a sentence.
    """

    def __init__(self, receiver: str, reason: str) -> None:
        super().__init__(f"{receiver}: {reason}")


class TableConstraintError(RollcallError):
    """The database rejects the rows, by a constraint that is not Rollcall's own or by row-level security.

    Another try fails, too.

    Args:
        reason: The names of constraint, column and table, as a sentence that shows no row.
    """


class SchemaError(RollcallError):
    """The database is not prepared for this version of Rollcall.

    Args:
        reason: The reason, as a sentence that shows no row.
    """


class NotAdoptedError(SchemaError):
    """Another program made the table of the users, and the operator has not adopted it."""


class NotMigratedError(SchemaError):
    """The database lacks tables, columns or an index that a migration creates."""


class UnreadableCellError(RollcallError):
    """No file can contain this cell, because it would not be read as one cell.

    Args:
        row: The index of the row, 0-based.
        column: The column of the cell.
    """

    def __init__(self, row: int, column: str) -> None:
        super().__init__(
            f"{column} cannot be in a file; give at most 64 KiB with fewer than 100 line ends, best in one line"
        )
        self.row = row
        self.column = column


class WrongPositionError(RollcallError):
    """No rejected row begins at a position of the rejected-rows file."""

    def __init__(self) -> None:
        super().__init__("no rejected row begins at this position; begin again without a position")


class UploadNotAcceptedError(RollcallError):
    """A file need not be sent, because it would be refused.

    Args:
        fault: The reason; its message shows no cell and no name.
    """

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


class UnknownImportError(RollcallError, LookupError):
    """The ledger has no import with this number."""

    def __init__(self, import_id: int) -> None:
        super().__init__(f"there is no import {import_id}")


class UndoRefusedError(RollcallError):
    """The import cannot be undone."""

    def __init__(self, import_id: int, reason: str) -> None:
        super().__init__(f"import {import_id} cannot be undone: {reason}")


class UndoUnconfirmedError(UndoRefusedError):
    """Some users of the import no longer exist; it can be undone if the caller confirms that.

    Args:
        import_id: The import.
        registered: The number of users that it registered.
        found: The number of its users that still exist.
    """

    def __init__(self, import_id: int, registered: int, found: int) -> None:
        super().__init__(
            import_id,
            f"it registered {registered:,} users, and only {found:,} of them are still in the table",
        )
        self.registered = registered
        self.found = found
