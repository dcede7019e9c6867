"""What every user repository must do, and what PostgreSQL must do besides."""

import gc
import secrets
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from functools import partial
from typing import NoReturn
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql

from contracts.steps import ANN, ANYTHING, BEN, CEM, NOON, a_block, an_upload, asked, eventually, load, serving
from database_roles import EachJobAsItsRole
from receipts import a_receipt, require_ledger_as_published
from rollcall.adapters.memory import MemoryUserRepository
from rollcall.adapters.postgres.connecting import claim_free, migration_ids
from rollcall.adapters.postgres.migrating import migrate
from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.ports import (
    Block,
    Importing,
    ImportInProgressError,
    Lost,
    NotMigratedError,
    RepositoryUnavailableError,
    SchemaError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
    UserRepository,
)
from rollcall.domain.policy import History, LedgerEntry, OnNewVersion, Policy
from rollcall.domain.receipt import ConservationError, Counts, Status
from rollcall.domain.upload import Upload
from rollcall.domain.user import COLUMNS, User
from strategies import users

PATIENCE_SECONDS = 0.5
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"


@attrs.frozen(kw_only=True)
class Harness:
    """A repository, and a look at it from behind.

    Attributes:
        repository: Empty at first.
        rival: Gives another repository on the same store, as another process would have.
        of_one_user: Gives one that does every job as one and the same user of the store.
        contents: Gives all users there are, in the order in which they were registered.
        commits_fail: Makes every commit of an import fail in its context.
        waits: Tells whether somebody waits for a claim of somebody else.
        remove: Removes a user from behind, by the name.
        noted: Gives the identities of the uploads that are noted as lost.
    """

    repository: UserRepository
    rival: Callable[[], UserRepository]
    of_one_user: Callable[[], UserRepository]
    contents: Callable[[], list[User]]
    commits_fail: Callable[[], AbstractContextManager[None]]
    waits: Callable[[], bool]
    remove: Callable[[str], object]
    noted: Callable[[], set[str]]


Stored = Callable[[], AbstractContextManager[Harness]]


@contextmanager
def in_memory() -> Iterator[Harness]:
    """A repository in memory; it is its own rival, in another thread."""
    failing = threading.Event()

    def before_commit() -> None:
        if failing.is_set():
            raise RepositoryUnavailableError("the commit failed")

    @contextmanager
    def commits_fail() -> Iterator[None]:
        failing.set()
        yield
        failing.clear()

    repository = MemoryUserRepository(PATIENCE_SECONDS, before_commit)
    tables = repository._tables  # noqa: SLF001 - the only look from behind there is

    def remove(name: str) -> None:
        for number in [number for number, row in tables.users.items() if row.user.name == name]:
            del tables.users[number]

    yield Harness(
        repository=repository,
        rival=lambda: repository,
        of_one_user=lambda: repository,
        contents=lambda: list(repository.users()),
        commits_fail=commits_fail,
        waits=lambda: True,
        remove=remove,
        noted=lambda: set(tables.queued),
    )


@contextmanager
def in_postgres(emptied: Callable[[], str]) -> Iterator[Harness]:
    """A database, in which each job is done by its own role."""
    url = emptied()
    made: list[PostgresUserRepository] = []

    def another(kind: Callable[[str], PostgresUserRepository] = EachJobAsItsRole) -> PostgresUserRepository:
        made.append(kind(url))
        return made[-1]

    def contents() -> list[User]:
        columns = sql.SQL(", ").join(map(sql.Identifier, COLUMNS))
        query = sql.SQL("select {} from users order by id").format(columns)
        return [User(**dict(zip(COLUMNS, row, strict=True))) for row in asked(url, query)]

    @contextmanager
    def commits_fail() -> Iterator[None]:
        # Deferred, it fails in the COMMIT itself.
        asked(
            url,
            "create function refuse() returns trigger language plpgsql as $$begin raise 'no'; end$$;"
            "create constraint trigger refuse after insert or update on imports deferrable initially deferred"
            " for each row execute function refuse()",
        )
        try:
            yield
        finally:
            asked(url, "drop function refuse cascade")

    try:
        yield Harness(
            repository=another(),
            rival=another,
            of_one_user=lambda: another(PostgresUserRepository),
            contents=contents,
            commits_fail=commits_fail,
            waits=lambda: bool(asked(url, WAITING)),
            remove=partial(asked, url, "delete from users where name = %s"),
            noted=lambda: {identity for (identity,) in asked(url, "select identity from lost_uploads")},
        )
        require_ledger_as_published(url)
    finally:
        for repository in made:
            repository.close()


@pytest.fixture(scope="session", params=["memory", "postgres"])
def stored(request: pytest.FixtureRequest) -> Iterator[Stored]:
    """Each adapter; called, it gives an empty repository, so that every Hypothesis example starts empty."""
    if request.param == "memory":
        yield in_memory
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollcall.adapters.postgres.connecting.LOCK_SECONDS", PATIENCE_SECONDS)
        yield partial(in_postgres, request.getfixturevalue("emptied"))


def refuse(repository: UserRepository, upload: Upload | None = None, sha256: str | None = None) -> int:
    """Enter an upload into the ledger that registers nobody."""
    upload = upload or an_upload()
    with repository.importing(upload, sha256) as importing:
        importing.commit(
            a_receipt(upload, importing.verdict.import_id, Counts(read=3, withheld=2, rejected=1), Status.REFUSED)
        )
    assert importing.verdict.import_id is not None
    return importing.verdict.import_id


def note_lost(
    harness: Harness, *uploads: Upload, at: datetime = NOON, patience: timedelta = timedelta()
) -> tuple[set[str], set[str]]:
    """Look for the lost; gives whom to queue, of which two times is enough, and whom to give up."""
    identities = [upload.identity for upload in uploads]
    lost = harness.repository.note_lost(identities, at, at_most=2, patience=patience)
    return set(lost.queue), set(lost.give_up)


def nothing_is_kept(harness: Harness) -> bool:
    """Tell whether neither users nor ledger have anything, and nothing is claimed any more."""
    empty = (harness.contents(), list(harness.repository.entries())) == ([], [])
    with harness.rival().importing(an_upload(), "sha") as importing:
        return empty and importing.history.same_upload is None


def everything_said_by(error: BaseException) -> str:
    """Give all that an error, what caused it and what it came upon can show to whoever logs it."""
    said = "".join(traceback.format_exception(error))
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one and one not in seen:
            seen.append(one)
            waiting += [one.__cause__, one.__context__]
            said += f"{one} {one!r} {one.args}"
    return said


