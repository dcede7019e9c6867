"""The twin of the queues: one thread that does what was asked for, one job after another."""

import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial

import attrs

_TRIES = 3
_RETRY_SECONDS = 2.0
_END_SECONDS = 10.0


class StoppingError(BaseException):
    """The worker ends.

    It is no `Exception`: a job would take that for a failure of its own.
    """


# A job does a piece of work. It calls its argument often; that raises `StoppingError` when the worker ends. A job
# may be done more than once.
Job = Callable[[Callable[[], None]], object]


@attrs.frozen
class _Asked:
    """A job, and how often it failed."""

    job: Job
    failures: int = 0


@attrs.define(eq=False)
class Worker:
    """Does jobs in a thread of its own.

    Attributes:
        complain: Called with each failure, and whether the job is tried again. It is tried three times in all;
            after that, it is done when the program starts again.
        retry_seconds: The time before the first further try; it doubles with each.
    """

    complain: Callable[[Exception, bool], object]
    retry_seconds: float = _RETRY_SECONDS
    _asked: "queue.SimpleQueue[_Asked | None]" = attrs.field(factory=queue.SimpleQueue, init=False)
    _stopping: threading.Event = attrs.field(factory=threading.Event, init=False)

    def put(self, job: Job) -> None:
        """Ask for a job. This returns at once."""
        self._asked.put(_Asked(job))

    @contextmanager
    def running(self, waiting: Callable[[], Iterable[Job]]) -> Iterator[Callable[[], None]]:
        """Do jobs until the context ends; then the current job is interrupted.

        Args:
            waiting: Returns the jobs that wait; called in the worker's thread, first at the beginning.

        Yields:
            A function to call when jobs may be waiting. It returns at once.
        """

        def look(go_on: Callable[[], None]) -> None:
            for job in waiting():
                go_on()
                self.put(job)

        self.put(look)
        # A daemon, so that a job that hangs does not keep the process from ending. The database undoes its work.
        thread = threading.Thread(target=self._work, name="worker", daemon=True)
        thread.start()
        try:
            yield partial(self.put, look)
        finally:
            self._stopping.set()
            self._asked.put(None)
            thread.join(_END_SECONDS)

    def _work(self) -> None:
        with suppress(StoppingError):
            while asked := self._asked.get():
                self._go_on()
                try:
                    asked.job(self._go_on)
                except Exception as error:  # noqa: BLE001 - the next job may succeed
                    self._go_on()
                    again = asked.failures + 1 < _TRIES
                    self.complain(error, again)
                    if again:
                        self._stopping.wait(self.retry_seconds * 2**asked.failures)
                        self._asked.put(attrs.evolve(asked, failures=asked.failures + 1))

    def _go_on(self) -> None:
        """Return, unless the worker ends.

        Raises:
            StoppingError: The worker ends.
        """
        if self._stopping.is_set():
            raise StoppingError
