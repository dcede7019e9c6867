"""Hostile files: what each costs `rollcall check` and `rollcall import` in memory and in time.

    .venv/bin/python benchmarks/hostile.py --short     # does every file meet its verdict, in flat memory?
    .venv/bin/python benchmarks/hostile.py             # the same with files of 1 GiB
    .venv/bin/python benchmarks/hostile.py --mib 256 --only blank    # MB/s should be the same at any size

benchmarks/hostile_cost.py measures CPU and disk, and searches for costlier files.

Each file is made in a temporary folder, judged, imported into an embedded PostgreSQL of its own, and removed. Peak
memory is what the operating system saw of the client at the most (`ru_maxrss`); the server is no child of it.
"""

import argparse
import gzip
import itertools
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
from rich.console import Console
from rich.table import Table

from rollcall.adapters.embedded_postgres import running

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

SHORT, LONG = 16 * MIB, GIB
# What a hostile file may cost more than one of ten rows.
ALLOWANCE_MIB = 100
PATIENCE_SECONDS = 3600

HEADER = b"name,country,age\n"
# One good row, so that there is something to register.
START = HEADER + b"Ann,Chile,30\n"
TEN_ROWS = START + b"Bob,UK,20\n" * 9
COLUMNS_OF_A_MEBIBYTE = 500_000

Pieces = Iterator[bytes]

_ROLLCALL = (sys.executable, "-c", "from rollcall.entrypoints.cli import main; main()")
# A process begins with the peak of the one that started it, so the one that does must be small.
_MEASURE = """
import os, sys
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, usage = os.wait4(child, 0)
peak = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
print(os.waitstatus_to_exitcode(status), peak, usage.ru_utime + usage.ru_stime, file=sys.stderr)
"""
_MEASURED = (sys.executable, "-I", "-S", "-c", _MEASURE)


@attrs.frozen
class Hostile:
    """A file that means harm.

    Attributes:
        name: What it is called here.
        pieces: Gives its bytes, about as many as asked for.
        verdict: The status and code of its receipt.
        part: How much of the size it gets: one of many short rows takes long, and shows all the same in less.
        settings: What is set for it.
    """

    name: str
    pieces: Callable[[int], Pieces]
    verdict: str = "partially_loaded rows-rejected"
    part: float = 1
    settings: Mapping[str, str] = attrs.Factory(dict)


@attrs.frozen
class Run:
    """What a command did.

    Attributes:
        receipt: Its output.
        output_bytes: How long that was.
        code: Its exit code.
        peak_mib: Its memory at the most.
        seconds: How long it took.
        busy_seconds: How long it kept a processor busy.
    """

    receipt: Mapping[str, Any]
    output_bytes: int
    code: int
    peak_mib: float
    seconds: float
    busy_seconds: float

    @property
    def verdict(self) -> str:
        """The status and code of the receipt."""
        return " ".join(filter(None, (self.receipt["status"], self.receipt["code"])))


