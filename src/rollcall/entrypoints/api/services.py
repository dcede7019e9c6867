"""The use cases of the Web API that need a database or a store."""

import attrs

from rollcall.application.ports import UserRepository


@attrs.frozen(kw_only=True)
class Services:
    """What is opened when a route first needs it; opening loads the drivers.

    Attributes:
        users: Users and ledger.
    """

    users: UserRepository
