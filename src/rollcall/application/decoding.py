"""From stored bytes to text in UTF-8: decompression, decoding, and the SHA-256 of the content."""

import codecs
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import BinaryIO
from unicodedata import name

import attrs

from rollcall.application.ports import StoredObject
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
    """What the whole of an upload is: its hash, its compression and its encoding.

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


def line_ends(text: bytes) -> int:
    r"""Count the line ends of a text in UTF-8: CRLF, LF and lone CR each end a line."""
    # Most texts have no carriage return, and finding that out is far faster than counting.
    carriage_returns = text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else 0
    return text.count(b"\n") + carriage_returns


class DamagedGzipError(ValueError):
    """The stored bytes begin as gzip, but are damaged or cut off."""


class _Gunzip:
    """Decompresses gzip data with any number of members (RFC 1952) in pieces of bounded size."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def unpack(self, stored: Iterable[bytes]) -> Iterator[bytes]:
        """Yield the decompressed data of the whole upload.

        Raises:
            DamagedGzipError: The data is damaged, or its end is missing.
        """
        for data in stored:
            yield from self._feed(data)
        if not self._member.eof:
            yield self._member.flush()
        if not self._member.eof:
            raise DamagedGzipError

    def _feed(self, data: bytes) -> Iterator[bytes]:
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


class _Utf8:
    """Proves that an upload is UTF-8, and passes its bytes on."""

    def __init__(self) -> None:
        self._incomplete = b""

    def __call__(self, data: bytes, *, final: bool = False) -> bytes:
        data = self._incomplete + data
        _, length = codecs.utf_8_decode(data, "strict", final)
        self._incomplete = data[length:]
        return data[:length]


class _ToUtf8:
    """Decodes an upload strictly, and encodes it as UTF-8."""

    def __init__(self, encoding: str) -> None:
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")

    def __call__(self, data: bytes, *, final: bool = False) -> bytes:
        return self._decoder.decode(data, final).encode()


def _transcoder(encoding: str) -> _Utf8 | _ToUtf8:
    """Return an object that gives the whole characters of the next bytes in UTF-8, or raises a `UnicodeError`."""
    return _Utf8() if codecs.lookup(encoding).name == "utf-8" else _ToUtf8(encoding)


class _Trial:
    """The strict decoding of an upload in one encoding, until it fails or the upload ends.

    Attributes:
        failure: The position of the first byte that does not fit, behind the byte order mark; None if all fit.
        cut_short: Whether only the end of a character is missing.
        sample: The beginning of what does not fit.
    """

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.failure: int | None = None
        self.cut_short = False
        self.sample = b""
        self._transcode = _transcoder(encoding)
        self._bytes = 0
        self._last = b""

    def feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Decode the next bytes; after a failure, only add them to the sample.

        Returns:
            The whole characters in UTF-8; nothing after a failure.
        """
        if self.failure is not None:
            self.sample += data[: _SAMPLE_BYTES - len(self.sample)]
            return b""
        try:
            text = self._transcode(data, final=final)
        except UnicodeDecodeError as error:
            pending = len(error.object) - len(data)
            decoded = error.object[: error.start].decode(self.encoding, "replace").encode()
            self.failure = self._bytes - pending + error.start
            self.cut_short = final  # a wrong byte in a complete character fails earlier
            # The character before is included, because a byte inside a word is guessed better than a lone one.
            before = decoded[-1:] or self._last
            self.sample = (before if before.isascii() else b"") + error.object[error.start :][: _SAMPLE_BYTES - 1]
            return b""
        except UnicodeError:
            # Some decoders give no position, such as UTF-16 without a byte order mark; UTF-7 gives surrogates.
            self.failure = self._bytes
            self.sample = data[:_SAMPLE_BYTES]
            return b""
        self._bytes += len(data)
        self._last = text[-1:] or self._last
        return text


def _at_least(least: int, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the pieces, the first ones joined until they have so many bytes. There is always a first piece."""
    rest = iter(pieces)
    first = bytearray()
    for piece in rest:
        first += piece
        if len(first) >= least:
            break
    yield bytes(first)
    yield from rest


def _hashed(sha256: "hashlib._Hash", pieces: Iterable[bytes]) -> Iterator[bytes]:
    for piece in pieces:
        sha256.update(piece)
        yield piece


