"""Workers that can be told where to die, and what is known of each afterwards."""

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

import attrs

from announcements import Event
from faults.uploads import CANARY

_PATIENCE_SECONDS = 60.0
_HELD_SECONDS = 20.0
_TESTS = Path(__file__).parents[1]


@attrs.frozen(order=True)
class Fault:
    """What befalls a worker.

    Attributes:
        file: A file below src/rollcall.
        line: A line of it, before which it happens.
        time: The how manieth time that the line is reached, from 1.
        how: "killed", or one of the errors of `faults.doomed_worker`.
    """

    file: str
    line: int
    time: int
    how: str = "killed"


@attrs.frozen
class Delivery:
    """What a worker is to import.

    Attributes:
        arguments: Of the command line, where it is one.
        event: What the Lambda is handed, where it is that.
        environment: What is set.
    """

    arguments: Sequence[str] = ()
    event: Event | None = None
    environment: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen
class End:
    """How a worker ended.

    Attributes:
        code: Its exit status, or the negative number of the signal that ended it.
        said: All that it wrote.
        hung: Whether it had to be killed, for it did not end by itself.
        lines: Each line of Rollcall that it reached, and how often; of one that nothing was to befall.
    """

    code: int
    said: str
    hung: bool
    lines: Mapping[tuple[str, int], int]

    @property
    def successful(self) -> bool:
        """Whether it says that the upload needs no more deliveries."""
        return self.code in {0, 3}


@attrs.frozen
class Workers:
    """A process from which workers are forked, one after the other.

    Attributes:
        folder: Where each writes what it has to say.
    """

    _process: Popen[str]
    folder: Path

    def deliver(self, delivery: Delivery, fault: Fault | None = None, *, traced: bool = False) -> End:
        """Have a worker import something, to its end.

        Args:
            delivery: What.
            fault: What befalls it.
            traced: Whether to note the lines that it reaches, where nothing befalls it.
        """
        end = self._end(self._told(delivery, fault, traced=traced or fault is not None))
        assert not end.hung, end.said
        return end

    def held(self, delivery: Delivery) -> int:
        """Have a worker wait for SIGCONT before it does anything.

        Returns:
            Its process id, for `end_of`.
        """
        return self._told(delivery, held=True)["held"]

    def end_of(self, worker: int, delivery: Delivery) -> End:
        """Wait for the end of a worker that was held; who does not end is killed."""
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
    """Keep a warm process to fork workers from, with whatever the environment has by now."""
    program = [sys.executable, str(Path(__file__).with_name("doomed_worker.py"))]
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLCALL_", "PG"))}
    environment = {**inherited, "PYTHONPATH": str(_TESTS), "POWERTOOLS_TRACE_DISABLED": "true"}
    with Popen(program, stdin=PIPE, stdout=PIPE, text=True, env=environment) as process:  # noqa: S603 - our own
        try:
            yield Workers(process, folder)
        finally:
            process.kill()
