"""Workers that die at a chosen line, and how each of them ended."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import attrs

from support.aws_events import Event
from support.uploads import CANARY

_PATIENCE_SECONDS = 60.0
_HELD_SECONDS = 20.0
_TESTS = Path(__file__).parents[1]


@attrs.frozen(order=True)
class Fault:
    """A fault that happens to a worker.

    Attributes:
        file: A file below src/rollcall.
        line: The line of it before which the fault happens.
        time: Which time the line is reached, from 1.
        how: "killed", or one of the errors of `faults.doomed_worker`.
    """

    file: str
    line: int
    time: int
    how: str = "killed"


@attrs.frozen
class Delivery:
    """What a worker has to import.

    Attributes:
        arguments: Arguments of the command line, if the worker is one.
        event: The Lambda's event, if the worker is the Lambda.
        environment: Its environment variables.
    """

    arguments: Sequence[str] = ()
    event: Event | None = None
    environment: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen
class End:
    """How a worker ended.

    Attributes:
        code: Its exit status, or the negative number of the signal that ended it.
        said: All its output.
        hung: Whether it had to be killed because it did not end by itself.
        lines: How often it reached each line of Rollcall, if it was traced without a fault.
    """

    code: int
    said: str
    hung: bool
    lines: Mapping[tuple[str, int], int]

    @property
    def successful(self) -> bool:
        """Whether it reported that the upload needs no more deliveries."""
        return self.code in {0, 3}


@attrs.frozen
class Workers:
    """A process that forks workers, one after the other.

    Attributes:
        folder: The folder of the workers' output.
    """

    _process: Popen[str]
    folder: Path

    def deliver(self, delivery: Delivery, fault: Fault | None = None, *, traced: bool = False) -> End:
        """Let a worker import, and wait for its end.

        Args:
            delivery: What it imports.
            fault: The fault that happens to it, or None.
            traced: Whether to record the lines that it reaches, if there is no fault.
        """
        end = self._end(self._told(delivery, fault, traced=traced or fault is not None))
        assert not end.hung, end.said
        return end

    def held(self, delivery: Delivery) -> int:
        """Start a worker that waits for SIGCONT before it does anything.

        Returns:
            Its process id, for `end_of`.
        """
        return self._told(delivery, held=True)["held"]

    def end_of(self, worker: int, delivery: Delivery) -> End:
        """Wait for the end of a held worker, and kill it if it does not end."""
        return self._end(self._told(delivery, worker=worker))

    def _told(
        self,
        delivery: Delivery,
        fault: Fault | None = None,
        *,
        traced: bool = False,
        held: bool = False,
        worker: int = 0,
    ) -> dict[str, int]:
        order = {
            **attrs.asdict(delivery),
            "fault": fault and attrs.asdict(fault),
            "traced": traced,
            "held": held,
            "worker": worker,
            "patience": _HELD_SECONDS if worker else _PATIENCE_SECONDS,
            "said": str(self.folder / "said"),
        }
        orders, answers = self._process.stdin, self._process.stdout
        if not orders or not answers:
            raise AssertionError("they are pipes")
        print(json.dumps(order), file=orders, flush=True)
        answer: dict[str, int] = json.loads(answers.readline())
        return answer

    def _end(self, answer: Mapping[str, int]) -> End:
        said = (self.folder / "said").read_text(encoding="utf-8", errors="replace")
        assert CANARY not in said
        lines = self.folder / "said.lines"
        reached: list[list[Any]] = json.loads(lines.read_text()) if lines.exists() else []
        lines.unlink(missing_ok=True)
        return End(
            answer["code"], said, bool(answer["hung"]), {(file, line): times for file, line, times in reached}
        )


@contextmanager
def workers(folder: Path) -> Iterator[Workers]:
    """Start a warm process that forks workers, with the current environment."""
    program = [sys.executable, str(Path(__file__).with_name("doomed_worker.py"))]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLCALL_", "PG"))}
    environment = {**inherited, "PYTHONPATH": str(_TESTS), "POWERTOOLS_TRACE_DISABLED": "true"}
    with Popen(program, stdin=PIPE, stdout=PIPE, text=True, env=environment) as process:  # noqa: S603 - our own
        try:
            yield Workers(process, folder)
        finally:
            process.kill()