class TestRegistering:
    """What is registered is what is stored, once it is committed."""

    @given(batch=st.lists(users(), max_size=8))
    @example(batch=[ANN, BEN, CEM, ANN])
    def test_every_field_of_every_user_survives_in_order(self, stored: Stored, batch: list[User]) -> None:
        """Quotes, commas, backslashes, scripts and what PostgreSQL's COPY has a meaning for."""
        with stored() as harness:
            import_id = load(harness.repository, batch)

            assert harness.contents() == batch
            assert list(harness.repository.users()) == batch
            assert list(harness.repository.users(import_id)) == batch

    @given(batches=st.lists(st.lists(users(), max_size=3), max_size=4))
    def test_blocks_of_one_import_follow_each_other(self, stored: Stored, batches: list[list[User]]) -> None:
        """However the users were cut into blocks."""
        together = [user for batch in batches for user in batch]
        with stored() as harness:
            with harness.repository.importing(an_upload(), None) as importing:
                for batch in batches:
                    importing.register(a_block(batch))
                counts = Counts(read=len(together), registered=len(together))
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))

            assert harness.contents() == together

    def test_more_users_than_are_fetched_at_once_come_back_in_order(self, stored: Stored) -> None:
        """Nothing is lost or doubled where one batch ends."""
        many = [User(name=f"User {number}", country="Norway", age=number % 151) for number in range(12_345)]
        with stored() as harness:
            import_id = load(harness.repository, many)

            assert list(harness.repository.users(import_id)) == many

    def test_nobody_else_sees_users_before_the_commit(self, stored: Stored) -> None:
        """Half an import is none."""
        with stored() as harness:
            with harness.repository.importing(an_upload(), None) as importing:
                importing.register(a_block([ANN]))
                before = list(harness.rival().users()), list(harness.rival().entries())
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))
                after = list(harness.rival().users())

            assert before == ([], [])
            assert after == [ANN]

    def test_an_import_without_users_is_remembered_too(self, stored: Stored) -> None:
        """A header alone is a list of nobody."""
        with stored() as harness:
            import_id = load(harness.repository, [])

            assert harness.contents() == []
            assert [entry.import_id for entry in harness.repository.entries()] == [import_id]

    def test_users_of_several_imports_come_in_the_order_in_which_they_were_registered(
        self, stored: Stored
    ) -> None:
        """Whichever process registered them."""
        with stored() as harness:
            rival = harness.rival()
            first = load(harness.repository, [ANN], an_upload("1"))
            second = load(rival, [BEN, CEM], an_upload("2"))
            third = load(harness.repository, [CEM], an_upload("3"))

            assert list(harness.repository.users()) == [ANN, BEN, CEM, CEM]
            assert list(harness.repository.users(first)) == [ANN]
            assert list(harness.repository.users(second)) == [BEN, CEM]
            assert list(harness.repository.users(third)) == [CEM]

    def test_an_import_that_never_was_has_no_users(self, stored: Stored) -> None:
        """That is no error here; `entry` tells."""
        with stored() as harness:
            load(harness.repository, [ANN])

            assert list(harness.repository.users(999_999)) == []

    def test_users_are_those_that_stood_when_the_first_was_asked_for(self, stored: Stored) -> None:
        """What is undone or registered meanwhile makes no mixture."""
        many = [User(name=f"User {number}", country="Norway", age=1) for number in range(6000)]
        with stored() as harness:
            rival = harness.rival()
            import_id = load(rival, many, an_upload("1"))
            late = harness.repository.users()
            early = harness.repository.users()
            first = next(early)
            rival.undo(import_id, NOON)
            load(rival, [ANN], an_upload("2"))

            assert [first, *early] == many
            assert list(late) == [ANN]


class BlockError(Exception):
    """What was raised in the midst of an import."""


BAD_BLOCKS = {
    "not UTF-8": b"Canary \xff\xfe,Norway,3\n",
    "half a character": b"Canary \xe6\x97",
    "a surrogate": b"Canary \xed\xa0\x80,Norway,3\n",
    "NUL": b"Canary \x00,Norway,3\n",
    "too few cells": b"Canary,3\n",
    "too many cells": b"Canary,Norway,3,4\n",
    "no number": b"Canary,Norway,Canary\n",
    "a number beyond all bounds": b"Canary,Norway,99999999999999999999\n",
    "nothing": b"Canary,Norway,\n",
    "an open quote": b'"Canary,Norway,3\n',
}


class TestFailing:
    """An import that is not committed never was."""

    def test_leaving_without_commit_keeps_nothing(self, stored: Stored) -> None:
        """The context says so, nobody need do anything."""
        with stored() as harness:
            with harness.repository.importing(an_upload(), "sha") as importing:
                importing.register(a_block([ANN, BEN]))

            assert nothing_is_kept(harness)

    @pytest.mark.parametrize("registered", [0, 1, 50_000])
    def test_an_error_midway_keeps_nothing_and_comes_out_as_it_was(self, stored: Stored, registered: int) -> None:
        """Whether the source raised after one block or many, sent or still on their way."""
        block = a_block([ANN] * (registered or 1))

        def fail(harness: Harness) -> NoReturn:
            with harness.repository.importing(an_upload(), "sha") as importing:
                if registered:
                    importing.register(block)
                raise BlockError

        with stored() as harness:
            with pytest.raises(BlockError):
                fail(harness)

            assert nothing_is_kept(harness)

    @pytest.mark.parametrize("name", BAD_BLOCKS)
    def test_a_block_that_does_not_fit_is_told_without_showing_it_and_keeps_nothing(
        self, stored: Stored, name: str
    ) -> None:
        """Screening lets none through; if it did, all would be taken back and no log would show a person."""
        with stored() as harness:
            with pytest.raises((RepositoryUnavailableError, ConservationError)) as caught:
                self._register_among_good_ones(harness.repository, Block(BAD_BLOCKS[name], [range(3, 4)]))

            assert "Canary" not in everything_said_by(caught.value)
            assert nothing_is_kept(harness)

    def _register_among_good_ones(self, repository: UserRepository, bad: Block) -> None:
        with repository.importing(an_upload(), "sha") as importing:
            importing.register(a_block([ANN]))
            importing.register(bad)
            importing.register(a_block([BEN]))
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=3, registered=3)))

    def test_a_repository_goes_on_after_a_block_that_does_not_fit(self, stored: Stored) -> None:
        """One bad upload is not the end of the day."""
        with stored() as harness:
            for bad in BAD_BLOCKS.values():
                with suppress(RepositoryUnavailableError, ConservationError):
                    self._register_among_good_ones(harness.repository, Block(bad, [range(3, 4)]))
            load(harness.repository, [ANN])

            assert harness.contents() == [ANN]

    def test_a_commit_that_fails_keeps_nothing(self, stored: Stored) -> None:
        """Neither users nor ledger entry; delivered again, it is imported."""
        with stored() as harness:
            with harness.commits_fail(), pytest.raises(RepositoryUnavailableError):
                load(harness.repository, [ANN, BEN], sha256="sha")

            assert nothing_is_kept(harness)
            load(harness.repository, [ANN, BEN], sha256="sha")
            assert harness.contents() == [ANN, BEN]

    def test_a_commit_that_fails_leaves_what_the_ledger_had(self, stored: Stored) -> None:
        """A refused upload that is judged again stays refused."""
        with stored() as harness:
            import_id = refuse(harness.repository)
            before = list(harness.repository.entries())
            with harness.commits_fail(), pytest.raises(RepositoryUnavailableError):
                load(harness.repository, [ANN])

            assert list(harness.repository.entries()) == before
            assert harness.repository.entry(import_id).receipt.status is Status.REFUSED
            assert harness.contents() == []

    @pytest.mark.parametrize("claimed", [0, 1, 3])
    def test_a_receipt_that_says_other_than_what_was_registered_is_not_committed(
        self, stored: Stored, claimed: int
    ) -> None:
        """Rows lost or made up are our mistake, and must not become anybody's data."""

        def commit(harness: Harness) -> None:
            with harness.repository.importing(an_upload(), "sha") as importing:
                importing.register(a_block([ANN, BEN]))
                counts = Counts(read=claimed, registered=claimed)
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))

        with stored() as harness:
            with pytest.raises(ConservationError):
                commit(harness)

            assert nothing_is_kept(harness)

    def test_what_is_withheld_is_not_registered_and_the_import_can_be_committed(self, stored: Stored) -> None:
        """That is how an upload is refused: the ledger remembers, the table has nobody."""
        with stored() as harness:
            with harness.repository.importing(an_upload(), None) as importing:
                importing.register(a_block([ANN] * 1000))
                importing.register(a_block([BEN]))
                importing.withhold()
                counts = Counts(read=1001, withheld=1001)
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts, Status.REFUSED))

            assert harness.contents() == []
            assert [entry.receipt.status for entry in harness.repository.entries()] == [Status.REFUSED]

    def test_nothing_withheld_is_as_good(self, stored: Stored) -> None:
        """And twice is as good as once."""
        with stored() as harness:
            with harness.repository.importing(an_upload(), None) as importing:
                importing.withhold()
                importing.withhold()
                importing.register(a_block([ANN]))
                importing.withhold()
                importing.register(a_block([BEN]))
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))

            assert harness.contents() == [BEN]

    def test_what_is_committed_stays_whatever_happens_after_it(self, stored: Stored) -> None:
        """Commit means commit."""

        def commit_and_fail(harness: Harness) -> NoReturn:
            with harness.repository.importing(an_upload(), None) as importing:
                importing.register(a_block([ANN]))
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))
                raise BlockError

        with stored() as harness:
            with pytest.raises(BlockError):
                commit_and_fail(harness)

            assert harness.contents() == [ANN]
            assert len(list(harness.repository.entries())) == 1


