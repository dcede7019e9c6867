"""Generated uploads, realistic and slightly broken, compared with the oracles."""

import gzip
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from support.fuzz_checks import check

# Spellings of one label.
_SPELLINGS = ("{}", "{}", "{}", " {}", "{}\t", "\u3000{}\x1f", '"{}"', '" {} "', '"{}\n"', '"\r{}"')
_LABELS = (
    *("name", "Country", " AGE", '"name"', "nam", "name\u200b", "\uff4eame", '"name"x', '"age'),
    *("note", "", '"a, note"', "a;note", "x;x;x;x;x;x", 'x"y', "sep=;"),
)
_GOOD_CELLS = ("Ann", "41", "0", "150", "7 ", '"41"', "007")
_CELLS = (
    *("", " ", "\u3000", "\u200b", "x", "151", "-1", "a\u202eb", "a\x00b", "x" * 201, "\ufeff", "山田", "é"),
    *('"a,b"', '"a;b"', '"a\tb"', '"a\nb"', '"a\rb"', '"a\r\n\rb"', '"a""b"', '" "', '"' + "\n" * 99 + '"'),
    *('"a"b', 'a"b', '"a', 'a"', '"', "'", "'=1", '"' + "\n" * 100 + '"'),
    *('"a,=1"', "a;'-1", "a|@b", " ''+1", "\uff1d1", '"\'\t=1"', '"x\n-1"', '"\'"'),
)
# Origins of corrected rows. `with_proofs` fills in the proofs.
_IDENTITIES = (
    *(("3", "i1-3-?"), ("4", "i1-4-?"), ("3", "i1-3-?"), ("04", " i1-4-? "), ("4", "i1-3-?"), ("", "i1-4-?")),
    *(("2", "i1-2-?"), ("3", "i2-3-?"), ("5", "i0-5-?"), ("3", "1"), ("3", ""), ("", ""), ("x", "i1-3-?x")),
)
_BLANK = ("", "", " ", "\t", ",,", ";;", '""', '"",""', " , , ", "\u200b;\u3000", '" "\t" "', ", ,;")
_SEPARATOR_LINES = (
    *("sep=,", "sep=;", "SEP=;", "sep=\t", "Sep=|", "sep=:", "sep= ", "sep='"),
    *('sep="', '"sep=;"', '"sep=|', "sep=", "sep=;;", "sep=x"),
)
_DELIMITERS = (",", ",", ";", "\t", "|", ":")
_ENDS = ("\n", "\n", "\r\n", "\r")
_WRITTEN_IN = (
    *(("", "utf-8"), ("", "utf-8"), ("\ufeff", "utf-8")),
    *(("\ufeff", "utf-16-le"), ("\ufeff", "utf-16-be"), ("", "cp932")),
)
_STRAY_BYTES = (b"\xff", b"\x80", b"\xc3", b"\xe5\xb1", b"\x00", b"\xef\xbb\xbf", b"\x1f\x8b")
_MAGIC = (b"PK\x03\x04", b"%PDF-", b"\xff\xfe\x00\x00", b"\x1f\x8b", b"\xef\xbb")


def _sometimes(what: Sequence[str]) -> st.SearchStrategy[list[str]]:
    return st.integers(0, 3).flatmap(
        lambda one: st.just([]) if one else st.sampled_from(what).map(lambda it: [it])
    )


def _spelt(column: str) -> st.SearchStrategy[str]:
    return st.tuples(st.sampled_from(_SPELLINGS), st.sampled_from([column, column, column.upper()])).map(
        lambda found: found[0].format(found[1])
    )


@st.composite
def _corrected(
    draw: st.DrawFn, header: list[str], rows: st.SearchStrategy[str], delimiter: str
) -> tuple[list[str], st.SearchStrategy[str]]:
    """Put Rollcall's columns after the uploader's, in any order. The last cells may be missing."""
    own = draw(st.permutations(["rollcall_line", "rollcall_import", "rollcall_record", "rollcall_reason"]))
    own = own[: draw(st.sampled_from([4, 4, 4, 3, 2]))]

    def written(row: str, identity: tuple[str, str], missing: int) -> str:
        known = dict(zip(("rollcall_line", "rollcall_import"), identity, strict=True))
        cells = [row, *(known.get(label, "") for label in own)]
        return delimiter.join(cells[: len(cells) - missing])

    missing = st.sampled_from([0, 0, 0, 1, 2])
    return [*header, *own], st.builds(written, rows, st.sampled_from(_IDENTITIES), missing)


@st.composite
def _texts(draw: st.DrawFn) -> str:
    """Realistic files, and slightly broken ones."""
    delimiter = draw(st.sampled_from(_DELIMITERS))
    separator_lines = [f"sep={delimiter}"] * 30 + list(_SEPARATOR_LINES)
    columns = [draw(_spelt(column)) for column in draw(st.permutations(["name", "country", "age"]))]
    header = [*columns, *draw(_sometimes(_LABELS))]
    if draw(st.integers(0, 4)) == 0:
        header = draw(st.lists(st.sampled_from(columns + list(_LABELS)), max_size=5))
    cells = st.integers(0, 7).flatmap(lambda one: st.sampled_from(_GOOD_CELLS if one else _CELLS))
    rows = st.lists(cells, min_size=len(header), max_size=len(header)).map(delimiter.join)
    other_rows = st.lists(cells, max_size=6).map(delimiter.join) | st.sampled_from(_BLANK)
    rows |= rows | other_rows
    if draw(st.integers(0, 3)) == 0:
        header, rows = draw(_corrected(header, rows, delimiter))
    lines = [
        *draw(_sometimes(_BLANK)),
        *([draw(st.sampled_from(separator_lines))] if delimiter in "|:" else draw(_sometimes(separator_lines))),
        *draw(_sometimes(_BLANK)),
        delimiter.join(header),
        *draw(st.lists(rows, max_size=8)),
    ]
    usual = draw(st.sampled_from(_ENDS))
    text = "".join(line + draw(st.sampled_from((*[usual] * 8, *_ENDS))) for line in lines)
    return text if draw(st.booleans()) else text.rstrip("\r\n")


@st.composite
def _uploads(draw: st.DrawFn) -> bytes:
    """The same files in any encoding and compression, some of them damaged."""
    mark, encoding = draw(st.sampled_from(_WRITTEN_IN))
    data = (mark + draw(_texts())).encode(encoding, "replace")
    if draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(data)))
        data = data[:at] + draw(st.sampled_from(_STRAY_BYTES)) + data[at:]
    if draw(st.integers(0, 19)) == 0:
        data = draw(st.sampled_from(_MAGIC)) + data
    if draw(st.integers(0, 3)) == 0:
        at = draw(st.integers(0, len(data)))
        data = b"".join(
            [
                gzip.compress(data[:at], mtime=0),
                draw(st.sampled_from([b"", b"", bytes(3)])),
                gzip.compress(data[at:], mtime=0),
                draw(st.sampled_from([b"", b"", bytes(5), b"more"])),
            ]
        )
        data = data[: len(data) - draw(st.sampled_from([0, 0, 0, 1, 8, 20]))]
    return data


@given(
    circumstances=st.fixed_dictionaries(
        {kind: st.integers(0, 11) for kind in ("policy", "encodings", "limits", "other_way", "saved_as", "loaded")}
    ),
    data=_uploads(),
)
def test_an_upload_becomes_what_the_contract_says(circumstances: dict[str, int], data: bytes) -> None:
    policy, encodings, *others = circumstances.values()
    check(bytes([policy, encodings, 0, 0, *others]) + data)
