"""The worker of `rollcall serve`: one job after another, failed jobs again, and a quick end."""

import threading
from collections.abc import Callable

import attrs

from rollcall.entrypoints.serve.worker import Job, Worker

SECONDS = 10


@attrs.define
class _Jobs:
    """What a worker did.

    Attributes:
        done: The names of the jobs that were begun, in order.
        failures: What the worker complained of.
    """

    done: list[str] = attrs.Factory(list)
    failures: list[str] = attrs.Factory(list)

    def worker(self) -> Worker:
        return Worker(lambda error, again: self.failures.append(f"{error}{' again' * again}"), retry_seconds=0.01)

    def job(self, name: str, *, failing: int = 0, then: Callable[[], object] = lambda: None) -> Job:
        """Return a job that fails the first times, and then does something."""

        def do(_go_on: Callable[[], None]) -> None:
            self.done.append(name)
            if self.done.count(name) <= failing:
                raise ValueError(name)
            then()

        return do


def test_jobs_are_done_in_order_those_that_were_left_first() -> None:
    jobs, ended = _Jobs(), threading.Event()
    worker = jobs.worker()

    with worker.running(lambda: [jobs.job("left")]):
        worker.put(jobs.job("first"))
        worker.put(jobs.job("last", then=ended.set))
        assert ended.wait(SECONDS)

    assert sorted(jobs.done) == ["first", "last", "left"]
    assert jobs.done.index("first") < jobs.done.index("last")


def test_a_failed_job_is_tried_three_times() -> None:
    jobs, ended = _Jobs(), threading.Event()
    worker = jobs.worker()

    with worker.running(list):
        worker.put(jobs.job("hopeless", failing=9))
        worker.put(jobs.job("recovers", failing=2, then=ended.set))
        assert ended.wait(SECONDS)

    assert (jobs.done.count("hopeless"), jobs.done.count("recovers")) == (3, 3)
    assert sorted(jobs.failures) == ["hopeless", *["hopeless again"] * 2, *["recovers again"] * 2]


def test_a_folder_that_cannot_be_listed_is_listed_again() -> None:
    jobs, ended, tries = _Jobs(), threading.Event(), iter([False, True])

    def left() -> list[Job]:
        if not next(tries):
            raise OSError("no such folder")
        return [jobs.job("left", then=ended.set)]

    with jobs.worker().running(left):
        assert ended.wait(SECONDS)

    assert jobs.failures == ["no such folder again"]


def test_the_end_interrupts_a_job() -> None:
    jobs, begun = _Jobs(), threading.Event()

    def never_ends(go_on: Callable[[], None]) -> None:
        begun.set()
        while True:
            go_on()

    worker = jobs.worker()
    with worker.running(list):
        worker.put(never_ends)
        worker.put(jobs.job("later"))
        assert begun.wait(SECONDS)

    assert (jobs.done, jobs.failures) == ([], [])
    assert not [thread for thread in threading.enumerate() if thread.name == "worker"]
