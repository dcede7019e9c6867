"""What every user repository must do, and what PostgreSQL must do in addition."""

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
from itertools import islice
from typing import NoReturn
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import sql

from rollcall.adapters.memory import MemoryUserRepository
from rollcall.adapters.postgres.locks import try_locks
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.naming import Database
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.adapters.postgres.schema import migration_ids
from rollcall.application.errors import (
    ImportInProgressError,
    NotMigratedError,
    RepositoryUnavailableError,
    SchemaError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
)
from rollcall.application.ports import Importing, UserRepository
from rollcall.application.values import Block, ImportRequest, LostUploads, RegisteredUser
from rollcall.domain.correction import Origin
from rollcall.domain.errors import RollcallError
from rollcall.domain.ledger import History, LedgerEntry
from rollcall.domain.policy import OnNewVersion, Policy
from rollcall.domain.receipt import ConservationError, Counts, Status
from rollcall.domain.upload import Upload, owner
from rollcall.domain.user import USERS, User
from support.builders import (
    ANN,
    ANYTHING,
    BEN,
    CEM,
    NOON,
    a_block,
    a_user,
    an_upload,
    asked,
    eventually,
    load,
    row_of,
    serving,
)
from support.campaigns import Campaign
from support.database_roles import EachJobAsItsRole
from support.receipts import a_receipt, require_ledger_as_published
from support.strategies import users

PATIENCE_SECONDS = 0.5
WAITING = "select 1 from pg_stat_activity where datname = current_database() and wait_event = 'advisory'"


