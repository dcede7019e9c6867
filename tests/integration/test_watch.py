"""A watched folder: each complete file is imported once."""

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from subprocess import Popen
from urllib.parse import urlsplit

import attrs
import psycopg
import pytest

from rollcall.adapters.local import LocalObjectStore
from rollcall.adapters.postgres.migration import migrate
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from rollcall.entrypoints.watch import watch
from support.builders import MORE_CELLS, completed_text
from support.command_line import (
    LARGE,
    CommandLine,
    Outcome,
    ended,
    go_on_with,
    imports,
    stop_midway,
    users,
    wait_until,
)

ANN = completed_text("name,country,age\nAnn,Chile,30\n")


class _Enough(Exception):  # noqa: N818 - it is no error
    """Ends a watch."""


def _nothing() -> None:
    """A step without a change."""


def _taken(
    folder: Path,
    *between: Callable[[], object],
    done: Callable[[str], bool] = lambda _: True,
    last_line_has_end: Callable[[ObjectReference], bool] = lambda _: True,
    reported: list[str] | None = None,
) -> list[str]:
    """Watch a folder while the steps run in its pauses; return each imported file as "name: text"."""
    taken: list[str] = []
    failures: list[str] = [] if reported is None else reported
    steps = iter([*between, _nothing, _nothing])

    def take(reference: ObjectReference) -> bool:
        taken.append(f"{reference.key}: {(folder / reference.key).read_text()}")
        return done(reference.key)

    def pause() -> None:
        step = next(steps, None)
        if not step:
            raise _Enough
        step()

    with pytest.raises(_Enough):
        watch(
            LocalObjectStore(folder),
            take,
            pause,
            last_line_has_end=last_line_has_end,
            report=lambda error: failures.append(str(error)),
        )
    return taken


def _write(path: Path, text: str) -> Callable[[], object]:
    """Return a step that writes a file; its time always advances, even on a file system with a coarse clock."""

    def write() -> None:
        before = path.stat().st_mtime_ns if path.exists() else 0
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        os.utime(path, ns=(before + 10**9, before + 10**9))

    return write


def test_a_file_is_imported_once_it_is_unchanged(tmp_path: Path) -> None:
    """Existing and new files."""
    _write(tmp_path / "a", "1")()

    assert _taken(tmp_path, _nothing, _write(tmp_path / "b", "2")) == ["a: 1", "b: 2"]


def test_a_growing_file_is_not_imported_yet(tmp_path: Path) -> None:
    """Also if it grows slowly, or if only its time changes."""
    path = tmp_path / "a"
    growth = [_write(path, "1"), _write(path, "12"), _write(path, "123"), _write(path, "321")]

    assert _taken(tmp_path, *growth) == ["a: 321"]


def test_a_changed_file_is_imported_again(tmp_path: Path) -> None:
    """Also a file that was removed and came again with the same content."""
    path = tmp_path / "a"

    assert _taken(tmp_path, _write(path, "1"), _nothing, _write(path, "2")) == ["a: 1", "a: 2"]
    assert _taken(tmp_path, _nothing, path.unlink, _write(path, "2")) == ["a: 2", "a: 2"]


def test_a_failed_file_is_retried_at_growing_intervals(tmp_path: Path) -> None:
    """After 2, 4, 8, 16, 32, 32 … intervals, until it succeeds or the file changes; other files do not wait."""
    _write(tmp_path / "a", "1")()
    _write(tmp_path / "b", "2")()
    intervals, tries = [0], list[int]()

    def count() -> None:
        intervals[0] += 1

    def fail(name: str) -> bool:
        if name == "a":
            tries.append(intervals[0])
        return name == "b"

    change = [count] * 100, _write(tmp_path / "a", "3"), [count] * 4
    taken = _taken(tmp_path, *change[0], change[1], *change[2], done=fail)

    assert tries == [1, 3, 7, 15, 31, 63, 95, 101, 103]
    assert taken.count("b: 2") == 1


