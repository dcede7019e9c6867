"""From stored bytes to text: decompression, decoding, and the SHA-256 of the content."""

import codecs
import hashlib
import re
import zlib
from collections.abc import Iterator, Sequence
from typing import BinaryIO
from unicodedata import name

import attrs

from rollcall.domain.rejection import Code, Fault

CHUNK_BYTES = 256 * 1024

# zlib copies all bytes after the end of a gzip member, and a chunk may contain thousands of members. So each copy
# is kept small.
_FEED_BYTES = 16 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
EXPORT = "export it as CSV (in Excel: Save As, CSV UTF-8) and upload that"
UNPACK = "unpack it and upload the CSV inside, plain or as gzip"
# Other formats: the signature that the format's specification gives, the format's name, and the advice.
_OTHER_FORMATS = (
    (rb"PK\x03\x04.*(?:\[Content_Types\]\.xml|xl/)", "an Excel workbook (.xlsx)", EXPORT),
    (rb"PK\x03\x04.*opendocument\.spreadsheet", "an OpenDocument spreadsheet (.ods)", EXPORT),
    (rb"PK(?:\x03\x04|\x05\x06|\x07\x08|00PK)", "a zip archive", EXPORT),
    (
        rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "an OLE container (an .xls workbook, or a workbook with a password)",
        EXPORT,
    ),
    (rb"%PDF-", "a PDF document", EXPORT),
    (rb"\x89PNG\r\n\x1a\n", "a PNG image", EXPORT),
    (rb"\xff\xd8\xff", "a JPEG image", EXPORT),
    (rb"GIF8[79]a", "a GIF image", EXPORT),
    (rb"PAR1[\0-\x08\x0e-\x1f]", "a Parquet file", EXPORT),  # PAR1 alone may be a label
    (rb"SQLite format 3\0", "a SQLite database", EXPORT),
    (rb"\x1f\x8b", "gzip that contains gzip", UNPACK),
    (rb"\x1f[\x9d\xa0]", "compressed by compress (.Z)", UNPACK),
    (rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)", "compressed by bzip2", UNPACK),
    (rb"\xfd7zXZ\0", "compressed by xz", UNPACK),
    (rb"\x28\xb5\x2f\xfd", "compressed by zstd", UNPACK),
    (rb"(?:\x04\x22\x4d|\x02\x21\x4c)\x18", "compressed by lz4", UNPACK),
    (rb"LZIP[\0\x01]", "compressed by lzip", UNPACK),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", UNPACK),
    (rb"Rar!\x1a\x07", "a RAR archive", UNPACK),
    (rb"(?=[^\0]{1,100}\0).{257}ustar", "a tar archive", UNPACK),
)
_NOT_READ = (
    *(
        (re.compile(begins, re.DOTALL), Fault(Code.FORMAT_ERROR, f"the file is {what}, not a CSV; {advice}"))
        for begins, what, advice in _OTHER_FORMATS
    ),
    (
        # The byte order mark of UTF-32-LE is that of UTF-16-LE and two NUL bytes; the next character decides.
        re.compile(rb"\0\0\xfe\xff|\xff\xfe\0\0(?:..[\0-\x10]\0|\Z)", re.DOTALL),
        Fault(Code.ENCODING_ERROR, "the file is UTF-32, which is not read here; save it as CSV UTF-8"),
    ),
)
_HEAD_BYTES = 4096
# The size of the sample from which the encoding is guessed: the first byte that does not fit and its neighbours.
_SAMPLE_BYTES = 4096

# Encodings of Latin text in which spreadsheets and older systems save CSV. They share most of their bytes.
_LATIN_ENCODINGS = ("cp1252", "cp1250", "cp1254", "cp1257", "mac_roman", "cp850")

_control = re.compile(r"[\0-\x08\x0b\x0c\x0e-\x1f]")
_word = re.compile(r"[^\W\d_]+")
# Polish never writes this letter before a vowel. Spanish always writes ñ, the same byte in cp1252, before one.
_never_latin = re.compile("ń[aeiou]", re.IGNORECASE)
# In cp932: kana and the everyday kanji (JIS level 1), without the bytes of half-width katakana in EUC-JP.
_everyday_japanese = re.compile(rb"(?!\x8e[\xa1-\xdf])[\x81-\x83\x88-\x98].", re.DOTALL)
# Half-width katakana, or an ASCII letter, beside another letter. That is rare in Japanese, and common in a text
# that is misread as Japanese.
_badly_joined = re.compile(
    r"[A-Za-z][^\0-\x7f]|[^\0-\x7f][A-Za-z]"
    r"|[\uff61-\uff9f][^\0-\x7f\u3000\uff61-\uff9f]|[^\0-\x7f\u3000\uff61-\uff9f][\uff61-\uff9f]"
)