@attrs.frozen(kw_only=True)
class Harness:
    """A repository, and direct access to its store.

    Attributes:
        repository: The repository under test, empty at first.
        rival: Returns another repository on the same store, as in another process.
        of_one_user: Returns a repository that does every job as the same user of the database.
        contents: Returns all users in the order of their registration.
        commits_fail: Makes every commit of an import fail in its context.
        waits: Returns whether a rival waits for a lock; always true in memory.
        remove: Removes users by name, without the repository.
        noted: Returns the identities of the uploads that are recorded as lost.
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
    """A repository in memory; its rival is the same repository in another thread."""
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
    tables = repository._tables  # noqa: SLF001 - the port gives no direct access to the tables

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
    """A database in which each job has its own role."""
    url = emptied()
    made: list[PostgresUserRepository] = []

    def another(kind: Callable[[str], PostgresUserRepository] = EachJobAsItsRole) -> PostgresUserRepository:
        made.append(kind(url))
        return made[-1]

    def contents() -> list[User]:
        columns = sql.SQL(", ").join(map(sql.Identifier, USERS.columns))
        query = sql.SQL("select {} from users order by id").format(columns)
        return [User(**dict(zip(USERS.columns, row, strict=True))) for row in asked(url, query)]

    @contextmanager
    def commits_fail() -> Iterator[None]:
        # A deferred trigger fails in the COMMIT itself.
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
            of_one_user=lambda: another(partial(PostgresUserRepository, record_type=USERS)),
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
    """Each adapter, as a function that opens an empty repository for each Hypothesis example."""
    if request.param == "memory":
        yield in_memory
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", PATIENCE_SECONDS)
        yield partial(in_postgres, request.getfixturevalue("emptied"))


@pytest.fixture
def harness(stored: Stored) -> Iterator[Harness]:
    """An empty repository of each adapter."""
    with stored() as harness:
        yield harness


def refuse(repository: UserRepository, upload: Upload | None = None, sha256: str | None = None) -> int:
    """Write a refused upload into the ledger, and return the import id."""
    upload = upload or an_upload()
    with repository.importing(ImportRequest(upload, sha256)) as importing:
        importing.commit(
            a_receipt(upload, importing.verdict.import_id, Counts(read=3, withheld=2, rejected=1), Status.REFUSED)
        )
    assert importing.verdict.import_id is not None
    return importing.verdict.import_id


def record_lost(
    harness: Harness, *uploads: Upload, at: datetime = NOON, patience: timedelta = timedelta()
) -> tuple[set[str], set[str]]:
    """Record lost uploads, and return which to queue, at most twice each, and which to give up."""
    identities = [upload.identity for upload in uploads]
    lost = harness.repository.record_lost(identities, at, at_most=2, patience=patience)
    return set(lost.queue), set(lost.give_up)


def nothing_is_kept(harness: Harness) -> bool:
    """Return whether users and ledger are empty, and no lock is held."""
    empty = (harness.contents(), list(harness.repository.entries())) == ([], [])
    with harness.rival().importing(ImportRequest(an_upload(), "sha")) as importing:
        return empty and importing.history.same_upload is None


def everything_said_by(error: BaseException) -> str:
    """Return all that a log could show of an error, its cause and its context."""
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
    """Committed users are stored."""

    @given(batches=st.lists(st.lists(users(), max_size=8), max_size=4))
    @example(batches=[[ANN, BEN], [CEM, ANN]])
    def test_every_field_of_every_user_survives_in_order(self, stored: Stored, batches: list[list[User]]) -> None:
        """Also quotes, commas, backslashes, other scripts and characters that COPY treats specially."""
        together = [user for batch in batches for user in batch]
        with stored() as harness:
            with harness.repository.importing(ImportRequest(an_upload(), None)) as importing:
                for batch in batches:
                    importing.register(a_block(batch))
                counts = Counts(read=len(together), registered=len(together))
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))

            assert harness.contents() == together
            assert list(harness.repository.users()) == together
            assert list(harness.repository.users(importing.verdict.import_id)) == together

    def test_users_in_several_batches_are_read_in_order(self, harness: Harness) -> None:
        """Nothing is lost or duplicated between two batches."""
        many = [a_user(f"User {number}", "Norway", number % 151) for number in range(12_345)]
        import_id = load(harness.repository, many)

        assert list(harness.repository.users(import_id)) == many

    def test_a_rival_sees_no_users_before_the_commit(self, harness: Harness) -> None:
        with harness.repository.importing(ImportRequest(an_upload(), None)) as importing:
            importing.register(a_block([ANN]))
            before = list(harness.rival().users()), list(harness.rival().entries())
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))
            after = list(harness.rival().users())

        assert before == ([], [])
        assert after == [ANN]

    def test_an_import_without_users_has_a_ledger_entry(self, harness: Harness) -> None:
        """A file may have only a header."""
        import_id = load(harness.repository, [])

        assert harness.contents() == []
        assert [entry.import_id for entry in harness.repository.entries()] == [import_id]

    def test_users_of_several_imports_keep_their_order(self, harness: Harness) -> None:
        """The order is that of registration, in any process."""
        rival = harness.rival()
        first = load(harness.repository, [ANN], an_upload("1"))
        second = load(rival, [BEN, CEM], an_upload("2"))
        third = load(harness.repository, [CEM], an_upload("3"))

        assert list(harness.repository.users()) == [ANN, BEN, CEM, CEM]
        assert list(harness.repository.users(first)) == [ANN]
        assert list(harness.repository.users(second)) == [BEN, CEM]
        assert list(harness.repository.users(third)) == [CEM]
        assert list(harness.repository.users(999_999)) == []

    def test_users_are_paged_by_their_ids(self, harness: Harness) -> None:
        """While others arrive, each of the first users appears once, in order."""
        first = load(harness.repository, [ANN, BEN, CEM], an_upload("1"))
        second = load(harness.rival(), [BEN] * 5, an_upload("2"))

        def pages(import_id: int | None) -> list[list[RegisteredUser]]:
            pages = [harness.repository.users_after(0, limit=3, import_id=import_id)]
            while len(pages[-1]) == 3:
                load(harness.rival(), [CEM], an_upload(f"late {import_id} {len(pages)}"))
                pages.append(harness.repository.users_after(pages[-1][-1].id, limit=3, import_id=import_id))
            return pages

        [one, none], [three, two] = pages(first), pages(second)
        everyone = [found for page in pages(None) for found in page]

        assert ([found.user for found in one], none) == ([ANN, BEN, CEM], [])
        assert [(found.import_id, found.user) for found in three + two] == [(second, BEN)] * 5
        assert everyone[:8] == one + three + two
        assert [found.id for found in everyone] == sorted({found.id for found in everyone})
        assert harness.repository.users_after(0, limit=3, import_id=999_999) == []
        assert harness.repository.users_after(10**15, limit=3) == []

    def test_users_are_those_at_the_time_of_the_first_read(self, harness: Harness) -> None:
        """An undo or an import after the first read changes nothing."""
        many = [a_user(f"User {number}", "Norway", 1) for number in range(6000)]
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
    """An error in the middle of an import."""


BAD_BLOCKS = {
    "not UTF-8": b"Canary \xff\xfe,Norway,3\n",
    "half a character": b"Canary \xe6\x97",
    "a surrogate": b"Canary \xed\xa0\x80,Norway,3\n",
    "NUL": b"Canary \x00,Norway,3\n",
    "too few cells": b"Canary,3\n",
    "too many cells": f"{','.join(row_of('Canary', 'Norway', '3'))},4\n".encode(),
    "no number": b"Canary,Norway,Canary\n",
    "a number beyond all bounds": b"Canary,Norway,99999999999999999999\n",
    "nothing": b"Canary,Norway,\n",
    "an open quote": b'"Canary,Norway,3\n',
}


class TestFailing:
    """An import without a commit leaves nothing."""

    def test_leaving_without_commit_keeps_nothing(self, harness: Harness) -> None:
        with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
            importing.register(a_block([ANN, BEN]))

        assert nothing_is_kept(harness)

    @pytest.mark.parametrize("error", [ValueError("x"), OSError(5, "x"), psycopg.OperationalError("x")], ids=repr)
    @pytest.mark.parametrize("registered", [0, 1, 50_000])
    def test_an_error_of_the_caller_is_raised_unchanged(
        self, harness: Harness, error: Exception, registered: int
    ) -> None:
        """Before any block, or after blocks that are sent or buffered; nothing is kept."""

        def fail(harness: Harness) -> NoReturn:
            with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
                if registered:
                    importing.register(a_block([ANN] * registered))
                raise error

        with pytest.raises(type(error)) as caught:
            fail(harness)

        assert caught.value is error
        assert nothing_is_kept(harness)

    @pytest.mark.parametrize("name", BAD_BLOCKS)
    def test_a_bad_block_keeps_nothing_and_shows_no_cell(self, harness: Harness, name: str) -> None:
        """Screening rejects such rows; if it missed one, no log may show it, and the repository still works."""

        def register_among_good_ones() -> None:
            with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
                importing.register(a_block([ANN]))
                importing.register(Block(BAD_BLOCKS[name], [range(3, 4)]))
                importing.register(a_block([BEN]))
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=3, registered=3)))

        with pytest.raises(RollcallError) as caught:
            register_among_good_ones()

        assert "Canary" not in everything_said_by(caught.value)
        assert nothing_is_kept(harness)
        load(harness.repository, [ANN])
        assert harness.contents() == [ANN]

    def test_a_commit_that_fails_keeps_nothing(self, harness: Harness) -> None:
        """Neither users nor a ledger entry; the next delivery is imported."""
        with harness.commits_fail(), pytest.raises(RepositoryUnavailableError):
            load(harness.repository, [ANN, BEN], sha256="sha")

        assert nothing_is_kept(harness)
        load(harness.repository, [ANN, BEN], sha256="sha")
        assert harness.contents() == [ANN, BEN]

    def test_a_commit_that_fails_keeps_the_previous_entry(self, harness: Harness) -> None:
        """A refused upload that is judged again stays refused."""
        import_id = refuse(harness.repository)
        before = list(harness.repository.entries())
        with harness.commits_fail(), pytest.raises(RepositoryUnavailableError):
            load(harness.repository, [ANN])

        assert list(harness.repository.entries()) == before
        assert harness.repository.get_import(import_id).receipt.status is Status.REFUSED
        assert harness.contents() == []

    @pytest.mark.parametrize("claimed", [0, 1, 3])
    def test_a_receipt_with_wrong_counts_is_not_committed(self, harness: Harness, claimed: int) -> None:
        """LostUploads or invented rows are faults of Rollcall, and must not be stored."""

        def commit(harness: Harness) -> None:
            with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
                importing.register(a_block([ANN, BEN]))
                counts = Counts(read=claimed, registered=claimed)
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))

        with pytest.raises(ConservationError):
            commit(harness)

        assert nothing_is_kept(harness)

    def test_withheld_rows_are_not_registered(self, harness: Harness) -> None:
        """A refused upload has a ledger entry and no users."""
        with harness.repository.importing(ImportRequest(an_upload(), None)) as importing:
            importing.register(a_block([ANN] * 1000))
            importing.register(a_block([BEN]))
            importing.discard_rows()
            counts = Counts(read=1001, withheld=1001)
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts, Status.REFUSED))

        assert harness.contents() == []
        assert [entry.receipt.status for entry in harness.repository.entries()] == [Status.REFUSED]

    def test_withholding_no_rows_changes_nothing(self, harness: Harness) -> None:
        with harness.repository.importing(ImportRequest(an_upload(), None)) as importing:
            importing.discard_rows()
            importing.discard_rows()
            importing.register(a_block([ANN]))
            importing.discard_rows()
            importing.register(a_block([BEN]))
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))

        assert harness.contents() == [BEN]

    def test_an_error_after_the_commit_changes_nothing(self, harness: Harness) -> None:
        def commit_and_fail(harness: Harness) -> NoReturn:
            with harness.repository.importing(ImportRequest(an_upload(), None)) as importing:
                importing.register(a_block([ANN]))
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))
                raise BlockError

        with pytest.raises(BlockError):
            commit_and_fail(harness)

        assert harness.contents() == [ANN]
        assert len(list(harness.repository.entries())) == 1


class TestLedger:
    """The ledger keeps the receipt of every upload."""

    def test_the_ledger_returns_a_receipt_unchanged(self, harness: Harness) -> None:
        upload = an_upload("名簿/é list.csv", "v+/=")
        counts = Counts(read=7, registered=2, rejected=5, blank=9)
        with harness.repository.importing(ImportRequest(upload, "sha")) as importing:
            importing.register(a_block([ANN, BEN]))
            receipt = a_receipt(upload, importing.verdict.import_id, counts, Status.PARTIALLY_LOADED)
            importing.commit(receipt)
        verdict = importing.verdict
        entry = LedgerEntry(import_id=verdict.import_id, receipt=receipt, secret=verdict.secret)

        assert harness.repository.get_import(entry.import_id) == entry
        assert harness.rival().find_import(upload.identity) == entry
        assert list(harness.rival().entries()) == [entry]

    def test_the_ledger_names_the_uploader(self, harness: Harness) -> None:
        """Also of an upload that is judged again."""
        upload = attrs.evolve(an_upload(), owned_by=owner("ann"))
        refused = harness.repository.get_import(refuse(harness.repository, upload))
        loaded = harness.rival().get_import(load(harness.repository, [ANN], upload))
        nobody = harness.repository.get_import(load(harness.repository, [BEN], an_upload("2")))

        assert [refused.uploaded_by, loaded.uploaded_by, nobody.uploaded_by] == [owner("ann")] * 2 + [None]

    def test_entries_are_paged_while_others_arrive(self, harness: Harness, campaign: Campaign) -> None:
        """Each of the first entries appears once, in order."""
        rival = harness.rival()
        first = [
            refuse(harness.repository, an_upload(f"{number}")) for number in range(campaign.choose(300, 10_000))
        ]
        arriving = iter(range(50))
        seen: list[int] = []
        page = list(harness.repository.entries(limit=100))
        while page:
            seen += [entry.import_id for entry in page]
            for number in islice(arriving, 10):
                refuse(rival, an_upload(f"late {number}"))
            page = list(harness.repository.entries(before=seen[-1], limit=100))

        assert seen == first[::-1]

    def test_entries_of_one_uploader_are_paged(self, harness: Harness) -> None:
        numbers = [
            load(harness.repository, [], attrs.evolve(an_upload(f"{number}"), owned_by=by))
            for number, by in enumerate(["ann", "ben", None, "ann", "ann", "ben"])
        ]

        def page(by: str | None, **which: int) -> list[int]:
            entries = harness.rival().entries(uploaded_by=by, **which)
            return [numbers.index(entry.import_id) for entry in entries]

        assert page("ann") == [4, 3, 0]
        assert page("ann", limit=2) == [4, 3]
        assert page("ann", before=numbers[3], limit=2) == [0]
        assert page("cem") == page("ann", limit=0) == page(None, before=numbers[0]) == []
        assert page(None, before=numbers[2]) == [1, 0]

    def test_each_verdict_has_an_import_id_of_its_own(self, harness: Harness) -> None:
        """The ledger keeps only the latest verdict of an upload."""
        first = refuse(harness.repository)
        load(harness.repository, [BEN], an_upload("other"))
        again = refuse(harness.repository)
        loaded = load(harness.repository, [ANN])
        harness.repository.undo(loaded, NOON)
        last = load(harness.repository, [ANN])

        assert len({first, again, loaded, last}) == 4
        assert [entry.import_id for entry in harness.repository.entries()] == [last, 2]
        assert harness.repository.get_import(last).secret
        for replaced in (first, again, loaded):
            with pytest.raises(UnknownImportError):
                harness.repository.undo(replaced, NOON)
        assert sorted(user.name for user in harness.contents()) == ["Ann", "Ben"]

    def test_an_entry_in_force_is_never_replaced(self, harness: Harness) -> None:
        """Also if the caller ignores the history."""
        load(harness.repository, [ANN])
        with pytest.raises(ImportInProgressError):
            load(harness.repository, [ANN])

        assert [user.name for user in harness.contents()] == ["Ann"]

    def test_an_upload_with_a_verdict_has_a_ledger_entry(self, harness: Harness) -> None:
        """Refused, loaded or undone."""
        identity = an_upload().identity
        with harness.repository.importing(ImportRequest(an_upload(), "sha")):
            assert harness.rival().find_import(identity) is None
        refuse(harness.repository)
        refused = harness.rival().find_import(identity)
        import_id = load(harness.repository, [ANN])
        loaded = harness.rival().find_import(identity)
        harness.repository.undo(import_id, NOON)
        undone = harness.rival().find_import(identity)

        assert refused
        assert refused.receipt.status is Status.REFUSED
        assert loaded
        assert undone == attrs.evolve(loaded, undone=True) == harness.repository.get_import(import_id)
        assert harness.rival().find_import(an_upload("other").identity) is None

    def test_an_unknown_import_is_named_by_its_id(self, harness: Harness) -> None:
        for number in (0, -1, 1, 2**31, 2**62):
            with pytest.raises(UnknownImportError, match=str(number)):
                harness.repository.get_import(number)
            with pytest.raises(UnknownImportError, match=str(number)):
                harness.repository.undo(number, NOON)


class TestHistory:
    """The ledger's entries about an upload that arrives."""

    def test_the_first_upload_has_an_empty_history(self, harness: Harness) -> None:
        """The import has an id nevertheless."""
        with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
            assert importing.history == History()
            assert importing.verdict.import_id is not None

    def test_the_history_shows_the_entry_of_the_same_upload(self, harness: Harness) -> None:
        """Loaded, undone or refused."""
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
        assert harness.repository.get_import(again).receipt.status is Status.REFUSED

    def test_the_same_content_is_the_oldest_import_in_force(self, harness: Harness) -> None:
        """Under any key; undone and refused imports do not count."""
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

    def test_unknown_content_equals_no_other_content(self, harness: Harness) -> None:
        """Two uploads that could not be read are not the same."""
        load(harness.repository, [ANN], an_upload("1"), None)

        assert history(harness, an_upload("2"), None) == (None, None, None)

    def test_the_same_key_is_the_newest_version_in_force(self, harness: Harness) -> None:
        """Undone and refused versions do not count, and a key belongs to its bucket."""
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


