"""Users and ledger in PostgreSQL. Both are written in one transaction, the users by COPY."""

import contextlib
import secrets
import time
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, LiteralString

from psycopg import Copy, Cursor, Error, sql
from psycopg.pq import TransactionStatus
from psycopg.types.json import Jsonb

from rollcall.adapters.postgres.connection import Credentials, connect, nothing_more
from rollcall.adapters.postgres.failures import translated_errors
from rollcall.adapters.postgres.locks import acquire_locks, begin, merge_wait_seconds, publish_deadline, try_locks
from rollcall.adapters.postgres.merge import MERGE_LOCK, Staging, require_all
from rollcall.adapters.postgres.naming import Database, listed
from rollcall.adapters.postgres.schema import require_schema
from rollcall.adapters.postgres.unique_index import require_unique_index
from rollcall.application.errors import (
    ImportInProgressError,
    SchemaError,
    TableConstraintError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
)
from rollcall.application.receipts import from_dict, to_dict
from rollcall.application.values import Block, ImportRequest, LostUploads, MergeResult, RegisteredUser
from rollcall.domain.correction import NO_IMPORT, SECRET_BYTES, Origin, Verdict
from rollcall.domain.fields import Value
from rollcall.domain.ledger import DependentImports, History, LedgerEntry, undo_blocker
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.upload import Upload

_CANCEL_SECONDS = 2
_USERS_FETCHED_AT_ONCE = 5000
_ENTRIES_FETCHED_AT_ONCE = 10  # a receipt may have megabytes

_COPY = "copy {users} ({columns}) from stdin (format csv, encoding 'UTF8')"
_USERS = "select id, {columns} from {users} order by id"
# Materialized, because for a cursor the planner would otherwise scan the whole table in the order of the key.
_USERS_OF_IMPORT = """
with found as materialized (select id, {columns} from {users} where import_id {eq} %s)
select id, {columns} from found order by id
"""
_USERS_AFTER = "select id, import_id, {columns} from {users} where id {gt} %s order by id limit %s"
_USERS_OF_IMPORT_AFTER = """
with found as materialized (
    select id, import_id, {columns} from {users} where import_id {eq} %s and id {gt} %s
)
select id, import_id, {columns} from found order by id limit %s
"""
_ENTRY = "select id, receipt, undone_at is not null, secret, uploaded_by from {imports} "

# Imports that compare users hold the merge lock until the commit, so the current time orders them correctly. The
# time at which the transaction began and the import id do not.
_ADD_ENTRY = """
insert into {imports} ({names}, committed_at) values ({values}, pg_catalog.clock_timestamp())
"""
# Replace only the entry that this import read, and only if it is not in force. Then no rival has registered users.
_REPLACE_ENTRY = """
update {imports} set ({names}, committed_at, undone_at) = row ({values}, pg_catalog.clock_timestamp(), null)
where id {eq} {replaced} and identity {eq} %(identity)s and not in_force
"""

_RESEMBLES_IMPORT = """
select exists (select from {imports} where key_identity {eq} %s)
    or exists (
        select from {imports}
        where ((receipt {json} 'source'::pg_catalog.text) {json_text} 'size'::pg_catalog.text) {eq} %s
    )
"""

_WITHOUT_ENTRY = """
select asked.identity from pg_catalog.unnest(%s::pg_catalog.text[]) as asked (identity)
where not exists (select from {imports} as imports where imports.identity {eq} asked.identity)
"""

_CORRECTED = """
select asked.place
from rows from (pg_catalog.unnest(%s::pg_catalog.int8[]), pg_catalog.unnest(%s::pg_catalog.int8[]))
    with ordinality as asked (import_id, line, place)
where exists (
    select from {corrections} as corrections
    where corrections.import_id {eq} asked.import_id and corrections.line {eq} asked.line
)
"""

_NOTE_LOST = """
with lost as (
    select asked.identity from pg_catalog.unnest(%(free)s::pg_catalog.text[]) as asked (identity)
    where not exists (select from {imports} as imports where imports.identity {eq} asked.identity)
),
noted as (
    insert into {lost_uploads} as known (identity, times_queued, last_queued_at)
    select identity, 1, %(at)s from lost
    on conflict (identity) do update
        set times_queued = known.times_queued {plus} 1, last_queued_at = excluded.last_queued_at
        where known.times_queued {lt} %(at_most)s and known.last_queued_at {le} %(before)s
    returning identity
)
select lost.identity, noted.identity is not null
from lost
left join noted on noted.identity {eq} lost.identity
left join {lost_uploads} as known on known.identity {eq} lost.identity
where noted.identity is not null
    or (known.times_queued {ge} %(at_most)s and known.last_queued_at {le} %(before)s)
"""