class Inspection:
    """Reads an upload as text in UTF-8, and determines its `Content` in the same pass.

    Args:
        encodings: The encodings to try, in order, on an upload without a byte order mark.
        max_csv_bytes: The largest size after decompression, in bytes.

    Attributes:
        content: The content, after `read` has ended. None if an encoding failed, and only another pass can show
            whether the next encoding fits, or in which line the first one failed.
    """

    def __init__(self, encodings: Sequence[str], max_csv_bytes: int) -> None:
        self._encodings = encodings
        self._max_csv_bytes = max_csv_bytes
        self._trials: list[_Trial] = []
        self._reading: list[_Trial] = []
        self._mark = b""
        self._csv_bytes = 0
        self._fault: Fault | None = None
        self._whole = Content()
        self.content: Content | None = None

    @property
    def encoding(self) -> str | None:
        """The first encoding that has not failed; None if there is none, or if nothing was read."""
        return next((trial.encoding for trial in self._trials if trial.failure is None), None)

    def read(self, blocks: Iterable[bytes]) -> Iterator[bytes]:
        """Read the stored bytes to their end.

        Args:
            blocks: The stored bytes, in order.

        Yields:
            The text in UTF-8, in pieces of bounded size that end with a whole character. The text ends at a fault.
        """
        self._fault, self._reading, self._csv_bytes = None, [], 0
        stored_hash, content_hash = hashlib.sha256(), hashlib.sha256()
        stored = _at_least(len(_GZIP_MAGIC), blocks)
        first = next(stored)
        stored = chain([first], stored)
        is_gzip = first.startswith(_GZIP_MAGIC)
        if is_gzip:
            stored = _hashed(stored_hash, stored)
        try:
            yield from self._texts(_hashed(content_hash, _Gunzip().unpack(stored) if is_gzip else stored))
        except DamagedGzipError:
            self._fault = Fault(
                Code.COMPRESSION_ERROR,
                "the file is gzip but damaged or cut short; compress and upload it again, or upload it as it is",
            )
        for rest in stored:
            content_hash.update(rest)  # of a file that is too large
        fault = self._fault
        unpacked = not fault or fault.code not in {Code.COMPRESSION_ERROR, Code.SIZE_LIMIT}
        self._whole = Content(
            sha256=(content_hash if unpacked or not is_gzip else stored_hash).hexdigest(),
            compression="gzip" if is_gzip else None,
            encoding=None if fault else self.encoding,
            bom_length=len(self._mark),
            fault=fault,
        )
        if fault or self._reading[-1].failure is None:
            self.content = self._whole

    def finish(self, blocks: Callable[[], Iterable[bytes]]) -> Content:
        """Return the content, after `read` has ended.

        Args:
            blocks: Returns the stored bytes once more, if another pass is needed.
        """
        while not self.content:
            if not self.encoding:
                return attrs.evolve(self._whole, fault=self._encoding_fault(blocks()))
            for _ in self.read(blocks()):
                pass
        return self.content

    def _texts(self, contents: Iterable[bytes]) -> Iterator[bytes]:
        for data in _at_least(_HEAD_BYTES, contents):
            self._csv_bytes += len(data)
            # The limit also holds for other formats: a compressed bomb may have any content.
            if self._csv_bytes > self._max_csv_bytes:
                self._fault = size_fault("the CSV inside", self._max_csv_bytes)
                return
            if not self._fault and (text := self._feed(data) if self._reading else self._begin(data)):
                yield text
        if not self._csv_bytes:
            self._fault = Fault(Code.EMPTY_FILE, "the file is empty; the first line must name the columns")
        elif not self._fault and (text := self._feed(b"", final=True)):
            yield text

    def _begin(self, head: bytes) -> bytes:
        """Recognise other formats, and decode the beginning in the first encoding that fits it."""
        begins = head[:_HEAD_BYTES]
        self._fault = next((fault for pattern, fault in _NOT_READ if pattern.match(begins)), None)
        if not self._trials:
            encodings = self._encodings
            for mark, encoding in _BYTE_ORDER_MARKS:
                if head.startswith(mark):
                    self._mark, encodings = mark, (encoding,)
            self._trials = [_Trial(encoding) for encoding in encodings]
        for trial in self._trials:
            if trial.failure is None:
                self._reading.append(trial)
                text = trial.feed(head[len(self._mark) :])
                if trial.failure is None:
                    return b"" if self._fault else text
        return b""

    def _feed(self, data: bytes, *, final: bool = False) -> bytes:
        """Decode the next bytes in the encoding that fits the beginning; the others only add to their samples."""
        return [trial.feed(data, final=final) for trial in self._reading][-1]

    def _line_of(self, trial: _Trial, blocks: Iterable[bytes]) -> int:
        """Return the physical line, 1-based, in which an encoding failed."""
        transcode = _transcoder(trial.encoding)
        line, last, start, end = 1, b"", -len(self._mark), trial.failure or 0
        for data in _Gunzip().unpack(blocks) if self._whole.compression else blocks:
            text = transcode(data[max(0, -start) : max(0, end - start)])
            split_line_end = last == b"\r" and text.startswith(b"\n")
            line += line_ends(text) - split_line_end
            last = text[-1:] or last
            start += len(data)
            if start >= end:
                break
        return line

    def _encoding_fault(self, blocks: Iterable[bytes]) -> Fault:
        first = self._trials[0]
        offset, line = first.failure or 0, self._line_of(first, blocks)
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


def read_utf8(stream: BinaryIO, content: Content) -> Iterator[bytes]:
    """Read an upload whose content is known once more.

    Args:
        stream: The stored bytes, at their beginning.
        content: The content of the same bytes; it has an encoding.

    Yields:
        The text in UTF-8, in pieces of bounded size, not empty, that end with a whole character.

    Raises:
        DamagedGzipError: The bytes are not those of the content.
        UnicodeError: The bytes are not those of the content.
    """
    transcode = _transcoder(content.encoding or "utf-8")
    stored = blocks(stream)
    mark_left = content.bom_length
    for data in _Gunzip().unpack(stored) if content.compression else stored:
        text = transcode(data[mark_left:])
        mark_left = max(0, mark_left - len(data))
        if text:
            yield text
    if text := transcode(b"", final=True):
        yield text


def inspected(encodings: Sequence[str], max_csv_bytes: int, stored: StoredObject) -> Content:
    """Read an open upload to its end, and return its content; see `Inspection`."""
    inspection = Inspection(encodings, max_csv_bytes)
    for _ in inspection.read(stored.read()):
        pass
    return inspection.finish(lambda: blocks(stored.reread()))


def blocks(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the bytes of a stream in blocks of `CHUNK_BYTES`."""
    return iter(lambda: stream.read(CHUNK_BYTES), b"")
