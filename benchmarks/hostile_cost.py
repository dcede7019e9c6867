"""What hostile files cost: seconds of CPU a megabyte, and bytes of disk for each byte of the upload.

    .venv/bin/python benchmarks/hostile_cost.py --short    # about a minute: is every family cheap and linear?
    .venv/bin/python benchmarks/hostile_cost.py            # larger files and a longer search, by hand

Everything is in memory: no database, no disk, no network. After the known families, a random search mutates
repeated snippets and keeps what costs most. `--seed` repeats a search; its findings belong among the families.
benchmarks/hostile.py measures memory, on files of any size.
"""

import argparse
import gzip
import io
import random
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime

import attrs
from rich.console import Console
from rich.table import Table

from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.application.import_users import ImportUsers
from rollcall.application.reports import Reports
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference

KIB = 1024
SHORT_BYTES, LONG_BYTES = 64 * KIB, 512 * KIB
SHORT_SEARCH_SECONDS, LONG_SEARCH_SECONDS = 12, 300
SEARCHED_BYTES = 24 * KIB
# About four times the worst that was measured: a slow machine passes, a family that becomes costly does not.
MAX_SECONDS_A_MB = 60
# How much more a megabyte may cost in a file that is so many times as large. Shorter times vary too much.
PARTS = 4
MAX_GROWTH = 2.0
NO_SECONDS = 0.05

HEADER = b"name,country,age\n"
START = HEADER + b"Ann,Chile,30\n"
# Stand for the header of a rejected-rows file, and for a row of it.
REJECTED_HEADER, REJECTED_ROW = b"<header>", b"<row>"


def wide(columns: int) -> bytes:
    """Make a header of so many columns, and a good row."""
    return HEADER.rstrip() + b",c" * (columns - 3) + b"\nAnn,Chile,30" + b"," * (columns - 3) + b"\n"