# One time more than an upload may be queued marks it as given up. The time at which it was queued last stays.
_NOTE_GIVEN_UP = """
update {lost_uploads} set times_queued = times_queued {plus} 1
where identity {eq} any(%s::pg_catalog.text[]) and times_queued {eq} %s
returning identity
"""


class PostgresUserRepository:
    """Users and ledger in one database.

    One idle connection is kept between calls. The schema is checked once for each new connection.

    Args:
        conninfo: A libpq connection string or URL.
        record_type: What a user consists of.
        credentials: Returns the parameters that the string does not contain; see `connect`.
        new_secret: Returns the random secret of a new verdict.
    """

    def __init__(
        self,
        conninfo: str,
        record_type: RecordType,
        credentials: Credentials = nothing_more,
        new_secret: Callable[[], bytes] = lambda: secrets.token_bytes(SECRET_BYTES),
    ) -> None:
        self.record_type = record_type
        self._new_secret = new_secret
        self._conninfo = conninfo
        self._credentials = credentials
        self._idle: list[Database] = []

    def close(self) -> None:
        """Close the idle connection."""
        while self._idle:
            self._idle.pop().close()

    def resembles_import(self, upload: Upload) -> bool:
        """Query the ledger by key and by size; each has an index."""
        with self._transaction() as connection, translated_errors(connection):
            found = connection.run(_RESEMBLES_IMPORT, [upload.key_identity, str(upload.size)]).fetchone()
            return found == (True,)

    @contextmanager
    def importing(self, request: ImportRequest) -> Iterator["_PostgresImport"]:
        """Open a transaction that holds the advisory locks of upload and content until it ends."""
        left = request.seconds_left
        deadline = None if left is None else time.monotonic() + left
        with self._transaction() as connection:
            with translated_errors(connection):
                if left is not None:
                    publish_deadline(connection, left)
                acquire_locks(connection, *request.upload_locks)
                require_unique_index(connection, request.policy)
                opened = _PostgresImport(connection, request, self._new_secret, deadline)
            try:
                yield opened
                if not opened.committed:
                    with translated_errors(connection):
                        opened.end_copy()
            except BaseException:
                # The server rolls back when the connection closes. Ending the COPY on an open one could wait.
                _abort(connection)
                with contextlib.suppress(Error):
                    opened.end_copy()
                raise

    def undo(self, import_id: int, at: datetime, *, confirmed: bool = False) -> int:
        """Delete the users and mark the import in one transaction, under the lock of the upload."""
        with self._transaction() as connection, translated_errors(connection):
            found = connection.run("select identity from {imports} where id {eq} %s", [import_id]).fetchone()
            if not found:
                raise UnknownImportError(import_id)
            acquire_locks(connection, found[0], MERGE_LOCK)
            # From now on no import can correct it, because corrections read its entry `for share`.
            entry = _entry(connection.run(_ENTRY + "where id {eq} %s for update", [import_id]))
            if not entry:
                raise UnknownImportError(import_id)  # the upload was judged again meanwhile
            if reason := undo_blocker(entry, _dependent_imports(connection, import_id)):
                raise UndoRefusedError(import_id, reason)
            try:
                with translated_errors(connection):
                    removed = connection.run("delete from {users} where import_id {eq} %s", [import_id]).rowcount
            except TableConstraintError as error:
                raise UndoRefusedError(import_id, str(error)) from None
            [kept] = connection.run(
                "select pg_catalog.count(*) from {users} where import_id {eq} %s", [import_id]
            ).fetchone() or [0]
            if kept:
                raise UndoRefusedError(
                    import_id, f"the table kept {kept:,} of its users, because a trigger or a rule protects them"
                )
            registered = entry.receipt.counts.registered
            if removed < registered and not confirmed:
                raise UndoUnconfirmedError(import_id, registered, removed)
            connection.run("delete from {corrections} where corrected_by {eq} %s", [import_id])
            connection.run("update {imports} set undone_at = %s where id {eq} %s", [at, import_id])
            connection.commit()
            return removed

    def record_lost(
        self, identities: Collection[str], at: datetime, *, at_most: int, patience: timedelta
    ) -> LostUploads:
        """Record lost uploads while their locks are held, so that no rival can begin to import or queue them."""
        with self._transaction() as connection, translated_errors(connection):
            unknown = connection.run(_WITHOUT_ENTRY, [list(identities)]).fetchall()
            if not unknown:
                return LostUploads()
            # A rival that held one of these locks may have committed meanwhile, so the ledger is queried again.
            free = try_locks(connection, (identity for (identity,) in unknown))
            parameters = {"free": free, "at": at, "at_most": at_most, "before": at - patience}
            found = connection.run(_NOTE_LOST, parameters).fetchall()
            give_up = [identity for identity, noted in found if not noted]
            newly_given_up = connection.run(_NOTE_GIVEN_UP, [give_up, at_most]).fetchall() if give_up else []
            connection.run(
                "delete from {lost_uploads} as lost using {imports} as imports "
                "where imports.identity {eq} lost.identity"
            )
            connection.commit()
            return LostUploads(
                queue=frozenset(identity for identity, noted in found if noted),
                give_up=frozenset(give_up),
                newly_given_up=frozenset(identity for (identity,) in newly_given_up),
            )

    def get_import(self, import_id: int) -> LedgerEntry:
        """Return the entry of one import, by its primary key."""
        with self._transaction() as connection, translated_errors(connection):
            entry = _entry(connection.run(_ENTRY + "where id {eq} %s", [import_id]))
            if not entry:
                raise UnknownImportError(import_id)
            return entry

    def find_import(self, identity: str) -> LedgerEntry | None:
        """Return the entry of one upload, by its identity."""
        with self._transaction() as connection, translated_errors(connection):
            return _entry(connection.run(_ENTRY + "where identity {eq} %s", [identity]))

    def corrected(self, origins: Collection[Origin]) -> set[Origin]:
        """Look up the rows in one query."""
        asked = list(origins)
        parameters = [[origin.import_id for origin in asked], [origin.line for origin in asked]]
        with self._transaction() as connection, translated_errors(connection):
            return {asked[place - 1] for (place,) in connection.run(_CORRECTED, parameters)}

    def entries(
        self,
        *,
        before: int | None = None,
        uploaded_by: str | None = None,
        correcting: int | None = None,
        limit: int | None = None,
    ) -> Generator[LedgerEntry, None, None]:
        """Stream entries through a server-side cursor."""
        query = _ENTRY + "where true "
        parameters: list[int | str | None] = []
        if before is not None:
            query += "and id {lt} %s "
            parameters.append(before)
        if uploaded_by is not None:
            query += "and uploaded_by {eq} %s "
            parameters.append(uploaded_by)
        if correcting is not None:
            query += "and id {eq} any (select corrected_by from {corrections} where import_id {eq} %s) "
            parameters.append(correcting)
        parameters.append(limit)
        for row in self._stream(query + "order by id desc limit %s", parameters, _ENTRIES_FETCHED_AT_ONCE):
            yield _as_entry(row)

    def users(self, import_id: int | None = None) -> Generator[AnyUser, None, None]:
        """Stream users through a server-side cursor, in the order of the identity key."""
        query, parameters = (_USERS, []) if import_id is None else (_USERS_OF_IMPORT, [import_id])
        for user_id, *values in self._stream(query, parameters, _USERS_FETCHED_AT_ONCE):
            yield self._as_user(user_id, values)

    def users_after(self, user_id: int, *, limit: int, import_id: int | None = None) -> list[RegisteredUser]:
        """Return users in the order of the identity key."""
        query, parameters = _USERS_AFTER, [user_id, limit]
        if import_id is not None:
            query, parameters = _USERS_OF_IMPORT_AFTER, [import_id, *parameters]
        with self._transaction() as connection, translated_errors(connection):
            return [
                RegisteredUser(id=user_id, import_id=by, user=self._as_user(user_id, values))
                for user_id, by, *values in connection.run(query, parameters)
            ]

    def _as_user(self, user_id: int, values: Iterable[Value | None]) -> AnyUser:
        try:
            return self.record_type.make(values)
        except ValueError as error:
            # Only another program can have written such a row.
            raise SchemaError(
                f"in the table {self.record_type.table}, the row with id {user_id} is no user: {error}; "
                "correct it there"
            ) from None

    def _stream(
        self, query: LiteralString, parameters: Sequence[int | str | None], fetched_at_once: int
    ) -> Generator[tuple[Any, ...], None, None]:
        with (
            self._transaction() as connection,
            translated_errors(connection),
            connection.cursor("stream") as cursor,
            # A reader that needs no more leaves the connection as good as it was.
            contextlib.suppress(GeneratorExit),
        ):
            cursor.itersize = fetched_at_once
            cursor.execute(connection.composed(query), parameters)
            yield from cursor

    @contextmanager
    def _transaction(self) -> Iterator[Database]:
        """Yield a connection in a transaction, which is rolled back at the end unless it was committed."""
        connection = self._begun()
        try:
            yield connection
            with translated_errors(connection):
                connection.rollback()
        except BaseException:
            # The state of the connection is unknown; the server rolls back when it closes.
            _abort(connection)
            raise
        if self._idle:
            connection.close()
        else:
            self._idle.append(connection)

    def _begun(self) -> Database:
        """Return a connection in a transaction: the idle one, or a new one if that broke."""
        with contextlib.suppress(IndexError):
            connection = self._idle.pop()
            try:
                begin(connection)
            except Error:
                connection.close()
            else:
                return connection
        connection = connect(self._conninfo, self.record_type, self._credentials)
        try:
            with translated_errors(connection):
                begin(connection)
                require_schema(connection)
                connection.rollback()
                begin(connection)
        except BaseException:
            connection.close()
            raise
        return connection