def history(harness: Harness, upload: Upload, sha256: str | None) -> tuple[int | None, ...]:
    """Return the import ids of the history: same upload, same content, same key."""
    with harness.rival().importing(ImportRequest(upload, sha256)) as importing:
        entries = importing.history.same_upload, importing.history.same_content, importing.history.same_key
    return tuple(entry.import_id if entry else None for entry in entries)


class TestUndoing:
    """An import can be undone, completely and once."""

    def test_an_undo_removes_only_the_users_of_its_import(self, harness: Harness) -> None:
        """Also if users of other imports are equal."""
        load(harness.repository, [ANN, BEN], an_upload("1"))
        import_id = load(harness.repository, [ANN, CEM, ANN], an_upload("2"))
        load(harness.repository, [ANN], an_upload("3"))
        removed = harness.repository.undo(import_id, NOON)

        assert removed == 3
        assert harness.contents() == [ANN, BEN, ANN]
        assert list(harness.repository.users(import_id)) == []
        assert [entry.undone for entry in harness.repository.entries()] == [False, True, False]

    def test_an_import_that_registered_nobody_is_not_undone(self, harness: Harness) -> None:
        """Undone already, or refused; an import of a file without rows can be undone, to free its key."""
        import_id = load(harness.repository, [ANN])
        harness.repository.undo(import_id, NOON)

        with pytest.raises(UndoRefusedError, match="undone already"):
            harness.repository.undo(import_id, NOON)
        with pytest.raises(UndoRefusedError, match="registered nobody"):
            harness.repository.undo(refuse(harness.repository), NOON)
        assert harness.repository.undo(load(harness.repository, []), NOON) == 0

    def test_an_undone_import_can_be_repeated_and_undone_again(self, harness: Harness) -> None:
        for _ in range(3):
            import_id = load(harness.repository, [ANN, BEN])

            assert harness.repository.get_import(import_id).active
            assert harness.contents() == [ANN, BEN]
            assert harness.repository.undo(import_id, NOON) == 2
            assert harness.contents() == []

    def test_an_undo_with_missing_users_needs_confirmation(self, harness: Harness) -> None:
        """The message has both counts, and nothing changes before the confirmation."""
        import_id = load(harness.repository, [ANN, BEN, CEM])
        harness.remove("Ben")
        with pytest.raises(UndoUnconfirmedError, match="registered 3 users, and only 2 of them are still"):
            harness.repository.undo(import_id, NOON)

        assert harness.contents() == [ANN, CEM]
        assert not harness.repository.get_import(import_id).undone
        assert harness.repository.undo(import_id, NOON, confirmed=True) == 2
        assert harness.contents() == []
        assert harness.repository.get_import(import_id).undone

    def test_an_upload_in_progress_cannot_be_undone(self, harness: Harness) -> None:
        """The undo fails within seconds, and succeeds afterwards."""
        import_id = load(harness.repository, [ANN])
        rival = harness.rival()
        with (
            harness.repository.importing(ImportRequest(an_upload(), None)),
            pytest.raises(ImportInProgressError),
        ):
            rival.undo(import_id, NOON)

        assert harness.contents() == [ANN]
        assert rival.undo(import_id, NOON) == 1


