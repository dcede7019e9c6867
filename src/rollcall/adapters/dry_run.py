"""Users, ledger and reports that keep nothing: with them, an import is a check."""

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from typing import BinaryIO, Never

import attrs

from rollcall.application.ports import Block, ObjectNotFoundError, UnknownImportError
from rollcall.domain.policy import History, LedgerEntry
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.domain.user import User


@attrs.frozen
class _DryImport:
    import_id: int | None = None
    history: History = History()

    def register(self, block: Block) -> None:
        """Let the rows go."""

    def withhold(self) -> None:
        """Do nothing, for nothing was kept."""

    def commit(self, receipt: Receipt) -> None:
        """Do nothing, for nothing is kept."""


class DryRunUserRepository:
    """An empty repository that stays empty."""

    @contextmanager
    def importing(self, upload: Upload, sha256: str | None) -> Iterator[_DryImport]:  # noqa: ARG002 - the port's
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
