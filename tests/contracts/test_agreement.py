"""Memory and PostgreSQL must agree after every step of the same imports.

The unit tests use the in-memory adapter, so they depend on this agreement.
"""

import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import BinaryIO

import attrs
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.adapters.postgres.migration import migrate
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import (
    ObjectNotFoundError,
    RepositoryUnavailableError,
    StoreUnavailableError,
    UndoRefusedError,
    UnknownImportError,
)
from rollcall.application.import_users import Progress
from rollcall.application.ports import ObjectStore, StoredObject, UserRepository
from rollcall.application.reports import Reports
from rollcall.application.values import ListedObject
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import NOON, asked, completed
from support.receipts import CheckedImport
from support.strategies import csv_uploads, refused_uploads

KEYS = ("list.csv", "folder/é list.csv")
SMALL = (
    completed(b"name,country,age\nAnn,Norway,41\n"),
    completed(b"name,country,age\nBen,Japan,0\nCem,T\xc3\xbcrkiye,150\n"),
    completed(b"name,country,age\nAnn,Norway,41\nBen,Japan,x\n"),
    completed(b"name,country,age\n"),
    completed(b"name,country,age,\0\r\nAnn,Norway,41,\0\r\n"),
    completed(b"name,country,age\nAnn,Norway,41\nDee,Japan,x\nEli,Japan,x\n"),
)
# Changes to rejected rows: none, correct all or one of them, save them without the last cell, or change
# the line, import or proof of a row.
CORRECTIONS = (
    (rb"", b""),
    (rb"(?m),x,", b",7,"),
    (rb"Dee,Japan,x,", b"Dee,Japan,7,"),
    (rb"(?m),[^,\r\n]*(?=\r\n)", b""),
    (rb",x,\d+,(.*)-\d+-", rb",7,2,\1-2-"),
    (rb",x,(.*)i\d+-", rb",7,\1i2-"),
    (rb",x,(.*)[0-9a-f](?=\r\n)", rb",7,\g<1>z"),
    (rb",x,(.*)i(\d+)-.*(?=\r\n)", rb",7,\1\2"),
)

policies = st.builds(
    Policy,
    max_rejected=st.sampled_from(("all", "all", "0", "1", "50%")).map(Tolerance.parse),
    on_repeat=st.sampled_from(OnRepeat),
    on_new_version=st.sampled_from(OnNewVersion),
)


class BrokeOffError(Exception):
    """The worker stopped."""


class FailingReports:
    """A reports store that sometimes refuses a report."""

    def __init__(self) -> None:
        self.kept = MemoryObjectStore("reports", now=lambda: NOON)
        self.fail = False

    def open(self, reference: ObjectReference) -> AbstractContextManager[StoredObject]:
        return self.kept.open(reference)

    def fits(self, key: str) -> bool:
        return self.kept.fits(key)

    def require_writable(self, key: str) -> None:
        """Accept everything; only `put` fails."""

    def put(self, key: str, content: BinaryIO) -> str:
        """Store a report, or fail."""
        if self.fail:
            raise StoreUnavailableError(key, "no room")
        return self.kept.put(key, content)

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        return self.kept.list(prefix, after=after)

    def contents(self) -> dict[str, object]:
        """Return the newest version of each report, with the parts of a receipt in a fixed order."""
        found: dict[str, object] = {}
        for reference in (listed.reference for listed in self.kept.list()):
            with self.kept.open(ObjectReference(key=reference.key)) as report:
                data = b"".join(report.read())
                found[reference.key] = json.loads(data) if reference.key.endswith(".json") else data
        return found


@attrs.define
class Side:
    """One of the two repositories, with its own reports store."""

    users: UserRepository
    reports: FailingReports = attrs.Factory(FailingReports)

    def deliver(
        self, uploads: ObjectStore, reference: ObjectReference, policy: Policy, *, again: bool, breaks_off: bool
    ) -> Receipt | str:
        """Import as on a machine, and return the receipt or the error."""

        def progress(progress: Progress) -> None:
            if breaks_off and progress.step == "importing":
                raise BrokeOffError

        case = CheckedImport(
            uploads=uploads,
            reports=Reports(store=self.reports),
            users=self.users,
            policy=policy,
            now=lambda: NOON,
            spool=tempfile.TemporaryFile,
        )
        try:
            return case(reference, again=again, progress=progress)
        except (BrokeOffError, ObjectNotFoundError, RepositoryUnavailableError, StoreUnavailableError) as error:
            return type(error).__name__

    def undo(self, import_id: int) -> int | str:
        """Undo, and return the number of removed users or the error."""
        try:
            return self.users.undo(import_id, NOON)
        except (UnknownImportError, UndoRefusedError) as error:
            return str(error)


now_and_then = st.sampled_from((False, False, False, False, True))