class TestLedger:
    """What became of every upload is remembered."""

    def test_a_receipt_comes_back_as_it_was_committed(self, stored: Stored) -> None:
        """Each part of it."""
        upload = an_upload("名簿/é list.csv", "v+/=")
        counts = Counts(read=7, registered=2, rejected=5, blank=9)
        with stored() as harness:
            with harness.repository.importing(upload, "sha") as importing:
                importing.register(a_block([ANN, BEN]))
                receipt = a_receipt(upload, importing.verdict.import_id, counts, Status.PARTIALLY_LOADED)
                importing.commit(receipt)
            verdict = importing.verdict
            entry = LedgerEntry(import_id=verdict.import_id, receipt=receipt, secret=verdict.secret)

            assert harness.repository.entry(entry.import_id) == entry
            assert harness.rival().entry_of(upload.identity) == entry
            assert list(harness.rival().entries()) == [entry]

    def test_the_newest_import_comes_first(self, stored: Stored) -> None:
        """That is what a person looks for."""
        with stored() as harness:
            numbers = [load(harness.repository, [ANN], an_upload(f"{number}")) for number in range(4)]

            assert [entry.import_id for entry in harness.repository.entries()] == numbers[::-1]
            assert numbers == sorted(set(numbers))

    def test_each_verdict_has_a_number_of_its_own(self, stored: Stored) -> None:
        """However often an upload is refused, loaded, undone and loaded again; the ledger keeps the latest."""
        with stored() as harness:
            first = refuse(harness.repository)
            load(harness.repository, [BEN], an_upload("other"))
            again = refuse(harness.repository)
            loaded = load(harness.repository, [ANN])
            harness.repository.undo(loaded, NOON)
            last = load(harness.repository, [ANN])

            assert len({first, again, loaded, last}) == 4
            assert [entry.import_id for entry in harness.repository.entries()] == [last, 2]
            assert harness.repository.entry(last).secret
            for replaced in (first, again, loaded):
                with pytest.raises(UnknownImportError):
                    harness.repository.undo(replaced, NOON)
            assert sorted(user.name for user in harness.contents()) == ["Ann", "Ben"]

    def test_an_entry_in_force_is_never_replaced(self, stored: Stored) -> None:
        """Nobody registers an upload twice, whatever they make of the history."""
        with stored() as harness:
            load(harness.repository, [ANN])
            with pytest.raises(ImportInProgressError):
                load(harness.repository, [ANN])

            assert [user.name for user in harness.contents()] == ["Ann"]

    def test_an_upload_is_known_as_soon_as_it_has_its_verdict(self, stored: Stored) -> None:
        """Whatever that was, and whatever becomes of it."""
        with stored() as harness:
            identity = an_upload().identity
            with harness.repository.importing(an_upload(), "sha"):
                assert harness.rival().entry_of(identity) is None
            refuse(harness.repository)
            refused = harness.rival().entry_of(identity)
            import_id = load(harness.repository, [ANN])
            loaded = harness.rival().entry_of(identity)
            harness.repository.undo(import_id, NOON)
            undone = harness.rival().entry_of(identity)

            assert refused
            assert refused.receipt.status is Status.REFUSED
            assert loaded
            assert undone == attrs.evolve(loaded, undone=True) == harness.repository.entry(import_id)
            assert harness.rival().entry_of(an_upload("other").identity) is None

    def test_an_import_that_never_was_is_unknown(self, stored: Stored) -> None:
        """And is told by its number."""
        with stored() as harness:
            for number in (0, -1, 1, 2**31, 2**62):
                with pytest.raises(UnknownImportError, match=str(number)):
                    harness.repository.entry(number)
                with pytest.raises(UnknownImportError, match=str(number)):
                    harness.repository.undo(number, NOON)


class TestHistory:
    """What the ledger knows when an upload arrives."""

    def test_nothing_is_known_of_the_first_upload(self, stored: Stored) -> None:
        """And the import has a number all the same."""
        with stored() as harness, harness.repository.importing(an_upload(), "sha") as importing:
            assert importing.history == History()
            assert importing.verdict.import_id is not None

    def test_an_upload_knows_itself_whatever_became_of_it(self, stored: Stored) -> None:
        """Loaded, undone or refused."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN], sha256="sha")
            loaded = history(harness, an_upload(), "sha")
            harness.repository.undo(import_id, NOON)
            undone = history(harness, an_upload(), "sha")
            again = refuse(harness.repository, an_upload(), "sha")
            refused = history(harness, an_upload(), "sha")

            assert (loaded, undone, refused) == (
                (import_id, None, None),
                (import_id, None, None),
                (again, None, None),
            )
            assert harness.repository.entry(again).receipt.status is Status.REFUSED

    def test_the_history_tells_what_was_undone(self, stored: Stored) -> None:
        """Else an undone import would be taken for one in force."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN])
            harness.repository.undo(import_id, NOON)
            with harness.rival().importing(an_upload(), None) as importing:
                entry = importing.history.same_upload

            assert entry is not None
            assert entry == harness.repository.entry(import_id)
            assert entry.undone
            assert not entry.in_force

    def test_the_same_content_is_the_oldest_import_in_force(self, stored: Stored) -> None:
        """Under whatever key; what was undone or refused does not count."""
        with stored() as harness:
            refuse(harness.repository, an_upload("refused"), "sha")
            undone = load(harness.repository, [ANN], an_upload("undone"), "sha")
            harness.repository.undo(undone, NOON)
            oldest = load(harness.repository, [ANN], an_upload("oldest"), "sha")
            newest = load(harness.repository, [ANN], an_upload("newest", bucket="other"), "sha")
            load(harness.repository, [ANN], an_upload("different"), "different")
            both = history(harness, an_upload("now"), "sha")
            harness.repository.undo(oldest, NOON)
            one = history(harness, an_upload("now"), "sha")
            of_itself = history(harness, an_upload("newest", bucket="other"), "sha")

            assert both == (None, oldest, None)
            assert one == (None, newest, None)
            assert of_itself == (newest, None, None)

    def test_unknown_content_is_the_same_as_no_other(self, stored: Stored) -> None:
        """Two uploads that could not be read are not therefore alike."""
        with stored() as harness:
            load(harness.repository, [ANN], an_upload("1"), None)

            assert history(harness, an_upload("2"), None) == (None, None, None)

    def test_the_same_key_is_the_newest_version_in_force(self, stored: Stored) -> None:
        """What was undone or refused does not count, and a key belongs to its bucket."""
        with stored() as harness:
            older = load(harness.repository, [ANN], an_upload(version="1"))
            newer = load(harness.repository, [ANN], an_upload(version="2"))
            undone = load(harness.repository, [ANN], an_upload(version="3"))
            harness.repository.undo(undone, NOON)
            refuse(harness.repository, an_upload(version="4"))
            load(harness.repository, [ANN], an_upload(version="5", bucket="other"))
            load(harness.repository, [ANN], an_upload("list.csv2", version="6"))
            both = history(harness, an_upload(version="7"), None)
            harness.repository.undo(newer, NOON)
            one = history(harness, an_upload(version="7"), None)

            assert both == (None, None, newer)
            assert one == (None, None, older)

    def test_looking_leaves_no_trace(self, stored: Stored) -> None:
        """An import that was only opened is not in the ledger."""
        with stored() as harness:
            history(harness, an_upload(), "sha")

            assert list(harness.repository.entries()) == []


