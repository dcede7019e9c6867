"""The command line in a process of its own, as people and scripts start it."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import attrs
import psycopg

from support.receipts import require_as_published

LARGE = 40_000  # rows of a file that takes about a second to import

# As in the tests, warnings are errors in the process, and a failure at exit shows a traceback.
_START = (sys.executable, "-W", "error", "-c", "from rollcall.entrypoints.__main__ import main; main()")
# A developer's variables that would change the output.
_OURS_ALONE = re.compile(r"ROLLCALL_|PG[A-Z]+$|(COLUMNS|LINES|TERM|NO_COLOR|FORCE_COLOR|TTY_\w+|PYTHONWARNINGS)$")
_PATIENCE_SECONDS = 60.0


@attrs.frozen
class Outcome:
    """Result of a command.

    Attributes:
        code: The exit code.
        out: The standard output.
        err: The standard error.
    """

    code: int
    out: str
    err: str

    @property
    def records(self) -> list[dict[str, Any]]:
        """The output, which must have one JSON object a line and nothing else."""
        records = [json.loads(line) for line in self.out.splitlines()]
        for record in records:
            assert isinstance(record, dict)
            if "status" in record:  # a receipt, not a user
                require_as_published(record)
        return records

    @property
    def sentence(self) -> str:
        """The complaint, which must be one line; after an interrupt it starts on a new line."""
        [line] = self.err.removeprefix("\n").splitlines()
        prefix, sentence = line[: len("rollcall: ")], line[len("rollcall: ") :]
        assert prefix == "rollcall: "
        return sentence


@attrs.frozen
class CommandLine:
    """A shell.

    Attributes:
        folder: The current folder.
        environment: Variables of the commands, in addition to inherited ones.
        before: A program that starts the command, like `env`, with its arguments.
        started: All started commands.
    """

    folder: Path
    environment: Mapping[str, str] = attrs.Factory(dict)
    before: Sequence[str] = ()
    started: list[Popen[bytes]] = attrs.Factory(list)

    def __call__(self, *arguments: str | bytes | Path, **environment: str) -> Outcome:
        """Run `rollcall` to its end."""
        return ended(self.start(*arguments, environment=environment))

    def start(
        self,
        *arguments: str | bytes | Path,
        environment: Mapping[str, str] | None = None,
        out: int = PIPE,
        err: int = PIPE,
        program: Sequence[str] = _START,
    ) -> Popen[bytes]:
        """Start `rollcall`.

        Args:
            arguments: The arguments.
            environment: Further variables.
            out: The standard output.
            err: The standard error.
            program: The program to start instead of `rollcall`.
        """
        inherited = {name: value for name, value in os.environ.items() if not _OURS_ALONE.match(name)}
        process = Popen(  # noqa: S603 - the tests' own words
            [*self.before, *program, *arguments],
            bufsize=0,  # so that reading one line leaves the next for `ended`
            stdin=PIPE,
            stdout=out,
            stderr=err,
            cwd=self.folder,
            env={**inherited, **self.environment, **(environment or {})},
        )
        self.started.append(process)
        return process

    def end_all(self) -> None:
        """Kill every command that a failed test left running or frozen."""
        for process in self.started:
            with process:
                process.kill()

    def on_a_terminal(
        self,
        *arguments: str | bytes | Path,
        meanwhile: Callable[[Popen[bytes]], object] = lambda _: None,
        **environment: str,
    ) -> tuple[int, str]:
        """Run `rollcall` on a terminal of 80 columns.

        Args:
            arguments: The arguments.
            meanwhile: Called with the process before it ends.
            environment: Further variables.

        Returns:
            The exit code, and everything that was sent to the terminal.
        """
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        with (
            ThreadPoolExecutor(1) as somebody_else,
            self.start(*arguments, environment={"TERM": "xterm", **environment}, out=its, err=its) as process,
        ):
            os.close(its)
            done = somebody_else.submit(meanwhile, process)
            sent = b"".join(iter(lambda: _read(ours), b""))
            os.close(ours)
            done.result()
        return process.returncode, sent.decode()


def ended(process: Popen[bytes]) -> Outcome:
    """Wait for the end of a command, and return its result."""
    with process:
        try:
            out, err = process.communicate(timeout=_PATIENCE_SECONDS)
        except BaseException:
            process.kill()
            raise
    return Outcome(process.returncode, (out or b"").decode(), err.decode())


def screen(sent: str) -> list[str]:
    """Return the lines on a terminal after everything that was sent to it, without colours."""
    lines, row, column = [""], 0, 0
    for control, value, letter, text in re.findall(r"(\x1b\[(\??[0-9;]*)([A-Za-z])|\r|\n)|([^\x1b\r\n]+)", sent):
        if control == "\r":
            column = 0
        elif control == "\n":
            row += 1
            lines += [""] * (row == len(lines))
        elif letter == "A":
            row -= int(value or 1)
        elif letter == "K":
            lines[row] = ""
        elif text:
            lines[row] = f"{lines[row][:column]:{column}}{text}{lines[row][column + len(text) :]}"
            column += len(text)
    while lines and not lines[-1]:
        lines.pop()
    return [line.rstrip() for line in lines]


def wait_until(true: Callable[[], object], *, seconds: float = 30) -> None:
    """Wait for a condition that is true soon."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.002)


def stop_midway(process: Popen[bytes], database_url: str) -> int:
    """Freeze an import while it copies users into the table.

    Returns:
        The id of the server process of the import's connection.
    """
    query = "select pid from pg_stat_progress_copy where datname = current_database() and tuples_processed > 0"
    found: list[Any] = []

    def copying() -> bool:
        assert process.poll() is None, "it has ended already"
        found[:] = _rows(database_url, query)
        return bool(found)

    wait_until(copying)
    process.send_signal(signal.SIGSTOP)
    [[server]] = found
    return int(server)


def go_on_with(process: Popen[bytes], *signals: signal.Signals) -> None:
    """Continue a frozen process, with signals to receive first."""
    for number in (*signals, signal.SIGCONT):
        process.send_signal(number)


def users(database_url: str) -> list[tuple[str, str, int]]:
    """Return the users in a database, in order, after checking the counts of the ledger."""
    assert (
        _rows(
            database_url,
            """
        select import_id, registered, count(users.id) from users full join imports on imports.id = import_id
        where undone_at is null group by imports.id, import_id, registered
        having count(users.id) is distinct from registered
        """,
        )
        == []
    )
    return [tuple(row) for row in _rows(database_url, "select name, country, age from users order by id")]


def imports(database_url: str) -> list[tuple[str, int]]:
    """Return the status and the number of registered users of each import in the ledger, oldest first."""
    return [tuple(row) for row in _rows(database_url, "select status, registered from imports order by id")]


def _read(terminal: int) -> bytes:
    """Read what was sent to a terminal; Linux raises an error once the other end is closed."""
    with suppress(OSError):
        return os.read(terminal, 65536)
    return b""


def _rows(database_url: str, query: str) -> list[Any]:
    with psycopg.connect(database_url) as connection:
        return connection.execute(query.encode()).fetchall()
