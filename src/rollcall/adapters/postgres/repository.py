"""Users and ledger in PostgreSQL: one transaction for both, the users by COPY."""

import contextlib
import secrets
from collections.abc import Callable, Collection, Generator, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any

from psycopg import Connection, Copy, Cursor, Error, sql
from psycopg.types.json import Jsonb

from rollcall.adapters.postgres.connecting import (
    Credentials,
    claim,
    claim_free,
    connect,
    nothing_more,
    require_schema,
    say_until,
    told_by,
)
from rollcall.adapters.postgres.staging import SETTLING, Staging
from rollcall.adapters.postgres.uniqueness import require_unique_index
from rollcall.application.ports import (
    Block,
    ImportInProgressError,
    Lost,
    SchemaError,
    Settlement,
    UndoRefusedError,
    UnknownImportError,
    claims_of,
)
from rollcall.application.receipts import from_dict, to_dict
from rollcall.domain.correction import NO_IMPORT, SECRET_BYTES, Verdict
from rollcall.domain.policy import Followers, History, LedgerEntry, Policy, why_not_undone
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import Upload
from rollcall.domain.user import COLUMNS, User

_USERS_FETCHED_AT_ONCE = 5000
_ENTRIES_FETCHED_AT_ONCE = 10  # a receipt may have megabytes

_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
_COPY = sql.SQL("copy users ({}) from stdin (format csv, encoding 'UTF8')").format(_COLUMNS)
_USERS = sql.SQL("select id, {} from users order by id").format(_COLUMNS)
# Materialized, or a cursor would make the planner walk the whole table in the order of the key.
_USERS_OF_IMPORT = sql.SQL(
    "with found as materialized (select id, {0} from users where import_id = %s) "
    "select id, {0} from found order by id"
).format(_COLUMNS)
_ENTRY = "select id, receipt, undone_at is not null, secret from imports "

_ENTRIES = sql.SQL(_ENTRY + "order by id desc")

# Who compares holds the claim to do so from before it to the commit, so by the server's clock it is known who came
# after whom; by the time at which the transaction began, as by the number, it is not.
_ADD_ENTRY = sql.SQL("insert into imports ({columns}, committed_at) values ({values}, clock_timestamp())")
# Only the entry that this import read, and only while it is not in force: then no rival has registered users.
_REPLACE_ENTRY = sql.SQL(
    "update imports set ({columns}, committed_at, undone_at) = row ({values}, clock_timestamp(), null) "
    "where id = {replaced} and identity = %(identity)s and not in_force"
)

_WITHOUT_ENTRY = """
select identity from unnest(%s::text[]) as asked (identity)
where not exists (select from imports where imports.identity = asked.identity)
"""

_NOTE_LOST = """
with lost as (
    select identity from unnest(%(free)s::text[]) as asked (identity)
    where not exists (select from imports where imports.identity = asked.identity)
),
noted as (
    insert into lost_uploads as known (identity, times_queued, last_queued_at)
    select identity, 1, %(at)s from lost
    on conflict (identity) do update
        set times_queued = known.times_queued + 1, last_queued_at = excluded.last_queued_at
        where known.times_queued < %(at_most)s and known.last_queued_at <= %(before)s
    returning identity
)
select identity, noted.identity is not null
from lost left join noted using (identity) left join lost_uploads using (identity)
where noted.identity is not null
    or (lost_uploads.times_queued >= %(at_most)s and lost_uploads.last_queued_at <= %(before)s)
"""