def test_a_last_line_without_an_end_waits_ten_intervals(tmp_path: Path) -> None:
    """It may be cut off, so its changes in these intervals are awaited; other files do not wait."""

    def taken(*between: Callable[[], object]) -> list[str]:
        (tmp_path / "a").write_text("1")
        (tmp_path / "b").write_text("2\n")
        return _taken(
            tmp_path, *between, last_line_has_end=lambda file: (tmp_path / file.key).read_text().endswith("\n")
        )

    assert taken(*[_nothing] * 8) == ["b: 2\n"]
    assert taken(*[_nothing] * 9) == ["b: 2\n", "a: 1"]
    assert taken(*[_nothing] * 8, _write(tmp_path / "a", "1\n")) == ["b: 2\n", "a: 1\n"]


def test_a_folder_that_cannot_be_listed_is_reported_once(tmp_path: Path) -> None:
    """When an unavailable share is back, no file is imported again."""
    folder, away = tmp_path / "folder", tmp_path / "away"
    _write(folder / "a", "1")()
    reported: list[str] = []

    def leave() -> None:
        folder.rename(away)

    def come_back() -> None:
        away.rename(folder)

    assert _taken(folder, _nothing, leave, _nothing, come_back, reported=reported) == ["a: 1"]
    assert reported == [f"{folder}: there is no such folder"]


def test_reports_and_hidden_files_are_never_imported(tmp_path: Path) -> None:
    """A receipt is not an upload, nor is the unfinished file of an editor or a transfer."""
    _write(tmp_path / "users.csv.rollcall" / "receipt.json", "{}")()
    _write(tmp_path / ".users.csv.part", ANN)()
    _write(tmp_path / "march" / "users.csv", "1")()

    assert _taken(tmp_path) == ["march/users.csv: 1"]


@contextmanager
def _watching(rollcall: CommandLine, *options: str) -> Iterator[Popen[bytes]]:
    """Run `rollcall watch` on a folder."""
    (rollcall.folder / "incoming").mkdir(exist_ok=True)
    with rollcall.start("watch", "incoming", "--interval", "0.1", *options) as process:
        try:
            yield process
        finally:
            process.kill()


def _stopped(process: Popen[bytes], by: signal.Signals = signal.SIGTERM) -> Outcome:
    process.send_signal(by)
    return ended(process)


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_new_files_are_imported_and_reported(
    rollcall: CommandLine, messy: Path, database_url: str, by: signal.Signals
) -> None:
    """File by file, with reports beside them; Ctrl-C, SIGTERM and SIGHUP end the watch with success."""
    with _watching(rollcall) as process:
        messy.rename(rollcall.folder / "incoming" / "messy.csv")
        wait_until(lambda: list(rollcall.folder.glob("incoming/messy.csv.rollcall/*/receipt.json")))
        (rollcall.folder / "incoming" / "ann.csv").write_text(ANN)
        told = list[str]()
        assert process.stdout
        while "loaded  incoming/ann.csv" not in told:
            line = process.stdout.readline().decode()
            assert line, "the watch has ended by itself"
            told.append(line.rstrip("\n"))
        outcome = _stopped(process, by)

    assert (outcome.code, outcome.err) == (0, "")
    assert imports(database_url) == [("partially_loaded", 4), ("loaded", 1)]
    told += outcome.out.splitlines()
    assert told[0] == f"watching {rollcall.folder / 'incoming'}; end with Ctrl-C"
    assert [line for line in told[1:] if not line.startswith(" ")] == [
        "partially loaded  incoming/messy.csv",
        "loaded  incoming/ann.csv",
    ]
    assert len(users(database_url)) == 5


