"""The form of an upload: the fields, then the file; and what is refused."""

import io
from collections.abc import Mapping
from typing import BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.entrypoints.api.problems import Problem
from rollcall.entrypoints.serve.forms import MAX_FIELDS_BYTES, receive_form
from support.forms import BOUNDARY, form, multipart_type

TYPE = multipart_type(BOUNDARY)


def _received(body: bytes, *, content_type: str = TYPE, at_once: int = 7) -> list[tuple[dict[str, str], bytes]]:
    found = []

    def receive(fields: Mapping[str, str], file: BinaryIO) -> None:
        found.append((dict(fields), b"".join(iter(lambda: file.read(at_once), b""))))

    stream = io.BytesIO(body)
    receive_form(content_type, len(body), stream.read, receive)
    return found


@given(
    st.dictionaries(st.sampled_from(["key", "policy", "Content-Type"]), st.text("äb-\"';\n", max_size=9)),
    st.binary(max_size=300_000) | st.just(b"\r\n--" + BOUNDARY.encode()[:-1]) | st.just(b"\r" * 200_000),
    st.integers(1, 100_000),
)
def test_fields_and_file_arrive(fields: dict[str, str], file: bytes, at_once: int) -> None:
    assert _received(form(fields, file), at_once=at_once) == [(fields, file)]


@given(st.data())
def test_a_form_that_is_cut_off_is_never_complete(data: st.DataObject) -> None:
    """Wherever it is cut, reading the file raises an error before its end."""
    whole = form({"key": "a"}, b"name,country,age\n" * 3)
    end = data.draw(st.integers(0, len(whole) - len("--\r\n") - 1))

    with pytest.raises(Problem) as raised:
        _received(whole[:end])

    assert raised.value.status == 400


def test_what_comes_after_the_file_is_not_read() -> None:
    whole = (
        form({"key": "a"}, b"1").removesuffix(b"--\r\n")
        + b"\r\n"
        + form({"late": "x"}, b"2").partition(b"\r\n")[2]
    )

    assert _received(whole) == [({"key": "a"}, b"1")]


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"{}", "application/json", 415),
        (b"", "multipart/form-data", 415),
        (b"", TYPE, 400),
        (b"nothing like a form", TYPE, 400),
        (form({"key": "a"}, None), TYPE, 400),
        (form([("key", "a"), ("key", "b")], b""), TYPE, 400),
        (form({"key": b"\xff"}, b""), TYPE, 400),
        (form([(f"a{number}", "") for number in range(99)], b""), TYPE, 400),
        (form({"key": "a" * (MAX_FIELDS_BYTES + 1)}, b""), TYPE, 413),
        (form({"a" * (MAX_FIELDS_BYTES + 1): ""}, b""), TYPE, 400),
    ],
)
def test_other_bodies_are_refused(body: bytes, content_type: str, status: int) -> None:
    with pytest.raises(Problem) as raised:
        _received(body, content_type=content_type)

    assert raised.value.status == status