def _abort(connection: Database) -> None:
    """Close a connection. A statement that is running is cancelled, or it would go on and keep its locks."""
    if connection.info.transaction_status is TransactionStatus.ACTIVE:
        with contextlib.suppress(Error):  # a server that cannot be reached any more has lost the statement, too
            connection.cancel_safe(timeout=_CANCEL_SECONDS)
    connection.close()


class _PostgresImport:
    """One open import, on a connection that holds its locks."""

    def __init__(
        self,
        connection: Database,
        request: ImportRequest,
        new_secret: Callable[[], bytes],
        deadline: float | None,
    ) -> None:
        self._deadline = deadline
        self.committed = False
        self._new_secret = new_secret
        self._connection = connection
        self._request = request
        self._copying = contextlib.ExitStack()
        self._copy: Copy | None = None
        self._sent = 0
        self._copied = 0
        self._merge_result: MergeResult | None = None
        self._late_locks: tuple[set[str], ...] = ()
        self._history: History | None = None
        if not request.reading:
            acquire_locks(connection, *request.content_locks)
            self._history = self._look_back()
        # The session caches ids of users. Those cached for an earlier import may be lower than ids that a later
        # import on another connection has used.
        connection.execute("discard sequences")
        # Rows that may exist already are staged and compared with the table before they are inserted.
        corrects = request.corrects is not None
        compares = request.policy.unique_by or corrects
        self._staging = Staging(connection, request.policy, corrects=corrects) if compares else None
        connection.execute("savepoint nobody_registered")

    @property
    def history(self) -> History:
        """The entries that were read under the locks."""
        if not self._history:
            raise AssertionError("the content of the upload is not known yet")
        return self._history

    def identify(self, request: ImportRequest) -> None:
        """End the COPY, because the connection can do nothing else meanwhile, and acquire the remaining locks."""
        with translated_errors(self._connection):
            self._end_copy()
            self._late_locks = request.upload_locks - self._request.upload_locks, request.content_locks
            self._request = request
            self._acquire_late_locks()
            self._history = self._look_back()

    def _acquire_late_locks(self) -> None:
        """Acquire the locks that were not known when the savepoint was made."""
        for names in self._late_locks:
            acquire_locks(self._connection, *names)

    @cached_property
    def verdict(self) -> Verdict:
        """The verdict of this import, with a number from the ledger's sequence."""
        with translated_errors(self._connection):
            [import_id] = self._connection.run(
                "select pg_catalog.nextval("
                "pg_catalog.pg_get_serial_sequence(%s::pg_catalog.text, 'id'::pg_catalog.text)"
                "::pg_catalog.regclass)",
                [self._connection.name_of("imports")],
            ).fetchone() or [NO_IMPORT]
        return Verdict(import_id, self._new_secret())

    def register(self, block: Block) -> None:
        """Send a block to the server, which processes it while the next one is read."""
        with translated_errors(self._connection):
            if not self._copy:
                # The default of users.import_id reads this setting, which ends with the transaction.
                [_, secured] = self._connection.run(
                    "select pg_catalog.set_config('rollcall.import_id', %s, true), "
                    "pg_catalog.row_security_active(%s::pg_catalog.regclass)",
                    [str(self.verdict.import_id), self._connection.users_name],
                ).fetchone() or [None, False]
                if secured and not self._staging:
                    table = self._connection.record_type.table
                    raise TableConstraintError(f"row-level security of the table {table} does not let a COPY in")
                copy = self._staging.copy() if self._staging else self._connection.composed(_COPY)
                self._copy = self._copying.enter_context(self._connection.cursor().copy(copy))
            self._sent += block.rows
            self._copy.write(self._staging.rows(block) if self._staging else block.csv)

    def merge(self, columns: Collection[str] | None = None) -> MergeResult:
        """End the COPY, and merge the staged rows if there are any."""
        with translated_errors(self._connection):
            self._end_copy()
            copied = self._copied
            require_all(self._sent, copied)
            self._merge_result = (
                self._staging.merge(self.verdict.import_id, merge_wait_seconds(self._seconds_left()), columns)
                if self._staging
                else MergeResult(registered=copied)
            )
            return self._merge_result

    def discard_rows(self) -> None:
        """End the COPY and roll back to the savepoint before it."""
        with translated_errors(self._connection):
            with contextlib.suppress(Error):
                self._end_copy()  # errors in these rows no longer matter
            self._connection.execute("rollback to savepoint nobody_registered")
            self._acquire_late_locks()  # the rollback has released them
            self._sent = self._copied = 0
            self._merge_result = None

    def commit(self, receipt: Receipt) -> None:
        """Write the ledger entry and commit."""
        with translated_errors(self._connection):
            self._merged().require(receipt)
            upload = self._request.upload
            values = {
                "id": self.verdict.import_id,
                "identity": upload.identity,
                "key_identity": upload.key_identity,
                "bucket": upload.bucket,
                "object_key": receipt.source.key,
                "version": upload.version,
                "sha256": self._request.sha256,
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
                "forbids_repeat": self._request.forbids_repeat,
                "forbids_new_version": self._request.forbids_new_version,
                "uploaded_by": upload.owned_by,
                "users_table": self._connection.record_type.table,
            }
            replaced = self.history.same_upload
            written = self._connection.run(
                _REPLACE_ENTRY if replaced else _ADD_ENTRY,
                values,
                names=listed(values),
                values=sql.SQL(", ").join(map(sql.Placeholder, values)),
                replaced=sql.Literal(replaced and replaced.import_id),
            )
            if written.rowcount != 1:
                raise ImportInProgressError
            self._connection.commit()
            self.committed = True

    def end_copy(self) -> None:
        """End the COPY, so that the connection can be rolled back and reused."""
        self._end_copy()

    def _merged(self) -> MergeResult:
        """Merge now if nobody did; nothing registered needs no merge, and no wait for the merge lock."""
        return self._merge_result or (self.merge() if self._copy or self._sent else MergeResult(registered=0))

    def _seconds_left(self) -> float | None:
        return None if self._deadline is None else self._deadline - time.monotonic()

    def _end_copy(self) -> None:
        """Send the end of the COPY, if one is open, and count the rows that the server copied."""
        if self._copy:
            copy, self._copy = self._copy, None
            self._copying.close()
            self._copied += copy.cursor.rowcount

    def _look_back(self) -> History:
        def find(condition: LiteralString, *parameters: str | int | None) -> LedgerEntry | None:
            return _entry(self._connection.run(_ENTRY + condition, parameters))

        upload = self._request.upload
        return History(
            same_upload=find("where identity {eq} %s", upload.identity),
            same_content=find(
                "where in_force and sha256 {eq} %s and identity {ne} %s order by id limit 1",
                self._request.sha256,
                upload.identity,
            ),
            same_key=find(
                "where in_force and key_identity {eq} %s and identity {ne} %s order by committed_at desc limit 1",
                upload.key_identity,
                upload.identity,
            ),
            corrected=find("where id {eq} %s", self._request.corrects),
        )


def _dependent_imports(connection: Database, import_id: int) -> DependentImports:
    row = connection.run(
        """
        select
            (select pg_catalog.min(corrected_by) from {corrections} where import_id {eq} %(id)s),
            (select pg_catalog.min(id) from {imports}
                where in_force and committed_at {gt} (select committed_at from {imports} where id {eq} %(id)s)
                and ((receipt {json} 'policy'::pg_catalog.text) {json_text} 'unique_by'::pg_catalog.text) {ne} '')
        """,
        {"id": import_id},
    ).fetchone()
    correcting, comparing = row or (None, None)
    return DependentImports(correcting=correcting, comparing=comparing)


def _entry(cursor: Cursor[Any]) -> LedgerEntry | None:
    row = cursor.fetchone()
    return row and _as_entry(row)


def _as_entry(row: tuple[Any, ...]) -> LedgerEntry:
    import_id, receipt, undone, secret, uploaded_by = row
    return LedgerEntry(
        import_id=import_id,
        receipt=from_dict(receipt),
        undone=undone,
        secret=secret or b"",
        uploaded_by=uploaded_by,
    )