def history(harness: Harness, upload: Upload, sha256: str | None) -> tuple[int | None, ...]:
    """Tell the numbers of the imports that an upload would be told of: same upload, content, key."""
    with harness.rival().importing(upload, sha256) as importing:
        entries = importing.history.same_upload, importing.history.same_content, importing.history.same_key
    return tuple(entry.import_id if entry else None for entry in entries)


class TestUndoing:
    """An import can be taken back, whole and once."""

    def test_undoing_removes_the_users_of_that_import_and_no_others(self, stored: Stored) -> None:
        """Even if they look the same."""
        with stored() as harness:
            load(harness.repository, [ANN, BEN], an_upload("1"))
            import_id = load(harness.repository, [ANN, CEM, ANN], an_upload("2"))
            load(harness.repository, [ANN], an_upload("3"))
            removed = harness.repository.undo(import_id, NOON)

            assert removed == 3
            assert harness.contents() == [ANN, BEN, ANN]
            assert list(harness.repository.users(import_id)) == []
            assert [entry.undone for entry in harness.repository.entries()] == [False, True, False]

    def test_the_receipt_of_an_undone_import_stays(self, stored: Stored) -> None:
        """It still says what was once registered."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN])
            before = harness.repository.entry(import_id)
            harness.repository.undo(import_id, NOON)

            assert harness.repository.entry(import_id) == attrs.evolve(before, undone=True)

    def test_what_is_undone_cannot_be_undone_again(self, stored: Stored) -> None:
        """And is told why."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN])
            harness.repository.undo(import_id, NOON)

            with pytest.raises(UndoRefusedError, match="undone already"):
                harness.repository.undo(import_id, NOON)

    def test_what_was_refused_cannot_be_undone(self, stored: Stored) -> None:
        """It registered nobody."""
        with stored() as harness:
            import_id = refuse(harness.repository)

            with pytest.raises(UndoRefusedError, match="registered nobody"):
                harness.repository.undo(import_id, NOON)

    def test_an_import_of_nobody_can_be_undone(self, stored: Stored) -> None:
        """So that the key can be loaded with somebody."""
        with stored() as harness:
            assert harness.repository.undo(load(harness.repository, []), NOON) == 0

    def test_what_is_undone_can_be_imported_again_and_undone_again(self, stored: Stored) -> None:
        """Each time whole."""
        with stored() as harness:
            for _ in range(3):
                import_id = load(harness.repository, [ANN, BEN])

                assert harness.repository.entry(import_id).in_force
                assert harness.contents() == [ANN, BEN]
                assert harness.repository.undo(import_id, NOON) == 2
                assert harness.contents() == []

    def test_users_that_are_gone_are_named_before_an_undo(self, stored: Stored) -> None:
        """By both numbers, and nothing changes until somebody confirms."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN, BEN, CEM])
            harness.remove("Ben")
            with pytest.raises(UndoUnconfirmedError, match="registered 3 users, of which 2 are left"):
                harness.repository.undo(import_id, NOON)

            assert harness.contents() == [ANN, CEM]
            assert not harness.repository.entry(import_id).undone
            assert harness.repository.undo(import_id, NOON, confirmed=True) == 2
            assert harness.contents() == []
            assert harness.repository.entry(import_id).undone

    def test_nobody_undoes_an_upload_that_is_being_delivered(self, stored: Stored) -> None:
        """Whoever tries is told so in seconds; afterwards it goes."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN])
            rival = harness.rival()
            with harness.repository.importing(an_upload(), None), pytest.raises(ImportInProgressError):
                rival.undo(import_id, NOON)

            assert harness.contents() == [ANN]
            assert rival.undo(import_id, NOON) == 1