class Agreement(RuleBasedStateMachine):
    """Steps of a bucket, a queue and an operator, taken with both repositories."""

    url: str

    def __init__(self) -> None:
        super().__init__()
        asked(self.url, "truncate users, imports, corrections, refusal restart identity")
        self.uploads = MemoryObjectStore("bucket", now=lambda: NOON)
        self.references: list[ObjectReference] = []
        self.commits_fail = False
        self.postgres = PostgresUserRepository(self.url, USERS, new_secret=lambda: b"secret")
        self.memory = Side(MemoryUserRepository(before_commit=self._refuse_commit, new_secret=lambda: b"secret"))
        self.real = Side(self.postgres)

    def teardown(self) -> None:
        """Close every connection."""
        self.postgres.close()

    def _refuse_commit(self) -> None:
        if self.commits_fail:
            raise RepositoryUnavailableError("the commit failed")

    @contextmanager
    def _failing(self, *, commits: bool, reports: bool) -> Iterator[None]:
        self.commits_fail = commits
        self.memory.reports.fail = self.real.reports.fail = reports
        if commits:
            asked(self.url, "insert into refusal values (1)")
        yield
        if commits:
            asked(self.url, "delete from refusal")
        self.commits_fail = self.memory.reports.fail = self.real.reports.fail = False

    @rule(
        key=st.sampled_from(KEYS),
        data=st.sampled_from(SMALL)
        | csv_uploads(max_rows=3).map(lambda upload: upload.data)
        | refused_uploads().map(lambda upload: upload[0]),
    )
    def drop(self, key: str, data: bytes) -> None:
        """A person uploads a file, often under the same name."""
        self.uploads.put(key, io.BytesIO(data))
        self.references = [listed.reference for listed in self.uploads.list()]

    @precondition(lambda self: self._rejected_rows())
    @rule(
        which=st.integers(0, 20),
        corrections=st.lists(st.sampled_from(CORRECTIONS), min_size=1, max_size=2),
        key=st.sampled_from(KEYS),
        policy=st.just(Policy()) | policies,
    )
    def upload_rejected_rows_again(
        self, which: int, corrections: list[tuple[bytes, bytes]], key: str, policy: Policy
    ) -> None:
        """A person corrects rejected rows, or changes their origins."""
        files = self._rejected_rows()
        data = files[which % len(files)]
        for pattern, replacement in corrections:
            data = re.sub(pattern, replacement, data)
        self.drop(key, data)
        self._deliver_newest(key, policy)

    def _rejected_rows(self) -> list[bytes]:
        reports = self.memory.reports.contents()
        return [data for data in reports.values() if isinstance(data, bytes)]

    @precondition(lambda self: self.references)
    @rule(
        which=st.integers(0, 20),
        policy=st.just(Policy()) | policies,
        again=st.booleans(),
        breaks_off=now_and_then,
        commits_fail=now_and_then,
        reports_fail=now_and_then,
    )
    def deliver(
        self, *, which: int, policy: Policy, again: bool, breaks_off: bool, commits_fail: bool, reports_fail: bool
    ) -> None:
        """A queue delivers any version, in any order and number, sometimes with a failure."""
        reference = self.references[which % len(self.references)]
        with self._failing(commits=commits_fail, reports=reports_fail):
            outcomes = [
                side.deliver(self.uploads, reference, policy, again=again, breaks_off=breaks_off)
                for side in (self.memory, self.real)
            ]

        assert outcomes[0] == outcomes[1]

    @rule(key=st.sampled_from((*KEYS, "missing.csv")))
    def deliver_newest(self, key: str) -> None:
        """A person names a key without a version."""
        self._deliver_newest(key, Policy())

    def _deliver_newest(self, key: str, policy: Policy) -> None:
        reference = ObjectReference(key=key)
        outcomes = [
            side.deliver(self.uploads, reference, policy, again=False, breaks_off=False)
            for side in (self.memory, self.real)
        ]

        assert outcomes[0] == outcomes[1]

    @rule(import_id=st.integers(0, 8))
    def undo(self, import_id: int) -> None:
        """An operator undoes an import that may or may not exist."""
        assert self.memory.undo(import_id) == self.real.undo(import_id)

    @rule()
    def replace_the_worker(self) -> None:
        """Another process continues, as after a deployment."""
        self.postgres.close()
        self.postgres = PostgresUserRepository(self.url, USERS, new_secret=lambda: b"secret")
        self.real.users = self.postgres

    @rule()
    def restart_the_database(self) -> None:
        """Idle connections break."""
        query = (
            "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
            " where datname = current_database() and application_name = 'rollcall'"
        )
        asked(self.url, query)

    @invariant()
    def the_same_users_stand_in_the_same_order(self) -> None:
        """All users, and those of each import."""
        assert list(self.memory.users.users()) == list(self.real.users.users())

    @invariant()
    def the_ledgers_are_the_same(self) -> None:
        """Each receipt, and the result of each look-up."""
        entries = list(self.memory.users.entries())

        assert entries == list(self.real.users.entries())
        for entry in entries[:2]:
            assert self.real.users.get_import(entry.import_id) == entry
            assert list(self.real.users.users(entry.import_id)) == list(self.memory.users.users(entry.import_id))

    @invariant()
    def the_reports_are_the_same(self) -> None:
        """Receipts and rejected rows, as people read them."""
        assert self.memory.reports.contents() == self.real.reports.contents()

    @invariant()
    def the_ledger_accounts_for_every_user(self) -> None:
        """The table contains as many users as the active imports registered."""
        claimed = sum(entry.receipt.counts.registered for entry in self.real.users.entries() if entry.active)

        assert len(list(self.real.users.users())) == claimed


def test_memory_and_postgres_agree_after_every_step(
    new_database: Callable[[], AbstractContextManager[str]],
) -> None:
    """About receipts, users, ledger and reports."""
    with new_database() as url:
        migrate(url, USERS)
        asked(
            url,
            "create table refusal (on_purpose int);"
            "create function refuse() returns trigger language plpgsql as"
            " $$begin if exists (select from refusal) then raise 'refused'; end if; return null; end$$;"
            "create constraint trigger refuse after insert or update on imports deferrable initially deferred"
            " for each row when (pg_trigger_depth() = 0) execute function refuse()",
        )
        machine = type("Agreement", (Agreement,), {"url": url})
        budget = settings(
            max_examples=max(12, settings().max_examples // 3),
            stateful_step_count=20,
            phases=[phase for phase in Phase if phase is not Phase.explain],  # explaining takes minutes
        )
        run_state_machine_as_test(machine, settings=budget)
