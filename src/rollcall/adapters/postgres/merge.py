"""Staging of rows that may exist already: they are copied into a temporary table, then merged with the users."""

from collections.abc import Iterator
from typing import LiteralString

from psycopg import sql

from rollcall.adapters.postgres.failures import translated_errors
from rollcall.adapters.postgres.locks import acquire_locks
from rollcall.adapters.postgres.naming import Database
from rollcall.application.values import Block, MergeResult, Reread
from rollcall.domain.correction import PROOF_DIGITS
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import ConservationError
from rollcall.domain.rejection import Code
from rollcall.domain.user import COLUMNS

MERGE_LOCK = "settling"
# With the server's default of 4 MB, a million rows are sorted on disk, and the merge takes twice as long.
SORT_MEMORY = "64MB"

_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


def require_all(expected: int, taken: int) -> None:
    """Check that the table took every row that was sent.

    Raises:
        ConservationError: The table took fewer rows, because a trigger or a rule left some out.
    """
    if taken != expected:
        raise ConservationError(
            f"the table took {taken:,} of {expected:,} rows, because a trigger or a rule left out the others; "
            "nothing was registered"
        )


class Staging:
    """The staged rows of one import, in temporary tables that last until its transaction ends.

    Args:
        connection: The connection, in the import's transaction.
        policy: Names the columns that identify a user, and what to do with duplicates.
    """

    def __init__(self, connection: Database, policy: Policy) -> None:
        self._connection = connection
        self._policy = policy
        self._key = sql.SQL(", ").join(map(sql.Identifier, policy.unique_by))
        # A larger setting of the server is kept. Only one import merges at a time, so the memory is used once.
        connection.run(
            "select pg_catalog.set_config('work_mem', %(enough)s, true) "
            "where pg_catalog.pg_size_bytes(pg_catalog.current_setting('work_mem')) "
            "{lt} pg_catalog.pg_size_bytes(%(enough)s)",
            {"enough": SORT_MEMORY},
        )
        self._run("drop table if exists {staged}, {rejected}, {merging}")
        self._run(
            """
            create temporary table rollcall_staged on commit drop as
                select 0::bigint as origin_import, 0::bigint as origin_line, ''::pg_catalog.text as origin_proof,
                    0::bigint as line, {columns}
                from {users} with no data
            """
        )
        self._run(
            "create temporary table rollcall_rejected (line bigint not null, code pg_catalog.text not null) "
            "on commit drop"
        )

    def copy(self) -> sql.Composed:
        """Return the COPY statement for the output of `rows`."""
        return self._connection.composed(
            "copy {staged} (origin_import, origin_line, origin_proof, line, {columns}) "
            "from stdin (format csv, encoding 'UTF8')",
            columns=_COLUMNS,
        )

    def rows(self, block: Block) -> bytes:
        """Return the rows of a block as CSV, each with its origin and its line in front."""
        records = block.csv.split(b"\n")
        records.pop()
        origins = [
            b"%d,%d,%b" % (origin.import_id, origin.line, origin.proof.encode()) for origin in block.origins or ()
        ] or [b",,"] * len(records)
        return b"".join(b"%b,%d,%b\n" % row for row in zip(origins, block.lines, records, strict=True))

    def merge(self, import_id: int, wait_seconds: float) -> MergeResult:
        """Reject rows, merge the others, and record corrections.

        The merge lock is held until the transaction ends.

        Args:
            import_id: The import under which the corrections are recorded.
            wait_seconds: How long to wait for the merge lock.

        Raises:
            ConservationError: The table did not take every row.
            ImportInProgressError: Another import held the merge lock for that long.
        """
        acquire_locks(self._connection, MERGE_LOCK, wait_seconds=wait_seconds)
        self._run("analyze {staged}")
        staged = self._count("select pg_catalog.count(*) from {staged}")
        self._reject_uncorrectable()
        if self._policy.rejects_duplicates:
            self._reject_duplicates()
        rejected_on_merge = self._count("select pg_catalog.count(*) from {rejected}")
        corrections = self._count("select pg_catalog.count(origin_import) from {staged}")
        noted = self._run(
            "insert into {corrections} (import_id, line, corrected_by) "
            "select origin_import, origin_line, {import_id} from {staged} where origin_import is not null",
            import_id=sql.Literal(import_id),
        )
        require_all(corrections, noted)
        if self._policy.unique_by:
            registered, updated = self._merge()
        else:
            registered, updated = (
                self._run("insert into {users} ({columns}) select {columns} from {staged} order by line"),
                0,
            )
            require_all(staged - rejected_on_merge, registered)
        return MergeResult(
            registered=registered,
            updated=updated,
            unchanged=staged - rejected_on_merge - registered - updated,
            rejected_on_merge=rejected_on_merge,
            rows_rejected_on_merge=Reread(self._rows_rejected_on_merge),
        )

    def _reject_uncorrectable(self) -> None:
        # The row locks keep the corrected imports from being undone until this import ends. This is a separate
        # statement, so that the next one sees what was committed while this one waited.
        self._count(
            "select pg_catalog.count(*) from ("
            "select from {imports} where in_force and id {eq} any (select origin_import from {staged}) "
            "order by id for share"
            ") as corrected"
        )
        self._run(
            """
            with judged as (
                select line,
                    (
                        pg_catalog.row_number() over (
                            partition by origin_import, origin_line, origin_proof order by line
                        ) {gt} 1
                    ) or exists (
                        select from {corrections} as known
                        where known.import_id {eq} origin_import and known.line {eq} origin_line
                    ) as corrected,
                    exists (
                        select from {imports} as imports
                        where imports.in_force and imports.id {eq} origin_import
                            and origin_proof {eq} pg_catalog.left(
                            pg_catalog.encode(
                                pg_catalog.sha256(
                                    imports.secret {concat}
                                    pg_catalog.convert_to(origin_line::pg_catalog.text, 'UTF8'::pg_catalog.name)
                                ),
                                'hex'::pg_catalog.text
                            ),
                            {proof_digits}
                        )
                    ) as correctable
                from {staged} where origin_import is not null
            ), moved as (
                delete from {staged} as staged using judged
                where staged.line {eq} judged.line and (corrected or not correctable)
                returning staged.line, correctable
            )
            insert into {rejected}
            select line, case when correctable then {already_corrected} else {nothing_to_correct} end from moved
            """
        )

    def _reject_duplicates(self) -> None:
        self._run(
            """
            with ranked as (
                select line,
                    (pg_catalog.row_number() over (partition by {key} order by line) {gt} 1)
                    or exists (select from {users} as users where ({users_key}) {eq} ({staged_key})) as duplicate
                from {staged} as staged
            ), moved as (
                delete from {staged} as staged using ranked
                where staged.line {eq} ranked.line and duplicate
                returning staged.line
            )
            insert into {rejected} select line, {duplicate_row} from moved
            """
        )

    def _merge(self) -> tuple[int, int]:
        """Insert or update users from the staged rows that were not rejected.

        Returns:
            The number of registered users, and the number of updated users.
        """
        # If rows of a file have the same user, the last one counts under `update`, otherwise the first.
        # The join costs half as much as `on conflict`. If another client inserts the same user meanwhile, the
        # unique index raises an error, and the import has to be tried again.
        # The rows are counted before they are written, to notice rows that the table leaves out.
        chosen = self._run(
            """
            create temporary table rollcall_merging on commit drop as
            select merging.*, {a_users_column} is not null as existing
            from (
                select distinct on ({key}) {columns}, {first_line} as first_line
                from {staged} as staged order by {key}, line {which_counts}
            ) as merging
            left join {users} as users on ({users_key}) {eq} ({merging_key})
            where {a_users_column} is null or (
                {updates}
                and row ({users_columns})::pg_catalog.record {differs} row ({merging_columns})::pg_catalog.record
            )
            order by first_line
            """
        )
        changed = (
            self._count("select pg_catalog.count(*) from {merging} where existing") if self._policy.updates else 0
        )
        updated = 0
        if changed:
            updated = self._run(
                """
                update {users} as users set ({columns}) = row ({merging_columns}) from {merging} as merging
                where existing and ({users_key}) {eq} ({merging_key})
                """
            )
            require_all(changed, updated)
        registered = self._run(
            "insert into {users} ({columns}) select {columns} from {merging} where not existing "
            "order by first_line"
        )
        require_all(chosen - changed, registered)
        return registered, updated

    def _rows_rejected_on_merge(self) -> Iterator[tuple[int, Code]]:
        with translated_errors(self._connection), self._connection.cursor("rows_rejected_on_merge") as cursor:
            cursor.execute(self._connection.composed("select line, code from {rejected} order by line"))
            for line, code in cursor:
                yield line, Code(code)

    def _count(self, query: LiteralString) -> int:
        [count] = self._connection.run(query).fetchone() or [0]
        return int(count)

    def _run(self, statement: LiteralString, **values: sql.Composable) -> int:
        """Run a statement after filling in the columns of the policy.

        Returns:
            The number of rows that it affected.
        """

        def of(table: str, columns: tuple[str, ...]) -> sql.Composed:
            return sql.SQL(", ").join(sql.Identifier(table, column) for column in columns)

        unique_by, updates = self._policy.unique_by, self._policy.updates
        first_line = "pg_catalog.min(line) over (partition by {})" if updates else "line"
        return self._connection.run(
            statement,
            None,
            columns=_COLUMNS,
            users_columns=of("users", COLUMNS),
            merging_columns=of("merging", COLUMNS),
            key=self._key,
            users_key=of("users", unique_by),
            a_users_column=of("users", unique_by[:1]),
            staged_key=of("staged", unique_by),
            merging_key=of("merging", unique_by),
            proof_digits=sql.Literal(PROOF_DIGITS),
            already_corrected=sql.Literal(Code.ALREADY_CORRECTED.value),
            nothing_to_correct=sql.Literal(Code.NOTHING_TO_CORRECT.value),
            duplicate_row=sql.Literal(Code.DUPLICATE_ROW.value),
            updates=sql.Literal(updates),
            which_counts=sql.SQL("desc" if updates else "asc"),
            first_line=sql.SQL(first_line).format(self._key),
            **values,
        ).rowcount