class TestRivals:
    """Of two that would register the same, one does."""

    @pytest.mark.parametrize(
        ("upload", "sha256"),
        [(an_upload(), "sha"), (an_upload(), "other"), (an_upload(), None), (an_upload("other"), "sha")],
        ids=["the same upload and content", "the same upload", "the same upload, unread", "the same content"],
    )
    def test_the_same_is_not_imported_while_it_is_being_imported(
        self, stored: Stored, upload: Upload, sha256: str | None
    ) -> None:
        """Whoever comes second is told within seconds to come again, and may then."""
        with stored() as harness:
            rival = harness.rival()
            with harness.repository.importing(an_upload(), "sha"):
                started = time.monotonic()
                with pytest.raises(ImportInProgressError), rival.importing(upload, sha256):
                    pass
                waited = time.monotonic() - started
            with rival.importing(upload, sha256):
                pass

            assert PATIENCE_SECONDS * 0.9 <= waited < PATIENCE_SECONDS + 5

    @pytest.mark.parametrize(
        ("upload", "sha256"), [(an_upload(), None), (an_upload("other"), "sha")], ids=["upload", "content"]
    )
    def test_who_waits_for_the_same_is_told_of_it_once_it_is_committed(
        self, stored: Stored, upload: Upload, sha256: str | None
    ) -> None:
        """What it knows is what stands when it is let in, not when it came."""
        told: list[tuple[int | None, ...]] = []
        with stored() as harness:
            with harness.repository.importing(an_upload(), "sha") as importing:
                importing.register(a_block([ANN]))
                waiting = threading.Thread(target=lambda: told.append(history(harness, upload, sha256)))
                waiting.start()
                seen = eventually(harness.waits)
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))
            waiting.join()

            assert seen
            assert told in (
                [(importing.verdict.import_id, None, None)],
                [(None, importing.verdict.import_id, None)],
            )

    def test_different_uploads_are_imported_at_the_same_time(self, stored: Stored) -> None:
        """Nobody waits for whom nobody doubles."""
        with stored() as harness:
            with harness.repository.importing(an_upload("1"), "1") as importing:
                importing.register(a_block([ANN]))
                load(harness.rival(), [BEN], an_upload("2"), "2")
                importing.commit(
                    a_receipt(an_upload("1"), importing.verdict.import_id, Counts(read=1, registered=1))
                )

            assert sorted(user.name for user in harness.contents()) == ["Ann", "Ben"]

    @pytest.mark.parametrize("same", ["upload", "content"])
    def test_of_many_that_come_at_once_one_registers(self, stored: Stored, same: str) -> None:
        """A queue delivers twice, and people drop a file twice."""
        batch = [User(name=f"User {number}", country="Norway", age=1) for number in range(300)]
        failures: list[BaseException] = []

        def deliver(repository: UserRepository, upload: Upload) -> None:
            with repository.importing(upload, "sha") as importing:
                if importing.history.same_upload or importing.history.same_content:
                    return
                importing.register(a_block(batch))
                counts = Counts(read=len(batch), registered=len(batch))
                importing.commit(a_receipt(upload, importing.verdict.import_id, counts))

        def try_to(repository: UserRepository, upload: Upload) -> None:
            try:
                deliver(repository, upload)
            except ImportInProgressError:
                pass
            except BaseException as error:  # noqa: BLE001 - whatever a thread raises is what the test is about
                failures.append(error)

        with stored() as harness:
            threads = [
                threading.Thread(
                    target=try_to,
                    args=(harness.rival(), an_upload("list.csv" if same == "upload" else f"{number}")),
                )
                for number in range(8)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert failures == []
            assert harness.contents() == batch
            assert len(list(harness.repository.entries())) == 1

    def test_of_two_that_undo_at_once_one_does(self, stored: Stored) -> None:
        """The other is told that it is undone already."""
        outcomes: list[int | type[Exception]] = []
        with stored() as harness:
            import_id = load(harness.repository, [ANN, BEN])

            def undo(repository: UserRepository) -> None:
                try:
                    outcomes.append(repository.undo(import_id, NOON))
                except UndoRefusedError:
                    outcomes.append(UndoRefusedError)

            threads = [threading.Thread(target=undo, args=(harness.rival(),)) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

            assert sorted(outcomes, key=str) == sorted([2, *[UndoRefusedError] * 3], key=str)
            assert harness.contents() == []


@pytest.fixture
def without_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let everybody in at once, whoever else is there."""
    for module in "repository", "staging":
        monkeypatch.setattr(f"rollcall.adapters.postgres.{module}.claim", lambda *_, **__: None)
    monkeypatch.setattr(MemoryUserRepository, "_claiming", lambda *_, **__: nullcontext())


@pytest.mark.usefixtures("without_locks")
class TestWithoutLocks:
    """Locks only make rivals wait: what a policy forbids, the ledger itself refuses."""

    ANEW = Policy(on_new_version=OnNewVersion.IMPORT)

    @pytest.mark.parametrize(
        ("upload", "sha256", "policy", "both"),
        [
            (an_upload(), "other", Policy(), False),
            (an_upload("other"), "sha", Policy(), False),
            (an_upload(version="2"), "other", Policy(), False),
            (an_upload(version="2"), "other", ANEW, True),
            (an_upload("other"), "sha", ANYTHING, True),
            (an_upload("other"), "other", Policy(), True),
        ],
        ids=["upload", "content", "key", "key, as a new list", "content, repeated", "nothing in common"],
    )
    def test_of_two_at_once_the_ledger_takes_what_is_allowed(
        self, stored: Stored, upload: Upload, sha256: str, policy: Policy, *, both: bool
    ) -> None:
        """And refused or undone, nothing is in the way of anything."""

        def load_both() -> None:
            with harness.repository.importing(an_upload(), "sha", policy) as first:
                with harness.rival().importing(upload, sha256, policy) as second:
                    second.register(a_block([BEN]))
                    second.commit(a_receipt(upload, second.verdict.import_id, Counts(read=1, registered=1)))
                refuse(harness.rival(), an_upload("refused"), "sha")
                first.register(a_block([ANN]))
                first.commit(a_receipt(an_upload(), first.verdict.import_id, Counts(read=1, registered=1)))

        with stored() as harness:
            with nullcontext() if both else pytest.raises(ImportInProgressError):
                load_both()

            assert sorted(user.name for user in harness.contents()) == ["Ann", "Ben"][not both :]

    def test_what_was_undone_is_not_in_the_way(self, stored: Stored) -> None:
        """Neither its content nor its key."""
        with stored() as harness:
            harness.repository.undo(load(harness.repository, [ANN], sha256="sha", policy=Policy()), NOON)
            load(harness.repository, [BEN], an_upload(version="2"), "sha", Policy())

            assert harness.contents() == [BEN]


class TestOverdue:
    """Who is frozen holds up nobody for longer than it said that it can live, and changes nothing once thawed."""

    @pytest.mark.parametrize(
        ("upload", "sha256"),
        [(an_upload(), "sha"), (an_upload("other"), "sha"), (an_upload(), None)],
        ids=["the same upload and content", "the same content", "the same upload, unread"],
    )
    @pytest.mark.parametrize("registered", [0, 50_000])
    @pytest.mark.parametrize("settled", [False, True], ids=["copying", "settled"])
    def test_who_is_overdue_gives_way_to_a_rival_and_changes_nothing(
        self, stored: Stored, registered: int, *, settled: bool, upload: Upload, sha256: str | None
    ) -> None:
        """Wherever in its import it was."""
        with stored() as harness:
            with pytest.raises(RepositoryUnavailableError) as told:
                self._freeze(
                    harness.repository,
                    registered,
                    lambda: load(harness.rival(), [BEN], upload, sha256),
                    settled=settled,
                )

            assert "Ann" not in everything_said_by(told.value)
            assert harness.contents() == [BEN]
            assert [entry.receipt.counts.registered for entry in harness.repository.entries()] == [1]
            load(harness.repository, [CEM], an_upload("another"))
            assert harness.contents() == [BEN, CEM]

    def test_who_gives_way_leaves_quietly(self, stored: Stored) -> None:
        """It fails by what it does, or does no more."""
        with stored() as harness:
            with suppress(RepositoryUnavailableError), self._overdue(harness.repository):
                load(harness.rival(), [BEN], sha256="sha")
            load(harness.repository, [CEM], an_upload("another"))

            assert harness.contents() == [BEN, CEM]

    def test_who_has_committed_is_overdue_no_more(self, stored: Stored) -> None:
        """Its connection may be in use for something else by then."""
        with stored() as harness:
            load(harness.repository, [ANN], an_upload("other"), seconds_left=-9)
            with harness.repository.importing(an_upload(), "sha") as importing:
                with pytest.raises(ImportInProgressError):
                    load(harness.rival(), [BEN], sha256="sha")
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=0)))

            assert [entry.receipt.counts.read for entry in harness.repository.entries()] == [0, 1]

    def test_who_has_committed_holds_nothing_any_more(self, stored: Stored) -> None:
        """It may be frozen then, and nobody ends it."""
        with stored() as harness:
            with harness.repository.importing(an_upload(), "sha") as importing:
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=0)))
                with harness.rival().importing(an_upload(), "sha") as rival:
                    known = rival.history.same_upload

            assert known == harness.repository.entry(importing.verdict.import_id or 0)

    def test_who_has_time_left_is_not_disturbed(self, stored: Stored) -> None:
        """However long a rival waits."""
        with stored() as harness:
            with harness.repository.importing(an_upload(), "sha", seconds_left=3600) as importing:
                importing.register(a_block([ANN]))
                with pytest.raises(ImportInProgressError):
                    load(harness.rival(), [BEN], sha256="sha")
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))

            assert harness.contents() == [ANN]

    def test_who_is_overdue_goes_on_where_nobody_waits(self, stored: Stored) -> None:
        """Late is better than again."""
        with stored() as harness:
            load(harness.repository, [ANN], sha256="sha", seconds_left=-9)

            assert harness.contents() == [ANN]

    def test_several_who_are_overdue_give_way_to_one(self, stored: Stored) -> None:
        """One has its upload, the other its content."""
        with stored() as harness:
            with (
                suppress(RepositoryUnavailableError),
                harness.rival().importing(an_upload(), "a", seconds_left=-9),
                harness.rival().importing(an_upload("other"), "b", seconds_left=-9),
            ):
                load(harness.repository, [BEN], an_upload(), "b")

            assert harness.contents() == [BEN]

    def test_who_is_overdue_gives_way_to_an_undo(self, stored: Stored) -> None:
        """Whoever undoes as the user that imports waits no longer than a delivery."""
        with stored() as harness:
            import_id = load(harness.repository, [ANN])
            with suppress(RepositoryUnavailableError), self._overdue(harness.of_one_user()):
                removed = harness.of_one_user().undo(import_id, NOON)

            assert removed == 1
            assert harness.contents() == []

    def _overdue(self, repository: UserRepository) -> AbstractContextManager[Importing]:
        return repository.importing(an_upload(), "sha", seconds_left=-9)

    def _freeze(
        self, repository: UserRepository, registered: int, meanwhile: Callable[[], object], *, settled: bool
    ) -> None:
        """Import Ann so many times, overdue, while something else is done before the commit."""
        with self._overdue(repository) as importing:
            if registered:
                importing.register(a_block([ANN] * registered))
            if settled:
                importing.settle()
            meanwhile()
            counts = Counts(read=registered, registered=registered)
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))


class TestLost:
    """What the ledger should know by now and does not is found, and noted before it is queued."""

    def test_what_the_ledger_does_not_know_is_lost(self, stored: Stored) -> None:
        """Whatever became of an upload that it knows: loaded, refused or undone."""
        with stored() as harness:
            loaded, refused, undone, lost = (an_upload(version=version) for version in "1234")
            load(harness.repository, [ANN], loaded)
            refuse(harness.repository, refused)
            harness.repository.undo(load(harness.repository, [ANN], undone), NOON)

            assert note_lost(harness, loaded, refused, undone, lost) == ({lost.identity}, set())
            assert note_lost(harness, loaded, refused, undone) == (set(), set())

    def test_nothing_asked_is_nothing_lost(self, stored: Stored) -> None:
        """A bucket may hold nothing but reports."""
        with stored() as harness:
            assert note_lost(harness) == (set(), set())

    def test_more_than_fit_a_page_are_asked_at_once(self, stored: Stored) -> None:
        """One question for hundreds, or a large bucket would take a day."""
        many = [an_upload(version=str(number)) for number in range(1000)]
        with stored() as harness:
            assert note_lost(harness, *many) == ({upload.identity for upload in many}, set())

    def test_what_is_being_imported_is_not_lost(self, stored: Stored) -> None:
        """Nor noted; once it is left without a commit, it is lost after all."""
        with stored() as harness:
            with harness.rival().importing(an_upload(), "sha"):
                assert note_lost(harness, an_upload()) == (set(), set())
            assert note_lost(harness, an_upload()) == ({an_upload().identity}, set())

    def test_nobody_waits_long_for_whoever_looks_for_the_lost(self, stored: Stored) -> None:
        """What it holds meanwhile it gives back with its answer."""
        with stored() as harness:
            note_lost(harness, an_upload())
            load(harness.rival(), [ANN])

            assert harness.contents() == [ANN]

    def test_an_upload_is_queued_so_often_and_no_more(self, stored: Stored) -> None:
        """From then on it is given up, whoever asks."""
        one, other = an_upload("one"), an_upload("other")
        with stored() as harness:
            assert note_lost(harness, one) == ({one.identity}, set())
            assert note_lost(harness, one, other) == ({one.identity, other.identity}, set())
            assert note_lost(harness, one, other) == ({other.identity}, {one.identity})
            for _ in range(3):
                assert note_lost(harness, one, other) == (set(), {one.identity, other.identity})

    def test_an_upload_that_was_queued_just_now_is_left_alone(self, stored: Stored) -> None:
        """Its message may still wait, or be at work: it is neither queued nor given up before it had its time."""
        upload, hour = an_upload(), timedelta(hours=1)
        moment = timedelta(microseconds=1)
        with stored() as harness:
            outcomes = [
                note_lost(harness, upload, at=NOON + after, patience=hour)
                for after in (0 * hour, hour - moment, hour, 2 * hour - moment, 2 * hour)
            ]

        queued = ({upload.identity}, set[str]())
        assert outcomes == [queued, (set(), set()), queued, (set(), set()), (set(), {upload.identity})]

    def test_what_found_its_way_into_the_ledger_is_forgotten(self, stored: Stored) -> None:
        """Else the notes would grow for ever. Nothing else is."""
        imported, poison = an_upload("imported"), an_upload("poison")
        with stored() as harness:
            note_lost(harness, imported, poison)
            load(harness.repository, [ANN], imported)
            note_lost(harness, poison)

            assert harness.noted() == {poison.identity}
            assert note_lost(harness, imported, poison) == (set(), {poison.identity})

    def test_of_many_that_look_at_once_one_queues(self, stored: Stored) -> None:
        """A schedule may start a sweep before the one before has ended."""
        found: list[tuple[set[str], set[str]]] = []
        with stored() as harness:

            def look(repository: UserRepository) -> None:
                lost = repository.note_lost([an_upload().identity], NOON, at_most=2, patience=timedelta(1))
                found.append((set(lost.queue), set(lost.give_up)))

            threads = [threading.Thread(target=look, args=(harness.rival(),)) for _ in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

        assert sorted(found, key=str) == sorted([({an_upload().identity}, set()), *[(set(), set())] * 7], key=str)


def clients(url: str) -> int:
    """Count the connections that Rollcall has to a database."""
    query = "select 1 from pg_stat_activity where datname = current_database() and application_name = 'rollcall'"
    return len(asked(url, query))


def cut_off_clients(url: str, state: str = "%") -> int:
    """End Rollcall's connections on the server's side, as a restart or a network does."""
    query = (
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
        " where datname = current_database() and application_name = 'rollcall' and state like %s"
    )
    return len(asked(url, query, state))


@pytest.fixture
def repository(database_url: str) -> Iterator[PostgresUserRepository]:
    """A repository in an empty database."""
    repository = PostgresUserRepository(database_url)
    yield repository
    repository.close()


class TestPostgresConnections:
    """Connections break, and are not leaked."""

    def test_what_is_committed_between_two_looks_is_not_lost(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """First at the ledger and then at the claims, of which the last is given back just now."""
        finder, rival = PostgresUserRepository(database_url), PostgresUserRepository(database_url)

        def commit_first(connection: Database, names: Iterable[str]) -> list[str]:
            load(rival, [ANN])
            return claim_free(connection, names)

        monkeypatch.setattr("rollcall.adapters.postgres.repository.claim_free", commit_first)
        lost = finder.note_lost([an_upload().identity], NOON, at_most=2, patience=timedelta())
        finder.close()
        rival.close()

        assert lost == Lost()
        assert asked(database_url, "select * from lost_uploads") == []

    def test_one_connection_is_kept_and_no_more(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """After whatever was done with the repository."""
        import_id = load(repository, [ANN] * 20_000)
        next(repository.users())
        list(repository.entries())
        for attempt in (
            lambda: repository.entry(999),
            lambda: repository.entry_of("999"),
            lambda: repository.undo(999, NOON),
            lambda: load(repository, [ANN], an_upload("\0")),
        ):
            with suppress(UnknownImportError, RepositoryUnavailableError):
                attempt()
        repository.undo(import_id, NOON)
        gc.collect()

        assert eventually(lambda: clients(database_url) <= 1)
        repository.close()
        assert eventually(lambda: clients(database_url) == 0)

    def test_nothing_is_left_open_in_a_transaction(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """It would hold back vacuum and locks."""
        load(repository, [ANN])
        list(repository.users())

        query = "select state from pg_stat_activity where datname = current_database() and application_name = %s"
        assert asked(database_url, query, "rollcall") == [("idle",)]

    @pytest.mark.parametrize("what", ["users", "entries"])
    def test_who_looks_at_the_first_only_leaves_nothing_open(
        self, repository: PostgresUserRepository, database_url: str, what: str
    ) -> None:
        """Closed early or forgotten, a generator gives its connection back or ends it."""
        for number in range(3):
            load(repository, [ANN] * 10_000, an_upload(f"{number}"))
        for _ in range(3):
            generator = repository.users() if what == "users" else repository.entries()
            next(generator)
            generator.close()
            next(repository.users() if what == "users" else repository.entries())
        gc.collect()

        assert eventually(lambda: clients(database_url) <= 1)
        assert len(list(repository.users())) == 30_000

    def test_several_things_at_once_each_have_their_own_connection(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """And afterwards one is left."""
        load(repository, [ANN, BEN], an_upload("1"))
        with repository.importing(an_upload("2"), None) as importing:
            pairs = list(zip(repository.users(), repository.users(), strict=True))
            importing.register(a_block([CEM]))
            [entry] = repository.entries()
            importing.commit(a_receipt(an_upload("2"), importing.verdict.import_id, Counts(read=1, registered=1)))

        assert pairs == [(ANN, ANN), (BEN, BEN)]
        assert entry.receipt.source.key == "1"
        assert list(repository.users()) == [ANN, BEN, CEM]
        assert eventually(lambda: clients(database_url) <= 1)

    def test_a_row_that_breaks_a_rule_is_named_by_its_id(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """So that it can be found, among all users and among those of its import; its cells are not shown."""
        load(repository, [ANN, BEN])
        with psycopg.connect(database_url) as connection:
            row = connection.execute("update users set name = ' S3CRET' where name = %s returning id", [BEN.name])
            [(row_id,)] = row.fetchall()
        for import_id in (None, 1):
            with pytest.raises(SchemaError) as caught:
                list(repository.users(import_id))

            assert str(caught.value) == (
                f"in the table users, the row with id {row_id} is no user: "
                "User.name breaks its rule; correct it there"
            )

    def test_a_connection_that_broke_while_it_was_idle_is_replaced_unseen(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A database may be restarted at night."""
        load(repository, [ANN], an_upload("1"))
        cut_off = cut_off_clients(database_url)
        load(repository, [BEN], an_upload("2"))

        assert cut_off == 1
        assert list(repository.users()) == [ANN, BEN]

    @pytest.mark.parametrize("registered", [0, 1, 50_000])
    @pytest.mark.parametrize("then", ["commit", "register", "withhold", "leave"])
    def test_a_connection_that_breaks_midway_keeps_nothing(
        self, repository: PostgresUserRepository, database_url: str, registered: int, then: str
    ) -> None:
        """Whatever is done next says so in the port's words, and the repository goes on."""

        def be_cut_off() -> None:
            with repository.importing(an_upload(), "sha") as importing:
                if registered:
                    importing.register(a_block([ANN] * registered))
                assert cut_off_clients(database_url) == 1
                if then == "commit":
                    counts = Counts(read=registered, registered=registered)
                    importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))
                elif then == "register":
                    # The first bytes after the end may still go out unopposed.
                    for _ in range(100):
                        importing.register(a_block([ANN] * 10_000))
                elif then == "withhold":
                    importing.withhold()

        with pytest.raises(RepositoryUnavailableError, match=r"connection to the database was lost|57P01"):
            be_cut_off()

        assert list(repository.users()) == []
        assert list(repository.entries()) == []
        assert load(repository, [ANN]) > 0

    def test_a_reader_whose_connection_breaks_is_told(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """Rather than given a shorter list."""
        load(repository, [ANN] * 20_000)
        generator = repository.users()
        next(generator)
        cut_off_clients(database_url)

        with pytest.raises(RepositoryUnavailableError):
            list(generator)
        assert len(list(repository.users())) == 20_000

    def test_who_is_cut_off_holds_no_claim_any_more(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A worker that was killed blocks nobody."""
        rival = PostgresUserRepository(database_url)

        def be_replaced() -> None:
            with repository.importing(an_upload(), "sha") as importing:
                importing.register(a_block([ANN]))
                cut_off_clients(database_url)
                load(rival, [BEN], sha256="sha")
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))

        with pytest.raises(RepositoryUnavailableError):
            be_replaced()
        rival.close()

        assert list(repository.users()) == [BEN]

    def test_claims_hold_under_whatever_isolation_the_database_has_set(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A snapshot taken before the wait would not show what was waited for."""
        told: list[LedgerEntry | None] = []
        options = "options=-c%20default_transaction_isolation%3Dserializable"
        strict = PostgresUserRepository(f"{database_url}{'&' if '?' in database_url else '?'}{options}")

        def wait() -> None:
            with strict.importing(an_upload("other"), "sha") as importing:
                told.append(importing.history.same_content)

        with repository.importing(an_upload(), "sha") as importing:
            waiting = threading.Thread(target=wait)
            waiting.start()
            assert eventually(lambda: bool(asked(database_url, WAITING)))
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id))
        waiting.join()
        strict.close()

        assert [entry and entry.import_id for entry in told] == [importing.verdict.import_id]