@attrs.frozen
class Family:
    """Hostile files of one kind.

    Attributes:
        name: What repeats.
        unit: One repetition.
        start: What comes before all repetitions.
        end: What comes after them.
        encoding: The encoding of the file; the other parts are UTF-8.
        encodings: The encodings that are tried.
        compressed: "" for none, "whole" for one gzip member, "members" for one a unit.
    """

    name: str
    unit: bytes
    start: bytes = START
    end: bytes = b""
    encoding: str = "utf-8"
    encodings: tuple[str, ...] = ("utf-8",)
    compressed: str = ""

    def content(self, size: int) -> bytes:
        """Make a file of about so many bytes of repetitions, before compression."""
        repeated = self.unit * max(1, size // len(self.unit))
        return (self.start + repeated + self.end).decode().encode(self.encoding)

    def stored(self, content: bytes) -> bytes:
        """Compress a file, if this family is compressed."""
        if self.compressed == "members":
            members = (len(content) - len(self.start)) // len(self.unit)
            return gzip.compress(self.start) + gzip.compress(self.unit) * members
        return gzip.compress(content) if self.compressed else content


FAMILIES = (
    Family("clean rows", b"Ann,Chile,30\n", HEADER),
    Family("rows of x", b"x\n"),
    Family("rows of x, CRLF", b"x\r\n"),
    Family("rows of x, lone CR", b"x\r"),
    Family("rows of x, UTF-16", b"x\n", encoding="utf-16"),
    Family(
        "rows of x, the second encoding tried",
        b"x\n",
        "name,country,age\nAnné,Chile,30\n".encode(),
        b"",
        "cp1252",
        ("utf-8", "cp1252"),
    ),
    Family("rows of x, 1,000 columns", b"x\n", wide(1_000)),
    Family("rows of x, 10,000 columns", b"x\n", wide(10_000)),
    Family("rows of commas, 1,000 columns", b"," * 999 + b"\n", wide(1_000)),
    Family("rows of x, semicolons", b"x;\n", b"name;country;age\nAnn;Chile;30\n"),
    Family("rows of x, tabs", b"x\t\n", b"name\tcountry\tage\nAnn\tChile\t30\n"),
    Family("alternating delimiters", b"x;x\tx,;\n"),
    Family("rows bad in three cells", b"\x01,\x01,\x01\n"),
    Family("formulas", b"=,=,=\n"),
    Family("formulas behind every separator", b"=;=|=\t=,=,=\n"),
    Family("marks", b"'='='=,',x\n"),
    Family("rows of blank cells", b",,\n"),
    Family("rows of format characters", "\u200b,,\n".encode()),
    Family("blank rows before the header", b";\n", b"", START),
    Family("blank quoted rows before the header", b'""\n', b"", START),
    Family("lone CR with quotes", b'"x"\r'),
    Family("lone CR in quotes", b'"\r",x\r'),
    Family("quotes that do not match", b'""a\n'),
    Family("quotes that never close", b'"\n'),
    Family("quotes that run away after 100 lines", b'"x' + b"\n" * 100),
    Family("quotes, line ends and commas", b'"\n\n\n",,\n'),
    Family("quoted cells, one row", b'"",'),
    Family("clean and bad rows in turn", b"a,b,1\nx\n"),
    Family("clean and quoted rows in turn", b'a,b,1\n"a",b,x\n'),
    Family("cells near 64 KiB", b'"' + b"\n" * 98 + b"'=" * 32_000 + b'",b,1\n'),
    Family("cells beyond 200 characters", "é".encode() * 201 + b",b,1\n"),
    Family("short corrected rows, no origin", b"x\n", REJECTED_HEADER),
    Family("short corrected rows, an origin", b"x\n", REJECTED_HEADER + REJECTED_ROW),
    Family("corrected rows, left as they are", REJECTED_ROW, REJECTED_HEADER),
    Family("corrected rows behind blank rows", b'""\n', b"", REJECTED_HEADER + REJECTED_ROW),
    Family("rows of x, gzip", b"x\n", compressed="whole"),
    Family("rows of x, 1,000 columns, gzip", b"x\n", wide(1_000), compressed="whole"),
    Family("gzip members of a byte", b"x", compressed="members"),
    Family("gzip members of a row", b"x\n", compressed="members"),
)

SNIPPETS = (
    *(
        b"x",
        b"1",
        b"\n",
        b"\r",
        b"\r\n",
        b'"',
        b'""',
        b",",
        b";",
        b"\t",
        b"|",
        b"=",
        b"'",
        b" ",
        b"\0",
        b"a,b,1\n",
    ),
    *(
        b'"a",',
        "é".encode(),
        "\u200b".encode(),
        "山".encode(),
        "\U0001f600".encode(),
        b"x" * 100,
        b"\n" * 99,
    ),
)
STARTS = (START, b"", b"name;country;age\n", wide(1_000), REJECTED_HEADER, REJECTED_HEADER + REJECTED_ROW)
MOST_SNIPPETS = 8
KEPT = 6


class Disk(io.BytesIO):
    """A spool that knows its largest size."""

    largest = 0

    def truncate(self, size: int | None = None, /) -> int:
        """Begin again."""
        self.largest = max(self.largest, self.getbuffer().nbytes)
        return super().truncate(size)

    def close(self) -> None:
        """End."""
        self.truncate()
        super().close()


@attrs.frozen
class Cost:
    """What one file costs.

    Attributes:
        verdict: The status and code of its receipt.
        seconds: Of CPU.
        content_bytes: The file's size before compression.
        stored_bytes: Its size as uploaded.
        disk_bytes: The size of its rejected rows, in the spool and in the store.
    """

    verdict: str
    seconds: float
    content_bytes: int
    stored_bytes: int
    disk_bytes: int

    @property
    def seconds_a_mb(self) -> float:
        """Seconds of CPU for 1,000,000 bytes before compression."""
        return self.seconds / self.content_bytes * 1e6

    @property
    def disk_factor(self) -> float:
        """Bytes of disk for each byte as uploaded."""
        return self.disk_bytes / self.stored_bytes


class World:
    """A whole Rollcall in memory, that has rejected one row."""

    def __init__(self) -> None:
        self._now = lambda: datetime.now(UTC)
        self._uploads = MemoryObjectStore("uploads", self._now, "")
        self._reports = MemoryObjectStore("reports", self._now)
        self._users = MemoryUserRepository()
        self._disk = Disk()
        rejected = self._rejected_rows(self._load("first.csv", START + b"x,x,x\n", ("utf-8",)))
        header, row = rejected.splitlines(keepends=True)
        self._parts = {REJECTED_HEADER: header.removeprefix("\ufeff".encode()), REJECTED_ROW: row}

    def cost(self, family: Family, size: int) -> Cost:
        """Import a file of a family."""
        parts = [family.start, family.unit, family.end]
        for name, text in self._parts.items():
            parts = [part.replace(name, text) for part in parts]
        family = attrs.evolve(family, start=parts[0], unit=parts[1], end=parts[2])
        content = family.content(size)
        stored = family.stored(content)
        started = time.process_time()
        receipt = self._load("hostile.csv", stored, family.encodings)
        seconds = time.process_time() - started
        verdict = " ".join(filter(None, (receipt.status, receipt.code)))
        disk = self._disk.largest + len(self._rejected_rows(receipt))
        return Cost(verdict, seconds, len(content), len(stored), disk)

    def _load(self, key: str, data: bytes, encodings: Sequence[str]) -> Receipt:
        self._uploads.put(key, io.BytesIO(data))
        self._disk = Disk()
        importer = ImportUsers(
            uploads=self._uploads,
            reports=Reports(store=self._reports),
            users=self._users,
            encodings=encodings,
            now=self._now,
            spool=lambda: self._disk,
        )
        return importer(ObjectReference(key=key))

    def _rejected_rows(self, receipt: Receipt) -> bytes:
        if not receipt.rejected_rows:
            return b""
        reference = ObjectReference(key=receipt.rejected_rows.removeprefix("memory:"))
        with self._reports.open(reference) as found:
            return b"".join(found.read())


def complaints_about(family: Family, smaller: Cost, cost: Cost) -> list[str]:
    """Say what a family costs too much."""
    complaints = []
    if cost.seconds_a_mb > MAX_SECONDS_A_MB:
        complaints.append(f"{family.name}: {cost.seconds_a_mb:.0f} s/MB, more than {MAX_SECONDS_A_MB}")
    allowed = MAX_GROWTH * max(smaller.seconds, NO_SECONDS) * PARTS
    if cost.seconds > allowed:
        complaints.append(f"{family.name}: {cost.seconds:.2f} s, more than linear beside {smaller.seconds:.2f} s")
    return complaints


def searched(seconds: float, seed: int) -> list[tuple[Cost, Family]]:
    """Look for costly files: random snippets, then changes of what cost most so far.

    Returns:
        The costliest, in descending order.
    """
    choose = random.Random(seed)  # noqa: S311 - no secret
    best: list[tuple[Cost, Family]] = []
    tried: set[tuple[bytes, bytes, str]] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if best and choose.random() < 0.7:  # noqa: PLR2004 - most of the time
            family = changed(choose.choice(best)[1], choose)
        else:
            unit = b"".join(choose.choices(SNIPPETS, k=choose.randint(1, MOST_SNIPPETS)))
            family = Family("found", unit, choose.choice(STARTS))
        known = family.start, family.unit, family.encoding
        if known in tried:
            continue
        tried.add(known)
        best.append((World().cost(family, SEARCHED_BYTES), family))
        best = sorted(best, key=lambda found: -found[0].seconds_a_mb)[:KEPT]
    return best


def changed(family: Family, choose: random.Random) -> Family:
    """Change a family a little: insert, remove, or begin otherwise."""
    kind = choose.randrange(4)
    if kind == 0:
        return attrs.evolve(family, start=choose.choice(STARTS))
    at = len(family.unit.decode()[: choose.randint(0, len(family.unit))].encode())
    before, after = family.unit[:at], family.unit[at:]
    if kind == 1 and after.decode()[1:] and before + after.decode()[1:].encode():
        return attrs.evolve(family, unit=before + after.decode()[1:].encode())
    return attrs.evolve(family, unit=before + choose.choice(SNIPPETS) + after)


def main() -> None:
    """Measure and search; print a table; exit with 1 if a family costs too much."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--short", action="store_true", help="small files and a short search")
    parser.add_argument("--only", default="", metavar="WORDS", help="families whose name holds this")
    parser.add_argument("--seed", type=int, default=2026, help="repeats a search")
    parser.add_argument("--seconds", type=float, help="how long to search")
    arguments = parser.parse_args()
    size = SHORT_BYTES if arguments.short else LONG_BYTES
    table = Table("family", "s/MB", "s/MB as uploaded", "disk factor", "verdict")
    complaints = []

    def add(name: str, cost: Cost) -> None:
        as_uploaded = cost.seconds / cost.stored_bytes * 1e6
        figures = f"{cost.seconds_a_mb:.1f}", f"{as_uploaded:,.1f}", f"{cost.disk_factor:,.0f}"
        table.add_row(name, *figures, cost.verdict)

    World().cost(FAMILIES[1], KIB)  # what is compiled at first use is no cost of a family
    for family in FAMILIES:
        if arguments.only in family.name:
            smaller, cost = (World().cost(family, part) for part in (size // PARTS, size))
            complaints += complaints_about(family, smaller, cost)
            add(family.name, cost)
    default = SHORT_SEARCH_SECONDS if arguments.short else LONG_SEARCH_SECONDS
    seconds = default if arguments.seconds is None else arguments.seconds
    for cost, family in searched(0 if arguments.only and not arguments.seconds else seconds, arguments.seed):
        add(f"found: {family.start[:24]!r}… {family.unit!r}", cost)
        if cost.seconds_a_mb > MAX_SECONDS_A_MB:
            complaints.append(f"found: {family.start[:60]!r} {family.unit!r}: {cost.seconds_a_mb:.0f} s/MB")
    Console(width=None if sys.stdout.isatty() else 160, markup=False).print(table)
    if complaints:
        raise SystemExit("\n".join(complaints))


if __name__ == "__main__":
    main()
