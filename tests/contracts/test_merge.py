"""Every repository merges rows with existing users, and applies corrected rows, in the same way."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, contextmanager
from datetime import UTC, datetime

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import (
    ImportInProgressError,
    NotMigratedError,
    RepositoryUnavailableError,
    SchemaError,
    UndoRefusedError,
)
from rollcall.application.ports import UserRepository
from rollcall.application.values import ImportRequest
from rollcall.domain.correction import Origin, Verdict
from rollcall.domain.policy import OnDuplicate, OnNewVersion, Policy, Tolerance
from rollcall.domain.receipt import Counts, Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from rollcall.entrypoints.lambda_runtime import OutOfTimeError, interrupted_after
from support.builders import MORE_CELLS, a_block, a_user, an_upload, asked, completed, eventually
from support.database_roles import MIGRATOR, EachJobAsItsRole, acting_as
from support.fakes import Desk
from support.receipts import a_receipt

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
BY_NAME = Policy(unique_by=("name",))

Opening = Callable[[Policy], "UserRepository"]


@pytest.fixture(params=["memory", "postgres"])
def opening(request: pytest.FixtureRequest) -> Iterator[Opening]:
    """Each adapter, as a function that opens an empty repository for a policy."""
    if request.param == "memory":
        yield lambda _: MemoryUserRepository()
        return
    with postgres(request.getfixturevalue("emptied")) as opened:
        yield opened


@contextmanager
def postgres(emptied: Callable[[], str]) -> Iterator[Opening]:
    """A function that opens empty repositories on PostgreSQL, one after the other."""
    opened: list[PostgresUserRepository] = []

    def prepared(policy: Policy) -> UserRepository:
        url = emptied()
        migrate(acting_as(MIGRATOR, url), USERS, policy)
        opened.append(EachJobAsItsRole(url, new_secret=lambda: b"secret"))
        return opened[-1]

    try:
        yield prepared
    finally:
        for repository in opened:
            repository.close()
        migrate(acting_as(MIGRATOR, emptied()), USERS, Policy())


@pytest.mark.parametrize(
    ("key", "shown"), [("a\0b.csv", "a\\x00b.csv"), ("\ud800.csv", "\\ud800.csv"), ("a\nb.csv", "a\nb.csv")]
)
def test_an_upload_with_any_key_has_a_verdict(opening: Opening, key: str, shown: str) -> None:
    """PostgreSQL stores neither NUL nor a lone surrogate; the receipt shows them as escapes."""
    desk = Desk(users=opening(Policy()))

    first = desk.upload(b"name,country,age\nA,X,1\n", key)
    again = desk.importer()(ObjectReference(key=key))

    assert (first.status, first.source.key) == (Status.LOADED, shown)
    assert (again.code, again.first_receipt) == (Code.REDELIVERY, first)
    assert [entry.receipt for entry in desk.users.entries()] == [first]
    assert desk.importer().reports.has(first)


def test_an_older_version_that_arrives_later_is_superseded(opening: Opening) -> None:
    """The order of the versions counts, not that of their deliveries."""
    policy = attrs.evolve(BY_NAME, on_duplicate=OnDuplicate.UPDATE)
    desk = Desk(users=opening(policy), policy=policy)
    desk.drop(b"name,country,age\nA,X,1\n", "a.csv")
    desk.drop(b"name,country,age\nA,X,2\nB,X,3\n", "a.csv")

    newer = desk.importer()(ObjectReference(key="a.csv", version="2"))
    older = desk.importer()(ObjectReference(key="a.csv", version="1"))

    assert (newer.status, older.status, older.code) == (Status.LOADED, Status.SKIPPED, Code.SUPERSEDED)
    assert [user.age for user in desk.users.users()] == [2, 3]


@pytest.mark.parametrize(("first", "second"), [("0A", "0AB"), ("0a", "0AB"), ("0F", "1")])
def test_sequencers_decide_the_order_of_versions(opening: Opening, first: str, second: str) -> None:
    """S3's times have whole seconds, and a multipart upload has the time of its start."""
    policy = attrs.evolve(BY_NAME, on_duplicate=OnDuplicate.UPDATE)
    at_once = MemoryObjectStore("uploads", now=lambda: NOON, version_suffix="")
    desk = Desk(users=opening(policy), policy=policy, uploads=at_once)
    for age in (1, 2, 3):
        desk.drop(f"name,country,age\nA,X,{age}\n".encode(), "a.csv")

    def deliver(version: str, sequencer: str | None) -> Status:
        return desk.importer()(ObjectReference(key="a.csv", version=version, sequencer=sequencer)).status

    statuses = [deliver("2", second), deliver("1", first), deliver("3", None)]

    assert statuses == [Status.LOADED, Status.SKIPPED, Status.LOADED]
    assert [user.age for user in desk.users.users()] == [3]


