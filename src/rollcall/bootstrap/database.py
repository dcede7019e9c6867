"""The database that the settings name: its address, its credentials, and the repository in it."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs

from rollcall.application.errors import SchemaError, UnknownImportError
from rollcall.application.ports import UserRepository
from rollcall.settings import PREFIX, DatabaseAuth, SettingError, Settings

if TYPE_CHECKING:
    from rollcall.adapters.postgres.connection import Credentials

_POSTGRES_PORT = 5432


@contextmanager
def repository(settings: Settings, data: Path, *, on_aws: bool = False) -> Iterator[UserRepository]:
    """Open the repository of users and ledger that the settings name.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        on_aws: See `_database`.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: The settings do not lead to a database.
    """
    if settings.database_url == "memory:":
        from rollcall.adapters.memory import MemoryUserRepository  # noqa: PLC0415 - see `stores`

        yield MemoryUserRepository(record_type=settings.record)
        return
    with _database(settings, data, on_aws=on_aws) as database:
        from rollcall.adapters.postgres.repository import PostgresUserRepository  # noqa: PLC0415 - see `stores`

        users = PostgresUserRepository(database.conninfo, settings.record, database.credentials)
        try:
            if database.embedded:
                _migrate_when_behind(users, database, settings)
            yield users
        finally:
            users.close()


def migrate(settings: Settings, data: Path, *, adopt: bool = False, on_aws: bool = False) -> list[str]:
    """Bring the schema up to date.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        adopt: Whether to use a table of the users that another program made.
        on_aws: See `_database`.

    Returns:
        The steps that were taken, in order; empty if the schema was up to date.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or refused a statement.
        SchemaError: The database's encoding is not UTF-8, it does not fit the record, or it contains duplicates
            under the setting unique_by.
        SettingError: The settings do not lead to a database.
    """
    from rollcall.adapters.postgres.migration import migrate as apply  # noqa: PLC0415 - see `stores`

    with _database(settings, data, on_aws=on_aws) as database:
        return apply(database.conninfo, settings.record, settings.policy, database.credentials, adopt=adopt)


@attrs.frozen(kw_only=True)
class _Database:
    """The parameters of a database connection.

    Attributes:
        conninfo: The address of the database.
        credentials: Returns candidates for the parameters that the address does not contain.
        embedded: Whether it is the embedded PostgreSQL.
    """

    conninfo: str
    credentials: "Credentials" = lambda: [{}]
    embedded: bool = False


@contextmanager
def _database(settings: Settings, data: Path, *, on_aws: bool) -> Iterator[_Database]:
    """Yield the connection parameters of the database; while they are in use, an embedded PostgreSQL runs.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        on_aws: Whether this runs on AWS, where the connection is always verified by TLS.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: The settings do not lead to a database.
    """
    if not settings.names_database:
        from rollcall.adapters.embedded_postgres import running  # noqa: PLC0415 - see `stores`

        with running(data) as conninfo:
            yield _Database(conninfo=conninfo, embedded=True)
        return
    credentials = _credentials(settings)
    tls = _tls(settings) if on_aws or settings.database_ca or credentials else {}
    yield _Database(
        conninfo=settings.database_url or "postgresql://",
        credentials=lambda: ({**tls, **found} for found in (credentials() if credentials else [{}])),
    )


def _credentials(settings: Settings) -> "Credentials | None":
    """Return the source of credentials that the settings name; None if the address contains them.

    Raises:
        SettingError: IAM needs a user and a host, and the database address does not contain them.
    """
    if settings.database_auth is DatabaseAuth.IAM:
        from rollcall.adapters.rds import IamToken  # noqa: PLC0415 - see `stores`

        try:
            address = urlsplit(settings.database_url or "")
            host, port, user = address.hostname, address.port or _POSTGRES_PORT, unquote(address.username or "")
        except ValueError:  # the port is no number
            host = None
        if not host or not user:
            allowed = "postgresql://user@host:port/database: IAM signs a password for that user at that host"
            raise SettingError(f"{PREFIX}DATABASE_URL", "(hidden)", allowed)
        return IamToken(host, port, user)
    if settings.database_secret_arn:
        from rollcall.adapters.secrets_manager import DatabaseSecret, client  # noqa: PLC0415 - see `stores`

        return DatabaseSecret(settings.database_secret_arn, cache(client))
    return None


def _tls(settings: Settings) -> dict[str, str]:
    """Return the connection parameters by which the server's certificate is verified.

    Raises:
        SettingError: The CA bundle does not exist.
    """
    if settings.database_ca is None:
        return {"sslmode": "verify-full"}
    if not Path(settings.database_ca).is_file():
        allowed = attrs.fields(Settings).database_ca.metadata["allowed"]
        raise SettingError(f"{PREFIX}DATABASE_CA", settings.database_ca, allowed)
    return {"sslmode": "verify-full", "sslrootcert": settings.database_ca}


def _migrate_when_behind(users: UserRepository, database: _Database, settings: Settings) -> None:
    """Migrate the embedded database if its schema is older. Only Rollcall uses it, so nobody has to agree."""
    try:
        with suppress(UnknownImportError):
            users.get_import(0)  # the cheapest call that checks the schema
    except SchemaError:
        from rollcall.adapters.postgres.migration import migrate as apply  # noqa: PLC0415 - see `stores`

        apply(database.conninfo, settings.record, settings.policy)
