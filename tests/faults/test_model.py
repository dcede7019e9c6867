"""Compare Rollcall with a simple model of the contract, through random steps and faults.

The steps, in memory and in PostgreSQL: upload, overwrite, deliver, redeliver, kill or cut at any point, freeze
there and continue, undo, sweep, and change the policy. Rejected rows, also of replaced verdicts, are corrected,
saved as a spreadsheet saves them, forged, and uploaded again.
`tests/contracts/test_agreement.py` compares both adapters with each other; this compares both with the contract.
"""

import csv
import hashlib
import io
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import psycopg
import pytest
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from psycopg import sql

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import (
    ImportInProgressError,
    ObjectNotFoundError,
    RepositoryUnavailableError,
    StoreUnavailableError,
    UndoRefusedError,
    UnknownImportError,
)
from rollcall.application.ports import UserRepository
from rollcall.application.receipts import from_dict, to_json
from rollcall.application.sweep import LostUploadAction, Sweep
from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import NOON, a_user, asked, completed, eventually
from support.campaigns import Campaign, Line
from support.deliveries import HOWS, POINTS, Delivery, KilledError, deliver
from support.privacy import require_quiet
from support.reference_ledger import PATIENCE, TOO_OLD, Dropped, Entry, Model, Row, User, origins_in
from support.uploads import CANARY

if TYPE_CHECKING:
    from rollcall.application.values import ListedObject

KEYS = ("list.csv", "folder/é list.csv")
HEADER = USERS.columns
OPEN_AT_ONCE = 3
TOLERANCES = ("all", "all", "0", "1", "50%")

policies = st.builds(
    Policy,
    max_rejected=st.sampled_from(TOLERANCES).map(Tolerance.parse),
    unique_by=st.sampled_from(((), (), ("name",), ("name", "country"))),
    on_duplicate=st.sampled_from(OnDuplicate),
    on_repeat=st.sampled_from(OnRepeat),
    on_new_version=st.sampled_from(OnNewVersion),
)
# A new user, a user who may exist, or a row that is rejected.
rows = st.lists(
    st.sampled_from(("new", "new", "Ann", "Ben", "bad", "bad")).flatmap(
        lambda who: st.tuples(st.just(who), st.sampled_from(("Japan", "Norway")), st.integers(1, 2))
    ),
    max_size=4,
)
faults = st.none() | st.none() | st.tuples(st.sampled_from(POINTS), st.sampled_from(HOWS))


FORGERIES = ("line", "import", "ledger", "bare")
NEEDED = {*HEADER, "rollcall_line", "rollcall_import"}
ORDERS = (
    (*HEADER, "rollcall_line", "rollcall_reason", "rollcall_record", "rollcall_import"),
    # The order of earlier versions, and one that a person chose.
    (*HEADER, "rollcall_line", "rollcall_reason", "rollcall_import", "rollcall_record"),
    ("rollcall_line", "rollcall_import", "rollcall_reason", "rollcall_record", *HEADER),
)


@attrs.frozen
class Spreadsheet:
    """How a spreadsheet saves a file.

    Attributes:
        order: The order of the columns.
        lost: The number of cells that are missing at the end of each row.
        lost_from: The first row in which they are missing; the header is row 0.
        ended: Whether the last line has an end.
    """

    order: tuple[str, ...]
    delimiter: str
    encoding: str
    line_end: str
    lost: int
    lost_from: int
    ended: bool

    def __call__(self, rows: list[dict[str, str]]) -> tuple[bytes, list[dict[str, str]]]:
        """Save rows.

        Returns:
            The file, and the cells of each row as they are read from it again.
        """
        kept = [
            {label: row[label] for label in self.order[: len(self.order) - self.lost * (number >= self.lost_from)]}
            for number, row in enumerate(rows, 1)
        ]
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.delimiter, lineterminator=self.line_end)
        writer.writerows([self.order, *(row.values() for row in kept)])
        content = text.getvalue() if self.ended else text.getvalue().removesuffix(self.line_end)
        if not self.ended and len(kept[-1]) < len(self.order):
            # The last line may have been cut off, so its cells are not completed.
            kept[-1] = {f"cell {number}": cell for number, cell in enumerate(kept[-1].values())}
        return content.encode(self.encoding), kept