def test_a_newer_version_judged_again_stays_newer(opening: Opening) -> None:
    """An older version that arrives afterwards is skipped."""
    policy = attrs.evolve(BY_NAME, on_duplicate=OnDuplicate.UPDATE)
    strict = attrs.evolve(policy, max_rejected=Tolerance("0"))
    desk = Desk(users=opening(policy), policy=policy)
    for row in ("A,X,1", "A,X,2", "A,X,3\nB,X,b"):
        desk.drop(f"name,country,age\n{row}\n".encode(), "a.csv")

    def deliver(version: str, policy: Policy) -> Status:
        return desk.importer(policy)(ObjectReference(key="a.csv", version=version)).status

    before = [deliver("3", strict), deliver("1", policy), deliver("3", policy)]
    late = deliver("2", policy)

    assert before == [Status.REFUSED, Status.LOADED, Status.PARTIALLY_LOADED]
    assert late is Status.SKIPPED
    assert [user.age for user in desk.users.users()] == [3]


def test_the_sequencer_is_kept_when_a_person_names_the_key(opening: Opening) -> None:
    """An upload that is judged again keeps the sequencer of its first event."""
    strict = Policy(max_rejected=Tolerance("0"))
    desk = Desk(users=opening(strict), policy=strict)
    desk.drop(b"name,country,age\nA,X,1\nB,X,b\n", "a.csv")

    announced = desk.importer()(ObjectReference(key="a.csv", version="1", sequencer="0A"))
    named = desk.importer(Policy())(ObjectReference(key="a.csv"))

    assert (announced.status, named.status) == (Status.REFUSED, Status.PARTIALLY_LOADED)
    assert named.source.sequencer == "0A"


def test_an_import_that_changed_users_cannot_be_undone(opening: Opening) -> None:
    """The previous fields are not stored."""
    policy = attrs.evolve(BY_NAME, on_duplicate=OnDuplicate.UPDATE)
    desk = Desk(users=opening(policy), policy=policy)
    desk.upload(b"name,country,age\nA,X,1\n", "a.csv")
    second = desk.upload(b"name,country,age\nA,X,2\n", "b.csv")

    with pytest.raises(UndoRefusedError, match="it changed 1 user, and"):
        desk.users.undo(second.import_id or 0, NOON)

    assert second.counts.updated == 1


def test_only_the_newest_import_can_be_undone_with_unique_by(opening: Opening) -> None:
    """A later import may have left out rows because of it."""
    desk = Desk(users=opening(BY_NAME), policy=BY_NAME)
    first = desk.upload(b"name,country,age\nA,X,1\n", "a.csv")
    second = desk.upload(b"name,country,age\nA,X,2\nB,X,3\n", "b.csv")

    with pytest.raises(UndoRefusedError, match="came after it"):
        desk.users.undo(first.import_id or 0, NOON)
    desk.users.undo(second.import_id or 0, NOON)
    removed = desk.users.undo(first.import_id or 0, NOON)

    assert (second.counts.unchanged, removed) == (1, 1)
    assert list(desk.users.users()) == []