class TestRivals:
    """Of two rivals with the same upload or content, one registers it."""

    @pytest.mark.parametrize(
        ("upload", "sha256"),
        [(an_upload(), "sha"), (an_upload(), "other"), (an_upload(), None), (an_upload("other"), "sha")],
        ids=["the same upload and content", "the same upload", "the same upload, unread", "the same content"],
    )
    def test_a_rival_fails_while_the_same_is_imported(
        self, harness: Harness, upload: Upload, sha256: str | None
    ) -> None:
        """It fails within seconds, and succeeds afterwards."""
        rival = harness.rival()
        with harness.repository.importing(ImportRequest(an_upload(), "sha")):
            started = time.monotonic()
            with pytest.raises(ImportInProgressError), rival.importing(ImportRequest(upload, sha256)):
                pass
            waited = time.monotonic() - started
        with rival.importing(ImportRequest(upload, sha256)):
            pass

        assert PATIENCE_SECONDS * 0.9 <= waited < PATIENCE_SECONDS + 5

    @pytest.mark.parametrize(
        ("upload", "sha256"), [(an_upload(), None), (an_upload("other"), "sha")], ids=["upload", "content"]
    )
    def test_a_rival_that_waited_sees_the_committed_import(
        self, harness: Harness, upload: Upload, sha256: str | None
    ) -> None:
        """Its history dates from the moment it gets the lock, not from its arrival."""
        histories: list[tuple[int | None, ...]] = []
        with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
            importing.register(a_block([ANN]))
            waiting = threading.Thread(target=lambda: histories.append(history(harness, upload, sha256)))
            waiting.start()
            seen = eventually(harness.waits)
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))
        waiting.join()

        assert seen
        assert histories in (
            [(importing.verdict.import_id, None, None)],
            [(None, importing.verdict.import_id, None)],
        )

    def test_different_uploads_are_imported_at_the_same_time(self, harness: Harness) -> None:
        with harness.repository.importing(ImportRequest(an_upload("1"), "1")) as importing:
            importing.register(a_block([ANN]))
            load(harness.rival(), [BEN], an_upload("2"), "2")
            importing.commit(a_receipt(an_upload("1"), importing.verdict.import_id, Counts(read=1, registered=1)))

        assert sorted(user.name for user in harness.contents()) == ["Ann", "Ben"]

    @pytest.mark.parametrize("same", ["upload", "content"])
    def test_one_of_many_simultaneous_imports_registers(self, harness: Harness, same: str) -> None:
        """A queue delivers twice, and people upload a file twice."""
        batch = [a_user(f"User {number}", "Norway", 1) for number in range(300)]
        failures: list[BaseException] = []

        def deliver(repository: UserRepository, upload: Upload) -> None:
            with repository.importing(ImportRequest(upload, "sha")) as importing:
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
            except BaseException as error:  # noqa: BLE001 - the test is about any error of a thread
                failures.append(error)

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

    def test_one_of_several_simultaneous_undos_succeeds(self, harness: Harness) -> None:
        """The others are refused, because the import is already undone."""
        outcomes: list[int | type[Exception]] = []
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
    """Let every import start at once, without any lock."""
    for module in "repository", "merge":
        monkeypatch.setattr(f"rollcall.adapters.postgres.{module}.acquire_locks", lambda *_, **__: None)
    monkeypatch.setattr(MemoryUserRepository, "_locking", lambda *_, **__: nullcontext())