spreadsheets = st.builds(
    Spreadsheet,
    order=st.sampled_from(ORDERS),
    delimiter=st.sampled_from(",,;\t"),
    encoding=st.sampled_from(("utf-8", "utf-8-sig", "utf-16")),
    line_end=st.sampled_from(("\n", "\r\n")),
    lost=st.sampled_from((0, 0, 1, 1, 2, 3)),
    lost_from=st.integers(1, 3),
    ended=st.booleans(),
)


def _opened(data: bytes) -> list[list[str]]:
    """Return the rows of a rejected-rows file, saved in any form."""
    text = data.decode("utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig")
    for delimiter in ",;\t":
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        if "rollcall_line" in rows[0]:
            return rows
    raise AssertionError("no delimiter fits")


class Promises(RuleBasedStateMachine):
    """The steps, and what must be true after each of them."""

    made: ClassVar[int]
    line: ClassVar[Line]
    tried: ClassVar[set[tuple[str, str]]]

    def __init__(self) -> None:
        super().__init__()
        self.steps = 0
        self.time = NOON
        self.uploads = MemoryObjectStore("bucket", now=lambda: self.time, version_suffix="")
        self.reports = MemoryObjectStore("reports", now=lambda: self.time)
        self.dropped: list[Dropped] = []
        self.open: list[Delivery] = []
        self.held: dict[Delivery, set[object]] = {}
        self.owed: set[tuple[str, str]] = set()
        self.seen: dict[int, object] = {}
        self.handed_out: dict[str, tuple[int, list[Any]]] = {}
        self.model = Model(Policy())
        self.users: UserRepository

    def begin(self, policy: Policy) -> None:
        """Empty the repository and prepare it for a policy."""
        raise NotImplementedError

    def worker(self) -> UserRepository:
        """Return the repository of one delivery."""
        return self.users

    def now(self) -> datetime:
        """Return the importing worker's time, which may be an hour wrong either way."""
        return self.time + timedelta(hours=self.steps % 3 - 1)

    @initialize(policy=policies)
    def choose(self, policy: Policy) -> None:
        """Choose the policy of this run."""
        self.model = Model(policy)
        self.begin(policy)

    def step(self) -> None:
        """Count a step, in this run and in all runs."""
        self.steps += 1
        type(self).made += 1

    # What people do

    @rule(
        key=st.sampled_from(KEYS),
        what=rows,
        later=st.integers(0, 1),
        as_before=st.integers(0, 9),
        delivered=st.booleans(),
    )
    def drop(
        self, *, key: str, what: list[tuple[str, str, int]], later: int, as_before: int, delivered: bool
    ) -> None:
        """A person uploads a file, sometimes under the same name or with the same content again."""
        self.step()
        if as_before < min(3, len(self.dropped)):
            before = self.dropped[-1 - as_before]
            anew = tuple(
                row if before.corrects else attrs.evolve(row, first=(self.steps, *row.first[1:]))
                for row in before.rows
            )
            self._put(key, before.content, anew, before.fault, later)
            return
        lines, read = ["name,country,age"], []
        for line, (who, country, age) in enumerate(what, 2):
            name = f"{CANARY} {self.steps} {line}" if who in {"new", "bad"} else f"{CANARY} {who}"
            written = f"{name},{country},{age}" if line % 2 else f'"{name}", {country},0{age}'
            lines.append(f"{name},{country},x" if who == "bad" else written)
            user = None if who == "bad" else USERS.values(a_user(name, country, age))
            read.append(Row(line, user, first=(self.steps, line, name, country)))
        self._put(key, completed("\n".join([*lines, ""]).encode()), tuple(read), None, later)
        if delivered:
            self._deliver(self.dropped[-1], again=False, point=None, how="")

    @precondition(lambda self: self.steps % 4 == 0)
    @rule(key=st.sampled_from(KEYS))
    def drop_what_is_no_list(self, key: str) -> None:
        """A file whose header lacks a column is refused."""
        self.step()
        self._put(key, f"name,country\n{CANARY},Japan\n".encode(), (), "missing-label", 1)

    @precondition(lambda self: self.dropped)
    @rule(which=st.integers(0, 30), again=st.booleans(), fault=faults)
    def deliver(self, *, which: int, again: bool, fault: tuple[str, str] | None) -> None:
        """A queue delivers any version, in any order and number, with a fault at any point."""
        self.step()
        point, how = fault or (None, "")
        if how == "frozen" and len(self.open) >= OPEN_AT_ONCE:
            point, how = None, ""
        self._deliver(self.dropped[which % len(self.dropped)], again=again, point=point, how=how)

    @precondition(lambda self: self.open)
    @rule(which=st.integers(0, OPEN_AT_ONCE), given_up=st.booleans())
    def thaw(self, which: int, *, given_up: bool) -> None:
        """A frozen worker continues or ends."""
        self.step()
        delivery = self.open.pop(which % len(self.open))
        delivery.thaw(given_up=given_up)
        self._judge(delivery)

    @precondition(lambda self: self.model.ledger)
    @rule(which=st.integers(0, 6))
    def undo(self, which: int) -> None:
        """An operator undoes an import that may or may not exist."""
        self.step()
        known = self.model.import_ids[-6:]
        import_id = known[which % len(known)] if which < 6 else 10**6
        busy = self.model.undoing(import_id) & set().union(*self.held.values())
        try:
            removed: int | None = self.users.undo(import_id, self.now())
        except ImportInProgressError:
            assert busy
            return
        except (UnknownImportError, UndoRefusedError) as error:
            require_quiet(error)
            removed = None
        assert not busy or removed is None
        assert removed == self.model.undo(import_id)

    @precondition(lambda self: not self.open)
    @rule(tolerance=st.sampled_from(TOLERANCES), on_duplicate=st.sampled_from(OnDuplicate))
    def decide_again(self, tolerance: str, on_duplicate: OnDuplicate) -> None:
        """An operator changes tolerance and duplicates: a refused upload may then be loaded."""
        self.step()
        self.model.policy = attrs.evolve(
            self.model.policy, max_rejected=Tolerance.parse(tolerance), on_duplicate=on_duplicate
        )

    @precondition(lambda self: self.dropped)
    @rule(hours=st.sampled_from((0, 1, 1, 30)), batch=st.integers(1, 3), lost=st.booleans())
    def sweep(self, *, hours: int, batch: int, lost: bool) -> None:
        """Time passes, and a sweep queues uploads without a verdict. Its messages may also be lost."""
        self.step()
        self.time += timedelta(hours=hours)
        at, claimed = self.now(), set().union(*self.held.values())
        queued: list[ListedObject] = []
        told: dict[tuple[str, str | None], LostUploadAction] = {}
        Sweep(
            uploads=self.uploads,
            users=self.users,
            is_report=lambda _: False,
            queue=queued.extend,
            tell=lambda listed, fate: told.update({(listed.upload.key, listed.upload.version): fate}),
            now=lambda: at,
            older_than=PATIENCE,
            younger_than=TOO_OLD,
            batch=batch,
        )()
        fates = {upload.identity: self.model.sweep(upload, claimed, at) for upload in self.dropped}
        assert told == {identity: fate for identity, fate in fates.items() if fate}
        assert len(queued) == list(fates.values()).count("queued")
        for upload in self.dropped:
            if fates[upload.identity] == "queued" and not lost:
                self._deliver(upload, again=False, point=None, how="")

    @precondition(lambda self: self.handed_out)
    @rule(
        which=st.integers(0, 29),
        corrected=st.sampled_from((15, 15, 14, 13, 5, 1, 0)),
        save=spreadsheets,
        forgery=st.sampled_from((*[None] * 8, *FORGERIES)),
        key=st.sampled_from(KEYS),
        delivered=st.sampled_from((True, True, False)),
    )
    def upload_rejected_rows_again(
        self, *, which: int, corrected: int, save: Spreadsheet, forgery: str | None, key: str, delivered: bool
    ) -> None:
        """An uploader corrects some rejected rows, or none. Their verdict may have been replaced."""
        self.step()
        # In two of three cases choose a file that can be corrected, if there is one.
        entries = {where: self.model.get_import(import_id) for where, (import_id, _) in self.handed_out.items()}
        in_force = [where for where, entry in entries.items() if entry and entry.active]
        choice = in_force if in_force and which % 3 else list(self.handed_out)
        where = choice[-1 - which // 3 % len(choice)]
        _, people = self.handed_out[where]
        labels, *table = _opened(self._report(where))
        rows = [dict(zip(labels, cells, strict=True)) for cells in table]
        for number, (row, (_, _, name, country)) in enumerate(zip(rows, people, strict=True)):
            if corrected >> number & 1:
                row |= {"name": row["name"] or name, "country": row["country"] or country, "age": "2"}
        if forgery:
            self._forge(rows[-1], forgery)
        content, kept = save(rows)
        read = []
        for number, (row, first) in enumerate(zip(kept, people, strict=True)):
            # The row is complete except for columns without meaning; otherwise the remaining cells identify it.
            whole = row.keys() >= NEEDED
            token = row["rollcall_import"] if whole else "\n".join(row.values())
            origins = origins_in(token)
            if whole and not origins:
                origins = {(int(token), int(row["rollcall_line"]), "")}
            good = whole and row["age"].isdigit()
            user = USERS.values(a_user(row["name"], row["country"].strip(), int(row["age"]))) if good else None
            read.append(Row(number + 2, user, origins.pop() if len(origins) == 1 else None, first))
        self._put(key, content, tuple(read), None, 1)
        if delivered:
            self._deliver(self.dropped[-1], again=False, point=None, how="")

    def _forge(self, row: dict[str, str], forgery: str) -> None:
        """Change the origin that a row states to another row's or another ledger's."""
        known = origins_in(row["rollcall_import"])
        if not known:
            return  # already forged
        [(import_id, line, proof)] = known
        match forgery:
            case "line":
                line = line % 4 + 2
            case "import":
                import_id = self.model.import_ids[line % len(self.model.import_ids)]
            case "ledger":
                proof = hashlib.sha256(proof.encode()).hexdigest()[:24]
        row["rollcall_line"] = str(line)
        row["rollcall_import"] = str(import_id) if forgery == "bare" else f"i{import_id}-{line}-{proof}"

    def _put(self, key: str, content: bytes, read: tuple[Row, ...], fault: str | None, later: int) -> None:
        self.time += timedelta(seconds=later)
        self.uploads.put(key, io.BytesIO(content))
        version = str(sum(dropped.key == key for dropped in self.dropped) + 1)
        self.dropped.append(
            Dropped(key=key, version=version, content=content, rows=read, modified=self.time, fault=fault)
        )

    def _deliver(self, upload: Dropped, *, again: bool, point: str | None, how: str) -> Delivery:
        delivery = Delivery(self.model, self.held, upload, again, point, how, one_pass=self.steps % 2 == 1)
        deliver(delivery, self.worker(), self.uploads, self.reports, self.now)
        if delivery.frozen:
            self.open.append(delivery)
            if delivery.committed:
                self.owed.add(upload.identity)
        else:
            self._judge(delivery)
        return delivery

    def _judge(self, delivery: Delivery) -> None:
        """Compare the result of a delivery with the model."""
        if delivery.broke:
            assert delivery.point
            self.tried.add((delivery.point, delivery.how))
        outcome, verdict = delivery.outcome, delivery.verdict
        if delivery.committed:
            self.owed.add(delivery.upload.identity)
        if not isinstance(outcome, Receipt):
            require_quiet(outcome)
            self.rest()
            allowed: tuple[type[BaseException], ...] = (ImportInProgressError,)
            if delivery.broke:
                allowed = (*allowed, KilledError, StoreUnavailableError, RepositoryUnavailableError)
            if not isinstance(outcome, allowed):
                assert outcome is not None
                raise outcome
            return
        assert not delivery.lost or not delivery.opened_once or delivery.committed
        assert verdict
        assert (outcome.status, outcome.code) == (verdict.status, verdict.code)
        assert attrs.asdict(outcome.counts) == verdict.counts
        assert tuple(rejection.line for rejection in outcome.rejections) == verdict.rejected
        codes = {rejection.line: rejection.faults[0].code for rejection in outcome.rejections}
        assert {line: codes[line] for line in verdict.rejected_on_merge} == verdict.rejected_on_merge
        if verdict.because_of is not None:
            assert f"import {verdict.because_of}" in (outcome.message or "")
        if delivery.answered:
            mine = self.model.ledger.get(delivery.upload.identity)
            assert mine
            assert outcome.import_id == (mine.import_id if verdict.status == "refused" else verdict.because_of)
            assert bool(outcome.first_receipt) == (verdict.status == "skipped")
        else:
            assert delivery.committed
            assert outcome.import_id == delivery.import_id
        self.owed.discard(delivery.upload.identity)
        if delivery.import_id is not None or delivery.answered:
            self.seen.clear()

    # What must be true

    @invariant()
    def each_row_is_registered_exactly_once_or_not_at_all(self) -> None:
        """Compare each import's users with the ledger, in the order of the file. Undone imports have none."""
        wanted, here = self.model.users(), self.table()
        for import_id in {*wanted, *here}:
            should, are = Counter(wanted.get(import_id, ())), Counter(here.get(import_id, ()))
            self.line.lost += (should - are).total()
            self.line.duplicated += (are - should).total()
        assert here == wanted

    @invariant()
    def the_ledger_equals_the_model(self) -> None:
        """Compare each receipt, and the number of entries."""
        entries = self.ledger()
        assert sorted(entries) == sorted(entry.import_id for entry in self.model.ledger.values())
        for mine in self.model.ledger.values():
            receipt, undone = entries[mine.import_id]
            assert undone == mine.undone
            stored = self._stored_receipt(mine.upload)
            # Compare again only if receipt, verdict or stored receipt is new.
            seen = id(receipt), id(mine.verdict), stored
            if self.seen.get(mine.import_id) != seen:
                self._require_as_it_must_be(receipt, mine)
                self._require_reports(receipt, mine.upload, stored)
                if receipt.rejected_rows:
                    bad = [row.first for row in mine.upload.rows if row.line in mine.verdict.rejected]
                    self.handed_out[receipt.rejected_rows] = mine.import_id, bad
                self.seen[mine.import_id] = seen

    def _require_as_it_must_be(self, receipt: Receipt, mine: Entry) -> None:
        assert (receipt.source.key, receipt.source.version) == mine.upload.identity
        assert (receipt.status, receipt.code) == (mine.verdict.status, mine.verdict.code)
        assert receipt.import_id == mine.import_id
        counts = attrs.asdict(receipt.counts)
        assert counts == mine.verdict.counts
        assert counts.pop("read") == sum(counts.values())
        assert tuple(rejection.line for rejection in receipt.rejections) == mine.verdict.rejected

    def _require_reports(self, receipt: Receipt, upload: Dropped, stored: bytes | None) -> None:
        """Check the stored reports. A worker that ended or is frozen after its commit still owes the receipt."""
        assert bool(receipt.rejected_rows) == bool(receipt.counts.rejected)
        if receipt.rejected_rows:
            assert len(_opened(self._report(receipt.rejected_rows))) == 1 + receipt.counts.rejected
        if upload.identity not in self.owed:
            assert stored is not None, "there is no receipt"
            assert json.loads(stored) == json.loads(to_json(receipt)), "the receipt is not that of the ledger"

    @invariant()
    def no_user_that_a_receipt_counts_is_missing(self) -> None:
        """Only with `unique_by`; other imports may have been undone since."""
        missing = self.model.missing()
        self.line.lost += len(missing)
        assert missing == []

    @invariant()
    def no_row_is_registered_twice(self) -> None:
        """Also if rejected rows were uploaded again, in any form and any number of times."""
        twice = self.model.twice()
        self.line.duplicated += len(twice)
        assert twice == []

    def table(self) -> dict[int, list[User]]:
        """Users of each import that has any, in order."""
        found = {
            entry.import_id: [USERS.values(user) for user in self.users.users(entry.import_id)]
            for entry in self.users.entries()
        }
        assert len(list(self.users.users())) == sum(map(len, found.values()))
        return {import_id: users for import_id, users in found.items() if users}

    def ledger(self) -> dict[int, tuple[Receipt, bool]]:
        """Receipt of each import, and whether it was undone. An unchanged receipt is the same object."""
        return {entry.import_id: (entry.receipt, entry.undone) for entry in self.users.entries()}

    def _stored_receipt(self, upload: Dropped) -> bytes | None:
        try:
            return self._report(f"{upload.key}/{upload.version}/receipt.json")
        except ObjectNotFoundError:
            return None

    def _report(self, key: str) -> bytes:
        with self.reports.open(ObjectReference(key=key.removeprefix("memory:"))) as report:
            return b"".join(report.read())

    def teardown(self) -> None:
        """Continue every frozen worker, deliver everything again, and check that nothing is left to do."""
        try:
            while self.open:
                delivery = self.open.pop()
                delivery.thaw(given_up=False)
                self._judge(delivery)
            for upload in self.dropped:
                self._deliver(upload, again=False, point=None, how="")
            assert not self.owed
            self.seen.clear()
            self.each_row_is_registered_exactly_once_or_not_at_all()
            self.the_ledger_equals_the_model()
        finally:
            for delivery in self.open:
                delivery.thaw(given_up=True)
            self.end()

    def rest(self) -> None:
        """Wait until broken transactions are rolled back."""

    def end(self) -> None:
        """Remove everything."""


class InMemory(Promises):
    """The steps with the in-memory adapter, which the unit tests use."""

    def begin(self, policy: Policy) -> None:  # noqa: ARG002 - memory supports any policy
        self.users = MemoryUserRepository(patience=0, merge_patience=0)


class OnPostgres(Promises):
    """The steps with PostgreSQL, with a connection for each worker that may be frozen."""

    url: ClassVar[str]

    def begin(self, policy: Policy) -> None:
        self.postgres: list[PostgresUserRepository] = []
        self.receipts: dict[tuple[int, str], Receipt] = {}
        self.behind = psycopg.connect(self.url, autocommit=True, application_name="behind")
        asked(self.url, "truncate users, imports, corrections, lost_uploads restart identity")
        migrate(self.url, USERS, policy)
        self.users = self.worker()

    def worker(self) -> UserRepository:
        """Return a new process's repository, or the last one that is idle."""
        if not self.postgres or self.open:
            self.postgres.append(PostgresUserRepository(self.url, USERS))
        return self.postgres[-1] if self.open else self.postgres[0]

    @rule()
    def cut_all_connections(self) -> None:
        """Cut every connection, as in a failover: a frozen worker fails when it continues."""
        self.step()
        asked(
            self.url,
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'rollcall'",
        )
        for delivery in self.open:
            delivery.lost = delivery.lost or delivery in self.held
            self.held.pop(delivery, None)

    @invariant()
    def each_rejected_row_was_corrected_once(self) -> None:
        """Check that the import in the model made each correction."""
        corrections = self.behind.execute("select import_id, line, corrected_by from corrections")
        expected = {(import_id, line): by for (import_id, line, _), by in self.model.corrections.items()}
        assert {(import_id, line): by for import_id, line, by in corrections} == expected

    def table(self) -> dict[int, list[User]]:
        """Query on a connection of the test's own."""
        found: dict[int, list[User]] = {}
        columns = sql.SQL(", ").join(map(sql.Identifier, ("import_id", *USERS.columns)))
        for import_id, *user in self.behind.execute(sql.SQL("select {} from users order by id").format(columns)):
            found.setdefault(import_id, []).append(tuple(user))
        return found

    def ledger(self) -> dict[int, tuple[Receipt, bool]]:
        """Query on a connection of the test's own."""
        found = {}
        rows = self.behind.execute("select id, receipt::text, undone_at is not null from imports")
        for import_id, text, undone in rows:
            if (import_id, text) not in self.receipts:
                self.receipts[import_id, text] = from_dict(json.loads(text))
            found[import_id] = self.receipts[import_id, text], undone
        return found

    def rest(self) -> None:
        """Wait until the server notices that a worker is gone."""
        busy = (
            "select count(*) from pg_stat_activity where datname = current_database()"
            " and application_name = 'rollcall' and state <> 'idle'"
        )
        assert eventually(lambda: self.behind.execute(busy).fetchall()[0][0] <= len(self.held))

    def end(self) -> None:
        """Close every connection."""
        self.behind.close()
        for repository in self.postgres:
            repository.close()


def _campaign(machine: type[Promises], campaign: Campaign, fault: str, steps: int) -> None:
    with campaign.line(fault) as line:
        machine.made, machine.line, machine.tried = 0, line, set()
        turn = 0
        while machine.made < steps:
            budget = settings(
                max_examples=25,
                stateful_step_count=40,
                deadline=None,
                database=None,
                derandomize=False,
                print_blob=True,
                report_multiple_bugs=False,
                suppress_health_check=list(HealthCheck),
                # Explaining takes minutes, and so does shrinking slow runs.
                phases=[Phase.generate, *([Phase.shrink] if machine is InMemory else [])],
            )
            seeded = seed(campaign.seed * 10_000 + turn)(machine)
            run_state_machine_as_test(seeded, settings=budget)
            line.points, line.repetitions = len(machine.tried), machine.made
            turn += 1


def test_in_memory_every_promise_holds_after_every_step(campaign: Campaign) -> None:
    """The report counts the steps, the points with a fault, and the kinds of fault."""
    _campaign(InMemory, campaign, "model, in memory (steps)", campaign.choose(1_000, 100_000))


def test_in_postgres_every_promise_holds_after_every_step(
    campaign: Campaign, new_database: Callable[[], AbstractContextManager[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same steps, with connections that are cut."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 0.02)
    monkeypatch.setattr("rollcall.adapters.postgres.locks.MERGE_SECONDS", 0.02)
    with new_database() as url:
        migrate(url, USERS)
        machine: Any = type("OnPostgres", (OnPostgres,), {"url": url})
        _campaign(machine, campaign, "model, in PostgreSQL (steps)", campaign.choose(300, 10_000))