def test_the_newest_import_is_the_one_merged_last(opening: Opening) -> None:
    """An import that is undone and repeated counts from its last merge."""
    desk = Desk(users=opening(BY_NAME), policy=BY_NAME)
    first = desk.upload(b"name,country,age\nA,X,1\n", "a.csv")
    desk.users.undo(first.import_id or 0, NOON)
    second = desk.upload(b"name,country,age\nA,X,1\nB,X,3\n", "b.csv")
    again = desk.importer()(ObjectReference(key="a.csv"), again=True)

    assert (again.import_id, again.counts.unchanged) == (3, 1)
    with pytest.raises(UndoRefusedError, match="import 3 came after it"):
        desk.users.undo(second.import_id or 0, NOON)
    desk.users.undo(3, NOON)
    desk.users.undo(second.import_id or 0, NOON)

    assert list(desk.users.users()) == []


def test_an_import_opened_first_and_merged_last_is_newer(opening: Opening) -> None:
    """The time of the merge counts, not that of the opening."""
    desk = Desk(users=opening(BY_NAME), policy=BY_NAME)
    with desk.users.importing(ImportRequest(an_upload("slow.csv"), "sha", BY_NAME)) as slow:
        quick = desk.upload(b"name,country,age\nA,X,1\n", "quick.csv")
        slow.register(a_block([a_user("A", "X", 1)]))
        slow.merge()
        receipt = a_receipt(an_upload("slow.csv"), slow.verdict.import_id, Counts(read=1, unchanged=1))
        slow.commit(attrs.evolve(receipt, policy=BY_NAME.as_dict()))

    with pytest.raises(UndoRefusedError, match=f"import {slow.verdict.import_id} came after it"):
        desk.users.undo(quick.import_id or 0, NOON)


