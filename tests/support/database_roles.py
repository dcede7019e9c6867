"""The roles of docs/roles.sql, and how to connect as each of them."""

from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.domain.user import USERS

MIGRATOR = "rollcall_migrator"
IMPORTER = "rollcall_importer"
OPERATOR = "rollcall_operator"

ROOT = Path(__file__).parents[2]
GRANTS = (ROOT / "src/rollcall/adapters/postgres/grants.sql").read_text(encoding="utf-8")

_ROLES = (ROOT / "docs/roles.sql").read_text(encoding="utf-8")
_PASSWORD = "of-tests"  # noqa: S105 - for a server that wants one; the embedded one does not ask


def acting_as(role: str, url: str) -> str:
    """Return the URL by which a role connects to a database."""
    address = urlsplit(url)
    _, _, place = address.netloc.rpartition("@")
    return address._replace(netloc=f"{role}:{_PASSWORD}@{place}").geturl()


def migrate_as_documented(url: str) -> None:
    """Migrate an empty database as docs/roles.sql says.

    Args:
        url: Its URL, for a user who may create roles.
    """
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(_ROLES.encode())
        for role in MIGRATOR, IMPORTER, OPERATOR:
            connection.execute(
                sql.SQL("alter role {} password {}").format(sql.Identifier(role), sql.Literal(_PASSWORD))
            )
    migrate(acting_as(MIGRATOR, url), USERS)


class EachJobAsItsRole(PostgresUserRepository):
    """A repository that imports and reads as the importer, and undoes as the operator.

    Args:
        url: The database's URL, for any role.
        options: See `PostgresUserRepository`.
    """

    def __init__(self, url: str, **options: Any) -> None:  # noqa: ANN401 - the repository's options
        super().__init__(acting_as(IMPORTER, url), USERS, **options)
        self._operator = PostgresUserRepository(acting_as(OPERATOR, url), USERS)

    def undo(self, import_id: int, at: datetime, *, confirmed: bool = False) -> int:
        return self._operator.undo(import_id, at, confirmed=confirmed)

    def close(self) -> None:
        super().close()
        self._operator.close()
