"""Whole imports with and without the screen's fast path, which must give the same result."""

import gzip
import io
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from unittest.mock import patch

import attrs
from hypothesis import strategies as st

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.application import decoding, screening
from rollcall.application.header import OWN_LABELS
from rollcall.application.ports import UserRepository
from rollcall.application.reports import Reports
from rollcall.domain.fields import WholeNumber
from rollcall.domain.policy import OnDuplicate, Policy, Tolerance
from rollcall.domain.receipt import Receipt
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS, User
from support.receipts import CheckedImport
from support.strategies import csv_uploads, refused_uploads

NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)
WHOLE = 256 * 1024

# Some of its rows are rejected, so that a later upload can correct them.
FIRST = b"name,country,age\nAnn,Norway,41\n" + b"Ben,Norway,x\n" * 5

POLICIES = (
    Policy(),
    Policy(max_rejected=Tolerance("2")),
    Policy(max_rejected=Tolerance("50%")),
    *(Policy(unique_by=("name",), on_duplicate=fate) for fate in OnDuplicate),
)

ENDS = ("\n", "\r\n", "\r")
HEADERS = ("name,country,age", "age;name;note;country", "note\tcountry\tname\tage", "name|age|country")
# Each header with each line end, then each policy.
EVERY_TRAP = [
    *((header, end, Policy()) for header in HEADERS for end in ENDS),
    *((HEADERS[0], ENDS[0], policy) for policy in POLICIES[1:]),
]


def without_fast_path() -> AbstractContextManager[object]:
    """Judge every record cell by cell."""
    return patch.object(screening, "clean_records", lambda _: ())


@attrs.frozen
class Came:
    """Result of importing some uploads.

    Attributes:
        receipts: The receipt of each upload.
        reports: The stored receipts and rejected rows.
        users: The registered users, in order.
    """

    receipts: Sequence[Receipt]
    reports: dict[str, bytes]
    users: Sequence[User]


def what_comes_of(
    uploads: Sequence[bytes],
    users: UserRepository,
    policy: Policy,
    *,
    piece_bytes: int = WHOLE,
    batch: int = WHOLE,
) -> Came:
    """Import uploads one after the other, with the clock stopped.

    Args:
        uploads: The bytes of each upload.
        users: An empty repository.
        policy: The policy of the imports.
        piece_bytes: Size of the pieces in which an upload is read.
        batch: Bytes that the screen passes on at once.
    """
    bucket, reports = (MemoryObjectStore(name, lambda: NOON, "") for name in ("uploads", "reports"))
    importer = CheckedImport(
        uploads=bucket,
        reports=Reports(store=reports),
        users=users,
        policy=policy,
        now=lambda: NOON,
        spool=io.BytesIO,
    )
    receipts = []
    with (
        patch.object(decoding, "CHUNK_BYTES", piece_bytes),
        patch.object(screening, "BATCH_BYTES", batch),
        patch.object(screening, "WORTHWHILE_BYTES", 0),
    ):
        for number, data in enumerate(uploads):
            bucket.put(f"{number}.csv", io.BytesIO(data))
            receipts.append(importer(ObjectReference(key=f"{number}.csv")))
    stored = {}
    for report in (listed.reference for listed in reports.list()):
        with reports.open(report) as found:
            stored[report.key] = b"".join(found.read())
    return Came(receipts, stored, list(users.users()))


def anything() -> st.SearchStrategy[bytes]:
    """Any file: mostly clean files with some faults, and the other strategies' uploads."""
    return st.one_of(
        _mostly_clean(),
        _mostly_clean(),
        csv_uploads().map(lambda upload: upload.data),
        refused_uploads().map(lambda refused: refused[0]),
    )


# A cell with one of these is not clean, or a careless pattern would take it for clean.
BARE_TRAPS = (
    *"\x00\t\x0b\x0c\x1c\x1f\x7f\x85\x9f\xa0\xad\u061c\u180e\u200b\u200d\u200e\u2028\u2029\u202a\u202e\u2066\u2069\u3000\ufeff",
    *" \"'=+-@|,;\\_.",
    *("''", "'=1", "\\.", "\\N", "NULL", "é", "e\u0301", "山", "👩\u200d👧"),
    *("x" * 199, "x" * 200, "x" * 201, "é" * 200),
)
BARE_AGES = (
    *("0", "7", "42", "100", "149", "150", "151", "007", "1000", "-1", "+1", "1.0", "1_0", "٣", "²"),
    *("", " ", " 7", "7 ", "\u30007", "'7", "7'", "\x007", "7\u200b"),
)
# Some rows have too few or too many cells, so that cells of neighbouring rows might be confused.
MISSHAPEN = (
    "\n",
    "a\n,X,1\n",
    "a,X\n1\n",
    "a\nb\n",
    "a,X,1\n",
    ",a,X,1,\n",
    ",a,X\n1,a,X,1\n",
    ",a,X,1,b\nX,1\n",
    "a,X,1\n,",
    "a\r,a,X,1\n",
    ",a,X,1\r\r\n",
    ",a,X,1\r,a,X,1\n",
    "a,X,1,\r\n",
    "a,X,1,\ra,X,1,\n",
    "a,X,1,b\rc\n",
    '"a,X,1\n,b,X,"1\n',
    '"a\n",a,X,1\n',
    '"a,b",a,X,1\n',
    ',"a , b",X,1\n',
    ',"a ; b",X,1\n',
    'a,X,1,"b\nc"\n',
    ' a,X,1,"\nb,Y,2,"\n',
)
_TRAPS = (
    *BARE_TRAPS,
    *('""', '""""', '"a"', '"a,b"', '"a;b"', '"a\tb"', '"a\nb"', '"a\r\nb"', '"a""b"', '"a"b', '" a "', '"\'=1"'),
)
_AGES = (*BARE_AGES, '"7"', '" 7 "', '"151"')
_CLEAN = ("Ann", "O'Brien", "山田 太郎", "Côte d'Ivoire", "7")


