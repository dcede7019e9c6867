"""The identity of an upload."""

import re
from datetime import UTC, datetime
from fractions import Fraction

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.domain.upload import (
    API_BUCKET,
    WEB_UPLOAD_ID,
    ObjectReference,
    Upload,
    WebUpload,
    is_earlier,
    local_key,
    owner,
    owner_in,
    path_text,
    request_key,
    web_key,
)

parts = st.text(st.sampled_from("ab/\"',[]\\é\ud800 \0"), max_size=6)
sequencers = st.text("01aAfF", min_size=1, max_size=5)
versions = st.none() | parts | st.sampled_from(["null", "None"])


def _upload(bucket: str, key: str, version: str | None) -> Upload:
    return Upload(bucket=bucket, key=key, version=version, size=1, last_modified=datetime(2026, 1, 1, tzinfo=UTC))


@given(one=st.tuples(parts, parts, versions), other=st.tuples(parts, parts, versions))
def test_uploads_with_equal_bucket_key_and_version_are_the_same(
    one: tuple[str, str, str | None], other: tuple[str, str, str | None]
) -> None:
    """Different uploads never share an identity, for any characters in their parts."""
    assert (_upload(*one).identity == _upload(*other).identity) == (one == other)
    assert (_upload(*one).key_identity == _upload(*other).key_identity) == (one[:2] == other[:2])


def test_the_parts_of_an_identity_are_separated() -> None:
    """The boundaries between the parts belong to the identity."""
    assert _upload("a", "bc", "1").identity != _upload("ab", "c", "1").identity
    assert _upload("a", "b", "c1").identity != _upload("a", "bc", "1").identity
    assert _upload("a", "b", None).identity != _upload("a", "b", "None").identity
    assert _upload("a", "bc", "1").key_identity != _upload("ab", "c", "1").key_identity


@given(one=st.tuples(parts, parts, versions))
def test_an_identity_fits_an_index(one: tuple[str, str, str | None]) -> None:
    """It always has 64 hexadecimal digits."""
    assert len(bytes.fromhex(_upload(*one).identity)) == 32
    assert len(bytes.fromhex(_upload(*one).key_identity)) == 32


@given(parts, parts, versions, st.none() | st.just('"e1"'))
def test_a_reference_with_a_lasting_version_has_an_identity(
    bucket: str, key: str, version: str | None, etag: str | None
) -> None:
    """For a version that may be replaced, only the store knows the identity."""
    reference = ObjectReference(bucket=bucket, key=key, version=version, etag=etag)
    told = version is not None and etag is None

    assert reference.identity == (_upload(bucket, key, version).identity if told else None)


@given(one=sequencers, other=sequencers)
def test_sequencers_are_compared_like_decimal_places(one: str, other: str) -> None:
    """The shorter one is padded with zeros on the right."""

    def value(sequencer: str) -> Fraction:
        return Fraction(int(sequencer, 16), 16 ** len(sequencer))

    assert is_earlier(one, other) == (value(one) < value(other))


def test_size_and_time_do_not_change_the_identity() -> None:
    """Every entry point computes the same identity."""
    upload = _upload("b", "k", "1")
    later = attrs.evolve(upload, size=2, last_modified=datetime(2027, 1, 1, tzinfo=UTC))

    assert upload.identity == later.identity


def test_without_a_version_the_content_is_the_version() -> None:
    """A local file is the same upload while its bytes are the same."""
    assert _upload("file:", "/a.csv", None).with_content("abc").version == "abc"


def test_a_version_of_the_store_is_kept() -> None:
    """Content does not replace it."""
    assert _upload("b", "k", "1").with_content("abc") == _upload("b", "k", "1")


def test_a_reference_with_a_version_or_etag_is_announced() -> None:
    """A version or an ETag; a key alone was named by a person."""
    assert not ObjectReference(key="k").announced
    assert ObjectReference(key="k", version="1").announced
    assert ObjectReference(key="k", etag="e").announced


TOKENS = st.text("0123456789abcdef", min_size=40, max_size=40)


@given(st.text(), TOKENS, st.text(), st.booleans())
def test_a_web_key_names_its_uploader(caller: str, random: str, name: str, as_new: bool) -> None:  # noqa: FBT001 - Hypothesis passes it by position
    key = web_key(owner(caller), random, name, as_new=as_new)

    assert owner_in("bucket", key) == owner(caller)
    assert owner_in("bucket", f"below/{key}") is None


@given(st.text(), st.text(min_size=1), st.text(), st.text(min_size=1))
def test_no_two_requests_share_a_key(caller: str, key: str, other_caller: str, other_key: str) -> None:
    ours, others = request_key(owner(caller), key), request_key(owner(other_caller), other_key)

    assert (ours == others) == ((caller, key) == (other_caller, other_key))
    assert owner_in(API_BUCKET, ours) == owner(caller)


@given(TOKENS, TOKENS, st.sampled_from(["", "prefix/", "/srv/uploads/"]))
def test_files_of_one_name_of_one_uploader_are_versions(one: str, other: str, root: str) -> None:
    def identity(random: str, *, name: str = "list.csv", caller: str = "ann", as_new: bool = False) -> str:
        key = root + web_key(owner(caller), random, name, as_new=as_new)
        return attrs.evolve(_upload("bucket", key, "1"), owned_by=owner(caller)).key_identity

    assert identity(one) == identity(other)
    assert identity(one) != identity(one, name="other.csv")
    assert identity(one) != identity(one, caller="ben")
    assert (identity(one, as_new=True) == identity(other, as_new=True)) == (one == other)


@pytest.mark.parametrize("prefix", ["", "in/", "/folder/with é/"])
@pytest.mark.parametrize("as_new", [False, True])
def test_an_upload_of_the_page_is_known_by_its_key(prefix: str, as_new: bool) -> None:  # noqa: FBT001 - a parameter of the test
    upload = WebUpload(owner("ann"), "0" * 40)
    key = upload.key("list.csv", as_new=as_new)

    assert WebUpload.of_key(prefix + key) == upload == WebUpload.parse(upload.id)
    assert re.fullmatch(WEB_UPLOAD_ID, upload.id)
    assert key.startswith(upload.prefix)
    assert [WebUpload.of_key(other) for other in (f"x{key}", f"{key}/", "list.csv", f"{key}/list")] == [None] * 4


@given(st.lists(st.sampled_from([b"\\x5c", b"\\xe9", b"\\", b"\xe9", "é".encode(), b"x", b"/"])).map(b"".join))
def test_the_text_of_a_path_names_that_path(path: bytes) -> None:
    """Also if the path is not UTF-8, or looks escaped."""
    text = path_text(path)

    assert text.isprintable()
    assert local_key(text).encode("utf-8", "surrogateescape") == path