class PostgresUserRepository:
    """Users and ledger in one database.

    One idle connection is kept between calls; the schema is looked at once for each new one.

    Args:
        conninfo: A libpq connection string or URL.
        credentials: Fill what it leaves out; see `connect`.
        new_secret: Draws the secret of a verdict.
    """

    def __init__(
        self,
        conninfo: str,
        credentials: Credentials = nothing_more,
        new_secret: Callable[[], bytes] = lambda: secrets.token_bytes(SECRET_BYTES),
    ) -> None:
        self._new_secret = new_secret
        self._conninfo = conninfo
        self._credentials = credentials
        self._idle: list[Connection[Any]] = []

    def close(self) -> None:
        """Close the idle connection."""
        while self._idle:
            self._idle.pop().close()

    @contextmanager
    def importing(
        self,
        upload: Upload,
        sha256: str | None,
        policy: Policy = Policy(),
        *,
        corrects: int | None = None,
        seconds_left: float | None = None,
    ) -> Iterator["_PostgresImport"]:
        """Open a transaction that holds the advisory locks of upload and content until it ends."""
        with self._transaction() as connection:
            with told_by():
                if seconds_left is not None:
                    say_until(connection, seconds_left)
                claim(connection, *claims_of(upload, sha256, policy))
                require_unique_index(connection, policy)
                opened = _PostgresImport(connection, upload, sha256, policy, corrects, self._new_secret)
            try:
                yield opened
                if not opened.committed:
                    with told_by():
                        opened.abandon()
            except BaseException:
                # The server rolls back when the connection goes; only then can nothing wait for the COPY any more.
                connection.close()
                with contextlib.suppress(Error):
                    opened.abandon()
                raise

    def undo(self, import_id: int, at: datetime) -> int:
        """Delete and mark in one transaction, while no delivery of the same upload is open."""
        with self._transaction() as connection, told_by():
            found = connection.execute("select identity from imports where id = %s", [import_id]).fetchone()
            if not found:
                raise UnknownImportError(import_id)
            claim(connection, found[0], SETTLING)
            # No import can correct it from now on: its rows are read `for share`.
            entry = _entry(connection.execute(_ENTRY + "where id = %s for update", [import_id]))
            if not entry:
                raise UnknownImportError(import_id)  # the upload was judged again meanwhile
            if reason := why_not_undone(entry, _followers(connection, import_id)):
                raise UndoRefusedError(import_id, reason)
            removed = connection.execute("delete from users where import_id = %s", [import_id]).rowcount
            connection.execute("delete from corrections where corrected_by = %s", [import_id])
            connection.execute("update imports set undone_at = %s where id = %s", [at, import_id])
            connection.commit()
            return removed

    def note_lost(self, identities: Collection[str], at: datetime, *, at_most: int, patience: timedelta) -> Lost:
        """Hold the claims of what may be lost meanwhile, so that nobody can begin to import or to queue it."""
        with self._transaction() as connection, told_by():
            unknown = connection.execute(_WITHOUT_ENTRY, [list(identities)]).fetchall()
            if not unknown:
                return Lost()
            # Who held one of these until now may have committed since the first look: hence the second.
            free = claim_free(connection, (identity for (identity,) in unknown))
            parameters = {"free": free, "at": at, "at_most": at_most, "before": at - patience}
            found = connection.execute(_NOTE_LOST, parameters).fetchall()
            connection.execute(
                "delete from lost_uploads using imports where imports.identity = lost_uploads.identity"
            )
            connection.commit()
            return Lost(
                queue=frozenset(identity for identity, noted in found if noted),
                give_up=frozenset(identity for identity, noted in found if not noted),
            )

    def entry(self, import_id: int) -> LedgerEntry:
        """Look one up by its primary key."""
        with self._transaction() as connection, told_by():
            entry = _entry(connection.execute(_ENTRY + "where id = %s", [import_id]))
            if not entry:
                raise UnknownImportError(import_id)
            return entry

    def entry_of(self, identity: str) -> LedgerEntry | None:
        """Look one up by the key that every delivery of it has."""
        with self._transaction() as connection, told_by():
            return _entry(connection.execute(_ENTRY + "where identity = %s", [identity]))

    def entries(self) -> Generator[LedgerEntry, None, None]:
        """Stream them through a cursor of the server."""
        for row in self._stream(_ENTRIES, [], _ENTRIES_FETCHED_AT_ONCE):
            yield _as_entry(row)

    def users(self, import_id: int | None = None) -> Generator[User, None, None]:
        """Stream them through a cursor of the server, in the order of the identity key."""
        query, parameters = (_USERS, []) if import_id is None else (_USERS_OF_IMPORT, [import_id])
        for row_id, *values in self._stream(query, parameters, _USERS_FETCHED_AT_ONCE):
            try:
                user = User(**dict(zip(COLUMNS, values, strict=True)))
            except ValueError as error:
                # Only a table that others write to, or wrote to before, can hold such a row.
                raise SchemaError(
                    f"in the table users, the row with id {row_id} is no user: {error}; correct it there"
                ) from None
            yield user

    def _stream(
        self, query: sql.SQL | sql.Composed, parameters: list[int], fetched_at_once: int
    ) -> Generator[tuple[Any, ...], None, None]:
        with self._transaction() as connection, told_by(), connection.cursor("stream") as cursor:
            cursor.itersize = fetched_at_once
            cursor.execute(query, parameters)
            yield from cursor

    @contextmanager
    def _transaction(self) -> Iterator[Connection[Any]]:
        """Lend a connection; what is not committed when it comes back is rolled back."""
        connection = self._healthy()
        try:
            yield connection
            with told_by():
                connection.rollback()
        except BaseException:
            # Whatever state it is in, the server rolls back when it goes.
            connection.close()
            raise
        if self._idle:
            connection.close()
        else:
            self._idle.append(connection)

    def _healthy(self) -> Connection[Any]:
        with contextlib.suppress(IndexError):
            connection = self._idle.pop()
            try:
                connection.execute("select 1")
                connection.rollback()
            except Error:
                connection.close()  # it broke while it was idle
            else:
                return connection
        connection = connect(self._conninfo, self._credentials)
        try:
            with told_by():
                require_schema(connection)
                connection.rollback()
        except BaseException:
            connection.close()
            raise
        return connection