def test_a_restarted_watch_imports_no_file_again(rollcall: CommandLine, database_url: str) -> None:
    """A restarted watch looks at every file, and registers nobody twice."""
    for statuses in ["loaded"], ["skipped"]:
        with _watching(rollcall, "--json") as process:
            (rollcall.folder / "incoming" / "ann.csv").write_text(ANN)
            assert process.stdout
            line = process.stdout.readline()
            outcome = _stopped(process)
            told = attrs.evolve(outcome, out=line.decode() + outcome.out)

        assert (told.code, told.err) == (0, "")
        assert [receipt["status"] for receipt in told.records] == statuses
        assert users(database_url) == [("Ann", "Chile", 30)]


def test_an_unreachable_database_is_awaited(
    rollcall: CommandLine, database_server: str, new_database: Callable[[], AbstractContextManager[str]]
) -> None:
    """The error is shown once, not at every try; then the file is imported."""
    with new_database() as url, psycopg.connect(database_server, autocommit=True) as connection:
        migrate(url, USERS)
        name = urlsplit(url).path.removeprefix("/")
        connection.execute(f"alter database {name} allow_connections false".encode())
        there = attrs.evolve(rollcall, environment={"ROLLCALL_DATABASE_URL": url})
        with _watching(there, "--json") as process:
            (rollcall.folder / "incoming" / "ann.csv").write_text(ANN)
            assert process.stdout
            assert process.stderr
            complaint = process.stderr.readline().decode()
            time.sleep(0.5)  # some more tries
            connection.execute(f"alter database {name} allow_connections true".encode())
            receipt = json.loads(process.stdout.readline())
            outcome = _stopped(process)

        assert complaint.startswith("rollcall: the database could not be reached: ")
        assert complaint.endswith("; trying again\n")
        assert outcome == Outcome(0, "", "")
        assert receipt["status"] == "loaded"
        assert users(url) == [("Ann", "Chile", 30)]


def test_an_unreadable_file_does_not_delay_others(rollcall: CommandLine, database_url: str) -> None:
    """The error is shown once."""
    incoming = rollcall.folder / "incoming"
    incoming.mkdir()
    os.mkfifo(incoming / "a pipe")
    with _watching(rollcall, "--json") as process:
        (incoming / "ann.csv").write_text(ANN)
        assert process.stdout
        process.stdout.readline()
        outcome = _stopped(process)

    assert outcome.code == 0
    assert (
        outcome.sentence
        == f"{incoming / 'a pipe'}: it is not a regular file; save the list in one and name that; trying again"
    )
    assert users(database_url) == [("Ann", "Chile", 30)]


def test_a_watch_ended_midway_registers_nobody(rollcall: CommandLine, large: Path, database_url: str) -> None:
    """The next watch imports the whole file."""
    (rollcall.folder / "incoming").mkdir()
    large.rename(rollcall.folder / "incoming" / "large.csv")
    with _watching(rollcall, "--json") as process:
        stop_midway(process, database_url)
        go_on_with(process, signal.SIGTERM)
        outcome = ended(process)

    assert outcome == Outcome(0, "", "")
    assert (users(database_url), imports(database_url)) == ([], [])

    with _watching(rollcall, "--json") as process:
        assert process.stdout
        process.stdout.readline()
        _stopped(process)

    assert len(users(database_url)) == LARGE


def test_an_unreadable_subfolder_is_skipped(rollcall: CommandLine, database_url: str) -> None:
    """Such as `lost+found`; root may read everything, so the process raises the error itself."""
    refusing = """
import os
from rollcall.entrypoints.__main__ import main
scandir = os.scandir
def refuse(path):
    if path.name == "lost+found":
        raise PermissionError(13, "Permission denied", str(path))
    return scandir(path)
os.scandir = refuse
main()
"""
    forbidden = rollcall.folder / "incoming" / "lost+found"
    forbidden.mkdir(parents=True)
    command = ["watch", "incoming", "--interval", "0.1", "--json"]
    with rollcall.start(*command, program=[sys.executable, "-c", refusing]) as process:
        (rollcall.folder / "incoming" / "ann.csv").write_text(ANN)
        assert process.stdout
        assert json.loads(process.stdout.readline())["status"] == "loaded"
        outcome = _stopped(process)

    assert outcome.code == 0
    assert outcome.sentence == f"{forbidden}: permission denied; skipped, the rest of the folder is watched"
    assert users(database_url) == [("Ann", "Chile", 30)]


