"""The first pass over an upload (compression, encoding, hash), and the second, which reads its text."""

import bz2
import codecs
import gzip
import hashlib
import io
import itertools
import lzma
import re
import tracemalloc
import zlib
from collections.abc import Iterable, Iterator, Sequence

import attrs
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from rollcall.application.decoding import (
    CHUNK_BYTES,
    Content,
    DamagedGzipError,
    Inspection,
    line_ends,
    read_utf8,
)
from rollcall.domain.rejection import Code
from support.reference_reader import count_line_ends

MIB = 1024 * 1024
BODY = "name,country,age\nAnn Lee,Chile,30\nZoë,España,41\n".encode()

# Made without the time, so that the ids of the tests do not depend on it.
_WHOLE = gzip.compress(BODY, mtime=0)
_FIRST = gzip.compress(BODY[:20], mtime=0)
_SECOND = gzip.compress(BODY[20:], mtime=0)
_NOTHING = gzip.compress(b"", mtime=0)

_MARKS = {
    codecs.BOM_UTF8: "utf-8",
    codecs.BOM_UTF16_LE: "utf-16-le",
    codecs.BOM_UTF16_BE: "utf-16-be",
}
_BITS = (b"a", b",", b"\n", b"\r", b"\r\n", b"\xc3\xa9", b"\xe5\xb1\xb1", b"\xf0\x9f\x91\x8d", b"\x83e", b"\x00")
_BAD_BITS = (b"\xe9", b"\x80", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf0\x9f", b"\xd8\x00", b"\x00\xd8")

nearly_text = st.lists(st.sampled_from(_BITS * 5 + _BAD_BITS), max_size=30).map(b"".join)
marks = st.sampled_from((b"", b"", b"", *_MARKS))
encoding_lists = st.sampled_from(
    (("utf-8",), ("utf-8", "cp932"), ("cp932", "utf-8"), ("utf-8", "cp1252"), ("ascii",))
)


def _inspect(
    pieces: Iterable[bytes], encodings: Sequence[str] = ("utf-8",), max_csv_bytes: int = 100 * MIB
) -> Content:
    stored = list(pieces)
    inspection = Inspection(encodings, max_csv_bytes)
    for _ in inspection.read(stored):
        pass
    return inspection.finish(lambda: stored)


def _cut(data: bytes, sizes: Iterable[int]) -> Iterator[bytes]:
    """Cut data into pieces of these sizes, in turn."""
    at = 0
    for size in itertools.cycle(sizes):
        if at >= len(data):
            return
        yield data[at : at + size]
        at += size


def _code(content: Content) -> Code | None:
    return content.fault.code if content.fault else None


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


@given(data=nearly_text, mark=marks, encodings=encoding_lists)
def test_a_bom_or_the_first_encoding_that_decodes_all_is_used(
    data: bytes, mark: bytes, encodings: Sequence[str]
) -> None:
    """Decoding is strict, to the last byte."""
    upload = mark + data
    assume(not upload.startswith(codecs.BOM_UTF32_LE))
    mark = next((mark for mark in _MARKS if upload.startswith(mark)), b"")
    tried = (_MARKS[mark],) if mark else encodings
    expected = next((encoding for encoding in tried if _decodes(upload[len(mark) :], encoding)), None)
    content = _inspect([upload], encodings)

    assert content.sha256 == hashlib.sha256(upload).hexdigest()
    assert content.compression is None
    assert content.encoding == (expected if upload else None)
    assert content.bom_length == len(mark)
    assert _code(content) == (Code.EMPTY_FILE if not upload else None if expected else Code.ENCODING_ERROR)


@given(data=nearly_text, mark=marks, encodings=encoding_lists, before=st.sampled_from((0, 4080, 4096, 9000)))
def test_the_first_bad_byte_is_located(data: bytes, mark: bytes, encodings: Sequence[str], before: int) -> None:
    """By its byte offset in the file and its physical line, in the first encoding tried."""
    upload = mark + b"n" * before + data
    assume(not upload.startswith(codecs.BOM_UTF32_LE))
    mark = next((mark for mark in _MARKS if upload.startswith(mark)), b"")
    first = _MARKS[mark] if mark else encodings[0]
    content = _inspect([upload], encodings)
    if content.fault and content.fault.code is Code.ENCODING_ERROR:
        with pytest.raises(UnicodeDecodeError) as failure:
            upload[len(mark) :].decode(first)
        start = failure.value.start
        line = 1 + count_line_ends(upload[len(mark) :][:start].decode(first))

        assert f"is in line {line}, byte offset {len(mark) + start};" in content.fault.message


@given(
    data=nearly_text,
    mark=marks,
    encodings=encoding_lists,
    before=st.sampled_from((0, 4080, 9000)),
    compressed=st.booleans(),
    sizes=st.lists(st.integers(1, 40) | st.integers(1, 5000), min_size=1, max_size=4),
)
@example(data=b"\x83,a", mark=b"", encodings=("utf-8",), before=4096, compressed=False, sizes=[4097, 1])
@example(
    data=b"n" * 15 + b"\r\n\xff,", mark=b"", encodings=("utf-8",), before=4080, compressed=False, sizes=[4096]
)
def test_the_pieces_of_an_upload_do_not_change_the_result(
    data: bytes,
    mark: bytes,
    encodings: Sequence[str],
    before: int,
    compressed: bool,  # noqa: FBT001 - what varies
    sizes: list[int],
) -> None:
    """The same bytes give the same content, including the fault and its message."""
    upload = mark + b"n" * before + data
    stored = gzip.compress(upload, mtime=0) if compressed else upload

    assert _inspect(_cut(stored, sizes), encodings) == _inspect([stored], encodings)


@given(
    text=st.text(st.sampled_from("a,\r\né山👍\0"), max_size=40),
    mark=st.sampled_from((b"", *_MARKS)),
    before=st.sampled_from((0, 4095, CHUNK_BYTES - 3)),
    compressed=st.booleans(),
)
def test_the_text_that_is_read_is_the_upload_decoded(
    text: str,
    mark: bytes,
    before: int,
    compressed: bool,  # noqa: FBT001 - what varies
) -> None:
    """Without its BOM, and complete across all pieces."""
    text = "x" * before + text
    upload = mark + text.encode(_MARKS.get(mark, "utf-8"))
    assume(not upload.startswith(codecs.BOM_UTF32_LE))
    stored = gzip.compress(upload, mtime=0) if compressed else upload
    content = _inspect([stored])
    pieces = [] if content.fault else list(read_utf8(io.BytesIO(stored), content))

    assert _code(content) == (None if upload else Code.EMPTY_FILE)
    assert b"".join(pieces) == text.encode()
    assert all(pieces)


@given(nearly_text, marks, encoding_lists, st.lists(st.integers(1, 9), min_size=1), st.booleans())
def test_the_pass_that_finds_the_content_yields_its_text(
    body: bytes,
    mark: bytes,
    encodings: Sequence[str],
    sizes: list[int],
    compressed: bool,  # noqa: FBT001 - what varies
) -> None:
    """No piece ends inside a character, however the stored bytes are cut."""
    stored = gzip.compress(mark + body, mtime=0) if compressed else mark + body
    inspection = Inspection(encodings, 100 * MIB)
    text = "".join(piece.decode() for piece in inspection.read(_cut(stored, sizes)))
    content = inspection.content
    if content and not content.fault:
        assert text == (mark + body)[content.bom_length :].decode(content.encoding or "")


def test_a_japanese_upload_is_read_if_its_encoding_is_listed() -> None:
    """If the encoding is not listed, the refusal suggests it."""
    upload = "name,country,age\n山田太郎,日本,29\n".encode("cp932")
    content = _inspect([upload], ("utf-8", "cp932"))
    refused = _inspect([upload])

    assert content.encoding == "cp932"
    assert b"".join(read_utf8(io.BytesIO(upload), content)) == upload.decode("cp932").encode()
    assert refused.fault
    assert refused.fault.message == (
        "the file is not utf-8: the first byte that does not fit is in line 2, byte offset 17; "
        "it looks like cp932: save it as CSV UTF-8"
    )


@pytest.mark.parametrize("end", ["\r\n", ""])
@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        ("cp932", "佐藤 ー子,日本,29"),
        ("cp932", "ヤマダ タロウ,日本,3"),
        ("cp932", "ﾔﾏﾀﾞ　ﾀﾛｳ,日本,29"),
        ("cp932", "齋藤 一,日本,1\r\n髙橋 真,日本,3"),
        ("cp1252", "Müller,Österreich,30\r\nRené,France,31"),
        ("cp1252", "José,España,30\r\nMuñoz,México,31"),
        ("cp1252", "JOSÉ,CHILE,30"),
        ("utf-8", "Zoë,日本,30"),
        ("cp1252", "France,30,José"),
        pytest.param("cp932", "山田,日本\r\n" * 900, id="the sample ends inside a character"),
    ],
)
def test_an_encoding_beyond_doubt_is_suggested(encoding: str, rows: str, end: str) -> None:
    """The message names no setting or command, which an uploader could not use."""
    refused = _inspect([f"name,country,age\r\n{rows}{end}".encode(encoding)], ["ascii"])

    assert refused.fault
    assert refused.fault.message.endswith(f"; it looks like {encoding}: save it as CSV UTF-8")


