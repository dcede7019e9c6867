"""The form of an upload, as S3 takes it: fields, then the file, which is never held whole."""

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, BinaryIO, cast

from multipart import MultipartError, MultipartSegment, PushMultipartParser, parse_options_header

from rollcall.domain.rejection import Code
from rollcall.entrypoints.api.problems import Problem, RequestCode

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

# Of all fields together, with names and values; S3 has the same limit.
MAX_FIELDS_BYTES = 20 * 1024
# What a form has at most besides the file: the fields, and the lines between them.
MAX_FORM_BYTES = 4 * MAX_FIELDS_BYTES
_MAX_FIELDS = 64
_CHUNK_BYTES = 64 * 1024

# Takes the fields of a form and its file. It raises an error if the fields do not permit the file.
Receive = Callable[[Mapping[str, str], BinaryIO], object]


def receive_form(content_type: str, length: int, read: Callable[[int], bytes], receive: Receive) -> dict[str, str]:
    """Read a form and pass on its fields and its file.

    The file ends only where its boundary is; reading it raises an error if the body is cut off before.

    Args:
        content_type: The header of the request.
        length: The length of the body in bytes.
        read: Reads a part of the body; it returns nothing at the end, or where the body is cut off.
        receive: Takes fields and file.

    Returns:
        The fields.

    Raises:
        Problem: The body is no such form.
        Exception: `receive` raised it.
    """
    media_type, options = parse_options_header(content_type)
    if media_type != "multipart/form-data" or not options.get("boundary"):
        raise Problem(
            HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
            RequestCode.UNSUPPORTED_MEDIA_TYPE,
            "send a form with a file: multipart/form-data",
        )
    with _translated_errors():
        parser = PushMultipartParser(options["boundary"], content_length=length, max_segment_count=_MAX_FIELDS)
        events = parser.parse_blocking(read, _CHUNK_BYTES)
        fields = _read_fields(events)
        receive(fields, cast("BinaryIO", io.BufferedReader(_File(events), _CHUNK_BYTES)))
    return fields


def _read_fields(events: "Iterator[MultipartSegment | bytes | bytearray | None]") -> dict[str, str]:
    """Return the fields before the file.

    Raises:
        Problem: There is no file, or a field occurs twice, or they are too long.
    """
    fields: dict[str, str] = {}
    name, value, size = "", bytearray(), 0
    for event in events:
        if isinstance(event, MultipartSegment):
            name, value = event.name or "", bytearray()
            size += len(name.encode())
            if name == "file":
                return fields
            if name in fields:
                raise _no_form("a field of the form occurs twice")
        elif event is None:
            fields[name] = value.decode()
        else:
            value += event
            size += len(event)
        if size > MAX_FIELDS_BYTES:
            raise Problem(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Code.SIZE_LIMIT,
                f"the fields of the form are too long; send at most {MAX_FIELDS_BYTES:,} bytes",
            )
    raise _no_form("the form has no field `file`")


class _File(io.RawIOBase):
    """The file of a form.

    Args:
        events: The events of the parser, which has come to the file.
    """

    def __init__(self, events: "Iterator[MultipartSegment | bytes | bytearray | None]") -> None:
        self._events = events
        self._waiting = memoryview(b"")
        self._ended = False

    def readable(self) -> bool:
        """Return True."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read a part of the file."""
        while not self._waiting and not self._ended:
            with _translated_errors():
                event = next(self._events)
            if event is None:
                self._ended = True
            else:
                self._waiting = memoryview(cast("bytes", event))
        into = memoryview(buffer).cast("B")
        size = min(len(into), len(self._waiting))
        into[:size] = self._waiting[:size]
        self._waiting = self._waiting[size:]
        return size


@contextmanager
def _translated_errors() -> Iterator[None]:
    try:
        yield
    except (MultipartError, UnicodeDecodeError):
        raise _no_form("the form is broken, or cut off") from None


def _no_form(detail: str) -> Problem:
    return Problem(HTTPStatus.BAD_REQUEST, RequestCode.INVALID_REQUEST, detail)
