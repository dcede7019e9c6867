"""Opening a connection to PostgreSQL."""

from collections.abc import Callable, Iterable, Mapping

import psycopg
from psycopg import IsolationLevel
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from rollcall.adapters.postgres.failures import first_line
from rollcall.adapters.postgres.naming import Database
from rollcall.application.errors import RepositoryUnavailableError, SchemaError, raise_without_context
from rollcall.domain.record import RecordType

APPLICATION = "rollcall"
SILENCE_SECONDS = 30  # the time after which each side probes a silent peer

_CONNECT_SECONDS = 10

_OURS: Mapping[str, str | int] = {
    "client_encoding": "utf8",
    "application_name": APPLICATION,
    "connect_timeout": _CONNECT_SECONDS,
    "keepalives_idle": SILENCE_SECONDS,
    "keepalives_interval": SILENCE_SECONDS // 3,
    "keepalives_count": 3,
    "tcp_user_timeout": SILENCE_SECONDS * 1000,
}

# Called before each connection for the libpq parameters that its address does not contain. The next candidate is
# requested only when the server rejected the one before.
Credentials = Callable[[], Iterable[Mapping[str, str]]]


def nothing_more() -> Iterable[Mapping[str, str]]:
    """Return one candidate without parameters: the address is complete."""
    return [{}]


def connect(conninfo: str, record_type: RecordType, credentials: Credentials = nothing_more) -> Database:
    """Open a connection that gives up on a dead peer.

    Args:
        conninfo: A libpq connection string or URL.
        record_type: What a user consists of.
        credentials: Returns the parameters that the string does not contain. libpq takes parameters that are
            missing in both from the `PG*` variables.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or rejected the login.
        SchemaError: The database's encoding is not UTF-8.
    """
    try:
        address = conninfo_to_dict(conninfo)
        connection = _first_let_in({**filled_in, **address, **_OURS} for filled_in in credentials())
    except psycopg.ProgrammingError:
        # libpq quotes the part that it cannot parse, which may be the password.
        raise_without_context(
            RepositoryUnavailableError(
                "the address of the database is not one that PostgreSQL understands; it should read "
                "postgresql://user:password@host:port/database, with % and two hexadecimal digits for each "
                "character of the password that is neither a letter nor a digit"
            )
        )
    except psycopg.Error as error:
        raise RepositoryUnavailableError(f"the database could not be reached: {first_line(error)}") from error
    connection.record_type = record_type
    # After waiting for a lock, an import must see what its rival committed.
    connection.isolation_level = IsolationLevel.READ_COMMITTED
    name, encoding = connection.info.dbname, connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        connection.close()
        raise SchemaError(
            f"the database {name} has the encoding {encoding}, in which not every name can be "
            "stored; make one with ENCODING 'UTF8'"
        )
    return connection


def _first_let_in(addresses: Iterable[Mapping[str, str | int | None]]) -> Database:
    """Return a connection to the first address that the server accepts.

    Raises:
        psycopg.OperationalError: The server rejected every address; this is the error of the last one.
    """
    rejected_on_merge = psycopg.OperationalError("no credentials were given")
    for address in addresses:
        try:
            # No prepared statements: they outlive their transaction, and a proxy may run the next transaction on
            # another connection.
            return Database.connect(make_conninfo("", **address), prepare_threshold=None)
        except psycopg.OperationalError as error:
            rejected_on_merge = error
    raise rejected_on_merge
