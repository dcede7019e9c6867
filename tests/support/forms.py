"""Forms as a browser sends them."""

from collections.abc import Iterable, Mapping

BOUNDARY = "boundary-of-the-tests"


def multipart_type(boundary: str = BOUNDARY) -> str:
    """Return the Content-Type of a form."""
    return f"multipart/form-data; boundary={boundary}"


def form(fields: Mapping[str, str | bytes] | Iterable[tuple[str, str | bytes]], file: bytes | None) -> bytes:
    """Return a form.

    Args:
        fields: The fields before the file.
        file: The file; None for a form without one.
    """
    pairs = fields.items() if isinstance(fields, Mapping) else fields
    parts = [
        _part(f'name="{name}"', value if isinstance(value, bytes) else value.encode()) for name, value in pairs
    ]
    if file is not None:
        parts.append(_part('name="file"; filename="users.csv"', file))
    return b"".join(parts) + f"--{BOUNDARY}--\r\n".encode()


def form_around(fields: Mapping[str, str]) -> tuple[bytes, bytes]:
    """Return what a form has before and after its file."""
    before, after = form(fields, b"|").rsplit(b"|", 1)
    return before, after


def _part(disposition: str, value: bytes) -> bytes:
    head = f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n"
    return head.encode() + value + b"\r\n"