@pytest.mark.parametrize(
    ("encoding", "rows"),
    [
        ("euc_jp", "山田太郎,日本,29\r\n佐藤花子,日本,30\r\n鈴木一郎,日本,31"),
        ("euc_jp", "ﾔﾏﾀﾞ ﾀﾛｳ,ﾆﾎﾝ,29"),
        ("gb18030", "张伟,中国,29\r\n王芳,中国,30\r\n刘洋,中国,45"),
        ("big5", "陳大文,台灣,29\r\n林志玲,台灣,30\r\n黃美麗,台灣,45"),
        ("cp949", "김철수,한국,29\r\n이영희,대한민국,30"),
        ("johab", "김철수,한국,29\r\n이영희,대한민국,30"),
        ("cp1250", "Łukasz Źrebiec,Polska,41\r\nJiří Dvořák,Česko,29"),
        ("cp1250", "Jiří Dvořák,Česko,29"),
        ("cp1250", "Gdańsk,Polska,29"),
        ("cp1251", "Иван Смирнов,Россия,41\r\nАнна Попова,Россия,29"),  # noqa: RUF001 - as they are written
        ("koi8_r", "Иван Смирнов,Россия,41\r\nАнна Попова,Россия,29"),  # noqa: RUF001 - as they are written
        ("cp866", "ИВАН ПЕТРОВ,РОССИЯ,41"),
        ("cp1253", "Γιάννης,Ελλάδα,29\r\nΜαρία,Ελλάδα,30"),  # noqa: RUF001 - as they are written
        ("cp1254", "Şahin,Türkiye,30\r\nAyşe Yıldız,Türkiye,31"),  # noqa: RUF001 - as they are written
        ("cp1255", "יוסי,ישראל,30"),  # noqa: RUF001 - as they are written
        ("cp1256", "محمد علي,مصر,30"),
        ("cp1257", "Kārlis Ozols,Latvija,30"),
        ("cp874", "สมชาย,ไทย,30"),
        ("mac_roman", "José,España,41\r\nZoë,Österreich,29"),
        ("mac_roman", "Andréa,Chile,30"),
        ("mac_roman", "Álvaro,Él,30"),
        ("cp850", "José,España,30\r\nJoão,Brasil,31"),
        ("cp437", "Müller,Österreich,30"),
        ("cp1252", "François,France,30"),
        ("utf-16-le", "山田太郎,日本,29"),
    ],
)
def test_no_encoding_is_suggested_in_doubt(encoding: str, rows: str) -> None:
    """An operator who followed a wrong suggestion would load wrong letters from then on."""
    refused = _inspect([f"name,country,age\r\n{rows}\r\n".encode(encoding)])

    assert refused.fault
    assert refused.fault.code is Code.ENCODING_ERROR
    assert refused.fault.message.endswith("; save it as CSV UTF-8")
    assert "looks like" not in refused.fault.message


