"""Users, ledger and reports that keep nothing: with them, an import is a check."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import BinaryIO, Never

import attrs

from rollcall.application.ports import Block, ObjectNotFoundError, Settlement, UnknownImportError
from rollcall.domain.policy import History, LedgerEntry, Policy
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.domain.user import User


@attrs.define
class _DryImport:
    import_id: int | None = None
    history: History = History(known=False)
    _rows: int = 0

    def register(self, block: Block) -> None:
        """Count the rows and let them go."""
        self._rows += block.rows

    def settle(self) -> Settlement:
        """Take every row for new; only a database could know better."""
        return Settlement(registered=self._rows)

    def withhold(self) -> None:
        """Do nothing, for nothing was kept."""

    def commit(self, receipt: Receipt) -> None:
        """Do nothing, for nothing is kept."""


class DryRunUserRepository:
    """An empty repository that stays empty."""

    @contextmanager
    def importing(
        self,
        upload: Upload,  # noqa: ARG002 - the port's, as all the others
        sha256: str | None,  # noqa: ARG002
        policy: Policy = Policy(),  # noqa: ARG002
        *,
        corrects: int | None = None,  # noqa: ARG002
    ) -> Iterator[_DryImport]:
        """Open an import of which nothing will remain."""
        yield _DryImport()

    def undo(self, import_id: int, at: datetime) -> int:  # noqa: ARG002 - the port's
        """Find nothing to undo."""
        raise UnknownImportError(import_id)

    def entry(self, import_id: int) -> LedgerEntry:
        """Find nothing."""
        raise UnknownImportError(import_id)

    def entries(self) -> Generator[LedgerEntry, None, None]:
        """Yield nothing."""
        yield from ()

    def users(self, import_id: int | None = None) -> Generator[User, None, None]:  # noqa: ARG002 - the port's
        """Yield nothing."""
        yield from ()


class NoReports:
    """An empty store that stays empty."""

    def open(self, reference: ObjectReference) -> AbstractContextManager[Never]:
        """Find nothing."""
        raise ObjectNotFoundError(reference.key)

    def put(self, key: str, content: BinaryIO) -> str:  # noqa: ARG002 - the port's
        """Let the bytes go."""
        return ""

    def list(self, prefix: str = "") -> Iterator[ObjectReference]:  # noqa: ARG002 - the port's
        """Yield nothing."""
        return iter(())