@attrs.frozen(kw_only=True)
class Content:
    """The result of the first pass over an upload.

    Attributes:
        sha256: The hexadecimal SHA-256 of the bytes after decompression. If they cannot be decompressed, that of
            the stored bytes. None if the bytes were not read.
        compression: "gzip" or None.
        encoding: The first encoding that decodes the whole upload; None if none does.
        bom_length: The length of the byte order mark in bytes.
        fault: Why the upload cannot be read; None if it can be read.
    """

    sha256: str | None = None
    compression: str | None = None
    encoding: str | None = None
    bom_length: int = 0
    fault: Fault | None = None


def line_ends(text: str) -> int:
    r"""Count the line ends of a text: CRLF, LF and lone CR each end a line."""
    # Most texts have no carriage return, and finding that out is far faster than counting.
    carriage_returns = text.count("\r") - text.count("\r\n") if "\r" in text else 0
    return text.count("\n") + carriage_returns


class DamagedGzipError(ValueError):
    """The stored bytes begin as gzip, but are damaged or cut off."""


class _Gunzip:
    """Decompresses gzip data with any number of members (RFC 1952) in pieces of bounded size."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield the decompressed data. Small members are joined into pieces of `CHUNK_BYTES`.

        Raises:
            DamagedGzipError: The data is damaged.
        """
        gathered = bytearray()
        for start in range(0, len(data), _FEED_BYTES):
            left = data[start : start + _FEED_BYTES]
            while left := self._next_member(left):
                try:
                    gathered += self._member.decompress(left, CHUNK_BYTES - len(gathered))
                except zlib.error as error:
                    raise DamagedGzipError from error
                left = self._member.unused_data or self._member.unconsumed_tail
                if len(gathered) == CHUNK_BYTES:
                    yield bytes(gathered)
                    gathered.clear()
        if gathered:
            yield bytes(gathered)

    def _next_member(self, data: bytes) -> bytes:
        """Begin another member if the last one has ended.

        Returns:
            The data, without zero padding after the last member.
        """
        if self._member.eof:
            # Zero padding is harmless and common; tar writes it.
            data = data.lstrip(b"\0")
            if data:
                self._member = zlib.decompressobj(wbits=31)
        return data

    def finish(self) -> Iterator[bytes]:
        """Yield the rest of the decompressed data.

        Raises:
            DamagedGzipError: The end of the last member is missing.
        """
        if not self._member.eof:
            yield self._member.flush()
        if not self._member.eof:
            raise DamagedGzipError


class _Trial:
    """The strict decoding of an upload in one encoding, until it fails or the upload ends."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.failure: tuple[int, int] | None = None
        self.cut_short = False
        self.sample = b""
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._bytes = 0
        self._lines = 1
        self._last = ""

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Decode the next bytes; after a failure, only add them to the sample."""
        if self.failure:
            self.sample += data[: _SAMPLE_BYTES - len(self.sample)]
            return
        try:
            text = self._decoder.decode(data, final)
        except UnicodeDecodeError as error:
            pending = len(error.object) - len(data)
            before = error.object[: error.start].decode(self.encoding, "replace")
            self._count(before)
            self.failure = self._bytes - pending + error.start, self._lines
            self.cut_short = final  # a wrong byte in a complete character fails earlier
            # The character before is included, because a byte inside a word is guessed better than a lone one.
            self.sample = self._last.encode("ascii", "ignore") + error.object[error.start :][: _SAMPLE_BYTES - 1]
            return
        except UnicodeError:
            # Some decoders give no position, such as UTF-16 without a byte order mark.
            self.failure = self._bytes, self._lines
            self.sample = data[:_SAMPLE_BYTES]
            return
        self._bytes += len(data)
        self._count(text)

    def _count(self, text: str) -> None:
        split_line_end = self._last == "\r" and text.startswith("\n")
        self._lines += line_ends(text) - split_line_end
        self._last = text[-1:] or self._last


