"""Rows that may be there already: copied aside, compared with the table in the server, then merged."""

from collections.abc import Iterator
from typing import Any

from psycopg import Connection, sql

from rollcall.adapters.postgres.connecting import claim
from rollcall.application.ports import Block, Settlement
from rollcall.domain.correction import PROOF_DIGITS
from rollcall.domain.policy import Policy
from rollcall.domain.rejection import Code
from rollcall.domain.user import COLUMNS

SETTLING = "settling"
# With the 4 MB that servers give by default, a million rows are sorted on disk and take twice as long to merge.
SORT_MEMORY = "64MB"

_COLUMNS = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))


class Staging:
    """The rows of one import, aside.

    Args:
        connection: In the import's transaction, at whose end it is gone.
        policy: How users are told apart.
    """

    def __init__(self, connection: Connection[Any], policy: Policy) -> None:
        self._connection = connection
        self._policy = policy
        self._key = sql.SQL(", ").join(map(sql.Identifier, policy.unique_by))
        # Until the transaction ends, and never less than the server gives anyway. One import merges at a time.
        connection.execute(
            "select set_config('work_mem', %(enough)s, true) "
            "where pg_size_bytes(current_setting('work_mem')) < pg_size_bytes(%(enough)s)",
            {"enough": SORT_MEMORY},
        )
        self._run(
            """
            create temporary table staged on commit drop as
                select 0::bigint as origin_import, 0::bigint as origin_line, '' as origin_proof, 0::bigint as line,
                    {columns}
                from users with no data;
            create temporary table turned_down (line bigint not null, code text not null) on commit drop;
            """
        )

    def copy(self) -> sql.Composed:
        """Give the statement that takes what `rows` makes."""
        return sql.SQL(
            "copy staged (origin_import, origin_line, origin_proof, line, {}) "
            "from stdin (format csv, encoding 'UTF8')"
        ).format(_COLUMNS)

    def rows(self, block: Block) -> bytes:
        """Put before each row of a block where it comes from."""
        records = block.csv.split(b"\n")
        records.pop()
        origins = [
            b"%d,%d,%b" % (origin.import_id, origin.line, origin.proof.encode()) for origin in block.origins or ()
        ] or [b",,"] * len(records)
        return b"".join(b"%b,%d,%b\n" % row for row in zip(origins, block.lines, records, strict=True))

    def settle(self, import_id: int) -> Settlement:
        """Turn down, merge, count. Until the transaction ends nobody else can do so.

        Args:
            import_id: The import that the corrections are remembered for.
        """
        claim(self._connection, SETTLING)
        self._run("analyze staged")
        staged = self._count("select count(*) from staged")
        self._turn_down_uncorrectable()
        if self._policy.turns_down:
            self._turn_down_duplicates()
        turned_down = self._count("select count(*) from turned_down")
        self._run(
            "insert into corrections (import_id, line, corrected_by) "
            "select origin_import, origin_line, {import_id} from staged where origin_import is not null",
            import_id=import_id,
        )
        registered, updated = self._merge()
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
            "select count(*) from ("
            "select from imports where in_force and id in (select origin_import from staged) order by id for share"
            ") as corrected"
        )
        self._run(
            """
            with judged as (
                select line,
                    row_number() over (partition by origin_import, origin_line, origin_proof order by line) > 1
                    or exists (
                        select from corrections
                        where corrections.import_id = origin_import and corrections.line = origin_line
                    ) as corrected,
                    exists (
                        select from imports
                        where id = origin_import and in_force and origin_proof = left(
                            encode(sha256(secret || convert_to(origin_line::text, 'UTF8')), 'hex'), {proof_digits}
                        )
                    ) as correctable
                from staged where origin_import is not null
            ), moved as (
                delete from staged using judged
                where staged.line = judged.line and (corrected or not correctable)
                returning staged.line, correctable
            )
            insert into turned_down
            select line, case when correctable then {already_corrected} else {nothing_to_correct} end from moved
            """
        )

    def _turn_down_duplicates(self) -> None:
        self._run(
            """
            with ranked as (
                select line, row_number() over (partition by {key} order by line) > 1
                    or exists (select from users where ({users_key}) = ({staged_key})) as duplicate
                from staged
            ), moved as (
                delete from staged using ranked
                where staged.line = ranked.line and duplicate
                returning staged.line
            )
            insert into turned_down select line, {duplicate_row} from moved
            """
        )

    def _merge(self) -> tuple[int, int]:
        """Bring what is left into the table.

        Returns:
            How many users were registered, and how many updated.
        """
        if not self._policy.unique_by:
            return self._run("insert into users ({columns}) select {columns} from staged order by line"), 0
        updated = self._update() if self._policy.updates else 0
        # Of several rows of one user the last counts where rows update, else the first. To look whether a user is
        # there costs half of what `on conflict` does; somebody else who writes to the table meanwhile is found by
        # its unique index, and the import is to be tried again.
        registered = self._run(
            """
            insert into users ({columns})
            select {columns} from (
                select distinct on ({key}) *, {first_line} as first_line
                from staged order by {key}, line {which_counts}
            ) as staged
            where not exists (select from users where ({users_key}) = ({staged_key}))
            order by first_line
            """
        )
        return registered, updated

    def _update(self) -> int:
        return self._run(
            """
            update users set ({columns}) = row ({last_columns})
            from (select distinct on ({key}) * from staged order by {key}, line desc) as last
            where ({users_key}) = ({last_key}) and ({users_columns}) is distinct from ({last_columns})
            """
        )

    def _turned_down_rows(self) -> Iterator[tuple[int, Code]]:
        with self._connection.cursor("turned_down_rows") as cursor:
            cursor.execute("select line, code from turned_down order by line")
            for line, code in cursor:
                yield line, Code.of(code)

    def _count(self, query: str) -> int:
        [count] = self._connection.execute(query).fetchone() or [0]
        return int(count)

    def _run(self, statement: str, **values: object) -> int:
        """Run a statement with the columns filled in.

        Returns:
            How many rows it touched.
        """

        def of(table: str, columns: tuple[str, ...]) -> sql.Composed:
            return sql.SQL(", ").join(sql.Identifier(table, column) for column in columns)

        unique_by, updates = self._policy.unique_by, self._policy.updates
        return self._connection.execute(
            sql.SQL(statement).format(
                columns=_COLUMNS,
                users_columns=of("users", COLUMNS),
                last_columns=of("last", COLUMNS),
                key=self._key,
                users_key=of("users", unique_by),
                staged_key=of("staged", unique_by),
                last_key=of("last", unique_by),
                proof_digits=PROOF_DIGITS,
                already_corrected=Code.ALREADY_CORRECTED.value,
                nothing_to_correct=Code.NOTHING_TO_CORRECT.value,
                duplicate_row=Code.DUPLICATE_ROW.value,
                which_counts=sql.SQL("desc" if updates else "asc"),
                first_line=sql.SQL("min(line) over (partition by {})" if updates else "line").format(self._key),
                **values,
            )
        ).rowcount
