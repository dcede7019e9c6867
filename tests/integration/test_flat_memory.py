"""Memory stays flat on hostile files; benchmarks/hostile.py has more and larger ones."""

import itertools
import sys
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import attrs
import pytest

from rollcall.adapters.embedded_postgres import running
from support.builders import completed
from support.command_line import CommandLine

KIB = 1024
MIB = 1024 * KIB

START = completed(b"name,country,age\nAnn,Chile,30\n")

# A process starts with the memory peak of its parent, so the parent must be small.
_MEASURE = """
import os, sys
child = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
with open(sys.argv[1], "w") as file:
    file.write(str(usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)))
sys.exit(os.waitstatus_to_exitcode(status))
"""


def _peak_of_importing(rollcall: CommandLine, file: Path, code: int, status: str) -> int:
    """Return the peak of the client's memory in bytes, after checking the result of the import."""
    peak = rollcall.folder / "peak"
    measured = attrs.evolve(rollcall, before=(sys.executable, "-I", "-S", "-c", _MEASURE, str(peak)))
    outcome = measured("import", file, "--json")

    assert (outcome.code, outcome.err) == (code, "")
    assert [receipt["status"] for receipt in outcome.records] == [status]
    return int(peak.read_text())


def _written(path: Path, pieces: Iterable[bytes]) -> Path:
    with path.open("wb") as file:
        file.writelines(pieces)
    return path


def _gzipped(pieces: Iterable[bytes]) -> Iterable[bytes]:
    compressor = zlib.compressobj(wbits=31)
    yield from map(compressor.compress, pieces)
    yield compressor.flush()


def _times(unit: bytes, size: int) -> Iterable[bytes]:
    return itertools.repeat(unit * (64 * KIB // len(unit)), size // (64 * KIB))


FILES: dict[str, tuple[int, str, Callable[[], Iterable[bytes]]]] = {
    "a line that never ends": (4, "refused", lambda: _times(b"a", 16 * MIB)),
    "a row that never ends": (3, "partially_loaded", lambda: [START, *_times(b"a,", 16 * MIB)]),
    "a quote that never closes": (3, "partially_loaded", lambda: [START, b'"', *_times(b"a", 16 * MIB)]),
    "quoted cells without an end": (3, "partially_loaded", lambda: [START, *_times(b'"a\n",', 16 * MIB)]),
    "millions of columns": (4, "refused", lambda: [*_times(b"column,", 16 * MIB), START]),
    "a gzip bomb": (4, "refused", lambda: _gzipped(_times(bytes(KIB), 64 * MIB))),
    "nothing but line ends": (0, "loaded", lambda: [START, *_times(b"\n", 16 * MIB)]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_large_file_without_rows_takes_little_more_memory(
    rollcall: CommandLine, sample: Path, name: str
) -> None:
    """Less than the size of the file, on any machine."""
    code, status, pieces = FILES[name]
    of_a_small_one = _peak_of_importing(rollcall, sample, 0, "loaded")
    peak = _peak_of_importing(rollcall, _written(rollcall.folder / "hostile.csv", pieces()), code, status)

    assert peak < of_a_small_one + 12 * MIB


def test_three_times_as_many_bad_rows_take_little_more_memory(rollcall: CommandLine) -> None:
    """Only some of them are held at a time."""

    def peak(rows: int) -> int:
        file = _written(rollcall.folder / f"{rows}.csv", [START, (b"Bob," + b"U" * 90 + b",x\n") * rows])
        return _peak_of_importing(rollcall, file, 3, "partially_loaded")

    assert peak(60_000) < peak(20_000) + 8 * MIB


@pytest.mark.embedded
def test_an_import_does_not_read_receipts_of_earlier_imports(tmp_path: Path, sample: Path) -> None:
    """A receipt may have megabytes, and there may be thousands."""
    other = _written(tmp_path / "other.csv", [START])
    header, row = START.splitlines()
    wide = _written(tmp_path / "wide.csv", [header, b",", b"\x01" * 1000 * KIB, b"\n", row, b",\n"])
    with running(tmp_path / "data"):
        rollcall = CommandLine(tmp_path, {"ROLLCALL_DATA": str(tmp_path / "data")})
        peaks = [_peak_of_importing(rollcall, file, 0, "loaded") for file in (sample, wide, other)]

    assert peaks[2] < peaks[0] + 8 * MIB
