"""Workers that fail on purpose: each imports once, in a fork of a warm process, and fails at a given line.

As a program, it reads one order a line from standard input and answers each with one line, both in JSON; see
`faults.workers`. No connection and no file is open when it forks, so a worker behaves like a new process.
"""

import gc
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any, NoReturn, cast

from rollcall.adapters import embedded_postgres, s3  # noqa: F401 - imported before the fork, to save each worker the time
from rollcall.adapters.postgres import migration, repository  # noqa: F401 - as above
from rollcall.application.import_users import ImportUsers
from rollcall.entrypoints import cli, import_lambda
from rollcall.settings import read_settings
from support.aws_events import Context

_SOURCES = f"{Path(cli.__file__).parents[1]}{os.sep}"


class UnforeseenError(Exception):
    """An error that Rollcall does not catch by its name."""


_ERRORS: Mapping[str, type[BaseException]] = {
    "unforeseen": UnforeseenError,
    "out of memory": MemoryError,
    "system": OSError,
    "interrupted": KeyboardInterrupt,
}


class _Lines:
    """Records every executed line of Rollcall, and causes a fault before one of them.

    Args:
        fault: The line, which time it is reached, and the kind of fault; or None.
    """

    def __init__(self, fault: Mapping[str, Any] | None) -> None:
        self.reached: dict[tuple[str, int], int] = {}
        self.struck = False
        self._where = fault and (fault["file"], fault["line"])
        self._time = fault["time"] if fault else 0
        self._how = fault["how"] if fault else ""

    def enter(self, frame: FrameType, _event: str, _argument: object) -> Any:  # noqa: ANN401 - itself, or None
        """Trace only the frames of Rollcall."""
        return self._step if frame.f_code.co_filename.startswith(_SOURCES) else None

    def _step(self, frame: FrameType, event: str, _argument: object) -> Any:  # noqa: ANN401 - as above
        if event == "line":
            where = (frame.f_code.co_filename.removeprefix(_SOURCES), frame.f_lineno)
            self.reached[where] = self.reached.get(where, 0) + 1
            if where == self._where and self.reached[where] == self._time:
                self.struck = True
                if self._how == "killed":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise _ERRORS[self._how]
        return self._step


def _work(order: Mapping[str, Any]) -> int:
    """Import through the command line or the Lambda, and return the exit status."""
    sys.argv = ["rollcall", *order["arguments"]]
    if order["event"] is None:
        cli.main()
    with ExitStack() as held:
        function = import_lambda.wire(read_settings(os.environ), held)
        answer = function(order["event"], cast("Any", Context()))
    return 1 if answer is None or answer["batchItemFailures"] else 0


def _exit_status(order: Mapping[str, Any]) -> int:
    try:
        return _work(order)
    except SystemExit as left:
        return left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 - Python itself would also exit with 1
        traceback.print_exc()
        return 1


def _be_doomed(order: Mapping[str, Any]) -> NoReturn:
    said = os.open(order["said"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for descriptor in (sys.stdout.fileno(), sys.stderr.fileno()):
        os.dup2(said, descriptor)
    os.environ.update(order["environment"])
    if order["held"]:
        os.kill(os.getpid(), signal.SIGSTOP)
    lines = _Lines(order["fault"])
    if order["traced"]:
        sys.settrace(lines.enter)
    code = _exit_status(order)
    sys.settrace(None)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    if order["traced"] and not order["fault"]:
        reached = [[file, line, times] for (file, line), times in lines.reached.items()]
        Path(order["said"]).with_suffix(".lines").write_text(json.dumps(reached))
    os._exit(code)


def _end_of(worker: int, patience_in_seconds: float) -> dict[str, int]:
    """Wait until a worker ends or is held. Kill it after the time limit, and report it as `hung`."""
    deadline = time.monotonic() + patience_in_seconds
    hung = 0
    while True:
        found, status = os.waitpid(worker, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            return {"held": worker}
        if found:
            return {"code": os.waitstatus_to_exitcode(status), "hung": hung}
        if time.monotonic() > deadline:
            hung = 1
            os.kill(worker, signal.SIGKILL)
        time.sleep(0.001)


def _make_a_client_for_all() -> None:
    """Make one S3 client before the fork: boto3 takes longer for that than a worker for everything else."""
    made = s3.client()
    setattr(s3, "Session", lambda: SimpleNamespace(client=lambda *_, **__: made))  # noqa: B010 - no such type


def main() -> None:
    """Answer orders until there are no more."""
    if "AWS_ENDPOINT_URL_S3" in os.environ:
        _make_a_client_for_all()
    # Small uploads take the way of large ones, which ends in many more states.
    (ImportUsers.__init__.__kwdefaults__ or {})["one_pass_from"] = 0
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="ascii")
    gc.freeze()  # forks share the memory that no collector touches
    for line in sys.stdin:
        order = json.loads(line)
        worker = order["worker"] or os.fork()
        if not worker:
            _be_doomed(order)
        print(json.dumps(_end_of(worker, order["patience"])), file=answers, flush=True)


if __name__ == "__main__":
    main()