@pytest.mark.usefixtures("without_locks")
class TestWithoutLocks:
    """Locks only make rivals wait; the ledger itself enforces the policy."""

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
    def test_of_two_imports_the_ledger_accepts_what_is_allowed(
        self, harness: Harness, upload: Upload, sha256: str, policy: Policy, *, both: bool
    ) -> None:
        """A refused upload blocks no import."""

        def load_both() -> None:
            with harness.repository.importing(ImportRequest(an_upload(), "sha", policy)) as first:
                with harness.rival().importing(ImportRequest(upload, sha256, policy)) as second:
                    second.register(a_block([BEN]))
                    second.commit(a_receipt(upload, second.verdict.import_id, Counts(read=1, registered=1)))
                refuse(harness.rival(), an_upload("refused"), "sha")
                first.register(a_block([ANN]))
                first.commit(a_receipt(an_upload(), first.verdict.import_id, Counts(read=1, registered=1)))

        with nullcontext() if both else pytest.raises(ImportInProgressError):
            load_both()

        assert sorted(user.name for user in harness.contents()) == ["Ann", "Ben"][not both :]

    def test_an_undone_import_blocks_no_import(self, harness: Harness) -> None:
        """Neither by its content nor by its key."""
        harness.repository.undo(load(harness.repository, [ANN], sha256="sha", policy=Policy()), NOON)
        load(harness.repository, [BEN], an_upload(version="2"), "sha", Policy())

        assert harness.contents() == [BEN]


class TestOverdue:
    """A frozen import blocks rivals only until its deadline, and changes nothing afterwards."""

    @pytest.mark.parametrize(
        ("upload", "sha256"),
        [(an_upload(), "sha"), (an_upload("other"), "sha"), (an_upload(), None)],
        ids=["the same upload and content", "the same content", "the same upload, unread"],
    )
    @pytest.mark.parametrize("registered", [0, 50_000])
    @pytest.mark.parametrize("settled", [False, True], ids=["copying", "settled"])
    def test_an_overdue_import_yields_to_a_rival(
        self, harness: Harness, registered: int, *, settled: bool, upload: Upload, sha256: str | None
    ) -> None:
        """At any step of the import; afterwards it changes nothing."""
        with pytest.raises(RepositoryUnavailableError) as failed:
            self._freeze(
                harness.repository,
                registered,
                lambda: load(harness.rival(), [BEN], upload, sha256),
                settled=settled,
            )

        assert "Ann" not in everything_said_by(failed.value)
        assert harness.contents() == [BEN]
        assert [entry.receipt.counts.registered for entry in harness.repository.entries()] == [1]
        load(harness.repository, [CEM], an_upload("another"))
        assert harness.contents() == [BEN, CEM]

    def test_a_committed_import_is_no_longer_overdue(self, harness: Harness) -> None:
        """Its connection may already serve another import."""
        load(harness.repository, [ANN], an_upload("other"), seconds_left=-9)
        with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
            with pytest.raises(ImportInProgressError):
                load(harness.rival(), [BEN], sha256="sha")
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=0)))

        assert [entry.receipt.counts.read for entry in harness.repository.entries()] == [0, 1]

    def test_a_committed_import_holds_no_lock(self, harness: Harness) -> None:
        """It may freeze after the commit, and a rival does not terminate it."""
        with harness.repository.importing(ImportRequest(an_upload(), "sha")) as importing:
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=0)))
            with harness.rival().importing(ImportRequest(an_upload(), "sha")) as rival:
                known = rival.history.same_upload

        assert known == harness.repository.get_import(importing.verdict.import_id or 0)

    def test_an_import_is_not_terminated_before_its_deadline(self, harness: Harness) -> None:
        with harness.repository.importing(ImportRequest(an_upload(), "sha", seconds_left=3600)) as importing:
            importing.register(a_block([ANN]))
            with pytest.raises(ImportInProgressError):
                load(harness.rival(), [BEN], sha256="sha")
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))

        assert harness.contents() == [ANN]

    def test_an_overdue_import_continues_without_a_rival(self, harness: Harness) -> None:
        """A late import is better than a repeated one."""
        load(harness.repository, [ANN], sha256="sha", seconds_left=-9)

        assert harness.contents() == [ANN]

    def test_several_overdue_imports_yield_to_one_rival(self, harness: Harness) -> None:
        """One has the same upload, the other the same content."""
        with (
            suppress(RepositoryUnavailableError),
            harness.rival().importing(ImportRequest(an_upload(), "a", seconds_left=-9)),
            harness.rival().importing(ImportRequest(an_upload("other"), "b", seconds_left=-9)),
        ):
            load(harness.repository, [BEN], an_upload(), "b")

        assert harness.contents() == [BEN]

    def test_an_overdue_import_yields_to_an_undo(self, harness: Harness) -> None:
        """An undo by the importing user waits no longer than a delivery."""
        import_id = load(harness.repository, [ANN])
        with suppress(RepositoryUnavailableError), self._overdue(harness.of_one_user()):
            removed = harness.of_one_user().undo(import_id, NOON)

        assert removed == 1
        assert harness.contents() == []

    def _overdue(self, repository: UserRepository) -> AbstractContextManager[Importing]:
        return repository.importing(ImportRequest(an_upload(), "sha", seconds_left=-9))

    def _freeze(
        self, repository: UserRepository, registered: int, meanwhile: Callable[[], object], *, settled: bool
    ) -> None:
        """Import Ann `registered` times after the deadline, and call `meanwhile` before the commit."""
        with self._overdue(repository) as importing:
            if registered:
                importing.register(a_block([ANN] * registered))
            if settled:
                importing.merge()
            meanwhile()
            counts = Counts(read=registered, registered=registered)
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))


