"""Sizes of the fault campaigns, their seed, and the table of their results.

`./dev faults` runs the long form. For pytest, set FAULTS_LONG=1 and FAULTS_SEED.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import pytest

from support.oracle import Found

LONG = bool(os.environ.get("FAULTS_LONG"))
SEED = int(os.environ.get("FAULTS_SEED") or (secrets.randbelow(10**6) if LONG else 1))

_T = TypeVar("_T")


@attrs.define
class Line:
    """One line of the table: a fault, how often it was tried, and the result.

    Attributes:
        fault: The fault.
        points: The number of different places or moments.
        repetitions: The number of repetitions in all.
        lost: Rows that were missing from the table, over all repetitions.
        duplicated: Rows that were in the table more than once, or wrongly.
        seconds: Its duration.
    """

    fault: str
    points: int = 0
    repetitions: int = 0
    lost: int = 0
    duplicated: int = 0
    seconds: float = 0.0

    def add(self, found: Found) -> None:
        """Count one repetition and its result."""
        self.repetitions += 1
        self.lost += found.lost
        self.duplicated += found.duplicated


_lines: list[Line] = []


@attrs.frozen
class Campaign:
    """Options of a campaign.

    Attributes:
        seed: The seed of all random choices: the same seed repeats them.
        long: Whether it is the long form.
    """

    seed: int
    long: bool

    def choose(self, short: _T, long: _T) -> _T:
        """Return the size of the campaign: short for CI, long by hand."""
        return long if self.long else short

    @contextmanager
    def line(self, fault: str) -> Iterator[Line]:
        """Begin a line of the table that is printed at the end."""
        line = Line(fault)
        begun = time.monotonic()
        try:
            yield line
        finally:
            line.seconds = time.monotonic() - begun
            _lines.append(line)


@pytest.fixture(scope="session")
def campaign() -> Campaign:
    """Options of this run."""
    return Campaign(SEED, LONG)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send the lines to the process that prints, if this is a worker process."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["campaigns"] = [attrs.astuple(line) for line in _lines]


@pytest.hookimpl(optionalhook=True)  # the hook exists only with pytest-xdist
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist gives no type
    """Receive the lines of a worker process that has ended. A crashed process has none."""
    _lines.extend(Line(*line) for line in getattr(node, "workeroutput", {}).get("campaigns", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table in the form of docs/reliability.md."""
    if not _lines:
        return
    terminalreporter.section(f"faults, {'long' if LONG else 'short'} form, FAULTS_SEED={SEED}")
    terminalreporter.write_line("| fault | points | repetitions | lost | duplicated | seconds |")
    terminalreporter.write_line("| --- | --- | --- | --- | --- | --- |")
    for line in _lines:
        terminalreporter.write_line(
            f"| {line.fault} | {line.points:,} | {line.repetitions:,} | {line.lost} | {line.duplicated} "
            f"| {line.seconds:.0f} |"
        )
