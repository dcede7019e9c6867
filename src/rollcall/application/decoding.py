"""From stored bytes to text: compression, encoding, and the hash of what was inside."""

import codecs
import hashlib
import zlib
from collections.abc import Collection, Iterator, Sequence
from typing import BinaryIO
from unicodedata import category

import attrs

from rollcall.domain.rejection import Code, Fault

CHUNK_BYTES = 256 * 1024

# Whatever follows the end of a gzip member is copied, and a chunk may hold thousands of members.
_FEED_BYTES = 16 * 1024

_GZIP_MAGIC = b"\x1f\x8b"
# UTF-32's mark begins with UTF-16's and is not read here: such a file fails at its header, as what it is not.
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_FOREIGN_FORMATS = (
    (b"PK\x03\x04", "a zip archive"),
    (b"%PDF-", "a PDF document"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an old Excel workbook (.xls)"),
)
_WORKBOOK_PARTS = (b"[Content_Types].xml", b"xl/")
_HEAD_BYTES = 4096
_LIKELY_ENCODINGS = ("utf-8", "cp932", "cp1252")
# From how many bytes, the first that does not fit and those after it, the encoding is guessed.
_SAMPLE_BYTES = 4096


@attrs.frozen(kw_only=True)
class Content:
    """What one pass over an upload settles.

    Attributes:
        sha256: Hexadecimal, of the bytes after decompression; of the stored bytes if those cannot be
            decompressed; None if they were not read.
        compression: "gzip" or None.
        encoding: The first encoding that decodes the whole; None where none does.
        mark_bytes: The length of the byte order mark.
        fault: Why the upload cannot be read; None if it can.
    """

    sha256: str | None = None
    compression: str | None = None
    encoding: str | None = None
    mark_bytes: int = 0
    fault: Fault | None = None


def line_ends(text: str) -> int:
    r"""Count the line ends of a text: CRLF, LF and lone CR each end a line."""
    # Most texts have none, and to look for one is far faster than to count them.
    carriage_returns = text.count("\r") - text.count("\r\n") if "\r" in text else 0
    return text.count("\n") + carriage_returns


class DamagedGzipError(ValueError):
    """The stored bytes begin as gzip and do not go on as such."""


class _Gunzip:
    """Decompress gzip as it comes, in pieces of bounded size, all members of it (RFC 1952)."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what the data decompresses to, in few pieces however small the members are.

        Raises:
            DamagedGzipError: It does not.
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
        """Begin another member where the last one has ended.

        Returns:
            The data, without padding that follows the last member.
        """
        if self._member.eof:
            # Padding with zeros is common (tar does it) and harmless.
            data = data.lstrip(b"\0")
            if data:
                self._member = zlib.decompressobj(wbits=31)
        return data

    def finish(self) -> Iterator[bytes]:
        """Yield what is left.

        Raises:
            DamagedGzipError: The end is missing.
        """
        if not self._member.eof:
            yield self._member.flush()
        if not self._member.eof:
            raise DamagedGzipError


class _Trial:
    """One encoding tried strictly, until it fails or the upload ends."""

    def __init__(self, encoding: str) -> None:
        self.encoding = encoding
        self.failure: tuple[int, int] | None = None
        self.cut_short = False
        self.sample = b""
        self._decoder = codecs.getincrementaldecoder(encoding)("strict")
        self._bytes = 0
        self._lines = 1
        self._ended_in_return = False

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Decode some more; after a failure, only complete the sample of what does not fit."""
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
            self.cut_short = final  # what is amiss in a whole character is noticed before
            self.sample = error.object[error.start :][:_SAMPLE_BYTES]
            return
        except UnicodeError:
            # Some decoders say no more, such as UTF-16 that waits for a byte order mark.
            self.failure = self._bytes, self._lines
            self.sample = data[:_SAMPLE_BYTES]
            return
        self._bytes += len(data)
        self._count(text)

    def _count(self, text: str) -> None:
        split_line_end = self._ended_in_return and text.startswith("\n")
        self._lines += line_ends(text) - split_line_end
        if text:
            self._ended_in_return = text.endswith("\r")


class Inspection:
    """The first pass: is shown every stored byte once and settles the `Content`.

    Args:
        encodings: Names of encodings to try, in order, where no byte order mark decides.
        max_csv_bytes: How much the upload may hold after decompression.
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
        """Take in the next stored bytes."""
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
        """Settle what was seen."""
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
            mark_bytes=len(self._mark),
            fault=fault,
        )

    @property
    def _unreadable(self) -> bool:
        """Whether no more is decompressed, so that the whole content is never seen."""
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
        # Whatever it is: what is unpacked without an end is a bomb, also in disguise.
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
        for magic, name in _FOREIGN_FORMATS:
            if head.startswith(magic) and not self._fault:
                workbook = name == "a zip archive" and any(part in head for part in _WORKBOOK_PARTS)
                self._fault = Fault(
                    Code.FORMAT_ERROR,
                    f"the file is {'an Excel workbook (.xlsx)' if workbook else name}, not a CSV; "
                    "export it as CSV (in Excel: Save As, CSV UTF-8) and upload that",
                )
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
        elif self._mark:
            hint = "save it as CSV UTF-8"
        else:
            hint = _likely_encoding(first.sample, {trial.encoding for trial in self._trials})
        return Fault(
            Code.ENCODING_ERROR,
            f"the file is not {tried}: the first byte that does not fit is in line {line}, "
            f"byte offset {offset + len(self._mark)}; {hint}",
        )


def _likely_encoding(sample: bytes, tried: Collection[str]) -> str:
    """Advise by which encodings a text may be in; a few letters may be in several."""
    likely = [encoding for encoding in _LIKELY_ENCODINGS if encoding not in tried and _decodes(sample, encoding)]
    if "utf-8" in likely:
        likely = ["utf-8"]  # nothing is that by chance
    match likely:
        case []:
            return "save it as CSV UTF-8"
        case [encoding]:
            return f"it looks like {encoding}: save it as CSV UTF-8, or add {encoding} to ROLLCALL_ENCODINGS"
    return f"it may be {' or '.join(likely)}: save it as CSV UTF-8, or add the one it is to ROLLCALL_ENCODINGS"


def _decodes(data: bytes, encoding: str) -> bool:
    """Guess whether bytes are in an encoding; cp932 takes nearly everything, but much of it for private use."""
    try:
        text = codecs.getincrementaldecoder(encoding)("strict").decode(data)
    except UnicodeDecodeError:
        return False
    return not any(category(character) == "Co" for character in text)


def size_fault(what: str, limit: int) -> Fault:
    """Say that something is too large.

    Args:
        what: What is, as the beginning of a sentence.
        limit: The cap in bytes.
    """
    return Fault(
        Code.SIZE_LIMIT, f"{what} is larger than the {limit:,} bytes that are taken here; split it into files"
    )


def read_text(stream: BinaryIO, content: Content) -> Iterator[str]:
    """Read the second pass: an inspected upload as text.

    Args:
        stream: The stored bytes, at their beginning.
        content: What the inspection of the same bytes settled; it has an encoding.

    Yields:
        Pieces of text of bounded size, not empty.

    Raises:
        DamagedGzipError: The bytes are not those that were inspected.
        UnicodeDecodeError: As before.
    """
    decoder = codecs.getincrementaldecoder(content.encoding or "utf-8")("strict")
    mark_left = content.mark_bytes
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
