"""Search logs, messages and exceptions for cells of an upload."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from support import aws_events
from support.uploads import CANARY

# Text that somebody may type into a cell, and that no log or screen may show unescaped.
HOSTILE = (
    "\u2028",
    "\u2029",
    "\u202e",
    "\x85",
    "\x9b31m",
    "\x1b[2J",
    "\x07",
    '"',
    "'",
    "\\",
    "🙈",
    "\t",
    "%s",
    "{}",
)

_PRINTABLE_ASCII = set(map(chr, range(32, 127)))


def require_quiet(said: object) -> None:
    """Check that an output or an exception shows no cell.

    Args:
        said: A text, bytes, or an exception; everything that a logger might follow is searched.

    Raises:
        AssertionError: It shows a cell.
    """
    for where, text in _told(said):
        assert CANARY not in text, f"somebody's name stands in {where}"


def _told(said: object) -> Iterator[tuple[str, str]]:
    if isinstance(said, bytes):
        yield "the bytes", said.decode("utf-8", "backslashreplace")
    elif isinstance(said, BaseException):
        yield from _translated_errors(said)
    else:
        yield "the text", str(said)


def _translated_errors(error: BaseException) -> Iterator[tuple[str, str]]:
    """Yield all text of an exception, and of every exception that it links to, also suppressed ones."""
    left: list[BaseException | None] = [error]
    seen: set[int] = set()
    while left:
        now = left.pop()
        if now is None or id(now) in seen:
            continue
        seen.add(id(now))
        name = type(now).__name__
        yield f"str of {name}", str(now)
        yield f"repr of {name}", repr(now)
        for value in (*now.args, *vars(now).values()):
            yield (
                f"what {name} holds",
                value.decode("utf-8", "replace") if isinstance(value, bytes) else repr(value),
            )
        yield f"the notes of {name}", " ".join(getattr(now, "__notes__", ()))
        left += [now.__cause__, now.__context__]
        if isinstance(now, BaseExceptionGroup):
            left += now.exceptions


@contextmanager
def lambda_log() -> Iterator[io.StringIO]:
    """Capture the Lambda's log. At the end, check it: no cell, one JSON object in ASCII a line."""
    with aws_events.lambda_log() as log:
        yield log
    require_log(log.getvalue())


def logged_lines(log: io.StringIO) -> list[dict[str, Any]]:
    """Return the objects of a log so far: one JSON object a line, in ASCII, without a cell."""
    text = log.getvalue()
    assert text.isascii()
    assert CANARY not in text
    return [json.loads(line) for line in text.splitlines()]


def require_log(text: str) -> None:
    """Check that a log shows no cell, and nothing that can break a line, a screen or a reader.

    Raises:
        AssertionError: The log shows such text.
    """
    require_quiet(text)
    assert all(character == "\n" or character in _PRINTABLE_ASCII for character in text)
    for line in text.splitlines():
        assert isinstance(json.loads(line), dict)