@pytest.mark.parametrize(
    ("encoding", "name", "after", "encodings"),
    [
        ("cp932", "山田太郎", b",\0", ["utf-8"]),
        ("cp1252", "Müller", b",\x01", ["utf-8"]),
        ("cp932", "山田太郎", b",\x81,", ["utf-8"]),
        ("cp1252", "Müller", b",\x81,", ["utf-8"]),
        ("cp932", "山田太郎", b"," * 5000 + b"\x81,", ["utf-8", "cp932"]),
    ],
)
def test_an_encoding_that_does_not_fit_is_not_suggested(
    encoding: str, name: str, after: bytes, encodings: Sequence[str]
) -> None:
    """Nor for binary data, nor an encoding that was already tried."""
    refused = _inspect([name.encode(encoding) + after], encodings)

    assert refused.fault
    assert refused.fault.message.endswith("; save it as CSV UTF-8")


@pytest.mark.parametrize(
    ("data", "encodings", "encoding"),
    [
        ("name,country,age\nZoë,España,30\n山".encode()[:-1], ("utf-8",), "utf-8"),
        (b"name,country,age\nZo\xc3", ("utf-8",), "utf-8"),
        ("\ufeffname,country,age\nZoë".encode()[:-1], ("cp932",), "utf-8"),
        (codecs.BOM_UTF16_LE + "name,country,age\nZoë,".encode("utf-16-le")[:-1], ("utf-8",), "utf-16-le"),
        (codecs.BOM_UTF16_BE + "name,country,age\nZoë 👍".encode("utf-16-be")[:-2], ("utf-8",), "utf-16-be"),
        ("name,country,age\n山田太郎,日本".encode("cp932")[:-1], ("utf-8", "cp932"), "cp932"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_a_character_cut_at_the_end_suggests_no_other_encoding(
    data: bytes,
    encodings: Sequence[str],
    encoding: str,
    compressed: bool,  # noqa: FBT001 - what varies
) -> None:
    """The message says that the file may have been cut short."""
    fault = _inspect([gzip.compress(data) if compressed else data], encodings).fault

    assert fault
    assert fault.code is Code.ENCODING_ERROR
    assert fault.message.endswith(
        f"; as {encoding} it ends in the middle of a character, so it may have been cut short: "
        "upload it whole, as CSV UTF-8"
    )


@pytest.mark.parametrize("mark", _MARKS)
def test_no_encoding_is_suggested_against_a_bom(mark: bytes) -> None:
    """A BOM decides the encoding, so no other is suggested."""
    refused = _inspect([mark + "Zoë,España\n".encode("cp1252") + b"\xd8\xd8" * 2 + b"  "])

    assert refused.fault
    assert refused.fault.message.endswith("; save it as CSV UTF-8")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "utf-16-le", "iso2022_jp", "cp500"])
def test_every_allowed_encoding_can_be_tried(encoding: str) -> None:
    """One that does not fit is skipped, for any exception of its decoder."""
    content = _inspect([BODY], (encoding, "utf-8"))

    assert content.encoding in {encoding, "utf-8"}
    assert content.fault is None


def test_an_empty_upload_is_refused_as_empty() -> None:
    """Plain or compressed; an upload of only a BOM is refused later, by the header."""
    nothing = hashlib.sha256(b"").hexdigest()

    assert _code(_inspect([])) == _code(_inspect([b""])) == Code.EMPTY_FILE
    assert _inspect([]).sha256 == nothing
    assert _code(_inspect([gzip.compress(b"")])) == Code.EMPTY_FILE
    assert _inspect([gzip.compress(b"")]).sha256 == nothing
    assert _inspect([codecs.BOM_UTF8]).fault is None


@pytest.mark.parametrize("byte", [b"\x1f", b"\x8b", b"P", b"n"])
def test_a_single_byte_is_not_an_archive(byte: bytes) -> None:
    assert _code(_inspect([byte])) == (None if byte.isascii() else Code.ENCODING_ERROR)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    "stored",
    [
        _WHOLE,
        _FIRST + _NOTHING + _SECOND,
        _WHOLE + bytes(1000),
        _FIRST + bytes(3) + _SECOND,
    ],
    ids=["plain", "members", "padded", "padded between members"],
)
def test_gzip_is_read_with_any_members_and_padding(stored: bytes, size: int) -> None:
    """The hash is that of the decompressed bytes, so the content equals that of the plain file."""
    content = _inspect(_cut(stored, [size]))

    assert content == attrs.evolve(_inspect([BODY]), compression="gzip")
    assert b"".join(read_utf8(io.BytesIO(stored), content)) == BODY