class TestLost:
    """Uploads without a ledger entry are found, and recorded before they are queued."""

    def test_an_upload_without_an_entry_is_lost(self, harness: Harness) -> None:
        """Loaded, refused and undone uploads have an entry."""
        loaded, refused, undone, lost = (an_upload(version=version) for version in "1234")
        load(harness.repository, [ANN], loaded)
        refuse(harness.repository, refused)
        harness.repository.undo(load(harness.repository, [ANN], undone), NOON)

        assert record_lost(harness, loaded, refused, undone, lost) == ({lost.identity}, set())
        assert record_lost(harness, loaded, refused, undone) == record_lost(harness) == (set(), set())

    def test_more_uploads_than_a_page_are_looked_up_at_once(self, harness: Harness) -> None:
        """One query for each upload would take a day in a large bucket."""
        many = [an_upload(version=str(number)) for number in range(1000)]
        assert record_lost(harness, *many) == ({upload.identity for upload in many}, set())

    def test_an_upload_in_progress_is_not_lost(self, harness: Harness) -> None:
        """It is not recorded either; if its import ends without a commit, it is lost."""
        with harness.rival().importing(ImportRequest(an_upload(), "sha")):
            assert record_lost(harness, an_upload()) == (set(), set())
        assert record_lost(harness, an_upload()) == ({an_upload().identity}, set())

    def test_the_search_for_lost_uploads_keeps_no_lock(self, harness: Harness) -> None:
        record_lost(harness, an_upload())
        load(harness.rival(), [ANN])

        assert harness.contents() == [ANN]

    def test_an_upload_is_queued_twice_and_then_given_up(self, harness: Harness) -> None:
        one, other = an_upload("one"), an_upload("other")
        assert record_lost(harness, one) == ({one.identity}, set())
        assert record_lost(harness, one, other) == ({one.identity, other.identity}, set())
        assert record_lost(harness, one, other) == ({other.identity}, {one.identity})
        for _ in range(3):
            assert record_lost(harness, one, other) == (set(), {one.identity, other.identity})

    def test_an_upload_is_newly_given_up_once(self, harness: Harness) -> None:
        """The time of its last queueing stays, so that later calls still return it as given up."""
        upload, hour = an_upload(), timedelta(hours=1)
        outcomes = [
            harness.repository.record_lost([upload.identity], NOON + hours * hour, at_most=2, patience=hour)
            for hours in range(5)
        ]

        assert [set(lost.give_up) for lost in outcomes] == [set(), set(), *[{upload.identity}] * 3]
        assert [set(lost.newly_given_up) for lost in outcomes] == [
            *(set(), set(), {upload.identity}, set(), set()),
        ]

    def test_an_upload_just_queued_is_neither_queued_nor_given_up(self, harness: Harness) -> None:
        """Its message may still wait, or be in progress."""
        upload, hour = an_upload(), timedelta(hours=1)
        moment = timedelta(microseconds=1)
        outcomes = [
            record_lost(harness, upload, at=NOON + after, patience=hour)
            for after in (0 * hour, hour - moment, hour, 2 * hour - moment, 2 * hour)
        ]

        queued = ({upload.identity}, set[str]())
        assert outcomes == [queued, (set(), set()), queued, (set(), set()), (set(), {upload.identity})]

    def test_a_lost_upload_with_an_entry_is_no_longer_recorded(self, harness: Harness) -> None:
        """Otherwise the records would grow without end; other lost uploads stay recorded."""
        imported, poison = an_upload("imported"), an_upload("poison")
        record_lost(harness, imported, poison)
        load(harness.repository, [ANN], imported)
        record_lost(harness, poison)

        assert harness.noted() == {poison.identity}
        assert record_lost(harness, imported, poison) == (set(), {poison.identity})

    def test_one_of_many_simultaneous_searches_queues(self, harness: Harness) -> None:
        """A schedule may start a sweep before the previous sweep ends."""
        found: list[tuple[set[str], set[str]]] = []

        def look(repository: UserRepository) -> None:
            lost = repository.record_lost([an_upload().identity], NOON, at_most=2, patience=timedelta(1))
            found.append((set(lost.queue), set(lost.give_up)))

        threads = [threading.Thread(target=look, args=(harness.rival(),)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert sorted(found, key=str) == sorted([({an_upload().identity}, set()), *[(set(), set())] * 7], key=str)


def clients(url: str) -> int:
    """Count Rollcall's connections to a database."""
    query = "select 1 from pg_stat_activity where datname = current_database() and application_name = 'rollcall'"
    return len(asked(url, query))


def cut_off_clients(url: str, state: str = "%") -> int:
    """Terminate Rollcall's connections on the server, as a restart does, and return their number."""
    query = (
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
        " where datname = current_database() and application_name = 'rollcall' and state like %s"
    )
    return len(asked(url, query, state))


@pytest.fixture
def repository(database_url: str) -> Iterator[PostgresUserRepository]:
    """A repository in an empty database."""
    repository = PostgresUserRepository(database_url, USERS)
    yield repository
    repository.close()


class TestPostgresConnections:
    """Broken connections are replaced, and no connection leaks."""

    def test_an_upload_committed_during_the_search_is_not_lost(
        self, database_url: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An import may commit between the query of the ledger and the attempt to lock."""
        finder, rival = PostgresUserRepository(database_url, USERS), PostgresUserRepository(database_url, USERS)

        def commit_first(connection: Database, names: Iterable[str]) -> list[str]:
            load(rival, [ANN])
            return try_locks(connection, names)

        monkeypatch.setattr("rollcall.adapters.postgres.repository.try_locks", commit_first)
        lost = finder.record_lost([an_upload().identity], NOON, at_most=2, patience=timedelta())
        finder.close()
        rival.close()

        assert lost == LostUploads()
        assert asked(database_url, "select * from lost_uploads") == []

    def test_at_most_one_connection_is_kept(self, repository: PostgresUserRepository, database_url: str) -> None:
        """Also after calls that fail."""
        import_id = load(repository, [ANN] * 20_000)
        next(repository.users())
        list(repository.entries())
        for attempt in (
            lambda: repository.get_import(999),
            lambda: repository.find_import("999"),
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

    def test_no_transaction_is_left_open(self, repository: PostgresUserRepository, database_url: str) -> None:
        """An open transaction would hold locks and delay vacuum."""
        load(repository, [ANN])
        list(repository.users())

        query = "select state from pg_stat_activity where datname = current_database() and application_name = %s"
        assert asked(database_url, query, "rollcall") == [("idle",)]

    @pytest.mark.parametrize("what", ["users", "entries"])
    def test_an_unfinished_generator_leaves_nothing_open(
        self, repository: PostgresUserRepository, database_url: str, what: str
    ) -> None:
        """Closed or garbage-collected, a generator releases its connection or closes it."""
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

    def test_simultaneous_calls_have_connections_of_their_own(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """Afterwards one connection is left."""
        load(repository, [ANN, BEN], an_upload("1"))
        with repository.importing(ImportRequest(an_upload("2"), None)) as importing:
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
        """Among all users and among those of one import; the message shows no cell."""
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

    def test_a_connection_that_broke_while_idle_is_replaced(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A database may restart at night."""
        load(repository, [ANN], an_upload("1"))
        cut_off = cut_off_clients(database_url)
        load(repository, [BEN], an_upload("2"))

        assert cut_off == 1
        assert list(repository.users()) == [ANN, BEN]

    @pytest.mark.parametrize("registered", [0, 1, 50_000])
    @pytest.mark.parametrize("then", ["commit", "register", "discard_rows", "leave"])
    def test_a_connection_that_breaks_midway_keeps_nothing(
        self, repository: PostgresUserRepository, database_url: str, registered: int, then: str
    ) -> None:
        """The next call raises an error of the port, and then the repository works again."""

        def be_cut_off() -> None:
            with repository.importing(ImportRequest(an_upload(), "sha")) as importing:
                if registered:
                    importing.register(a_block([ANN] * registered))
                assert cut_off_clients(database_url) == 1
                if then == "commit":
                    counts = Counts(read=registered, registered=registered)
                    importing.commit(a_receipt(an_upload(), importing.verdict.import_id, counts))
                elif then == "register":
                    # The first writes after the connection broke may still succeed.
                    for _ in range(100):
                        importing.register(a_block([ANN] * 10_000))
                elif then == "discard_rows":
                    importing.discard_rows()

        with pytest.raises(RepositoryUnavailableError, match=r"connection to the database was lost|57P01"):
            be_cut_off()

        assert list(repository.users()) == []
        assert list(repository.entries()) == []
        assert load(repository, [ANN]) > 0

    def test_reading_fails_when_the_connection_breaks(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A shorter list would look complete."""
        load(repository, [ANN] * 20_000)
        generator = repository.users()
        next(generator)
        cut_off_clients(database_url)

        with pytest.raises(RepositoryUnavailableError):
            list(generator)
        assert len(list(repository.users())) == 20_000

    def test_a_broken_connection_holds_no_lock(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A killed worker blocks no other worker."""
        rival = PostgresUserRepository(database_url, USERS)

        def be_replaced() -> None:
            with repository.importing(ImportRequest(an_upload(), "sha")) as importing:
                importing.register(a_block([ANN]))
                cut_off_clients(database_url)
                load(rival, [BEN], sha256="sha")
                importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=1, registered=1)))

        with pytest.raises(RepositoryUnavailableError):
            be_replaced()
        rival.close()

        assert list(repository.users()) == [BEN]

    def test_locks_work_under_serializable_isolation(
        self, repository: PostgresUserRepository, database_url: str
    ) -> None:
        """A snapshot from before the wait would not show the rival's commit."""
        entries: list[LedgerEntry | None] = []
        options = "options=-c%20default_transaction_isolation%3Dserializable"
        strict = PostgresUserRepository(f"{database_url}{'&' if '?' in database_url else '?'}{options}", USERS)

        def wait() -> None:
            with strict.importing(ImportRequest(an_upload("other"), "sha")) as importing:
                entries.append(importing.history.same_content)

        with repository.importing(ImportRequest(an_upload(), "sha")) as importing:
            waiting = threading.Thread(target=wait)
            waiting.start()
            assert eventually(lambda: bool(asked(database_url, WAITING)))
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id))
        waiting.join()
        strict.close()

        assert [entry and entry.import_id for entry in entries] == [importing.verdict.import_id]