class Inspection:
    """The first pass: it reads every stored byte once and determines the `Content`.

    Args:
        encodings: The encodings to try, in order, on an upload without a byte order mark.
        max_csv_bytes: The largest size after decompression, in bytes.
    """

    def __init__(self, encodings: Sequence[str], max_csv_bytes: int) -> None:
        self._encodings = encodings
        self._max_csv_bytes = max_csv_bytes
        self._stored_hash = hashlib.sha256()
        self._content_hash = hashlib.sha256()
        self._stored_head: bytes | None = b""
        self._gunzip: _Gunzip | None = None
        self._head: bytes | None = b""
        self._trials: list[_Trial] = []
        self._mark = b""
        self._csv_bytes = 0
        self._fault: Fault | None = None

    def watch(self, data: bytes) -> None:
        """Read the next stored bytes."""
        if self._stored_head is not None:
            self._stored_head += data
            if len(self._stored_head) < len(_GZIP_MAGIC):
                return
            data, self._stored_head = self._stored_head, None
            self._gunzip = _Gunzip() if data.startswith(_GZIP_MAGIC) else None
        if not self._gunzip:
            self._inside(data)
            return
        self._stored_hash.update(data)
        if not self._unreadable:
            self._decompress(self._gunzip.feed(data))

    def finish(self) -> Content:
        """Return the result, after the last stored byte."""
        if self._stored_head:
            self._inside(self._stored_head)
        if self._gunzip and not self._unreadable:
            self._decompress(self._gunzip.finish())
        if self._head:
            self._begin()
        for trial in self._trials:
            trial.feed(b"", final=True)
        fitting = next((trial.encoding for trial in self._trials if not trial.failure), None)
        fault = self._fault or (
            Fault(Code.EMPTY_FILE, "the file is empty; the first line must name the columns")
            if not self._csv_bytes
            else self._encoding_fault()
            if not fitting
            else None
        )
        return Content(
            sha256=(self._stored_hash if self._gunzip and self._unreadable else self._content_hash).hexdigest(),
            compression="gzip" if self._gunzip else None,
            encoding=None if fault and fault.code is not Code.EMPTY_FILE else fitting,
            bom_length=len(self._mark),
            fault=fault,
        )

    @property
    def _unreadable(self) -> bool:
        """Whether decompression has stopped, so that the rest of the content is not read."""
        return self._fault is not None and self._fault.code in {Code.COMPRESSION_ERROR, Code.SIZE_LIMIT}

    def _decompress(self, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                self._inside(piece)
                if self._unreadable:
                    return
        except DamagedGzipError:
            self._fault = Fault(
                Code.COMPRESSION_ERROR,
                "the file is gzip but damaged or cut short; compress and upload it again, or upload it as it is",
            )

    def _inside(self, data: bytes) -> None:
        self._content_hash.update(data)
        self._csv_bytes += len(data)
        # The limit also holds for other formats: a compressed bomb may have any content.
        if self._csv_bytes > self._max_csv_bytes and not self._unreadable:
            self._fault = size_fault("the CSV inside", self._max_csv_bytes)
        if self._head is not None:
            self._head += data
            if len(self._head) >= _HEAD_BYTES:
                self._begin()
        elif not self._fault:
            for trial in self._trials:
                trial.feed(data)

    def _begin(self) -> None:
        head, self._head = self._head or b"", None
        if not self._fault:
            begins = head[:_HEAD_BYTES]
            self._fault = next((fault for pattern, fault in _NOT_READ if pattern.match(begins)), None)
        encodings = self._encodings
        for mark, encoding in _BYTE_ORDER_MARKS:
            if head.startswith(mark):
                self._mark, encodings = mark, (encoding,)
        self._trials = [_Trial(encoding) for encoding in encodings]
        if not self._fault:
            for trial in self._trials:
                trial.feed(head[len(self._mark) :])

    def _encoding_fault(self) -> Fault:
        first = self._trials[0]
        offset, line = first.failure or (0, 1)
        tried = ", ".join(trial.encoding for trial in self._trials)
        cut_short = next((trial.encoding for trial in self._trials if trial.cut_short), None)
        if cut_short:
            hint = (
                f"as {cut_short} it ends in the middle of a character, so it may have been cut short: "
                "upload it whole, as CSV UTF-8"
            )
        else:
            likely = None if self._mark else likely_encoding(first.sample)
            known = likely and all(likely != trial.encoding for trial in self._trials)
            hint = f"it looks like {likely}: save it as CSV UTF-8" if known else "save it as CSV UTF-8"
        return Fault(
            Code.ENCODING_ERROR,
            f"the file is not {tried}: the first byte that does not fit is in line {line}, "
            f"byte offset {offset + len(self._mark)}; {hint}",
        )


def likely_encoding(sample: bytes) -> str | None:
    """Return the encoding of a text, if it is certain.

    A byte is a letter in many encodings, and a wrong suggestion is worse than none. So only three are recognised:
    UTF-8, everyday Japanese, and Latin text that has the same letters in all encodings in which it is plausible.
    Libraries that detect encodings guess wrongly from a few names.

    Args:
        sample: A part of the text that begins at or just before a byte that is not ASCII.

    Returns:
        "utf-8", "cp932", "cp1252", or None.
    """
    if _decoded(sample, "utf-8"):
        return "utf-8"
    if _is_japanese(_decoded(sample, "cp932")):
        return "cp932"
    readings = {text for encoding in _LATIN_ENCODINGS if _is_latin(text := _decoded(sample, encoding))}
    return "cp1252" if readings == {_decoded(sample, "cp1252")} else None


def _decoded(sample: bytes, encoding: str) -> str:
    """Return the text of a sample, without a character cut off at its end; empty if it cannot be decoded."""
    try:
        return codecs.getincrementaldecoder(encoding)("strict").decode(sample, len(sample) < _SAMPLE_BYTES)
    except UnicodeDecodeError:
        return ""


def _is_japanese(text: str) -> bool:
    """Return whether a text that was decoded as cp932 is plausible: mostly kana and everyday kanji."""
    full_width = [letter for letter in text if not letter.isascii() and not "\uff61" <= letter <= "\uff9f"]
    everyday = sum(bool(_everyday_japanese.fullmatch(letter.encode("cp932"))) for letter in full_width)
    plausible = everyday >= max(2, 0.75 * len(full_width))
    return plausible and not _badly_joined.search(text) and not _control.search(text)


def _is_latin(text: str) -> bool:
    """Return whether a text is plausible Latin: no other letters, and accented words in normal case."""
    letters = all(letter.isascii() or name(letter, "").startswith("LATIN ") for letter in text)
    words = [word for word in _word.findall(text) if not word.isascii()]
    plausible = letters and bool(words) and all(map(_is_latin_word, words))
    return plausible and not _never_latin.search(text) and not _control.search(text)


def _is_latin_word(word: str) -> bool:
    written = word.istitle() or word.isupper() or (word.islower() and word[0].isascii())
    return written and 2 * sum(map(str.isascii, word)) >= len(word)


def size_fault(what: str, limit: int) -> Fault:
    """Return the fault of an upload that is too large.

    Args:
        what: The thing that is too large, as the beginning of a sentence.
        limit: The limit in bytes.
    """
    return Fault(
        Code.SIZE_LIMIT, f"{what} is larger than the {limit:,} bytes that are allowed; split it into files"
    )


def read_text(stream: BinaryIO, content: Content) -> Iterator[str]:
    """Read an inspected upload as text, in the second pass.

    Args:
        stream: The stored bytes, at their beginning.
        content: The result of the first pass over the same bytes; it has an encoding.

    Yields:
        Pieces of text of bounded size, not empty.

    Raises:
        DamagedGzipError: The bytes differ from those of the first pass.
        UnicodeDecodeError: The bytes differ from those of the first pass.
    """
    decoder = codecs.getincrementaldecoder(content.encoding or "utf-8")("strict")
    mark_left = content.bom_length
    for data in _contents(stream, content.compression):
        text = decoder.decode(data[mark_left:])
        mark_left = max(0, mark_left - len(data))
        if text:
            yield text
    if text := decoder.decode(b"", final=True):
        yield text


def _contents(stream: BinaryIO, compression: str | None) -> Iterator[bytes]:
    stored = iter(lambda: stream.read(CHUNK_BYTES), b"")
    if not compression:
        yield from stored
        return
    gunzip = _Gunzip()
    for data in stored:
        yield from gunzip.feed(data)
    yield from gunzip.finish()