@pytest.mark.parametrize("size", [1, 2, 1000])
@pytest.mark.parametrize(
    "stored",
    [
        *(_WHOLE[:end] for end in (2, 3, 9, 10, 11, 40, len(_WHOLE) - 8, len(_WHOLE) - 1)),
        _WHOLE[:40] + bytes([_WHOLE[40] ^ 0xFF]) + _WHOLE[41:],
        _WHOLE[:-5] + bytes([_WHOLE[-5] ^ 1]) + _WHOLE[-4:],
        _WHOLE[:-1] + bytes([_WHOLE[-1] ^ 1]),
        _WHOLE + b"trailing",
        _WHOLE + b"\0\0x",
        _WHOLE + _WHOLE[:20],
        b"\x1f\x8b" + BODY,
    ],
)
def test_damaged_gzip_is_refused_as_such(stored: bytes, size: int) -> None:
    """Cut, changed, or followed by other bytes; then the hash is that of the stored bytes."""
    content = _inspect(_cut(stored, [size]))

    assert content.fault
    assert content.fault.code is Code.COMPRESSION_ERROR
    assert "damaged or cut short" in content.fault.message
    assert content.sha256 == hashlib.sha256(stored).hexdigest()
    assert content.encoding is None


def test_an_upload_cut_short_at_the_second_reading_is_noticed() -> None:
    """Such an end is never taken for the end of the file."""
    content = _inspect([_WHOLE])
    with pytest.raises(DamagedGzipError):
        list(read_utf8(io.BytesIO(_WHOLE[:-9]), content))
    plain = _inspect([BODY])
    with pytest.raises(UnicodeDecodeError):
        list(read_utf8(io.BytesIO(BODY[: BODY.index(b"\xc3") + 1]), plain))