def over_and_over(start: bytes, unit: bytes, end: bytes = b"") -> Callable[[int], Pieces]:
    """Repeat some bytes."""

    def pieces(size: int) -> Pieces:
        yield start
        block = unit * max(1, MIB // len(unit))
        yield from itertools.repeat(block, max(0, size - len(start)) // len(block))
        yield unit * (max(0, size - len(start)) % len(block) // len(unit))
        yield end

    return pieces


def labels(start: bytes, end: bytes) -> Callable[[int], Pieces]:
    """Count columns up, some 10 million of them in 1 GiB, between those that are required and a row."""

    def pieces(size: int) -> Pieces:
        yield start
        for first in range(0, size // 107, 10_000):
            yield b"".join(b"%0106d," % number for number in range(first, first + 10_000))
        yield end

    return pieces


def gzipped(pieces: Callable[[int], Pieces], *, times: int = 1) -> Callable[[int], Pieces]:
    """Compress what is so many times the size asked for."""

    def compressed(size: int) -> Pieces:
        compressor = zlib.compressobj(wbits=31)
        yield from filter(None, map(compressor.compress, pieces(size * times)))
        yield compressor.flush()

    return compressed


def utf_16(pieces: Callable[[int], Pieces]) -> Callable[[int], Pieces]:
    """Take two bytes for each."""

    def encoded(size: int) -> Pieces:
        yield b"\xff\xfe"
        for piece in pieces(size // 2):
            yield piece.decode().encode("utf-16-le")

    return encoded


def wide(columns: int) -> bytes:
    """Make a header of so many columns."""
    return HEADER.rstrip() + b",c" * (columns - 3) + b"\n"


REFUSED_HEADER = "refused format-error"
NOT_ONE = "refused too-many-rejections"
LOADED = "loaded"
OF_ROWS, OF_SHORT_ROWS = 1 / 8, 1 / 64  # parts of the size

FILES = (
    # Lines that never end
    Hostile("one line of a", over_and_over(b"", b"a"), REFUSED_HEADER),
    Hostile("one line of a, under a header", over_and_over(START, b"a")),
    Hostile("one line of NUL, under a header", over_and_over(START, b"\0")),
    Hostile("one line of commas, under a header", over_and_over(START, b",")),
    Hostile("one line of a, UTF-16", utf_16(over_and_over(b"", b"a")), REFUSED_HEADER),
    Hostile("rows of 10 million cells", over_and_over(START, b"," * 9_999_999 + b"\n")),
    Hostile("header of 10 million columns, ours first", labels(HEADER.rstrip() + b",", b"\na\n"), REFUSED_HEADER),
    Hostile("header of 10 million columns, ours last", labels(b"", START), REFUSED_HEADER),
    # Quotes
    Hostile("quote that never closes, one line", over_and_over(START + b'"', b"a")),
    Hostile("quote that never closes, lines", over_and_over(START + b'"', b"a" * 79 + b"\n"), part=OF_ROWS),
    Hostile(
        "quote that never closes, lines, UTF-16",
        utf_16(over_and_over(START + b'"', b"a" * 79 + b"\n")),
        part=OF_ROWS,
    ),
    Hostile("quote that opens on every line", over_and_over(START, b'"' + b"a" * 79 + b"\n"), part=OF_ROWS),
    Hostile("quote that runs away after 64 KiB", over_and_over(START, b'"' + b"a" * 64 * KIB + b"\n")),
    Hostile("quote that runs away after 100 lines", over_and_over(START, b'"x' + b"\n" * 100), part=OF_ROWS),
    Hostile('"a""a""a""', over_and_over(START + b'"', b'a""')),
    Hostile('"a""a"" on every line', over_and_over(START, b'"' + b'a""' * 26 + b"\n"), part=OF_ROWS),
    Hostile("nothing but quotes", over_and_over(START, b'"')),
    Hostile('"","","",', over_and_over(START, b'"",')),
    Hostile('"a"b,"a"b,', over_and_over(START, b'"a"b,')),
    Hostile('a"a"a"', over_and_over(START, b'a"')),
    Hostile('"(line end)","(line end)",', over_and_over(START, b'"\n",')),
    Hostile("quoted cells of 64 KiB less 1", over_and_over(START, (b'"' + b"a" * 65_535 + b'",') * 15 + b"1\n")),
    Hostile("quoted cells of 99 lines", over_and_over(START, b'"' + (b"a" * 600 + b"\n") * 99 + b'",b,1\n')),
    # Records just short enough
    Hostile("records just under 1 MiB", over_and_over(START, b"a" * (MIB - 20) + b",b,1\n")),
    Hostile("records just under 1 MiB, cells of aa", over_and_over(START, b"aa," * (MIB // 3 - 10) + b"1\n")),
    Hostile("records just under 1 MiB, quoted cells", over_and_over(START, b'"a",' * (MIB // 4 - 10) + b"1\n")),
    Hostile(
        "records just under 1 MiB, cells beyond 16 bits",
        over_and_over(START, "\U0001f600,".encode() * (MIB // 5 - 10) + b"1\n"),
    ),
    Hostile(
        "records just under 1 MiB, no cell filled", over_and_over(START, b"," * (MIB - 20) + b"\n"), LOADED, 1 / 8
    ),
    # Columns
    Hostile("10,000 columns", over_and_over(wide(10_000), b"Ann,Chile,30" + b",1" * 9_997 + b"\n"), LOADED),
    Hostile("10,000 columns, bad", over_and_over(wide(10_000), b"Ann,Chile,x" + b",1" * 9_997 + b"\n"), NOT_ONE),
    Hostile(
        "500,000 columns",
        over_and_over(wide(COLUMNS_OF_A_MEBIBYTE), b"Ann,Chile,30" + b",1" * (COLUMNS_OF_A_MEBIBYTE - 3) + b"\n"),
        REFUSED_HEADER,
        1 / 4,
    ),
    # 1 KB is written of each row of 2 bytes; under a wider header, only the columns of the fields are written.
    Hostile("1,000 columns, rows of one", over_and_over(wide(1_000), b"a\n"), NOT_ONE, 1 / 512),
    Hostile(
        "label of 1 MiB",
        over_and_over(HEADER.rstrip() + b"," + b"\x01" * (MIB - 100) + b"\n", b"Ann,Chile,30,1\n"),
        LOADED,
        OF_ROWS,
    ),
    # Compression
    Hostile("gzip of zeros, 4 times the size", gzipped(over_and_over(b"", b"\0"), times=4), REFUSED_HEADER),
    Hostile(
        "gzip of zeros, 10 times the size, capped at 1 MiB",
        gzipped(over_and_over(b"", b"\0"), times=10),
        "refused size-limit",
        settings={"ROLLCALL_MAX_CSV_BYTES": str(MIB)},
    ),
    Hostile("gzip of empty members", over_and_over(gzip.compress(START), gzip.compress(b"")), LOADED, OF_ROWS),
    Hostile("gzip of members of one byte", over_and_over(gzip.compress(START), gzip.compress(b"a")), part=OF_ROWS),
    Hostile("gzip of good rows", gzipped(over_and_over(START, b"Ann,Chile,30\n")), LOADED, OF_ROWS),
    # Rows by the million
    Hostile("every row bad", over_and_over(HEADER, b"Ann,Chile,x\n"), NOT_ONE, OF_ROWS),
    Hostile("every row bad, UTF-16", utf_16(over_and_over(HEADER, b"Ann,Chile,x\n")), NOT_ONE, OF_ROWS),
    Hostile("every row bad in three cells", over_and_over(START, b"\x01,\x01,\x01\n"), part=OF_SHORT_ROWS),
    Hostile(
        "every row bad at length",
        over_and_over(START, b"\x01" * 300 + b"," + b"\x01" * 300 + b",x\n"),
        part=OF_ROWS,
    ),
    Hostile("every row of one cell", over_and_over(START, b"a\n"), part=OF_SHORT_ROWS),
    Hostile("every row of quotes that do not match", over_and_over(START, b'""a\n'), part=OF_SHORT_ROWS),
    Hostile("every line blank, LF", over_and_over(START, b"\n"), LOADED),
    Hostile("every line blank, CR", over_and_over(START, b"\r"), LOADED),
    Hostile("every line blank, CRLF", over_and_over(START, b"\r\n"), LOADED),
    Hostile("every line blank, UTF-16", utf_16(over_and_over(START, b"\n")), LOADED),
    Hostile("every line blank, no header", over_and_over(b"", b"\n"), "refused empty-file"),
    Hostile("every row blank", over_and_over(START, b",,\n"), LOADED, OF_SHORT_ROWS),
)


def measured(arguments: list[str], settings: Mapping[str, str]) -> Run:
    """Run a command to its end, in a process that measures it."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ROLLCALL_", "PG"))}
    started = time.monotonic()
    with subprocess.Popen(
        [*_MEASURED, *_ROLLCALL, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**environment, **settings},
        start_new_session=True,
    ) as process:
        try:
            out, err = process.communicate(timeout=PATIENCE_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
    seconds = time.monotonic() - started
    *complaints, usage = err.decode().splitlines()
    code, peak, busy = usage.split()
    if complaints or not out:
        raise SystemExit(f"rollcall {' '.join(arguments)}: exit {code}: {' '.join(complaints)}")
    receipt = json.loads(out)
    return Run(receipt, len(out), int(code), int(peak) / MIB, seconds, float(busy))


def complaints_about(hostile: Hostile, runs: list[Run], ceilings: list[float]) -> Iterator[str]:
    """Say what is not as it should be."""
    for command, run, ceiling in zip(("check", "import"), runs, ceilings, strict=True):
        if run.verdict != hostile.verdict:
            yield f"{command} of {hostile.name}: {run.verdict}, not {hostile.verdict}"
        if run.peak_mib > ceiling:
            yield f"{command} of {hostile.name}: {run.peak_mib:.0f} MiB, more than {ceiling:.0f}"
    if runs[0].receipt["totals"] != runs[1].receipt["totals"]:
        yield f"{hostile.name}: check and import do not find the same"


def main() -> None:
    """Make, judge, import, remove; a table at the end, and exit code 1 if something is not as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--short", action="store_const", dest="size", const=SHORT, default=LONG)
    size.add_argument(
        "--mib", type=lambda text: int(text) * MIB, dest="size", help="about how large the files are"
    )
    parser.add_argument(
        "--only", nargs="*", default=[""], metavar="WORDS", help="files whose name holds any of these"
    )
    arguments = parser.parse_args()
    table = Table(
        "file",
        "MiB",
        "verdict",
        "rows",
        *("check MiB", "s", "MB/s"),
        *("import MiB", "s"),
        "rejected MiB",
        "receipt",
    )
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as temporary, running(Path(temporary, "data")):
        path = Path(temporary, "hostile.csv")
        settings = {
            "ROLLCALL_DATA": str(Path(temporary, "data")),
            "ROLLCALL_ON_REPEAT": "import",
            "TMPDIR": temporary,
        }

        def both(settings: Mapping[str, str]) -> list[Run]:
            return [measured([command, "--json", str(path)], settings) for command in ("check", "import")]

        path.write_bytes(TEN_ROWS)
        ceilings = [run.peak_mib + ALLOWANCE_MIB for run in both(settings)]
        for hostile in FILES:
            if not any(words in hostile.name for words in arguments.only):
                continue
            path = Path(temporary, f"hostile-{FILES.index(hostile)}.csv")
            with path.open("wb") as file:
                file.writelines(hostile.pieces(int(arguments.size * hostile.part)))
            checked, imported = both({**settings, **hostile.settings})
            wrong += complaints_about(hostile, [checked, imported], ceilings)
            stored = path.stat().st_size
            rejected = imported.receipt["rejected_rows"]
            table.add_row(
                hostile.name,
                f"{stored / MIB:,.1f}",
                checked.verdict,
                f"{checked.receipt['counts']['read']:,}",
                f"{checked.peak_mib:.0f}",
                f"{checked.seconds:.1f}",
                f"{stored / 1e6 / max(checked.busy_seconds, 0.01):,.1f}",
                f"{imported.peak_mib:.0f}",
                f"{imported.seconds:.1f}",
                f"{Path(rejected).stat().st_size / MIB:,.1f}" if rejected else "",
                f"{checked.output_bytes:,}",
            )
            Console(stderr=True, soft_wrap=True).print(
                f"{hostile.name}: {checked.verdict}, {checked.seconds:.0f} and {imported.seconds:.0f} s, "
                f"{checked.peak_mib:.0f} and {imported.peak_mib:.0f} MiB"
            )
            path.unlink()
            if rejected:
                Path(rejected).unlink()
    Console(width=None if sys.stdout.isatty() else 250).print(table)
    if wrong:
        raise SystemExit("\n".join(wrong))


if __name__ == "__main__":
    main()