def test_imports_merge_one_after_the_other(opening: Opening, monkeypatch: pytest.MonkeyPatch) -> None:
    """An import waits for another merge until its deadline, and never for an import that still reads."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 0.1)
    repository = opening(BY_NAME)
    if isinstance(repository, MemoryUserRepository):
        repository = MemoryUserRepository(patience=0.1)

    def merge(name: str, seconds_left: float | None = None) -> int:
        with repository.importing(
            ImportRequest(an_upload(name), name, BY_NAME, seconds_left=seconds_left)
        ) as importing:
            importing.register(a_block([a_user("A", "X", 1)]))
            merge_result = importing.merge()
            counts = Counts(read=1, registered=merge_result.registered, unchanged=merge_result.unchanged)
            importing.commit(a_receipt(an_upload(name), importing.verdict.import_id, counts))
            return merge_result.registered

    with (
        ThreadPoolExecutor(2) as pool,
        repository.importing(ImportRequest(an_upload("reading"), "reading", BY_NAME)) as reading,
        repository.importing(ImportRequest(an_upload("first"), "first", BY_NAME)) as first,
    ):
        reading.register(a_block([a_user("R", "X", 1)]))
        first.register(a_block([a_user("A", "X", 1)]))
        first.merge()
        waiting = [pool.submit(merge, name) for name in ("second", "third")]
        with pytest.raises(ImportInProgressError):
            merge("hurried", seconds_left=0.5)
        assert not any(one.done() for one in waiting)
        first.commit(a_receipt(an_upload("first"), first.verdict.import_id, Counts(read=1, registered=1)))

        assert [one.result(20) for one in waiting] == [0, 0]
    assert len(list(repository.users())) == 1


def test_an_overdue_import_frozen_after_its_merge_yields(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise it would block every other import; the users of the rival stay."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 1)
    repository = opening(BY_NAME)
    if isinstance(repository, MemoryUserRepository):
        repository = MemoryUserRepository(patience=1)

    def load(name: str, meanwhile: Callable[[], None], seconds_left: float | None) -> None:
        with repository.importing(
            ImportRequest(an_upload(name), name, BY_NAME, seconds_left=seconds_left)
        ) as importing:
            importing.register(a_block([a_user(name, "X", 1)]))
            importing.merge()
            meanwhile()
            importing.commit(a_receipt(an_upload(name), importing.verdict.import_id, Counts(read=1, registered=1)))

    with pytest.raises(RepositoryUnavailableError):
        load("frozen", lambda: load("rival", lambda: None, None), -9)

    assert [user.name for user in repository.users()] == ["rival"]


def test_two_versions_of_a_key_at_once_are_not_both_first(
    opening: Opening, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A key is locked unless the policy imports new versions."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", 1)
    repository = opening(Policy())
    if isinstance(repository, MemoryUserRepository):
        repository = MemoryUserRepository(patience=1)
    anew = Policy(on_new_version=OnNewVersion.IMPORT)

    def open_both(policy: Policy) -> None:
        with (
            repository.importing(ImportRequest(an_upload("a.csv", "1"), "1", policy)),
            repository.importing(ImportRequest(an_upload("a.csv", "2"), "2", policy)),
        ):
            pass

    with pytest.raises(ImportInProgressError):
        open_both(Policy())

    open_both(anew)


def test_a_correction_of_an_unknown_import_is_rejected(opening: Opening) -> None:
    """Also if the first row of the file corrects another import, or if rows share an origin."""
    desk = Desk(users=opening(Policy()))
    first = desk.upload(b"name,country,age\nA,X,1\nB,X,b\n", "a.csv")
    corrected = desk.rejected_rows(first).replace(b"B,X,b", b"B,X,2")

    second = desk.upload(
        corrected + "".join(f"{MORE_CELLS}{row},9,,,77\r\n" for row in ("C,X,3", "D,X,4")).encode(), "b.csv"
    )

    assert [(one.code, one.count, one.first_line) for one in second.totals] == [(Code.NOTHING_TO_CORRECT, 2, 3)]
    assert [user.age for user in desk.users.users()] == [1, 2]


def test_rows_rejected_on_merge_keep_the_order_of_the_file(opening: Opening) -> None:
    policy = attrs.evolve(BY_NAME, on_duplicate=OnDuplicate.REJECT)
    repository = opening(policy)

    with repository.importing(ImportRequest(an_upload(), "a", policy, corrects=None)) as importing:
        importing.register(a_block([a_user("A", "X", 1), a_user("B", "X", 2), a_user("A", "X", 3)]))
        importing.register(a_block([a_user("B", "X", 4), a_user("C", "X", 5)], lines=[range(7, 8), range(9, 10)]))
        merge_result = importing.merge()
        rejected_on_merge = list(merge_result.rows_rejected_on_merge)

    assert (merge_result.registered, merge_result.rejected_on_merge) == (3, 2)
    assert rejected_on_merge == [(4, Code.DUPLICATE_ROW), (7, Code.DUPLICATE_ROW)]
    assert list(repository.users()) == []


def _origin(desk: Desk, receipt: Receipt, line: int) -> Origin:
    entry = desk.users.get_import(receipt.import_id or 0)
    return Verdict(entry.import_id, entry.secret).origin(line)


def test_a_refused_upload_does_not_wait_for_the_merge_lock(opening: Opening) -> None:
    """Nothing of it is merged, so another import that merges does not hold it up."""
    repository = opening(BY_NAME)
    if isinstance(repository, MemoryUserRepository):
        repository = MemoryUserRepository(patience=1)
    with repository.importing(ImportRequest(an_upload("1"), "1", BY_NAME)) as merging:
        merging.register(a_block([a_user("A", "X", 1)]))
        merging.merge()
        with repository.importing(ImportRequest(an_upload("2"), "2", BY_NAME, seconds_left=1)) as refused:
            receipt = a_receipt(an_upload("2"), refused.verdict.import_id, Counts(), Status.REFUSED)
            refused.commit(receipt)

    assert [entry.receipt.status for entry in repository.entries()] == [Status.REFUSED]


def test_an_undo_waits_for_a_correction_of_its_import(opening: Opening) -> None:
    """The undo is then refused; otherwise the correction of an undone import would stay in force."""
    desk = Desk(users=opening(Policy()))
    first = desk.upload(b"name,country,age\nA,X,1\nB,X,b\n", "a.csv")
    import_id = first.import_id or 0
    with (
        ThreadPoolExecutor(1) as pool,
        desk.users.importing(ImportRequest(an_upload("b"), "b", corrects=import_id)) as importing,
    ):
        importing.register(a_block([a_user("B", "X", 2)], origins=[_origin(desk, first, 3)]))
        importing.merge()
        undo = pool.submit(desk.users.undo, import_id, NOON)
        with pytest.raises(TimeoutError):
            undo.result(0.3)
        importing.commit(a_receipt(an_upload("b"), importing.verdict.import_id, Counts(read=1, registered=1)))
        with pytest.raises(UndoRefusedError, match="corrects it"):
            undo.result()


def test_corrected_rows_are_known_until_an_undo(opening: Opening) -> None:
    desk = Desk(users=opening(Policy()))
    first = desk.upload(b"name,country,age\nA,X,old\nB,X,old\nC,X,3\n", "a.csv")
    asked = [_origin(desk, first, line) for line in (2, 3, 4)]
    before = desk.users.corrected(asked)
    second = desk.upload(desk.rejected_rows(first).replace(b"A,X,old", b"A,X,1"), "b.csv")
    during = desk.users.corrected(asked)
    assert second.import_id is not None
    desk.users.undo(second.import_id, NOON)

    assert (before, during) == (set(), {asked[0]})
    assert desk.users.corrected(asked) == set()
    assert desk.users.corrected([]) == set()


def test_the_corrections_of_an_import_are_listed(opening: Opening) -> None:
    """Also if they first correct rows of another import; those that were undone are not."""
    desk = Desk(users=opening(Policy()))
    first = desk.upload(b"name,country,age\nA,X,1\nB,X,old\nC,X,old\n", "a.csv")
    other = desk.upload(b"name,country,age\nD,X,1\nE,X,old\n", "b.csv")
    a, b = (desk.rejected_rows(receipt) for receipt in (first, other))
    mixed = b.replace(b"E,X,old", b"E,X,2") + a.splitlines(keepends=True)[1].replace(b"B,X,old", b"B,X,2")
    corrections = [
        desk.upload(mixed, "c.csv"),
        desk.upload(a.replace(b"C,X,old", b"C,X,3"), "d.csv"),
    ]

    def listed(receipt: Receipt, before: int | None = None, limit: int | None = None) -> list[int]:
        entries = desk.users.entries(correcting=receipt.import_id, before=before, limit=limit)
        return [entry.import_id for entry in entries]

    both, last = [receipt.import_id or 0 for receipt in corrections]
    assert corrections[0].corrects == other.import_id
    assert (listed(first), listed(other), listed(corrections[0])) == ([last, both], [both], [])
    assert (listed(first, before=last), listed(first, limit=1)) == ([both], [last])
    desk.users.undo(both, NOON)
    assert (listed(first), listed(other)) == ([last], [])


def test_an_origin_is_corrected_once_within_a_file(opening: Opening) -> None:
    """Of two rows with the same origin, the first counts."""
    desk = Desk(users=opening(Policy()))
    first = desk.upload(b"name,country,age\nA,X,1\nB,X,b\n", "a.csv")
    origin = _origin(desk, first, 3)

    with desk.users.importing(ImportRequest(an_upload("b"), "b", corrects=origin.import_id)) as importing:
        importing.register(a_block([a_user("B", "X", 2), a_user("B", "X", 3)], origins=[origin, origin]))
        merge_result = importing.merge()

        assert list(merge_result.rows_rejected_on_merge) == [(3, Code.ALREADY_CORRECTED)]


def test_the_first_row_of_an_origin_counts_even_as_a_duplicate(opening: Opening) -> None:
    """Existing users do not decide which row corrects a line."""
    policy = attrs.evolve(BY_NAME, on_duplicate=OnDuplicate.REJECT)
    desk = Desk(users=opening(policy), policy=policy)
    first = desk.upload(b"name,country,age\nA,X,1\nB,X,b\n", "a.csv")
    origin = _origin(desk, first, 3)

    with desk.users.importing(ImportRequest(an_upload("b"), "b", policy, corrects=origin.import_id)) as importing:
        importing.register(a_block([a_user("A", "X", 2), a_user("C", "X", 3)], origins=[origin, origin]))
        merge_result = importing.merge()

        assert list(merge_result.rows_rejected_on_merge) == [(2, Code.DUPLICATE_ROW), (3, Code.ALREADY_CORRECTED)]


def test_a_table_not_prepared_for_the_policy_stops_the_import(emptied: Callable[[], str]) -> None:
    """With and without `unique_by`; the message names the command to run."""
    with postgres(emptied) as prepared:
        repository = prepared(Policy())
        with pytest.raises(NotMigratedError), repository.importing(ImportRequest(an_upload(), "a", BY_NAME)):
            pass
        repository = prepared(BY_NAME)
        with (
            pytest.raises(SchemaError, match="removes that rule"),
            repository.importing(ImportRequest(an_upload(), "a")),
        ):
            pass


def test_the_index_of_an_earlier_version_is_made_again(emptied: Callable[[], str]) -> None:
    """It was in the order of a language; an index that somebody else made is left alone."""
    url = emptied()
    asked(url, "create unique index users_unique_by_name on users (name)")
    asked(url, "create unique index users_unique_by_lower on users (lower(name))")
    asked(url, "create unique index users_unique_by_age on users (age) where age > 100")
    with closing(PostgresUserRepository(url, USERS)) as repository:
        with (
            pytest.raises(NotMigratedError, match="users_unique_by_name"),
            repository.importing(ImportRequest(an_upload(), "a", BY_NAME)),
        ):
            pass
        done = [migrate(url, USERS, BY_NAME), migrate(url, USERS, BY_NAME)]
        with repository.importing(ImportRequest(an_upload(), "a", BY_NAME)):
            pass

    assert [[phrase.partition(",")[0] for phrase in phrases] for phrases in done] == [
        ["made the unique index users_unique_by_name again"],
        [],
    ]
    definitions = asked(
        url, "select indexdef from pg_indexes where indexname ~ '^users_unique_by_' order by indexname"
    )
    assert [definition.partition("btree ")[2] for (definition,) in definitions] == [
        "(age) WHERE (age > 100)",
        "(lower(name))",
        '(name COLLATE "C")',
    ]


def test_existing_duplicates_are_reported_without_names(emptied: Callable[[], str]) -> None:
    url = emptied()
    with closing(PostgresUserRepository(url, USERS)) as repository:
        Desk(users=repository).upload(b"name,country,age\nCanary,X,1\nB,X,2\nCanary,X,3\n", "a.csv")

    with pytest.raises(SchemaError, match="1 group of users with the same name") as caught:
        migrate(url, USERS, BY_NAME)

    assert "Canary" not in str(caught.value)


# Languages order these names otherwise than their bytes do.
names = st.sampled_from(["A", "a", "B", "Á", "A\u0301", "😀", "ﬁ", "=D", "'-E", 'F "f"', "G, g"])
ages = st.sampled_from(["1", "2", "3", "x", "", "151"])
rows = st.tuples(names, st.sampled_from(["X", "Y", ""]), ages)


def _csv(lines: list[tuple[str, ...]]) -> bytes:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in line) for line in lines]
    return completed("\n".join(["name,country,age", *quoted, ""]).encode())


@given(data=st.data())
@settings(max_examples=25)
def test_both_repositories_merge_alike(emptied: Callable[[], str], data: st.DataObject) -> None:
    """Files, corrected rows and undos give the same receipts, users and corrections under every policy."""
    policy = Policy(
        max_rejected=Tolerance(data.draw(st.sampled_from(["all", "all", "2", "60%"]))),
        unique_by=data.draw(st.sampled_from([(), ("name",), ("name", "country")])),
        on_duplicate=data.draw(st.sampled_from(OnDuplicate)),
        on_new_version=data.draw(st.sampled_from(OnNewVersion)),
    )
    with postgres(emptied) as prepared:
        desks = [Desk(policy=policy), Desk(users=prepared(policy), policy=policy)]
        rejected: list[Receipt] = []
        for number in range(data.draw(st.integers(1, 5))):
            step = data.draw(st.sampled_from(["file", "file", "mend", "undo"]))
            if step == "undo":
                import_id = data.draw(st.integers(1, number + 1))
                outcomes: list[object] = [_undone(desk, import_id) for desk in desks]
            else:
                if step == "mend" and rejected:
                    receipt = data.draw(st.sampled_from(rejected))
                    upload = desks[0].rejected_rows(receipt).replace(b",x,", b",1,").replace(b",151,", b",2,")
                    upload += data.draw(st.sampled_from([b"", b"\r\n"]))
                else:
                    upload = _csv(data.draw(st.lists(rows, max_size=6)))
                key = data.draw(st.sampled_from(["a.csv", "b.csv"]))
                receipts = [desk.upload(upload, key) for desk in desks]
                rejected += [receipts[0]] if receipts[0].rejected_rows else []
                outcomes = [attrs.evolve(one, import_id=None, first_receipt=None) for one in receipts]

            assert outcomes[0] == outcomes[1]
            memory, database = (list(desk.users.users()) for desk in desks)
            assert memory == database


@pytest.mark.parametrize("on_duplicate", OnDuplicate)
@pytest.mark.parametrize(
    ("key", "collation"), [("bigint generated always as identity (cache 1000)", "default"), ("serial", "POSIX")]
)
def test_the_order_of_the_file_is_kept_in_any_table(
    new_database: Callable[[], AbstractContextManager[str]], key: str, collation: str, on_duplicate: OnDuplicate
) -> None:
    """The operator may have made the table, with another kind of key and another collation."""
    policy = attrs.evolve(BY_NAME, on_duplicate=on_duplicate)
    files = [
        ["B", "b", "Á", "A\u0301", "A", "a", "B", "A"],
        ["c", "B", "Z", "á", "A", "c", "C", "Á", "😀", "\U00010000"],
    ]
    with new_database() as url:
        asked(
            url,
            f'create table users (id {key} primary key, name text collate "{collation}" not null,'
            " country text not null, age integer not null)",
        )
        migrate(url, USERS, policy, adopt=True)
        with closing(PostgresUserRepository(url, USERS)) as repository:
            desks = [Desk(users=users, policy=policy) for users in (MemoryUserRepository(), repository)]
            for number, listed in enumerate(files):
                upload = _csv([(name, "X", str(age)) for age, name in enumerate(listed, number)])
                memory, database = (desk.upload(upload, f"{number}.csv") for desk in desks)
                assert memory.counts == database.counts

            assert list(desks[0].users.users()) == list(desks[1].users.users())


def _undone(desk: Desk, import_id: int) -> object:
    try:
        return desk.users.undo(import_id, NOON)
    except (LookupError, UndoRefusedError) as error:
        return str(error)


def test_names_are_compared_exactly(opening: Opening) -> None:
    """Without case folding or normalisation, in the database as in Python."""
    desk = Desk(users=opening(BY_NAME), policy=BY_NAME)

    receipt = desk.upload("name,country,age\né,X,1\ne\u0301,X,2\nÉ,X,3\n".encode(), "a.csv")

    assert receipt.counts.registered == 3
    assert [a_user("é", "X", 1)] == list(desk.users.users())[:1]


def merge_for_a_second(repository: UserRepository) -> None:
    """Begin a merge, and be interrupted as the Lambda is."""
    with interrupted_after(1), repository.importing(ImportRequest(an_upload(), "sha", BY_NAME)) as importing:
        importing.register(a_block([a_user("A", "X", 1)]))
        importing.merge()


def test_an_interrupted_merge_does_not_go_on_in_the_server(emptied: Callable[[], str]) -> None:
    """It would keep its locks, and the next try could not even refuse the upload."""
    with postgres(emptied) as prepared:
        url = emptied()
        repository = prepared(BY_NAME)
        asked(
            url,
            """
            create function slow() returns trigger language plpgsql as
                $$begin perform pg_catalog.pg_sleep(60); return new; end$$;
            create trigger slow before insert on users for each row execute function slow()
            """,
        )
        try:
            with pytest.raises(OutOfTimeError):
                merge_for_a_second(repository)

            assert eventually(
                lambda: asked(url, "select pid from pg_stat_activity where wait_event = 'PgSleep'") == []
            )
        finally:
            asked(url, "drop trigger slow on users; drop function slow")