def _zeros_compressed(mib: int) -> Iterator[bytes]:
    """Compress this many MiB of zeros, in the compressor's own pieces."""
    compressor = zlib.compressobj(wbits=31)
    zeros = bytes(MIB)
    for _ in range(mib):
        if piece := compressor.compress(zeros):
            yield piece
    yield compressor.flush()


@pytest.mark.parametrize("magic", [b"", b"PK\x03\x04", b"%PDF-"])
def test_a_decompression_bomb_is_refused_without_unpacking(magic: bytes) -> None:
    """1 GiB of zeros in 1 MiB of gzip costs neither memory nor time, also with the head of another format."""
    first = gzip.compress(magic + bytes(8192)) if magic else b""
    # 1 GiB in members of 32 MiB: they read like one stream, and are made in no time.
    stored = first + b"".join(_zeros_compressed(32)) * 32
    tracemalloc.start()
    content = _inspect(_cut(stored, [64 * 1024]), max_csv_bytes=4 * MIB)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert content.fault
    assert content.fault.code is Code.SIZE_LIMIT
    assert content.fault.message == (
        "the CSV inside is larger than the 4,194,304 bytes that are allowed; split it into files"
    )
    assert content.sha256 == hashlib.sha256(stored).hexdigest()
    assert peak < 4 * MIB


def test_decompressed_pieces_have_a_bounded_size() -> None:
    """One stored piece may decompress to a thousand times its size."""
    stored = b"".join(_zeros_compressed(16))
    content = _inspect([stored])
    sizes = [len(piece) for piece in read_utf8(io.BytesIO(stored), content)]

    assert sum(sizes) == 16 * MIB
    assert max(sizes) <= CHUNK_BYTES


def test_many_gzip_members_give_few_pieces() -> None:
    """Otherwise a long record would be copied again for each of its characters."""
    stored = gzip.compress(b"a") * 20_000 + gzip.compress(b"") * 20_000 + gzip.compress(b"b" * CHUNK_BYTES)
    content = _inspect([stored])
    pieces = list(read_utf8(io.BytesIO(stored), content))

    assert b"".join(pieces) == b"a" * 20_000 + b"b" * CHUNK_BYTES
    assert len(pieces) <= 2 + len(stored) // CHUNK_BYTES