def every_trap(header: str, end: str) -> bytes:
    """Return a file with each trap in an otherwise clean row, and clean rows between them.

    Args:
        header: The header line.
        end: The line end.
    """
    delimiter = next(mark for mark in ",;\t|" if mark in header)
    labels = header.split(delimiter)
    texts = [around.format(trap) for trap in _TRAPS for around in ("{}", "{}a", "a{}", "a{}a", " {} ")]
    clean = {label: "1" if _is_number(label) else f"a {label}" for label in labels}
    lines = [f"sep={delimiter}", header]
    for label in labels:
        for cell in _AGES if _is_number(label) else texts:
            lines.append(delimiter.join({**clean, label: cell}.values()))
            lines += [delimiter.join(clean.values())] * (len(lines) % 3)
    padded = delimiter.join(f" {cell} " for cell in clean.values())
    for rows in MISSHAPEN:
        lines += [padded, *rows.replace(",", delimiter).rstrip("\n").split("\n"), padded]
    return (end.join(lines) + end).encode()


def _is_number(label: str) -> bool:
    return label in USERS.columns and isinstance(USERS.rules[USERS.columns.index(label)], WholeNumber)


_odd = st.one_of(
    st.sampled_from(_TRAPS),
    st.tuples(st.sampled_from(["", "a", " "]), st.sampled_from(_TRAPS), st.sampled_from(["", "a", " "])).map(
        "".join
    ),
    st.sampled_from(_AGES),
)


@st.composite
def _mostly_clean(draw: st.DrawFn) -> bytes:
    """Clean rows, and sometimes a cell, a row or a line end that is not clean."""
    others = draw(st.lists(st.sampled_from(["id", "note", "", '"a note"']), max_size=2))
    own_labels = draw(st.sampled_from([[], [], [], list(OWN_LABELS)]))
    labels = draw(st.permutations([*USERS.columns, *others, *own_labels]))
    delimiter = draw(st.sampled_from([",", ",", ";", "\t", "|"]))
    lines = [f"sep={delimiter}"] if delimiter == "|" or draw(st.integers(0, 9)) == 0 else []
    lines.append(delimiter.join(labels))
    rows = draw(st.lists(st.tuples(*map(_cells, labels)).map(delimiter.join), max_size=12))
    lines += [draw(_rows_beside(row, delimiter)) if draw(st.integers(0, 9)) == 0 else row for row in rows]
    if draw(st.integers(0, 5)) == 0:
        lines += lines[1:] * draw(st.integers(1, 60))
    usual = draw(st.sampled_from(ENDS))
    ends = [draw(st.sampled_from([usual] * 9 + ["\n", "\r\n", "\r", "\n\n"])) for _ in range(8)]
    text = "".join(line + ends[number % 8] for number, line in enumerate(lines))
    text = text if draw(st.booleans()) else text.rstrip("\r\n")
    mark, encoding = draw(
        st.sampled_from([("", "utf-8"), ("", "utf-8"), ("\ufeff", "utf-8"), ("\ufeff", "utf-16-le")])
    )
    data = (mark + text).encode(encoding)
    return gzip.compress(data, mtime=0) if draw(st.integers(0, 9)) == 0 else data


def _cells(label: str) -> st.SearchStrategy[str]:
    """Cells of a column; three of four are clean."""
    if label in OWN_LABELS:
        clean = st.sampled_from(["1", "2", "3", "4"])
    else:
        clean = st.sampled_from(["0", "41", "150"] if _is_number(label) else _CLEAN)
    return st.integers(0, 3).flatmap(lambda one: clean if one else _odd)


def _rows_beside(row: str, delimiter: str) -> st.SearchStrategy[str]:
    """Rows of other shapes than this one."""
    return st.sampled_from(
        ["", " ", delimiter, row + delimiter, row.rpartition(delimiter)[0], f'"{row}', f'{row}"', f"{row}\n{row}"]
    )
