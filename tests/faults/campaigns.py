"""How long the campaigns are, what they are repeated by, and the table of what they came to.

`./dev faults` runs the long form. FAULTS_LONG=1 and FAULTS_SEED say the same to pytest.
"""

import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import attrs
import pytest

from faults.oracle import Found

LONG = bool(os.environ.get("FAULTS_LONG"))
SEED = int(os.environ.get("FAULTS_SEED") or (secrets.randbelow(10**6) if LONG else 1))

_T = TypeVar("_T")


@attrs.define
class Line:
    """One line of the table: a fault, how often it was tried, and what came of it.

    Attributes:
        fault: What was broken.
        points: At how many different places or moments.
        repetitions: How often in all.
        lost: Rows that should be in the table and were not, over all repetitions.
        duplicated: Rows that were there more than once, or should not have been.
        seconds: How long it took.
    """

    fault: str
    points: int = 0
    repetitions: int = 0
    lost: int = 0
    duplicated: int = 0
    seconds: float = 0.0

    def add(self, found: Found) -> None:
        """Count one repetition and what was found after it."""
        self.repetitions += 1
        self.lost += found.lost
        self.duplicated += found.duplicated


_lines: list[Line] = []


@attrs.frozen
class Campaign:
    """What a campaign is told.

    Attributes:
        seed: What chance begins with: the same seed tries the same.
        long: Whether it is the long form.
    """

    seed: int
    long: bool

    def choose(self, short: _T, long: _T) -> _T:
        """Give a size of the campaign, for CI or by hand."""
        return long if self.long else short

    @contextmanager
    def line(self, fault: str) -> Iterator[Line]:
        """Begin a line of the table, which is told at the end."""
        line = Line(fault)
        begun = time.monotonic()
        try:
            yield line
        finally:
            line.seconds = time.monotonic() - begun
            _lines.append(line)


@pytest.fixture(scope="session")
def campaign() -> Campaign:
    """The form and the seed of this run."""
    return Campaign(SEED, LONG)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Hand the lines on to the process that prints, where this is not it."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["campaigns"] = [attrs.astuple(line) for line in _lines]


@pytest.hookimpl(optionalhook=True)  # there is no such hook without pytest-xdist
def pytest_testnodedown(node: Any) -> None:  # noqa: ANN401 - pytest-xdist tells no type
    """Take over the lines of a process that has ended; one that crashed has none."""
    _lines.extend(Line(*line) for line in getattr(node, "workeroutput", {}).get("campaigns", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table as docs/reliability.md has it."""
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