class TestPostgresUndo:
    """If the database keeps users, the undo fails and the ledger does not change."""

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
    def test_protected_users_cannot_be_undone(
        self, new_database: Callable[[], AbstractContextManager[str]], theirs: str, reason: str
    ) -> None:
        """A rule or a foreign key of the operator may protect them."""
        with new_database() as url, closing(PostgresUserRepository(url, USERS)) as repository:
            migrate(url, USERS)
            import_id = load(repository, [ANN, BEN])
            asked(url, theirs)
            with pytest.raises(UndoRefusedError, match=reason):
                repository.undo(import_id, NOON, confirmed=True)

            assert list(repository.users()) == [ANN, BEN]
            assert not repository.get_import(import_id).undone


def refusing_password(connection: socket.socket) -> None:
    """Answer like a PostgreSQL server that rejects the password."""
    while True:
        length, code = struct.unpack("!II", connection.recv(8))
        connection.recv(length - 8) if length > 8 else b""
        if code == 196608:  # the version of the protocol, not a request for encryption
            break
        connection.sendall(b"N")
    connection.sendall(b"R" + struct.pack("!II", 8, 3))
    connection.recv(1024)
    fields = b'SFATAL\0VFATAL\0C28P01\0Mpassword authentication failed for user "u"\0\0'
    connection.sendall(b"E" + struct.pack("!I", len(fields) + 4) + fields)


def hanging_up(connection: socket.socket) -> None:
    """Close the connection without an answer."""