class TestPostgresUndo:
    """What the database does not let go stays, and the ledger does not say otherwise."""

    @pytest.mark.parametrize(
        ("theirs", "reason"),
        [
            ("create rule kept as on delete to users do instead nothing", "the table kept 2 of its users"),
            (
                "create table notes (id bigint references users (id)); insert into notes select id from users",
                "violate constraint notes_id_fkey of table notes",
            ),
        ],
        ids=["a rule", "a reference"],
    )
    def test_users_that_are_protected_cannot_be_undone(
        self, new_database: Callable[[], AbstractContextManager[str]], theirs: str, reason: str
    ) -> None:
        """By whatever the operator has on the table."""
        with new_database() as url, closing(PostgresUserRepository(url)) as repository:
            migrate(url)
            import_id = load(repository, [ANN, BEN])
            asked(url, theirs)
            with pytest.raises(UndoRefusedError, match=reason):
                repository.undo(import_id, NOON, confirmed=True)

            assert list(repository.users()) == [ANN, BEN]
            assert not repository.entry(import_id).undone


def refusing_password(connection: socket.socket) -> None:
    """Answer as a PostgreSQL does that wants a password and does not like the one it gets."""
    while True:
        length, code = struct.unpack("!II", connection.recv(8))
        connection.recv(length - 8) if length > 8 else b""
        if code == 196608:  # the protocol's version: no question of encryption
            break
        connection.sendall(b"N")
    connection.sendall(b"R" + struct.pack("!II", 8, 3))
    connection.recv(1024)
    fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "u"\0\0'
    connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)


