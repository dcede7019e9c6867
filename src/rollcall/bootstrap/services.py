"""The use cases of the Web API that need a database or a store."""

from collections.abc import Callable
from datetime import datetime
from functools import cached_property

import attrs

from rollcall.application.ports import UserRepository
from rollcall.application.register_user import RegisterUser
from rollcall.application.reports import Reports
from rollcall.application.undo_import import UndoImport
from rollcall.bootstrap.uploading import Uploading
from rollcall.domain.policy import Policy


@attrs.frozen(kw_only=True)
class Services:
    """What routes need beside the settings; each is opened when it is first used, because that loads its driver.

    Attributes:
        open_users: Opens users and ledger.
        open_uploading: Opens the use cases of the page's uploads.
        policy: The operator's settings for imports.
        now: The clock.
    """

    open_users: Callable[[], UserRepository]
    open_uploading: Callable[[UserRepository], Uploading]
    policy: Policy
    now: Callable[[], datetime]

    @cached_property
    def users(self) -> UserRepository:
        """Users and ledger."""
        return self.open_users()

    @cached_property
    def uploading(self) -> Uploading:
        """The use cases of the page's uploads."""
        return self.open_uploading(self.users)

    @cached_property
    def register(self) -> RegisterUser:
        """The use case that registers one user."""
        from rollcall.adapters.dry_run import NoReports  # noqa: PLC0415 - see `stores`

        return RegisterUser(users=self.users, reports=Reports(store=NoReports()), policy=self.policy, now=self.now)

    @cached_property
    def undo(self) -> UndoImport:
        """The use case that undoes an import; on AWS, a function of its own has it, with a role of its own."""
        return UndoImport(users=self.users, now=self.now)