def test_a_full_disk_is_reported_once(rollcall: CommandLine) -> None:
    """Though the system names another temporary file each time."""
    full = """
import os, tempfile
from rollcall.entrypoints.__main__ import main
tries = iter(range(3))
def refuse():
    if next(tries, None) is None:
        os.kill(os.getpid(), 15)
    raise OSError(28, "No space left on device", tempfile.mktemp())
tempfile.TemporaryFile = refuse
main()
"""
    (rollcall.folder / "incoming").mkdir()
    (rollcall.folder / "incoming" / "bad.csv").write_text(f"{ANN}{MORE_CELLS}Bob,Chile,x\n")
    outcome = ended(rollcall.start("watch", "incoming", "--interval", "0.1", program=[sys.executable, "-c", full]))

    assert outcome.code == 0
    assert outcome.sentence.startswith("the disk is full (")
    assert outcome.sentence.endswith("); trying again")


@pytest.mark.parametrize(
    ("watched", "reports"), [("in", "in"), ("in", "in/out"), ("in", "link/out"), ("{R}", "{F}"), ("/", "out")]
)
def test_reports_in_the_watched_folder_are_refused(rollcall: CommandLine, watched: str, reports: str) -> None:
    """Otherwise each receipt would be an upload with a receipt of its own, without end."""
    (rollcall.folder / "in").mkdir()
    (rollcall.folder / "link").symlink_to("in")
    # In the reports' folder, each file has its full path again.
    nested = {"F": str(rollcall.folder), "R": f"{rollcall.folder}{rollcall.folder}"}

    outcome = rollcall("watch", watched.format(**nested), "--reports", reports.format(**nested))

    assert outcome.code == 2
    assert "would be stored in the watched folder" in outcome.sentence


def test_the_folder_may_come_from_the_setting(rollcall: CommandLine) -> None:
    """As for the other entry points; without either, the message asks for one."""
    unset = rollcall("watch")
    elsewhere = rollcall("watch", ROLLCALL_UPLOADS="s3://bucket")
    missing = rollcall("watch", ROLLCALL_UPLOADS=f"file://{rollcall.folder}/missing")

    assert [outcome.code for outcome in (unset, elsewhere, missing)] == [2, 2, 1]
    assert "ROLLCALL_UPLOADS" in unset.sentence
    assert "ROLLCALL_UPLOADS" in elsewhere.sentence
    assert missing.sentence == f"{rollcall.folder}/missing: there is no such folder"


def test_a_missing_folder_is_named(rollcall: CommandLine) -> None:
    """At once, before anyone wonders why nothing happens."""
    outcome = rollcall("watch", "incoming")

    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.sentence == f"{rollcall.folder / 'incoming'}: there is no such folder"


# It is interrupted while a destructor runs, in which Python ignores every exception.
INTERRUPTED_IN_A_DESTRUCTOR = """
import os, signal, time
sleep = time.sleep
class Lost:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
def pause(seconds):
    time.sleep = sleep
    Lost()
    sleep(seconds)
time.sleep = pause
from rollcall.entrypoints.__main__ import main
main()
"""


def test_an_interrupt_that_a_destructor_ignores_ends_it_too(rollcall: CommandLine) -> None:
    (rollcall.folder / "incoming").mkdir()
    program = (sys.executable, "-c", INTERRUPTED_IN_A_DESTRUCTOR)

    assert ended(rollcall.start("watch", "incoming", "--interval", "0.1", program=program)).code == 0