def speaking_http(connection: socket.socket) -> None:
    """Answer like a web server."""
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@contextmanager
def server(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on a port of this machine that ignores clients which disconnect."""

    def unmoved(connection: socket.socket) -> None:
        with suppress(OSError, struct.error):
            answer(connection)

    with serving(unmoved) as port:
        yield port


def everything_one_can_ask(repository: UserRepository) -> list[Callable[[], object]]:
    """Return a call of each method of a repository."""
    return [
        lambda: load(repository, [ANN]),
        lambda: repository.undo(1, NOON),
        lambda: repository.record_lost(["identity"], NOON, at_most=2, patience=timedelta()),
        lambda: repository.get_import(1),
        lambda: repository.corrected([Origin(1, 2)]),
        lambda: list(repository.entries()),
        lambda: list(repository.users()),
        lambda: list(repository.users(1)),
        lambda: repository.users_after(0, limit=1),
    ]


class TestPostgresNotReady:
    """A database that cannot be used causes one sentence that says what to do."""

    def test_a_database_without_tables_needs_a_migration(
        self, new_database: Callable[[], AbstractContextManager[str]]
    ) -> None:
        """For every call; the same repository works after the migration."""
        with new_database() as url:
            repository = PostgresUserRepository(url, USERS)
            for ask in everything_one_can_ask(repository):
                with pytest.raises(NotMigratedError):
                    ask()
            migrate(url, USERS)

            assert load(repository, [ANN]) == 1
            assert eventually(lambda: clients(url) <= 1)
            repository.close()

    def test_missing_migrations_are_named(self, new_database: Callable[[], AbstractContextManager[str]]) -> None:
        first, *lacking = migration_ids()
        with new_database() as url:
            migrate(url, USERS, up_to=first)
            repository = PostgresUserRepository(url, USERS)
            for ask in everything_one_can_ask(repository):
                with pytest.raises(NotMigratedError, match=f"{', '.join(lacking)}$"):
                    ask()
            repository.close()

    @pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
    def test_a_database_without_utf_8_is_not_used(self, database_server: str, encoding: str) -> None:
        """It could not store every name, or could not compare names."""
        name = f"rollcall_test_{secrets.token_hex(6)}"
        create = sql.SQL("create database {} template template0 encoding {} locale 'C'")
        asked(database_server, create.format(sql.Identifier(name), sql.Literal(encoding)))
        url = urlsplit(database_server)._replace(path=f"/{name}").geturl()
        try:
            with pytest.raises(SchemaError, match=f"{name} has the encoding {encoding}"):
                migrate(url, USERS)
            for ask in everything_one_can_ask(PostgresUserRepository(url, USERS)):
                with pytest.raises(SchemaError, match=f"{name} has the encoding {encoding}.*ENCODING 'UTF8'"):
                    ask()
        finally:
            asked(database_server, sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    @pytest.mark.parametrize("answer", [refusing_password, hanging_up, speaking_http])
    def test_a_failed_connection_is_reported_without_the_password(
        self, answer: Callable[[socket.socket], None]
    ) -> None:
        """In one line, for every call."""
        with server(answer) as port:
            self._is_told_in_one_line(f"postgresql://u:SecretWord@127.0.0.1:{port}/db")

    def test_a_wrong_password_is_reported_as_such(self) -> None:
        with server(refusing_password) as port, pytest.raises(RepositoryUnavailableError, match="password auth"):
            load(PostgresUserRepository(f"postgresql://u:SecretWord@127.0.0.1:{port}/db", USERS), [ANN])

    def test_a_closed_port_is_reported_without_the_password(self) -> None:
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
    def test_a_bad_address_is_reported_without_the_password(self, url: str) -> None:
        """The cause is often a character in the password."""
        self._is_told_in_one_line(url)

    def test_a_missing_database_is_named(self, database_server: str) -> None:
        url = urlsplit(database_server)._replace(path="/no_such_database").geturl()

        with pytest.raises(RepositoryUnavailableError, match="no_such_database"):
            load(PostgresUserRepository(url, USERS), [ANN])

    def _is_told_in_one_line(self, url: str) -> None:
        asks: list[Callable[[], object]] = [lambda: migrate(url, USERS)]
        for ask in asks + everything_one_can_ask(PostgresUserRepository(url, USERS)):
            with pytest.raises(RepositoryUnavailableError) as caught:
                ask()
            said = str(caught.value)

            assert said.count("\n") == 0
            assert len(said) < 400
            assert "Secret" not in everything_said_by(caught.value)
            assert "Word" not in everything_said_by(caught.value)

    def test_a_missing_right_is_reported_in_the_servers_words(self, database_url: str) -> None:
        """They name the right that the operator has to grant."""
        role = f"rollcall_test_{secrets.token_hex(6)}"
        asked(database_url, sql.SQL("create role {}").format(sql.Identifier(role)))
        asked(database_url, sql.SQL("grant select on _yoyo_migration, imports to {}").format(sql.Identifier(role)))
        url = f"{database_url}{'&' if '?' in database_url else '?'}options=-c%20role%3D{role}"
        repository = PostgresUserRepository(url, USERS)
        try:
            with pytest.raises(RepositoryUnavailableError, match="permission denied for"):
                load(repository, [ANN])
            with pytest.raises(RepositoryUnavailableError, match="permission denied for table users"):
                list(repository.users())
        finally:
            repository.close()
            drop = sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role))
            asked(database_url, drop)


def test_only_an_importer_of_the_same_role_is_terminated(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Connections of other roles stay; the importer needs no right beyond these grants."""
    monkeypatch.setattr("rollcall.adapters.postgres.locks.LOCK_SECONDS", PATIENCE_SECONDS)
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
    with (
        closing(PostgresUserRepository(url, USERS)) as theirs,
        closing(PostgresUserRepository(database_url, USERS)) as other,
    ):
        with other.importing(ImportRequest(an_upload(), "sha", seconds_left=-9)) as importing:
            with pytest.raises(ImportInProgressError):
                load(theirs, [BEN], sha256="sha")
            importing.commit(a_receipt(an_upload(), importing.verdict.import_id, Counts(read=0)))
        with (
            suppress(RepositoryUnavailableError),
            closing(PostgresUserRepository(url, USERS)) as frozen,
            frozen.importing(ImportRequest(an_upload("2"), "2", seconds_left=-9)) as importing,
        ):
            load(theirs, [BEN], an_upload("2"), "2")
    asked(database_url, sql.SQL("drop owned by {0}; drop role {0}").format(sql.Identifier(role)))

    assert asked(database_url, "select name from users") == [("Ben",)]


class TestReading:
    """An import is opened while its upload is read, and identified when the content is known."""

    @given(batches=st.lists(st.lists(users(), max_size=3), max_size=3), named=st.booleans())
    def test_users_registered_before_their_upload_is_known(
        self,
        stored: Stored,
        batches: list[list[User]],
        named: bool,  # noqa: FBT001 - what varies
    ) -> None:
        """The version may be known or not; the ledger has the whole upload afterwards."""
        upload = an_upload()
        unread = upload if named else attrs.evolve(upload, version=None)
        together = [user for batch in batches for user in batch]
        with stored() as harness:
            earlier = load(harness.repository, [], an_upload("other"), "sha")
            with harness.repository.importing(ImportRequest(unread, None, ANYTHING, reading=True)) as importing:
                for batch in batches:
                    importing.register(a_block(batch))
                importing.identify(ImportRequest(upload, "sha", ANYTHING))
                same = importing.history.same_content
                counts = Counts(read=len(together), registered=len(together))
                importing.commit(a_receipt(upload, importing.verdict.import_id, counts))

            assert same
            assert same.import_id == earlier
            assert harness.contents() == together
            assert history(harness, upload, "sha")[:2] == (importing.verdict.import_id, earlier)

    @pytest.mark.parametrize("discarded", [False, True])
    @pytest.mark.parametrize(
        ("rival", "sha256"), [(an_upload("x"), None), (an_upload("y"), "sha")], ids=["upload", "content"]
    )
    def test_an_identified_upload_is_locked_to_the_end(
        self,
        stored: Stored,
        rival: Upload,
        sha256: str | None,
        discarded: bool,  # noqa: FBT001 - what varies
    ) -> None:
        """Also after its rows are discarded."""
        upload = an_upload("x")
        unread = ImportRequest(attrs.evolve(upload, version=None), None, reading=True)
        with stored() as harness, harness.repository.importing(unread) as importing:
            importing.register(a_block([ANN]))
            importing.identify(ImportRequest(upload, "sha"))
            if discarded:
                importing.discard_rows()
            with (
                pytest.raises(ImportInProgressError),
                harness.rival().importing(ImportRequest(rival, sha256)),
            ):
                pass

    def test_an_upload_that_a_rival_imports_is_not_identified(self, stored: Stored) -> None:
        """It fails within seconds and leaves nothing."""
        unread = ImportRequest(attrs.evolve(an_upload(), version=None), None, reading=True)
        with stored() as harness, harness.repository.importing(ImportRequest(an_upload(), "sha")):
            with harness.rival().importing(unread) as importing:
                importing.register(a_block([ANN]))
                with pytest.raises(ImportInProgressError):
                    importing.identify(ImportRequest(an_upload(), "sha"))

            assert harness.contents() == []

    @pytest.mark.parametrize("verdict", ["loaded", "refused", "undone"])
    @pytest.mark.parametrize(
        ("upload", "expected"),
        [
            (attrs.evolve(an_upload(version="2"), size=1), True),
            (an_upload("other"), True),
            (attrs.evolve(an_upload("other"), size=1), False),
        ],
        ids=["another version", "the same size", "neither"],
    )
    def test_an_upload_resembles_any_entry_of_its_key_or_size(
        self,
        stored: Stored,
        upload: Upload,
        expected: bool,  # noqa: FBT001 - the answer
        verdict: str,
    ) -> None:
        with stored() as harness:
            import_id = refuse(harness.repository) if verdict == "refused" else load(harness.repository, [ANN])
            if verdict == "undone":
                harness.repository.undo(import_id, NOON)

            assert harness.repository.resembles_import(upload) is expected

    def test_an_empty_ledger_resembles_nothing(self, stored: Stored) -> None:
        with stored() as harness:
            assert harness.repository.resembles_import(an_upload()) is False