class _PostgresImport:
    """One open import on a connection that holds its claims."""

    def __init__(
        self,
        connection: Connection[Any],
        upload: Upload,
        sha256: str | None,
        policy: Policy,
        corrects: int | None,
        new_secret: Callable[[], bytes],
    ) -> None:
        self.committed = False
        self._new_secret = new_secret
        self._connection = connection
        self._upload = upload
        self._sha256 = sha256
        self._copying = contextlib.ExitStack()
        self._copy: Copy | None = None
        self._settlement: Settlement | None = None
        self.history = self._look_back(corrects)
        # Ids left over from an earlier import on this connection may be lower than those of a later one elsewhere.
        connection.execute("discard sequences")
        # Rows that may be there already, in whatever sense, are compared with what is before they join it.
        compares = policy.unique_by or corrects is not None
        self._staging = Staging(connection, policy) if compares else None
        connection.execute("savepoint nobody_registered")

    @cached_property
    def verdict(self) -> Verdict:
        """Draw the number from the ledger's sequence."""
        with told_by():
            [import_id] = self._connection.execute(
                "select nextval(pg_get_serial_sequence('imports', 'id'))"
            ).fetchone() or [NO_IMPORT]
        return Verdict(import_id, self._new_secret())

    def register(self, block: Block) -> None:
        """Send a block on; the server works on it while the next is read."""
        with told_by():
            if not self._copy:
                # For the transaction only, and rolled back with it: see the default of users.import_id.
                self._connection.execute(
                    "select set_config('rollcall.import_id', %s, true)", [str(self.verdict.import_id)]
                )
                copy = self._staging.copy() if self._staging else _COPY
                self._copy = self._copying.enter_context(self._connection.cursor().copy(copy))
            self._copy.write(self._staging.rows(block) if self._staging else block.csv)

    def settle(self) -> Settlement:
        """Let the server count, or compare."""
        with told_by():
            copied = self._end_copy()
            self._settlement = (
                self._staging.settle(self.verdict.import_id) if self._staging else Settlement(registered=copied)
            )
            return self._settlement

    def withhold(self) -> None:
        """End the COPY and roll back to before it."""
        with told_by():
            self._end_copy()
            self._connection.execute("rollback to savepoint nobody_registered")
            self._settlement = None

    def commit(self, receipt: Receipt) -> None:
        """Write the ledger and commit."""
        with told_by():
            (self._settlement or self.settle()).require(receipt)
            values = {
                "id": self.verdict.import_id,
                "identity": self._upload.identity,
                "key_identity": self._upload.key_identity,
                "bucket": self._upload.bucket,
                "object_key": receipt.source.key,
                "version": self._upload.version,
                "sha256": self._sha256,
                "status": receipt.status,
                "code": receipt.code,
                "rows_read": receipt.counts.read,
                "registered": receipt.counts.registered,
                "updated": receipt.counts.updated,
                "unchanged": receipt.counts.unchanged,
                "rejected": receipt.counts.rejected,
                "withheld": receipt.counts.withheld,
                "started_at": receipt.started,
                "receipt": Jsonb(to_dict(receipt)),
                "secret": self.verdict.secret,
            }
            replaced = self.history.same_upload
            statement = (_REPLACE_ENTRY if replaced else _ADD_ENTRY).format(
                columns=sql.SQL(", ").join(map(sql.Identifier, values)),
                values=sql.SQL(", ").join(map(sql.Placeholder, values)),
                replaced=replaced and replaced.import_id,
            )
            if self._connection.execute(statement, values).rowcount != 1:
                raise ImportInProgressError
            self._connection.commit()
            self.committed = True

    def abandon(self) -> None:
        """End the COPY so that the connection can be rolled back and used again."""
        self._end_copy()

    def _end_copy(self) -> int:
        """Leave the COPY, which sends its end and waits for the server's count."""
        if not self._copy:
            return 0
        copy, self._copy = self._copy, None
        self._copying.close()
        return copy.cursor.rowcount

    def _look_back(self, corrects: int | None) -> History:
        def find(condition: str, *parameters: str | int | None) -> LedgerEntry | None:
            return _entry(self._connection.execute(_ENTRY + condition, parameters))

        identity = self._upload.identity
        return History(
            same_upload=find("where identity = %s", identity),
            same_content=find(
                "where in_force and sha256 = %s and identity <> %s order by id limit 1", self._sha256, identity
            ),
            same_key=find(
                "where in_force and key_identity = %s and identity <> %s order by committed_at desc limit 1",
                self._upload.key_identity,
                identity,
            ),
            corrected=find("where id = %s", corrects),
        )


def _followers(connection: Connection[Any], import_id: int) -> Followers:
    row = connection.execute(
        """
        select
            (select min(corrected_by) from corrections where import_id = %(id)s),
            (select min(id) from imports
                where in_force and committed_at > (select committed_at from imports where id = %(id)s)
                and receipt -> 'policy' ->> 'unique_by' <> '')
        """,
        {"id": import_id},
    ).fetchone()
    correcting, comparing = row or (None, None)
    return Followers(correcting=correcting, comparing=comparing)


def _entry(cursor: Cursor[Any]) -> LedgerEntry | None:
    row = cursor.fetchone()
    return row and _as_entry(row)


def _as_entry(row: tuple[Any, ...]) -> LedgerEntry:
    import_id, receipt, undone, secret = row
    return LedgerEntry(import_id=import_id, receipt=from_dict(receipt), undone=undone, secret=secret or b"")
