"""Rows that may be there already: copied aside, compared with the table in the server, then merged."""

from collections.abc import Iterator
from typing import LiteralString

from psycopg import sql

from rollcall.adapters.postgres.connecting import claim
from rollcall.adapters.postgres.failures import told_by
from rollcall.adapters.postgres.naming import Database
from rollcall.application.ports import Block, Settlement
from rollcall.domain.correction import PROOF_DIGITS
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import ConservationError
from rollcall.domain.rejection import Code
from rollcall.domain.user import COLUMNS

SETTLING = "settling"
# With the 4 MB that servers give by default, a million rows are sorted on disk and take twice as long to merge.
SORT_MEMORY = "64MB"

_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


def require_all(expected: int, taken: int) -> None:
    """Make sure that the table took all rows that it was given.

    Raises:
        ConservationError: It did not: a trigger or a rule of the table left some out.
    """
    if taken != expected:
        raise ConservationError(
            f"the table took {taken:,} of {expected:,} rows, because a trigger or a rule left out the others; "
            "nothing was registered"
        )


class Staging:
    """The rows of one import, aside.

    Args:
        connection: In the import's transaction, at whose end it is gone.
        policy: How users are told apart.
    """

    def __init__(self, connection: Database, policy: Policy) -> None:
        self._connection = connection
        self._policy = policy
        self._key = sql.SQL(", ").join(map(sql.Identifier, policy.unique_by))
        # Until the transaction ends, and never less than the server gives anyway. One import merges at a time.
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
        """Give the statement that takes what `rows` makes."""
        return self._connection.composed(
            "copy {staged} (origin_import, origin_line, origin_proof, line, {columns}) "
            "from stdin (format csv, encoding 'UTF8')",
            columns=_COLUMNS,
        )

    def rows(self, block: Block) -> bytes:
        """Put before each row of a block where it comes from."""
        records = block.csv.split(b"\n")
        records.pop()
        origins = [
            b"%d,%d,%b" % (origin.import_id, origin.line, origin.proof.encode()) for origin in block.origins or ()
        ] or [b",,"] * len(records)
        return b"".join(b"%b,%d,%b\n" % row for row in zip(origins, block.lines, records, strict=True))

    def settle(self, import_id: int, wait_seconds: float) -> Settlement:
        """Turn down, merge, count. Until the transaction ends nobody else can do so.

        Args:
            import_id: The import that the corrections are remembered for.
            wait_seconds: How long to wait for another import that settles.

        Raises:
            ConservationError: The table did not take all rows.
            ImportInProgressError: Another import was settling for that long.
        """
        claim(self._connection, SETTLING, wait_seconds=wait_seconds)
        self._run("analyze {staged}")
        staged = self._count("select pg_catalog.count(*) from {staged}")
        self._turn_down_uncorrectable()
        if self._policy.turns_down:
            self._turn_down_duplicates()
        turned_down = self._count("select pg_catalog.count(*) from {rejected}")
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
            require_all(staged - turned_down, registered)
        return Settlement(
            registered=registered,
            updated=updated,
            unchanged=staged - turned_down - registered - updated,
            turned_down=turned_down,
            turned_down_rows=self._turned_down_rows(),
        )

    def _turn_down_uncorrectable(self) -> None:
        # Until this import ends, none of those that it corrects can be undone. A statement of its own, so that
        # the next one sees what was committed while this one waited.
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

    def _turn_down_duplicates(self) -> None:
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
        """Bring what is left into the table.

        Returns:
            How many users were registered, and how many updated.
        """
        # Of several rows of one user the last counts where rows update, else the first. To look whether a user is
        # there costs half of what `on conflict` does; somebody else who writes to the table meanwhile is found by
        # its unique index, and the import is to be tried again. What is to come into the table is counted before.
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

    def _turned_down_rows(self) -> Iterator[tuple[int, Code]]:
        with told_by(self._connection), self._connection.cursor("turned_down_rows") as cursor:
            cursor.execute(self._connection.composed("select line, code from {rejected} order by line"))
            for line, code in cursor:
                yield line, Code.of(code)

    def _count(self, query: LiteralString) -> int:
        [count] = self._connection.run(query).fetchone() or [0]
        return int(count)

    def _run(self, statement: LiteralString, **values: sql.Composable) -> int:
        """Run a statement with the columns filled in.

        Returns:
            How many rows it touched.
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