def hanging_up(connection: socket.socket) -> None:
    """Say nothing."""


def speaking_http(connection: socket.socket) -> None:
    """Answer as a web server does."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Something on a port of this machine, which minds nobody who hangs up."""

    def unmoved(connection: socket.socket) -> None:
        with suppress(OSError, struct.error):
            answer(connection)

    with serving(unmoved) as port:
        yield port


def everything_one_can_ask(repository: UserRepository) -> list[Callable[[], object]]:
    """Give each way of using a repository."""
    return [
        lambda: load(repository, [ANN]),
        lambda: repository.undo(1, NOON),
        lambda: repository.note_lost(["identity"], NOON, at_most=2, patience=timedelta()),
        lambda: repository.entry(1),
        lambda: list(repository.entries()),
        lambda: list(repository.users()),
        lambda: list(repository.users(1)),
    ]


class TestPostgresNotReady:
    """A database that cannot be used is told in one sentence that says what to do."""

    def test_a_database_without_tables_asks_to_be_migrated(
        self, new_database: Callable[[], AbstractContextManager[str]]
    ) -> None:
        """Whatever is asked of it, and afterwards it works with the same repository."""
        with new_database() as url:
            repository = PostgresUserRepository(url)
            for ask in everything_one_can_ask(repository):
                with pytest.raises(NotMigratedError):
                    ask()
            migrate(url)

            assert load(repository, [ANN]) == 1
            assert eventually(lambda: clients(url) <= 1)
            repository.close()

    def test_a_database_that_lacks_migrations_names_them(
        self, new_database: Callable[[], AbstractContextManager[str]]
    ) -> None:
        """And how to apply them."""
        first, *lacking = migration_ids()
        with new_database() as url:
            migrate(url, upto=first)
            repository = PostgresUserRepository(url)
            for ask in everything_one_can_ask(repository):
                with pytest.raises(NotMigratedError, match=f"{', '.join(lacking)}$"):
                    ask()
            repository.close()

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_a_database_that_does_not_speak_utf_8_is_not_used(self, database_server: str, encoding: str) -> None:
        """In it not every name could be stored, or none be compared."""
        name = f"rollcall_test_{secrets.token_hex(6)}"
        create = sql.SQL("create database {} template template0 encoding {} locale 'C'")
        asked(database_server, create.format(sql.Identifier(name), sql.Literal(encoding)))
        url = urlsplit(database_server)._replace(path=f"/{name}").geturl()
        try:
            with pytest.raises(SchemaError, match=f"{name} has the encoding {encoding}"):
                migrate(url)
            for ask in everything_one_can_ask(PostgresUserRepository(url)):
                with pytest.raises(SchemaError, match=f"{name} has the encoding {encoding}.*ENCODING 'UTF8'"):
                    ask()
        finally:
            asked(database_server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    @pytest.mark.parametrize("answer", [refusing_password, hanging_up, speaking_http])
    def test_a_server_that_does_not_let_us_in_is_told_in_one_line_without_the_password(
        self, answer: Callable[[socket.socket], None]
    ) -> None:
        """Whatever is asked."""
        with server(answer) as port:
            self._is_told_in_one_line(f"postgresql://u:SecretWord@127.0.0.1:{port}/db")

    def test_a_wrong_password_is_called_that(self) -> None:
        """So that a person knows what to mend."""
        with server(refusing_password) as port, pytest.raises(RepositoryUnavailableError, match="password auth"):
            load(PostgresUserRepository(f"postgresql://u:SecretWord@127.0.0.1:{port}/db"), [ANN])

    def test_a_port_on_which_nobody_listens_is_told_in_one_line_without_the_password(self) -> None:
        """The server is down, or somewhere else."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]

        self._is_told_in_one_line(f"postgresql://u:SecretWord@127.0.0.1:{port}/db")

    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://u:SecretWord@127.0.0.1:port/db",
            "postgresql://u:Secret%zzWord@127.0.0.1/db",
            "postgresql://u:SecretWord@127.0.0.1/db?nonsense=1",
            "postgresql://u:Secret Word@127.0.0.1/db",
            "postgresql://u:Secret:Word@[127.0.0.1/db",
            "postgresql://u@[SecretWord/db",
            "host=127.0.0.1 password='SecretWord",
            "SecretWord",
        ],
    )
    def test_an_address_that_is_none_is_told_in_one_line_without_the_password(self, url: str) -> None:
        """Most often because of a character in the password itself."""
        self._is_told_in_one_line(url)

    def test_a_database_that_is_not_there_is_called_by_its_name(self, database_server: str) -> None:
        """It is easily mistyped."""
        url = urlsplit(database_server)._replace(path="/no_such_database").geturl()

        with pytest.raises(RepositoryUnavailableError, match="no_such_database"):
            load(PostgresUserRepository(url), [ANN])

    def _is_told_in_one_line(self, url: str) -> None:
        asks: list[Callable[[], object]] = [lambda: migrate(url)]
        for ask in asks + everything_one_can_ask(PostgresUserRepository(url)):
            with pytest.raises(RepositoryUnavailableError) as caught:
                ask()
            said = str(caught.value)

            assert said.count("\n") == 0
            assert len(said) < 400
            assert "Secret" not in everything_said_by(caught.value)
            assert "Word" not in everything_said_by(caught.value)

    def test_what_the_user_may_not_do_is_told_in_the_servers_words(self, database_url: str) -> None:
        """An operator has to grant something, and is told what."""
        role = f"rollcall_test_{secrets.token_hex(6)}"
        asked(database_url, sql.SQL("create role {}").format(sql.Identifier(role)))
        asked(database_url, sql.SQL("grant select on _yoyo_migration, imports to {}").format(sql.Identifier(role)))
        url = f"{database_url}{'&' if '?' in database_url else '?'}options=-c%20role%3D{role}"
        repository = PostgresUserRepository(url)
        try:
            with pytest.raises(RepositoryUnavailableError, match="permission denied for"):
                load(repository, [ANN])
            with pytest.raises(RepositoryUnavailableError, match="permission denied for table users"):
                list(repository.users())
        finally:
            repository.close()
            drop = sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role))
            asked(database_url, drop)


def test_only_an_importer_of_the_same_role_is_ended_and_that_needs_no_right(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever others call their connections, they are not ours to end; and README.md lists all the rights."""
    monkeypatch.setattr("rollcall.adapters.postgres.connecting.LOCK_SECONDS", PATIENCE_SECONDS)
    role = f"rollcall_test_{secrets.token_hex(6)}"
    for statement in (
        "create role {} login password 'theirs'",
        "grant select, insert, update, delete on users, imports, corrections to {}",
        "grant usage, select on all sequences in schema public to {}",
        "grant select on _yoyo_migration to {}",
    ):
        asked(database_url, sql.SQL(statement).format(sql.Identifier(role)))
    parts = urlsplit(database_url)
    url = parts._replace(netloc=f"{role}:theirs@{parts.netloc.rpartition('@')[2]}").geturl()
    with closing(PostgresUserRepository(url)) as theirs, closing(PostgresUserRepository(database_url)) as other:
        with other.importing(an_upload(), "sha", seconds_left=-9) as importing:
            with pytest.raises(ImportInProgressError):
                load(theirs, [BEN], sha256="sha")
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=0)))
        with (
            suppress(RepositoryUnavailableError),
            closing(PostgresUserRepository(url)) as frozen,
            frozen.importing(an_upload("2"), "2", seconds_left=-9) as importing,
        ):
            load(theirs, [BEN], an_upload("2"), "2")
    asked(database_url, sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))

    assert asked(database_url, "select name from users") == [("Ben",)]
