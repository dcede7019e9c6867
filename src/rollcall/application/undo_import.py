"""Undo an import by a request that may be repeated."""

from collections.abc import Callable
from datetime import datetime

import attrs

from rollcall.application.errors import UndoRefusedError
from rollcall.application.ports import UserRepository
from rollcall.domain.ledger import LedgerEntry


@attrs.frozen(kw_only=True)
class UndoImport:
    """The use case that undoes an import.

    Attributes:
        users: The repository of users and ledger.
        now: Returns the current time, with its time zone.
    """

    users: UserRepository
    now: Callable[[], datetime]

    def __call__(self, import_id: int, *, confirmed: bool = False) -> LedgerEntry:
        """Undo an import, unless it is undone already.

        Args:
            import_id: The import.
            confirmed: Whether to undo it even if fewer users are left than it registered.

        Returns:
            The ledger entry of the undone import.

        Raises:
            UnknownImportError: The ledger has no import with this number.
            UndoRefusedError: The import cannot be undone; the message gives the reason.
            UndoUnconfirmedError: Fewer users are left than it registered, and `confirmed` is false.
            ImportInProgressError: A delivery of the same upload is open, or another import is merging.
            RepositoryUnavailableError: The database failed; the same request finds out whether it is undone.
            SchemaError: The database is not prepared.
        """
        try:
            self.users.undo(import_id, self.now(), confirmed=confirmed)
        except UndoRefusedError:
            # The answer to an earlier request may have been lost.
            entry = self.users.get_import(import_id)
            if not entry.undone:
                raise
            return entry
        return self.users.get_import(import_id)