@pytest.mark.parametrize("compressed", [False, True])
def test_the_size_limit_is_the_largest_accepted_size(compressed: bool) -> None:  # noqa: FBT001 - what varies
    """Counted after decompression, to the byte."""
    stored = gzip.compress(BODY) if compressed else BODY

    assert _code(_inspect([stored], max_csv_bytes=len(BODY))) is None
    assert _code(_inspect([stored], max_csv_bytes=len(BODY) - 1)) == Code.SIZE_LIMIT


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"PK\x03\x04", "a zip archive"),
        (b"PK\x05\x06" + bytes(18), "a zip archive"),  # empty
        (b"PK\x07\x08PK\x03\x04", "a zip archive"),  # split archive
        (b"PK00PK\x03\x04", "a zip archive"),  # split archive in one part
        (b"PK\x03\x04..[Content_Types].xml", "an Excel workbook (.xlsx)"),
        (b"PK\x03\x04..xl/workbook.xml", "an Excel workbook (.xlsx)"),
        (b"PK\x03\x04..mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument spreadsheet"),
        (b"%PDF-1.7", "a PDF document"),
        (
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
            "an OLE container (an .xls workbook, or a workbook with a password)",
        ),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"\xff\xd8\xff\xe0", "a JPEG image"),
        (b"GIF89a\x01\0", "a GIF image"),
        (b"PAR1\x15\x04", "a Parquet file"),
        (b"SQLite format 3\0", "a SQLite database"),
        (_WHOLE, "gzip that contains gzip"),
        (bz2.compress(BODY), "compressed by bzip2"),
        (bz2.compress(b""), "compressed by bzip2"),
        (lzma.compress(BODY), "compressed by xz"),
        (b"\x1f\x9d\x90", "compressed by compress (.Z)"),
        (b"\x28\xb5\x2f\xfd\x04", "compressed by zstd"),
        (b"\x04\x22\x4d\x18", "compressed by lz4"),
        (b"LZIP\x01", "compressed by lzip"),
        (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
        (b"Rar!\x1a\x07\x01\0", "a RAR archive"),
        (b"users.csv".ljust(257, b"\0") + b"ustar\x0000", "a tar archive"),
    ],
)
def test_another_format_is_refused_by_name(
    head: bytes,
    name: str,
    compressed: bool,  # noqa: FBT001 - what varies
) -> None:
    """With the advice to export CSV, for any size and any bytes after its head."""
    twice = head.startswith(b"\x1f\x8b")
    for rest in (b"", b"\xff\xfe\x00", bytes(10_000)):
        stored = gzip.compress(head + rest) if compressed or twice else head + rest
        content = _inspect(_cut(stored, [100]))

        assert content.fault
        assert content.fault.code is Code.FORMAT_ERROR
        assert content.fault.message.startswith(f"the file is {name}")
        assert ", not a CSV; " in content.fault.message
        assert re.search("; (export it as CSV|unpack it and upload the CSV)", content.fault.message)
        assert content.sha256 == hashlib.sha256(head + rest).hexdigest()


@pytest.mark.parametrize("label", ["PAR1", "BZh9", "LZIP", "Rar!", "PK", "SQLite format 3", "7z", "ustar"])
def test_a_label_is_not_taken_for_another_format(label: str) -> None:
    """A signature that is also text needs its next bytes."""
    assert _inspect([f"{label},name,country,age\n".encode()]).fault is None


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("encoding", ["utf-32-le", "utf-32-be"])
def test_utf_32_is_refused_by_name(encoding: str, compressed: bool) -> None:  # noqa: FBT001 - what varies
    """Its BOM begins like that of UTF-16; UTF-16 that begins with a NUL stays UTF-16."""
    for text in ("\ufeff", f"\ufeff{BODY.decode()}", "\ufeff👍"):
        stored = gzip.compress(text.encode(encoding)) if compressed else text.encode(encoding)
        fault = _inspect(_cut(stored, [3])).fault

        assert fault
        assert (fault.code, fault.message) == (
            Code.ENCODING_ERROR,
            "the file is UTF-32, which is not read here; save it as CSV UTF-8",
        )
    assert _inspect(["\ufeff\0name".encode("utf-16-le")]).encoding == "utf-16-le"


@given(
    rest=st.binary(max_size=200),
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=3),
    cut=st.integers(0, 30),
)
def test_a_compressed_foreign_format_has_one_verdict(rest: bytes, sizes: list[int], cut: int) -> None:
    """In pieces of any size, damaged or not."""
    stored = gzip.compress(b"PK\x03\x04" + rest * 30, mtime=0)
    stored = stored[: len(stored) - cut]

    assert _inspect(_cut(stored, sizes)) == _inspect([stored])


@given(text=st.text("\r\na", max_size=20))
def test_line_ends_are_crlf_lf_and_lone_cr(text: str) -> None:
    assert line_ends(text.encode()) == count_line_ends(text)
