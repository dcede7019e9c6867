"""The contract of every object store, and the particular behaviour of each adapter."""

import gzip
import hashlib
import io
import json
import os
import resource
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from itertools import chain, count, pairwise, repeat
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NoReturn

import attrs
import pytest
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.stub import Stubber
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcall.adapters.local import LocalObjectStore, path_of
from rollcall.adapters.memory import MemoryObjectStore, MemoryUserRepository
from rollcall.adapters.s3 import Pace, S3ObjectStore, client
from rollcall.application.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectUnreadableError,
    ReportNotStoredError,
    StoreUnavailableError,
)
from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import ObjectStore, StoredObject, UserRepository
from rollcall.application.reports import Reports, folders_beside, folders_of
from rollcall.domain.receipt import Source, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference, Upload
from support.builders import completed, serving
from support.receipts import CheckedImport

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

MIB = 1024 * 1024
NOBODY = 65534


@attrs.frozen(kw_only=True)
class Harness:
    """An empty store, and direct access to its content.

    Attributes:
        store: The store, empty at first.
        contents: Returns every stored object by key, also hidden and unfinished ones.
        key_of: Returns the key that an upload must have after a put under a given key.
        etag: Returns the ETag that a notification would announce for the current state of a key.
    """

    store: ObjectStore
    contents: Callable[[], dict[str, bytes]]
    key_of: Callable[[str], str]
    etag: Callable[[str], str]


Opened = Callable[[], AbstractContextManager[Harness]]


@contextmanager
def in_memory() -> Iterator[Harness]:
    """A store in memory."""
    store = MemoryObjectStore()

    def contents() -> dict[str, bytes]:
        return {
            reference.key: fetched(store, ObjectReference(key=reference.key)) for reference in references(store)
        }

    def etag(key: str) -> str:
        return opened_upload(store, key).version or ""

    yield Harness(store=store, contents=contents, key_of=str, etag=etag)


@contextmanager
def in_a_folder() -> Iterator[Harness]:
    """A store in a local folder."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)

        def contents() -> dict[str, bytes]:
            return {key: data for key, data in everything_below(root).items() if data is not None}

        def etag(key: str) -> str:
            raise NotImplementedError(key)

        yield Harness(
            store=LocalObjectStore(root), contents=contents, key_of=lambda key: str(root / key), etag=etag
        )


@contextmanager
def in_s3(new_bucket: Callable[[bool], str], s3: "S3Client", *, versioned: bool, prefix: str) -> Iterator[Harness]:
    """A store in a new bucket."""
    bucket = new_bucket(versioned)

    def contents() -> dict[str, bytes]:
        whole = [item["Key"] for item in s3.list_objects_v2(Bucket=bucket).get("Contents", [])]
        unfinished = s3.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        return {
            key.removeprefix(prefix): s3.get_object(Bucket=bucket, Key=key)["Body"].read() for key in whole
        } | {f"{part['Key']} unfinished": b"" for part in unfinished}

    yield Harness(
        store=S3ObjectStore(bucket, prefix, s3),
        contents=contents,
        key_of=prefix.__add__,
        etag=lambda key: s3.head_object(Bucket=bucket, Key=prefix + key)["ETag"],
    )


with_versions = pytest.mark.parametrize("opened", ["memory", "s3"], indirect=True)
without_versions = pytest.mark.parametrize("opened", ["folder", "s3-unversioned"], indirect=True)
with_etags = pytest.mark.parametrize("opened", ["memory", "s3", "s3-unversioned"], indirect=True)


@pytest.fixture(scope="session", params=["memory", "folder", "s3", "s3-unversioned"])
def opened(request: pytest.FixtureRequest, new_bucket: Callable[[bool], str], s3_client: "S3Client") -> Opened:
    """Each adapter. The fixture is called for a new store, so that every Hypothesis example starts empty."""
    name: str = request.param
    if name == "memory":
        return in_memory
    if name == "folder":
        return in_a_folder
    versioned = name == "s3"
    # One of the two has a prefix, because the contract holds with and without one.
    return partial(in_s3, new_bucket, s3_client, versioned=versioned, prefix="" if versioned else "in coming/é+/")


@pytest.fixture
def harness(opened: Opened) -> Iterator[Harness]:
    """A new store of each adapter."""
    with opened() as harness:
        yield harness


def put(store: ObjectStore, key: str, data: bytes) -> str:
    return store.put(key, io.BytesIO(data))


def references(store: ObjectStore, prefix: str = "") -> list[ObjectReference]:
    """Return references to all listed objects, in order."""
    return [listed.reference for listed in store.list(prefix)]


def copied(stored: StoredObject) -> BinaryIO:
    """Read an object to its end, and return the stream of its copy."""
    for _ in stored.read():
        pass
    return stored.reread()


def fetched(store: ObjectStore, reference: ObjectReference) -> bytes:
    """Return the content of an object."""
    with store.open(reference) as found:
        data = b"".join(found.read())
        found.verify()
    return data


def opened_upload(store: ObjectStore, key: str) -> Upload:
    """Return the upload under a key, after reading it whole."""
    with store.open(ObjectReference(key=key)) as found:
        return found.upload.with_content(hashlib.sha256(b"".join(found.read())).hexdigest())


def everything_below(folder: Path) -> dict[str, bytes | None]:
    """Return every file below a folder by relative path; None for other entries."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


class SourceBrokeError(Exception):
    """The source of a put cannot be read."""


class BreakingSource(io.BytesIO):
    """Gives some zeros and then fails, although it has more."""

    def __init__(self, good_bytes: int) -> None:
        super().__init__(bytes(good_bytes + 1))
        self._good_bytes = good_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        """Read until it fails."""
        left = self._good_bytes - self.tell()
        if not left or size is None or size < 0:
            raise SourceBrokeError
        return super().read(min(size, left))


KEYS = (
    "a",
    "a/b/c.csv",
    "a b.csv",
    "a+b.csv",
    "é.csv",
    "e\u0301.csv",
    "名簿/利用者.csv",
    "year=2026/month=11/list.csv",
    "%41.csv",
    "100%",
    "a%2Fb",
    "a&b?c#d",
    "a;b:c,d@e!f$g'h(i)j*k",
    '"quoted"',
    "back\\slash",
    "~a",
    "-rf",
    "a...b/c...",
    "👩\u200d👧.csv",
    "x" * 255,
    "/".join(["y" * 90] * 10),
)

# The first character is a letter: a folder hides names with a dot, and "." and ".." are no names.
_names = st.text(
    st.characters(codec="utf-8", exclude_categories=("Cc", "Cs"), exclude_characters="/"), max_size=12
)
keys = st.lists(_names.map("k".__add__), min_size=1, max_size=3).map("/".join)


# Every example sends several HTTP requests.
over_http = settings(max_examples=max(20, settings().max_examples // 4))


class TestReading:
    """A read returns what was put."""

    @over_http
    @given(key=st.sampled_from(KEYS) | keys, data=st.binary(max_size=200))
    def test_any_bytes_under_any_key_are_read_as_they_were_put(
        self, opened: Opened, key: str, data: bytes
    ) -> None:
        """Neither keys nor bytes are interpreted."""
        with opened() as harness:
            put(harness.store, key, data)

            assert fetched(harness.store, ObjectReference(key=key)) == data
            assert harness.contents() == {key: data}
            assert opened_upload(harness.store, key).key == harness.key_of(key)

    @pytest.mark.parametrize("key", KEYS)
    def test_every_kind_of_key_that_s3_allows_is_found(self, harness: Harness, key: str) -> None:
        """Slashes, spaces, signs, percent signs and scripts are ordinary characters of a key."""
        put(harness.store, key, b"data")

        assert harness.contents() == {key: b"data"}
        assert [fetched(harness.store, reference) for reference in references(harness.store)] == [b"data"]

    @pytest.mark.parametrize("error", [ValueError("x"), OSError(5, "x"), LookupError("x")], ids=repr)
    def test_an_error_of_the_reader_is_raised_unchanged(self, harness: Harness, error: Exception) -> None:
        """A store translates errors of its own driver only."""

        def fail(harness: Harness) -> NoReturn:
            with harness.store.open(ObjectReference(key="a.csv")) as stored:
                b"".join(stored.read())
                raise error

        put(harness.store, "a.csv", b"data")
        with pytest.raises(type(error)) as caught:
            fail(harness)

        assert caught.value is error

    @pytest.mark.parametrize("size", [0, 1, 64 * 1024, 64 * 1024 + 1, MIB, 9 * MIB + 1])
    def test_every_byte_is_watched_once_and_in_order(self, harness: Harness, size: int) -> None:
        """The watched bytes are the imported bytes."""
        data = bytes(range(251)) * (size // 251 + 1)
        data = data[:size]
        put(harness.store, "key", data)
        with harness.store.open(ObjectReference(key="key")) as found:
            pieces = list(found.read())
            stream = found.reread()
            position, read = stream.tell(), stream.read()
            found.verify()

            assert found.upload.size == size
        assert b"".join(pieces) == data
        assert (position, read) == (0, data)

    @pytest.mark.parametrize("fails", [False, True])
    def test_fetched_content_is_closed_with_the_context(self, harness: Harness, *, fails: bool) -> None:
        """No handle stays open if the caller forgets it, or fails."""
        put(harness.store, "key", b"data")
        with suppress(SourceBrokeError), harness.store.open(ObjectReference(key="key")) as found:
            stream = copied(found)
            if fails:
                raise SourceBrokeError

        assert stream.closed

    def test_an_object_need_not_be_fetched(self, harness: Harness) -> None:
        """Size and time are known without a copy."""
        put(harness.store, "key", b"data")
        with harness.store.open(ObjectReference(key="key")) as found:
            assert found.upload.size == 4
            assert found.upload.last_modified.tzinfo is not None


class TestNotThere:
    """A missing object is reported as missing."""

    @pytest.mark.parametrize("key", ["missing", "missing/too", "here/below", "her", "here/", "Here"])
    def test_a_key_that_was_never_put_is_not_found(self, harness: Harness, key: str) -> None:
        """Only the exact key finds an object."""
        put(harness.store, "here", b"data")

        with pytest.raises(ObjectNotFoundError), harness.store.open(ObjectReference(key=key)):
            pass

    @pytest.mark.parametrize("version", ["null", "2", "3sL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY+MTRCxf3vjVBH40N", ""])
    @with_versions
    def test_a_version_that_never_was_is_not_found(self, harness: Harness, version: str) -> None:
        """No other version is returned instead, and a version belongs to its key."""
        for key in ("other", "other", "key"):
            put(harness.store, key, b"data")
        version = version or opened_upload(harness.store, "other").version or ""

        with pytest.raises(ObjectNotFoundError), harness.store.open(ObjectReference(key="key", version=version)):
            pass

    @with_etags
    def test_only_the_current_state_is_found_by_its_etag(self, harness: Harness) -> None:
        """Without versions, only the ETag distinguishes the states of a key."""
        put(harness.store, "key", b"announced")
        announced = ObjectReference(key="key", etag=harness.etag("key"))
        assert fetched(harness.store, announced) == b"announced"
        put(harness.store, "key", b"overwritten")

        with pytest.raises(ObjectChangedError), harness.store.open(announced):
            pass


class TestPutting:
    """An object is stored as a whole or not at all."""

    @pytest.mark.parametrize("new", [io.BytesIO, tempfile.TemporaryFile])
    def test_content_is_read_from_its_position_and_left_open(
        self, harness: Harness, new: Callable[[], BinaryIO]
    ) -> None:
        """The caller owns the stream and the content before that position."""
        with new() as content:
            content.write(b"before|" + b"after" * 100_000)
            content.seek(7)
            harness.store.put("key", content)

            assert harness.contents() == {"key": b"after" * 100_000}
            assert not content.closed

    def test_putting_replaces_the_whole_object(self, harness: Harness) -> None:
        """No part of a longer old object remains."""
        for data in (b"a long object", b"short", b"", b"longer than before"):
            put(harness.store, "key", data)

            assert fetched(harness.store, ObjectReference(key="key")) == data
            assert harness.contents() == {"key": data}

    def test_put_returns_the_address_for_people(self, harness: Harness) -> None:
        """It ends with the key."""
        assert put(harness.store, "folder/key.csv", b"data").endswith("folder/key.csv")

    @pytest.mark.parametrize("good_bytes", [0, 1, 300 * 1024, 9 * MIB])
    def test_a_source_that_fails_leaves_the_old_object_unchanged(self, harness: Harness, good_bytes: int) -> None:
        """Neither a part nor a temporary object remains."""
        put(harness.store, "old", b"data")

        for key in ("old", "new"):
            with pytest.raises((SourceBrokeError, StoreUnavailableError)):
                harness.store.put(key, BreakingSource(good_bytes))

        assert harness.contents() == {"old": b"data"}

    def test_of_two_concurrent_puts_one_wins_as_a_whole(self, harness: Harness) -> None:
        contents = [bytes([letter]) * 300_000 for letter in b"abcdef"]
        threads = [threading.Thread(target=put, args=(harness.store, "key", data)) for data in contents]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        [(key, data)] = harness.contents().items()
        assert key == "key"
        assert data in contents


class TestIdentity:
    """An upload has one identity, and different uploads have different ones."""

    def test_an_upload_has_the_same_identity_whenever_it_is_opened(self, harness: Harness) -> None:
        """A redelivery is recognised by it."""
        put(harness.store, "key", b"data")

        assert opened_upload(harness.store, "key") == opened_upload(harness.store, "key")

    def test_an_upload_has_the_sequencer_of_its_reference(self, harness: Harness) -> None:
        put(harness.store, "key", b"content")
        [listed] = harness.store.list()
        with harness.store.open(attrs.evolve(listed.reference, sequencer="0A1")) as found:
            assert found.upload.sequencer == "0A1"

    def test_other_content_under_the_same_key_is_another_version(self, harness: Harness) -> None:
        put(harness.store, "key", b"data")
        first = opened_upload(harness.store, "key")
        put(harness.store, "key", b"more")
        second = opened_upload(harness.store, "key")

        assert first.identity != second.identity
        assert first.key_identity == second.key_identity

    def test_the_same_content_under_other_keys_is_another_upload(self, harness: Harness) -> None:
        """Only the SHA-256 is equal."""
        put(harness.store, "a/b", b"data")
        put(harness.store, "b", b"data")
        uploads = [opened_upload(harness.store, key) for key in ("a/b", "b")]

        assert len({upload.key_identity for upload in uploads}) == 2

    @with_versions
    def test_the_same_content_put_twice_is_two_versions(self, harness: Harness) -> None:
        put(harness.store, "key", b"data")
        put(harness.store, "key", b"data")

        assert len({reference.version for reference in references(harness.store)}) == 2

    @with_versions
    def test_an_old_version_can_still_be_read_unchanged(self, harness: Harness) -> None:
        """A late delivery reads the announced version."""
        versions = []
        for data in (b"first", b"second", b"third"):
            put(harness.store, "key", data)
            versions.append((opened_upload(harness.store, "key").version, data))

        for version, data in versions:
            reference = ObjectReference(key="key", version=version)
            with harness.store.open(reference) as found:
                assert b"".join(found.read()) == data
                assert found.upload.version == version


class TestListing:
    """A listing contains every object."""

    @over_http
    @given(
        names=st.sets(st.sampled_from(KEYS[:-2]) | keys, max_size=5),
        prefix=st.sampled_from(("", "a", "k", "a/", "%")),
    )
    def test_a_listing_contains_each_key_with_the_prefix_once(
        self, opened: Opened, names: set[str], prefix: str
    ) -> None:
        """Each listed reference can be opened."""
        # In a folder, a name cannot be both a file and a folder.
        put_under = {f"{name}.csv": name.encode() for name in names}
        with opened() as harness:
            for key, data in put_under.items():
                put(harness.store, key, data)
            found = [fetched(harness.store, reference) for reference in references(harness.store, prefix)]

            assert sorted(found) == sorted(data for key, data in put_under.items() if key.startswith(prefix))

    @with_versions
    def test_every_version_is_listed(self, harness: Harness) -> None:
        """A sweep must find uploads without a notification."""
        for data in (b"1", b"2", b"3"):
            put(harness.store, "key", data)
            put(harness.store, "other", data)

        assert sorted(fetched(harness.store, reference) for reference in references(harness.store, "key")) == [
            b"1",
            b"2",
            b"3",
        ]

    @over_http
    @given(
        puts=st.lists(
            st.sampled_from(("a/b", "a-b", "a.csv", "a/-", "a/b/c", "Z", "é", "𝄞", "\uffee")), max_size=9
        ),
        prefix=st.sampled_from(("", "", "a", "a/", "a/b")),
    )
    def test_a_listing_is_ordered_and_continues_after_any_object(
        self, opened: Opened, puts: list[str], prefix: str
    ) -> None:
        """By the bytes of the keys, which is not always a folder's order; the versions of a key newest first."""
        with opened() as harness:
            # In a folder, a name cannot be both a file and a folder.
            for key in puts:
                put(harness.store, f"{key}.csv", b"")
            found = list(harness.store.list(prefix))

            keys_listed = [listed.reference.key for listed in found]
            assert keys_listed == sorted(keys_listed, key=str.encode)
            for older, newer in pairwise(reversed(found)):
                if older.reference.key == newer.reference.key:
                    assert older.upload.last_modified <= newer.upload.last_modified
            for place, listed in enumerate(found):
                assert list(harness.store.list(prefix, after=listed.reference)) == found[place + 1 :]

    def test_a_listing_gives_the_same_identity_as_opening(self, harness: Harness) -> None:
        """A sweep can query the ledger without opening an object."""
        for key, data in (("key", b"1"), ("key", b"22"), ("folder/é key", b""), ("x" * 200, b"333")):
            put(harness.store, key, data)

        for listed in harness.store.list():
            with harness.store.open(listed.reference) as found:
                assert found.upload == listed.upload

    @without_versions
    def test_without_versions_only_the_current_state_is_listed(self, harness: Harness) -> None:
        put(harness.store, "key", b"1")
        put(harness.store, "key", b"2")

        assert [fetched(harness.store, reference) for reference in references(harness.store)] == [b"2"]


class TestMemory:
    """Behaviour of the in-memory store only."""

    def test_no_two_stores_use_the_same_version_id(self) -> None:
        """A ledger outlives a store: the same version id would make another file a redelivery."""
        uploads = []
        for data in (b"first", b"second"):
            store = MemoryObjectStore()
            put(store, "key", data)
            uploads.append(opened_upload(store, "key"))

        assert uploads[0].identity != uploads[1].identity

    def test_a_position_in_another_store_is_not_taken_for_the_end(self) -> None:
        """A sweep that stored the position must start again."""
        store, other = MemoryObjectStore(), MemoryObjectStore()
        put(store, "key", b"data")
        put(other, "key", b"data")

        with pytest.raises(ObjectNotFoundError):
            list(store.list(after=references(other)[0]))


HOSTILE_KEYS = (
    "",
    "/",
    "//",
    ".",
    "..",
    "../",
    "../x",
    "../../x",
    "../../../../../../tmp/x",
    "a/..",
    "a/../..",
    "a/../../b",
    "a/../../../b",
    "a/./b",
    "a//b",
    "a/b/",
    "/abs",
    "//abs",
    "/etc/passwd",
    "NUL\0inside",
    "a/b\0",
    "\0",
    "x" * 256,
    "a/b/" + "x" * 300,
    "x" * 1024,
    "é" * 512,
    "/".join("x" * 512),
    "/".join(["x" * 200] * 30),
    "lone \ud800 surrogate",
    "a/\udcff",
    "a/b/\ud800",
    "~/x",
    "$HOME/x",
    "a\nb",
    "..\\..\\x",
    "C:\\x",
)


class TestHostileKeys:
    """An uploader chooses the key."""

    @pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
    def test_any_key_raises_only_errors_of_the_port(self, harness: Harness, key: str) -> None:
        """Each key is stored or refused, found or not found."""
        try:
            put(harness.store, key, b"data")
        except StoreUnavailableError:
            stored = False
        else:
            stored = True
        try:
            found: bytes | None = fetched(harness.store, ObjectReference(key=key))
        except (ObjectNotFoundError, StoreUnavailableError):
            found = None

        assert harness.store.fits(key) or not stored
        assert found in {None, b"data"}
        assert stored or found is None
        assert list(harness.contents().values()) == [b"data"] * stored

    @pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
    def test_nothing_is_written_outside_the_folder(self, tmp_path: Path, key: str) -> None:
        """A key is refused if it is no path below the folder."""
        root = tmp_path / "outside" / "store"
        root.mkdir(parents=True)
        store = LocalObjectStore(root)

        with suppress(StoreUnavailableError):
            put(store, key, b"report")

        files = {path for path, data in everything_below(tmp_path).items() if data is not None}
        assert files == ({f"outside/store/{key}"} if store.fits(key) else set())

    @pytest.mark.parametrize(
        "key", ["../secret", "a/../../secret", "../store/../secret", "{outside}/secret", "..//secret"]
    )
    def test_nothing_outside_the_folder_is_ever_opened(self, tmp_path: Path, key: str) -> None:
        """Not even a readable file."""
        (tmp_path / "secret").write_bytes(b"secret")
        root = tmp_path / "store"
        (root / "a").mkdir(parents=True)
        reference = ObjectReference(key=key.format(outside=tmp_path))

        with pytest.raises(ObjectNotFoundError), LocalObjectStore(root).open(reference):
            pass


def importing(
    uploads: ObjectStore,
    reports: ObjectStore,
    folders: Callable[[Source], Iterable[str]] = folders_of,
    users: UserRepository | None = None,
) -> ImportUsers:
    """The use case with these stores."""
    return CheckedImport(
        uploads=uploads,
        reports=Reports(store=reports, folders=folders),
        users=users or MemoryUserRepository(),
        now=lambda: datetime(2026, 1, 1, tzinfo=UTC),
        spool=io.BytesIO,
    )


def key_of_length(length: int) -> str:
    """Return a key of a length in bytes, in short parts."""
    parts = ("é" * 40 + "/") * (length // 81)
    return parts + "x" * (length - len(parts.encode()))


PARTLY_GOOD = completed(b"name,country,age\nAnn,Chile,30\nBen,Chile,x\n")


class TestReports:
    """Every upload has its reports in every store, under any key."""

    @pytest.mark.parametrize(
        "key",
        # moto cannot serve a key with a line end.
        [
            *(key for key in HOSTILE_KEYS if "\n" not in key),
            *map(key_of_length, (900, 960, 966, 979, 1024)),
            "y" * 247,
            "z/" + "é" * 127,
        ],
        ids=lambda key: ascii(key)[:20],
    )
    def test_an_upload_of_any_key_has_its_reports(self, harness: Harness, key: str) -> None:
        """Receipt and rejected rows are in one folder and can be read. The receipt contains the whole key."""
        uploads = MemoryObjectStore()
        put(uploads, key, PARTLY_GOOD)
        case = importing(uploads, harness.store)
        source = case(ObjectReference(key=key)).source

        (receipt, content), (rejected, _) = sorted(harness.contents().items())
        assert receipt == f"{case.reports.folder(source)}/receipt.json"
        assert rejected.startswith(f"{case.reports.folder(source)}/rejected-")
        assert json.loads(content)["source"]["key"] == source.key
        assert case.reports.has_receipt(source)
        assert case.reports.has(case.users.get_import(1).receipt)

    @pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
    def test_reports_of_different_uploads_have_different_folders(self, harness: Harness, key: str) -> None:
        """Also those of keys that are shortened, and of versions."""
        sources = [(key, "1"), (f"{key}x", "1"), (key, "2")]
        case = importing(MemoryObjectStore(), harness.store)

        folders = [case.reports.folder(Source(bucket="b", key=key, version=version)) for key, version in sources]
        assert len(set(folders)) == 3


def bound_to_a_socket(path: Path) -> None:
    """Make a socket of the file system."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


@pytest.fixture
def linked(tmp_path: Path) -> Path:
    """A folder with links to a file and a folder beside it."""
    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    (outside / "secret.csv").write_bytes(b"secret")
    root.mkdir()
    (root / "file.csv").symlink_to(outside / "secret.csv")
    (root / "folder").symlink_to(outside)
    return root


class TestFolder:
    """Behaviour of a local folder only."""

    @pytest.mark.parametrize(
        ("folders", "name"),
        [
            (0, "a.csv"),
            (0, "x" * 247),
            (0, "x" * 255),
            (0, "é" * 127),
            (0, "é" * 100 + ".csv"),
            (19, "a.csv"),
            (70, "x" * 255),
        ],
        ids=lambda value: ascii(value)[:20],
    )
    def test_reports_of_a_file_of_any_name_are_stored_beside_it(
        self, tmp_path: Path, folders: int, name: str
    ) -> None:
        """Their folder is never listed. Its name is shortened if the whole one is too long."""
        folder = tmp_path.joinpath("f", *["f" * 50] * folders)
        folder.mkdir(parents=True)
        file = folder / name
        file.write_bytes(PARTLY_GOOD)
        store = LocalObjectStore(Path("/"))
        reference = ObjectReference(key=str(file)[1:])
        case = importing(store, store, folders_beside)

        first = case(reference)
        again = case(reference)

        [reports] = [path for path in folder.iterdir() if path != file]
        assert reports.name.endswith(".rollcall")
        assert {path.name[:8] for path in reports.glob("*/*")} == {"receipt.", "rejected"}
        assert first.rejected_rows
        assert Path(first.rejected_rows).is_file()
        assert again.code is Code.REDELIVERY
        assert [reference.key for reference in references(LocalObjectStore(folder))] == [name]

    def test_reports_and_hidden_files_are_never_listed(self, tmp_path: Path) -> None:
        """Otherwise Rollcall's reports would be imported."""
        store = LocalObjectStore(tmp_path)
        for key in (
            "a.csv",
            "folder/b.csv",
            ".hidden.csv",
            ".hidden/c.csv",
            "folder/.d.csv",
            "a.csv.rollcall/1/receipt.json",
            "folder/b.csv.rollcall/1/rejected-1.csv",
            ".0123456789abcdef.unfinished",
        ):
            put(store, key, b"data")

        assert [reference.key for reference in references(store)] == ["a.csv", "folder/b.csv"]

    def test_a_listing_continues_after_a_removed_file(self, tmp_path: Path) -> None:
        """Files and whole folders may be removed between two listings."""
        store = LocalObjectStore(tmp_path)
        for key in ("a/b/1", "a/b/2", "a/c", "d"):
            put(store, key, b"")
        first = references(store)[0]
        shutil.rmtree(tmp_path / "a" / "b")

        assert [listed.reference.key for listed in store.list(after=first)] == ["a/c", "d"]

    def test_links_are_not_listed(self, linked: Path) -> None:
        """Their target is outside, or is listed already, or is a circle."""
        store = LocalObjectStore(linked)
        put(store, "a.csv", b"data")
        (linked / "circle").symlink_to(linked)
        (linked / "nowhere.csv").symlink_to(linked / "missing")

        assert [reference.key for reference in references(store)] == ["a.csv"]

    @pytest.mark.parametrize("key", ["file.csv", "folder/secret.csv", "folder/../secret.csv"])
    def test_a_link_that_leads_out_of_the_folder_is_not_followed(self, linked: Path, key: str) -> None:
        """A person who may write into the folder must not read other files through a link."""
        with (
            pytest.raises((StoreUnavailableError, ObjectNotFoundError)),
            LocalObjectStore(linked).open(ObjectReference(key=key)),
        ):
            pass

    @pytest.mark.parametrize("key", ["folder/x", "folder/new/x", "folder/new/er/x"])
    def test_nothing_is_written_through_a_link_that_leads_out(self, linked: Path, key: str) -> None:
        """Neither a file nor a folder."""
        with pytest.raises(StoreUnavailableError, match="a link leads out of the folder"):
            put(LocalObjectStore(linked), key, b"data")

        assert everything_below(linked.parent / "outside") == {"secret.csv": b"secret"}

    def test_a_link_in_place_of_the_key_is_replaced_not_followed(self, linked: Path) -> None:
        """Its target stays unchanged."""
        put(LocalObjectStore(linked), "file.csv", b"data")

        assert (linked.parent / "outside/secret.csv").read_bytes() == b"secret"
        assert (linked / "file.csv").read_bytes() == b"data"

    def test_a_link_to_a_file_inside_is_followed(self, tmp_path: Path) -> None:
        """The upload's key is the given path."""
        store = LocalObjectStore(tmp_path)
        put(store, "real.csv", b"data")
        (tmp_path / "link.csv").symlink_to(tmp_path / "real.csv")

        assert fetched(store, ObjectReference(key="link.csv")) == b"data"
        assert opened_upload(store, "link.csv").key == str(tmp_path / "link.csv")

    @pytest.mark.parametrize("when", ["before it is read", "while it is read", "after it is read"])
    @pytest.mark.parametrize("how", ["grown", "cut", "overwritten"])
    def test_a_file_that_changes_while_it_is_read_is_an_error(self, tmp_path: Path, how: str, when: str) -> None:
        """It may still be being copied."""
        path = tmp_path / "key"
        path.write_bytes(b"x" * 300_000)
        os.utime(path, (1, 1))

        def change() -> None:
            with path.open("r+b") as file:
                if how == "grown":
                    file.seek(0, os.SEEK_END)
                    file.write(b"more")
                elif how == "cut":
                    file.truncate(10)
                else:
                    file.write(b"y" * 300_000)

        def read() -> None:
            with LocalObjectStore(tmp_path).open(ObjectReference(key="key")) as found:
                if when == "before it is read":
                    change()
                for _ in found.read():
                    if when == "while it is read":
                        change()
                change()
                found.reread().read()
                found.verify()

        with pytest.raises(ObjectChangedError):
            read()

    @pytest.mark.parametrize("how", ["replaced", "removed"])
    def test_a_file_that_is_replaced_is_read_to_its_end(self, tmp_path: Path, how: str) -> None:
        """The open file keeps the first bytes under any replacement."""
        store = LocalObjectStore(tmp_path)
        put(store, "key", b"old")
        with store.open(ObjectReference(key="key")) as found:
            stream = copied(found)
            if how == "replaced":
                put(store, "key", b"new")
            else:
                (tmp_path / "key").unlink()
            data = stream.read()
            found.verify()

        assert data == b"old"

    @pytest.mark.parametrize(
        ("make", "fault"),
        [
            (Path.mkdir, "it is a folder"),
            (os.mkfifo, "it is not a regular file"),
            (bound_to_a_socket, ""),
            (lambda path: path.symlink_to(path), ""),
        ],
        ids=["folder", "pipe", "socket", "circle"],
    )
    def test_only_a_regular_file_is_an_upload(self, make: Callable[[Path], object], fault: str) -> None:
        """A pipe is not waited for: it cannot be read twice."""
        with tempfile.TemporaryDirectory() as short:  # for the name of a socket
            make(Path(short, "key"))

            with (
                pytest.raises(StoreUnavailableError, match=f"key: {fault}"),
                LocalObjectStore(Path(short)).open(ObjectReference(key="key")),
            ):
                pass

    def test_an_open_file_is_identified_by_its_own_path(self, tmp_path: Path) -> None:
        """Two files passed as /dev/stdin are two uploads, each with its reports beside it."""
        for name in ("a.csv", "b.csv"):
            (tmp_path / name).touch()
            with (tmp_path / name).open() as file:
                for path in (f"/dev/fd/{file.fileno()}", f"/proc/self/fd/{file.fileno()}"):
                    assert path_of(Path(path)) == tmp_path / name

    @pytest.mark.parametrize("kind", ["pipe", "removed", "device"])
    def test_an_open_file_without_a_path_is_no_upload(self, tmp_path: Path, kind: str) -> None:
        """The next upload would have the same path."""
        reading, writing = os.pipe()
        path = tmp_path / "a.csv"
        path.touch()
        with path.open() as removed, open(os.devnull) as device, open(reading) as pipe, open(writing):  # noqa: PTH123 - as above
            path.unlink()
            number = {"pipe": pipe, "removed": removed, "device": device}[kind].fileno()

            with pytest.raises(StoreUnavailableError, match=f"/dev/fd/{number}: it is not a regular file; save"):
                path_of(Path(f"/dev/fd/{number}"))

    def test_a_file_without_read_permission_is_one_clear_error(self) -> None:
        """It names the file and the missing permission."""
        with (
            closed_to_others() as root,
            nobodys_rights(),
            pytest.raises(StoreUnavailableError, match="key: permission denied"),
            LocalObjectStore(root).open(ObjectReference(key="key")),
        ):
            pass

    def test_a_folder_without_write_permission_is_one_clear_error(self) -> None:
        """Nothing is left behind."""
        with closed_to_others() as root:
            with nobodys_rights(), pytest.raises(StoreUnavailableError, match="permission denied"):
                put(LocalObjectStore(root), "new", b"data")

            assert {path.name for path in root.iterdir()} == {"key", "folder"}

    @pytest.mark.parametrize("reports", ["folder", "new/folder", "key"])
    def test_nothing_is_registered_without_room_for_reports(self, reports: str) -> None:
        """The import checks before the commit that the reports folder exists or can be made, and is writable."""
        uploads, users = MemoryObjectStore(), MemoryUserRepository()
        put(uploads, "a.csv", completed(b"name,country,age\nAnn,Chile,30\n"))
        with closed_to_others() as root, nobodys_rights():
            case = importing(uploads, LocalObjectStore(root), lambda _: iter([reports]), users)
            with pytest.raises(ReportNotStoredError, match=r"nothing is registered, .*(denied|not a directory)"):
                case(ObjectReference(key="a.csv"))

        assert list(users.users()) == []

    def test_a_folder_that_cannot_be_listed_is_one_clear_error(self) -> None:
        """An incomplete listing would hide uploads."""
        with (
            closed_to_others() as root,
            nobodys_rights(),
            pytest.raises(StoreUnavailableError, match="folder: permission denied"),
        ):
            list(LocalObjectStore(root).list())

    def test_a_watch_reports_and_skips_a_folder_it_cannot_list(self) -> None:
        """A folder such as `lost+found` must not hide the others."""
        skipped: list[StoreUnavailableError] = []
        with closed_to_others() as root, nobodys_rights():
            found = references(LocalObjectStore(root, skip=skipped.append))

        assert [reference.key for reference in found] == ["key"]
        assert [str(error) for error in skipped] == [f"{root / 'folder'}: permission denied"]

    def test_a_folder_that_disappears_is_not_listed(self, tmp_path: Path) -> None:
        """It existed when the folder above was read."""
        store = LocalObjectStore(tmp_path)
        for key in ("a", "b/1", "c"):
            put(store, key, b"")

        listing = store.list()
        found = [next(listing).reference.key]
        shutil.rmtree(tmp_path / "b")

        assert [*found, *(listed.reference.key for listed in listing)] == ["a", "c"]

    @pytest.mark.parametrize(
        ("content", "has_end"),
        [
            (b"a\n", True),
            (b"a\r\n", True),
            (b"a\r", True),
            (b"a", False),
            (b"\n", True),
            (b"", True),
            ("\ufeffa\n".encode("utf-16-le"), True),
            ("\ufeffa\r".encode("utf-16-be"), True),
            ("\ufeffa\u0a41".encode("utf-16-le"), False),
            ("\ufeffa\u4e0a".encode("utf-16-be"), False),
            ("a\n".encode("utf-16-le"), True),
            (gzip.compress(b"a", mtime=0), True),
        ],
    )
    def test_the_end_of_a_last_line_is_found(self, tmp_path: Path, content: bytes, has_end: bool) -> None:  # noqa: FBT001 - a parameter of the test
        """In each encoding. gzip data itself shows whether it is complete."""
        (tmp_path / "key").write_bytes(content)

        assert LocalObjectStore(tmp_path).last_line_has_end(ObjectReference(key="key")) == has_end

    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        """The import itself then says why a pipe cannot be imported."""
        os.mkfifo(tmp_path / "pipe")

        assert LocalObjectStore(tmp_path).last_line_has_end(ObjectReference(key="pipe"))

    def test_a_missing_root_is_an_error_and_not_an_empty_listing(self, tmp_path: Path) -> None:
        """A folder that is not mounted must not look empty."""
        with pytest.raises(StoreUnavailableError):
            list(LocalObjectStore(tmp_path / "missing").list())

    @pytest.mark.parametrize("key", ["file/below", "file/far/below", "folder"])
    def test_a_file_in_place_of_a_folder_is_one_clear_error(self, tmp_path: Path, key: str) -> None:
        """And the reverse. "Not found" would mean that the upload is gone."""
        store = LocalObjectStore(tmp_path)
        put(store, "file", b"data")
        put(store, "folder/file", b"data")

        with pytest.raises(StoreUnavailableError):
            put(store, key, b"data")

        assert everything_below(tmp_path) == {"file": b"data", "folder": None, "folder/file": b"data"}

    def test_a_full_disk_leaves_the_old_object_unchanged(self, tmp_path: Path) -> None:
        """Half a report would be taken for a whole one."""
        store = LocalObjectStore(tmp_path)
        put(store, "key", b"old")
        with largest_file(100_000), pytest.raises(StoreUnavailableError):
            put(store, "key", bytes(200_000))

        assert everything_below(tmp_path) == {"key": b"old"}


@contextmanager
def closed_to_others() -> Iterator[Path]:
    """A folder that everybody may enter, but only its owner may read or write."""
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        (root / "key").write_bytes(b"data")
        (root / "folder").mkdir()
        for path, mode in ((root / "key", 0o000), (root / "folder", 0o000), (root, 0o555)):
            path.chmod(mode)
        try:
            yield root
        finally:
            for path in (root, root / "key", root / "folder"):
                path.chmod(0o700)


@contextmanager
def nobodys_rights() -> Iterator[None]:
    """Act as a user without root's rights. Without root, do nothing."""
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Make the system refuse every byte beyond a size, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


HEAD = (
    b'HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\nETag: "abc"\r\nConnection: close\r\n'
    b"Last-Modified: Mon, 23 Nov 2026 07:00:00 GMT\r\nContent-Length: 100\r\n\r\n"
)


def refusal(status: str, code: str) -> bytes:
    """An error response of S3."""
    body = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>No.</Message></Error>".encode()
    return (
        f"HTTP/1.1 {status}\r\nContent-Type: application/xml\r\nConnection: close\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode() + body


def an_object(*changed: tuple[bytes, bytes]) -> bytes:
    """A response with an object of 100 bytes, after some replacements."""
    head = HEAD
    for part, other in changed:
        assert part in head
        head = head.replace(part, other)
    return head + b"x" * 100


def xml(body: str) -> bytes:
    """A successful response of S3 with an XML document."""
    document = f"<?xml version='1.0'?>{body}".encode() if body else b""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/xml\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
    return head % len(document) + document


def listed(key: str = "k", version: str = "v") -> str:
    """A version in a listing of S3."""
    return (
        f"<Version><Key>{key}</Key><VersionId>{version}</VersionId><IsLatest>true</IsLatest><ETag>e</ETag>"
        "<Size>1</Size><LastModified>2026-01-01T00:00:00Z</LastModified></Version>"
    )


def page(versions: str, *, then: tuple[str, str] | None = None, more: bool = False) -> bytes:
    """A page of a listing, with the key and version after which the next page starts."""
    marker = "<NextKeyMarker>{}</NextKeyMarker><NextVersionIdMarker>{}</NextVersionIdMarker>".format(
        *then or ("", "")
    )
    marker *= bool(then)
    truncated = str(bool(then or more)).lower()
    return xml(
        f"<ListVersionsResult><IsTruncated>{truncated}</IsTruncated>{marker}{versions}</ListVersionsResult>"
    )


A_PAGE_OF_ITS_OWN = xml("<html/>")
A_REDIRECT = b"HTTP/1.1 301 Moved Permanently\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
PART_TAKEN = b'HTTP/1.1 200 OK\r\nETag: "p"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n'
UPLOAD_BEGUN = xml("<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>")


@contextmanager
def answering(*answers: bytes, asked: list[bytes] | None = None) -> Iterator[str]:
    """A server that sends its answers in turn, and repeats the last one; the requests go to `asked`."""
    in_turn = chain(answers[:-1], repeat(answers[-1]))

    def give(connection: socket.socket) -> None:
        question = connection.recv(64 * 1024)
        if asked is not None:
            asked.append(question)
        connection.sendall(next(in_turn))

    with serving(give) as port:
        yield f"http://127.0.0.1:{port}"


@cache
def session() -> Session:
    """Read boto3's service descriptions once, because that takes longer than many a test."""
    return Session()


@contextmanager
def asking(endpoint: str, clock: Callable[[], float] = time.monotonic) -> Iterator[S3ObjectStore]:
    """A store on S3 at an address, which gives up early."""
    soon = Config(connect_timeout=1, read_timeout=0.5, retries={"total_max_attempts": 1})
    s3 = session().client("s3", endpoint_url=endpoint, config=soon)
    try:
        yield S3ObjectStore("bucket", "", s3, clock=clock)
    finally:
        s3.close()


class TestS3:
    """Behaviour of S3 only, mainly its failures; faults/test_storage.py has those of bodies."""

    @pytest.mark.parametrize(
        "answer",
        [
            b"",
            b"nonsense\r\n\r\n",
            b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
            b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 10\r\nConnection: close\r\n\r\n<html>oops",
            refusal("403 Forbidden", "AccessDenied"),
            refusal("503 Slow Down", "SlowDown"),
            refusal("400 Bad Request", "ExpiredToken"),
        ],
        ids=lambda answer: answer[:40].decode().strip() or "nothing",
    )
    def test_an_error_response_of_any_kind_is_unavailable(self, answer: bytes) -> None:
        """For opening, putting and listing. A retry may succeed."""
        with answering(answer) as endpoint, asking(endpoint) as store:
            with pytest.raises(StoreUnavailableError), store.open(ObjectReference(key="key")):
                pass
            with pytest.raises(StoreUnavailableError):
                put(store, "key", b"data")
            with pytest.raises(StoreUnavailableError):
                list(store.list())

    @pytest.mark.parametrize(
        "answer",
        [
            refusal("404 Not Found", "NoSuchKey"),
            refusal("404 Not Found", "NoSuchVersion"),
            refusal("404 Not Found", "NoSuchBucket"),
            refusal("405 Method Not Allowed", "MethodNotAllowed"),
        ],
        ids=lambda answer: answer[answer.index(b"<Code>") + 6 : answer.index(b"</Code>")].decode(),
    )
    def test_aws_errors_about_a_missing_version_are_not_found(self, answer: bytes) -> None:
        """A delete marker cannot be read, and is no upload."""
        reference = ObjectReference(key="key", version="no version of yours")
        with (
            answering(answer) as endpoint,
            asking(endpoint) as store,
            pytest.raises(ObjectNotFoundError),
            store.open(reference),
        ):
            pass

    @pytest.mark.parametrize("versioned", [True, False])
    def test_an_archived_upload_is_refused(
        self, new_bucket: Callable[[bool], str], s3_client: "S3Client", *, versioned: bool
    ) -> None:
        """Under the identity that the sweep computes from a listing, so that the ledger knows it."""
        bucket = new_bucket(versioned)
        store = S3ObjectStore(bucket, "", s3_client)
        put(store, "key-and-more", b"data")
        s3_client.put_object(Bucket=bucket, Key="key", Body=PARTLY_GOOD, StorageClass="GLACIER")
        listed = next(store.list("key"))
        case = importing(store, MemoryObjectStore())

        for reference in (listed.reference, ObjectReference(bucket=bucket, key="key")):
            receipt = case(reference)

            assert (receipt.status, receipt.code) == (Status.REFUSED, Code.SOURCE_UNREADABLE)
            entry = case.users.find_import(listed.upload.identity)
            assert entry
            assert entry.receipt == receipt
            assert case.reports.has(receipt)

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            (
                "The object was stored using a form of Server Side Encryption. The correct parameters must be ...",
                ObjectUnreadableError,
            ),
            ("Missing required header for this request: x-amz-content-sha256", StoreUnavailableError),
        ],
    )
    def test_an_upload_encrypted_with_a_customer_key_is_unreadable(
        self, message: str, expected: type[Exception]
    ) -> None:
        """S3's message decides. Any other invalid request may succeed later."""
        s3 = client()
        version = {"Key": "key", "VersionId": "v", "ETag": '"e"', "IsLatest": True, "Size": 1}
        with Stubber(s3) as stubbed:
            stubbed.add_client_error("get_object", "InvalidRequest", message, 400)
            stubbed.add_response(
                "list_object_versions",
                {
                    "IsTruncated": False,
                    "Versions": [{**version, "LastModified": datetime(2026, 1, 1, tzinfo=UTC)}],
                },
            )
            with (
                pytest.raises(expected),
                S3ObjectStore("bucket", "", s3).open(ObjectReference(key="key", version="v")) as found,
            ):
                copied(found)

    @pytest.mark.parametrize(
        ("answer", "fault"),
        [
            (an_object((b"200 OK", b"206 Partial Content")), "status 206"),
            (an_object((b"ETag", b"Content-Range: bytes 0-99/2000\r\nETag")), "a part of the object"),
            (an_object((b"200 OK", b"203 Non-Authoritative Information")), "status 203"),
            (an_object((b"200 OK", b"204 No Content")), "status 204"),
            (A_PAGE_OF_ITS_OWN, "no ETag and no Last-Modified"),
            (an_object((b"Content-Length: 100\r\n", b"")), "no Content-Length"),
            *(
                (an_object((b"Mon, 23 Nov 2026 07:00:00 GMT", time)), "Last-Modified is malformed")
                for time in (
                    b"",
                    b"yesterday",
                    b"9" * 30,
                    b"Mon, 23 Nov 99999 07:00:00 GMT",
                    b"2026-11-23T07:00:00",
                )
            ),
            *(
                (an_object((b"Length: 100", b"Length: " + length)), "Content-Length is malformed")
                for length in (b"", b"many", b"-1", b"100, 100", b"9" * 25, b"9" * 5000)
            ),
            (an_object((b"Length: 100", b"Length: " + b"9" * 19)), "size is impossible"),
            *(
                (an_object((b'"abc"', etag)), "ETag is malformed")
                for etag in (b"", b'""', b'W/"abc"', b'"a\0b"', b'"a\xe9b"', b'"' + b"a" * 5000 + b'"')
            ),
            *(
                (an_object((b"ETag", b"x-amz-version-id: " + version + b"\r\nETag")), "version id is malformed")
                for version in (b"a b", b"a\0b", b"a\r\n b", b"\xe9", b"v" * 1025)
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_response_unlike_s3_is_an_error(self, answer: bytes, fault: str) -> None:
        """A part is not the object. Malformed headers are one sentence, and a retry may succeed."""
        with (
            answering(answer) as endpoint,
            asking(endpoint) as store,
            pytest.raises(StoreUnavailableError, match=f"^s3://bucket/key: the server did not .* S3: .*{fault}"),
            store.open(ObjectReference(key="key")),
        ):
            pass

    @pytest.mark.parametrize(
        "header", [b"x-amz-missing-meta: some", b"Expires: never", b"x-amz-mp-parts-count: x"]
    )
    def test_malformed_headers_that_are_not_used_are_ignored(self, header: bytes) -> None:
        with answering(an_object((b"ETag", header + b"\r\nETag"))) as endpoint, asking(endpoint) as store:
            assert fetched(store, ObjectReference(key="key")) == b"x" * 100

    @pytest.mark.parametrize("given", [b"abc", b'"abc"'])
    def test_an_etag_is_the_same_with_quotes_and_without(self, given: bytes) -> None:
        """Not every server sends the quotes."""
        reference = ObjectReference(key="key", etag='"abc"')
        with answering(an_object((b'"abc"', given))) as endpoint, asking(endpoint) as store:
            assert fetched(store, reference) == b"x" * 100

    @pytest.mark.parametrize("size", [0, 99, 2000])
    @pytest.mark.parametrize(("version", "etag"), [("v1", None), ("null", '"abc"'), (None, '"abc"')])
    def test_a_size_other_than_the_announced_is_tried_again(
        self, version: str | None, etag: str | None, size: int
    ) -> None:
        """The announced version cannot have changed, so the server is wrong."""
        announced = ObjectReference(key="key", version=version, etag=etag, size=100)
        given = an_object((b"ETag", b"x-amz-version-id: %b\r\nETag" % (version or "null").encode()))
        with answering(given) as endpoint, asking(endpoint) as store:
            assert fetched(store, announced) == b"x" * 100
            with (
                pytest.raises(StoreUnavailableError, match=f" {size:,} bytes were announced, but S3 gives 100;"),
                store.open(attrs.evolve(announced, size=size)),
            ):
                pass

    @pytest.mark.parametrize(
        ("pages", "fault"),
        [
            ([page(listed(), more=True)], "breaks off"),
            ([page(listed(), then=("k", "v"))], "does not go on"),
            ([page(listed(), then=("k", name)) for name in ("1", "2", "1")], "does not go on"),
            ([page("", then=(key, "v")) for key in ("k1", "k2", "k1")], "key out of place"),
            ([page(listed("k2") + listed("k1"))], "key out of place"),
            ([page(listed("other"))], "key out of place"),
            ([page("", then=("other", "v"))], "key out of place"),
            ([xml("")], "no IsTruncated"),
            ([A_PAGE_OF_ITS_OWN], "no IsTruncated"),
            ([xml("<ListBucketResult/>")], "no IsTruncated"),
            *(
                ([page(listed().replace(f"<{part}>", "<Other>").replace(f"</{part}>", "</Other>"))], "malformed")
                for part in ("Key", "VersionId", "ETag", "Size", "LastModified")
            ),
            *(
                ([page(listed().replace(part, other))], fault)
                for part, other, fault in (
                    (">1<", ">one<", "malformed"),
                    (">1<", ">-1<", "size is impossible"),
                    ("2026", "99999", "malformed"),
                    ("2026", "0001", "last change is impossible"),
                    (">v<", ">v w<", "version id is malformed"),
                    (">e<", '>W/"e"<', "ETag is malformed"),
                )
            ),
        ],
        ids=lambda value: value if isinstance(value, str) else "",
    )
    def test_a_listing_unlike_s3_is_an_error(self, pages: list[bytes], fault: str) -> None:
        """Otherwise the sweep would miss uploads, or never end."""
        with (
            answering(*pages) as endpoint,
            asking(endpoint) as store,
            pytest.raises(StoreUnavailableError, match=f"^s3://bucket/k: the server did not .* S3: .*{fault}"),
        ):
            list(store.list("k"))

    @pytest.mark.parametrize(
        "answers",
        [
            [A_PAGE_OF_ITS_OWN],
            [xml("")],
            [A_PAGE_OF_ITS_OWN, xml("")],
            [UPLOAD_BEGUN, xml("")],
            [UPLOAD_BEGUN, PART_TAKEN, xml("<CompleteMultipartUploadResult/>")],
        ],
        ids=["a page", "nothing", "no upload id", "no part", "no whole"],
    )
    def test_a_put_without_confirmation_is_an_error(
        self, answers: list[bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Otherwise a proxy's page could hide the loss of a receipt."""
        if len(answers) > 1:
            in_parts = TransferConfig(use_threads=False, multipart_threshold=1)
            monkeypatch.setattr("rollcall.adapters.s3._WHOLE_IF_POSSIBLE", in_parts)
        with (
            answering(*answers) as endpoint,
            asking(endpoint) as store,
            pytest.raises(StoreUnavailableError, match="the server did not answer like S3: its answer has no"),
        ):
            put(store, "key", b"data")

    def test_a_redirect_without_a_region_is_followed_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Otherwise the client would ask for the region again and again."""
        asked: list[bytes] = []
        with answering(A_REDIRECT, asked=asked) as endpoint:
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
            s3 = client()
            store = S3ObjectStore("bucket", "", s3)
            for ask in (
                lambda: fetched(store, ObjectReference(key="key")),
                lambda: put(store, "key", b"data"),
                lambda: list(store.list()),
            ):
                with pytest.raises(StoreUnavailableError, match="without naming the bucket's region"):
                    ask()
            s3.close()

        assert len(asked) <= 6

    def test_a_slow_body_is_given_up(self) -> None:
        """Each single read is fast enough."""
        hours = count(0, 3600)
        pieces: list[bytes] = []

        def trickle(connection: socket.socket) -> None:
            connection.recv(64 * 1024)
            connection.sendall(HEAD)
            with suppress(OSError):
                for _ in range(99):
                    connection.sendall(b"x")
                    time.sleep(0.01)

        with (
            serving(trickle) as port,
            asking(f"http://127.0.0.1:{port}", clock=lambda: float(next(hours))) as store,
            store.open(ObjectReference(key="key")) as found,
            pytest.raises(StoreUnavailableError, match=r"less than 10 kB/s came over 60 s; try again"),
        ):
            pieces.extend(found.read())

        assert pieces == []

    @pytest.mark.parametrize(
        ("arrivals", "too_slow"),
        [
            ([(59.9, 0)], False),
            ([(60, 599_999)], True),
            ([(60, 600_000)], False),
            ([(120, 600_000)], True),
            ([(1, 1)] * 59, False),
            ([(1, 1)] * 60, True),
            ([(1, 10_000)] * 1000, False),
            ([(1, 65_000_000)] * 100 + [(1, 1)] * 120, True),
            ([(59, 600_000), (1, 0), (59, 0)], False),
            ([(59, 600_000), (1, 0), (60, 0)], True),
        ],
    )
    def test_less_than_10_kb_a_second_for_a_minute_is_too_slow(
        self, arrivals: list[tuple[float, int]], *, too_slow: bool
    ) -> None:
        """Earlier fast data does not count, and a pause alone is allowed."""
        pace = Pace()

        assert any(pace.is_too_slow(seconds, received) for seconds, received in arrivals) is too_slow

    def test_a_server_that_is_gone_is_an_error_in_bounded_time(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With Rollcall's own client, its retries and its pauses."""
        with socket.create_server(("127.0.0.1", 0)) as listening:
            port = listening.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{port}")
        s3 = client()
        started = time.monotonic()
        with (
            pytest.raises(StoreUnavailableError),
            S3ObjectStore("bucket", "", s3).open(ObjectReference(key="key")),
        ):
            pass
        s3.close()

        assert time.monotonic() - started < 30

    def test_missing_credentials_are_one_clear_error(
        self, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The most common mistake."""
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
        session.cache_clear()  # the cached session has credentials
        with (
            asking(s3_endpoint) as store,
            pytest.raises(StoreUnavailableError, match="credentials"),
            store.open(ObjectReference(key="key")),
        ):
            pass
        session.cache_clear()  # the cached session has none

    @pytest.mark.parametrize("owner", ["123456789012", None])
    def test_each_request_names_the_owner_of_the_bucket(
        self, owner: str | None, new_bucket: Callable[[bool], str]
    ) -> None:
        """S3 then refuses it if another account took the bucket's name. Without the setting, none is named."""
        named: list[str | None] = []
        s3 = client(owner)
        s3.meta.events.register(
            "before-sign.s3", lambda request, **_: named.append(request.headers.get("x-amz-expected-bucket-owner"))
        )
        store = S3ObjectStore(new_bucket(True), "", s3)  # noqa: FBT003 - the only argument

        put(store, "key", b"data")
        with store.open(ObjectReference(key="key")) as found:
            assert b"".join(found.read()) == b"data"
        assert len(list(store.list())) == 1
        s3.close()

        assert named == [owner] * 3

    @pytest.mark.parametrize(
        ("name", "media_type"),
        [("receipt.html", "text/html; charset=utf-8"), ("receipt.json", "application/json")],
    )
    def test_a_browser_shows_a_receipt_and_stores_no_file(
        self, new_bucket: Callable[[bool], str], s3_client: "S3Client", name: str, media_type: str
    ) -> None:
        bucket = new_bucket(False)  # noqa: FBT003 - without versions
        put(S3ObjectStore(bucket, "", s3_client), f"list.csv/1/{name}", b"content")

        found = s3_client.head_object(Bucket=bucket, Key=f"list.csv/1/{name}")
        assert (found["ContentType"], found["ContentDisposition"]) == (media_type, "inline")

    def test_reading_from_a_missing_bucket_is_not_found(self, s3_client: "S3Client") -> None:
        store = S3ObjectStore("no-such-bucket", "", s3_client)

        with pytest.raises(ObjectNotFoundError), store.open(ObjectReference(key="key")):
            pass

    def test_writing_to_a_missing_bucket_is_an_error(self, s3_client: "S3Client") -> None:
        """An answer "not found" would mean that the upload is gone, and the message would be acknowledged."""
        store = S3ObjectStore("no-such-bucket", "", s3_client)

        with pytest.raises(StoreUnavailableError):
            put(store, "key", b"data")
        with pytest.raises(StoreUnavailableError):
            list(store.list())

    def test_a_reference_that_names_its_bucket_has_its_whole_key(
        self, new_bucket: Callable[[bool], str], s3_client: "S3Client"
    ) -> None:
        """A notification does not know the store's prefix."""
        bucket, other = new_bucket(True), new_bucket(False)  # noqa: FBT003 - the only argument
        put(S3ObjectStore(bucket, "", s3_client), "incoming/key", b"here")
        put(S3ObjectStore(other, "", s3_client), "incoming/key", b"there")
        store = S3ObjectStore(bucket, "incoming/", s3_client)

        assert fetched(store, ObjectReference(key="key")) == b"here"
        assert fetched(store, ObjectReference(bucket=bucket, key="incoming/key")) == b"here"
        assert fetched(store, ObjectReference(bucket=other, key="incoming/key")) == b"there"

    def test_a_deleted_object_is_not_found_but_its_versions_are(
        self, new_bucket: Callable[[bool], str], s3_client: "S3Client"
    ) -> None:
        """A delete marker is no readable version, and is not listed."""
        bucket = new_bucket(True)  # noqa: FBT003 - the only argument
        store = S3ObjectStore(bucket, "", s3_client)
        put(store, "key", b"data")
        marker = s3_client.delete_object(Bucket=bucket, Key="key")["VersionId"]

        for version in (None, marker):
            with pytest.raises(ObjectNotFoundError), store.open(ObjectReference(key="key", version=version)):
                pass
        assert [fetched(store, reference) for reference in references(store)] == [b"data"]

    def test_a_listing_of_several_pages_is_complete(
        self, new_bucket: Callable[[bool], str], s3_client: "S3Client", monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """S3 has a thousand objects a page; the test server's page size can be set."""
        monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
        store = S3ObjectStore(new_bucket(True), "", s3_client)  # noqa: FBT003 - the only argument
        names = [f"{number}" for number in range(5)]
        for key in names * 2:
            put(store, key, b"")

        found = list(store.list())
        assert [listed.reference.key for listed in found] == sorted(names * 2)
        for place, listed in enumerate(found):
            assert list(store.list(after=listed.reference)) == found[place + 1 :]

    def test_an_object_from_before_versioning_is_listed_and_found(
        self, new_bucket: Callable[[bool], str], s3_client: "S3Client"
    ) -> None:
        """Newer versions or a deletion may follow it. Exactly that state of the key is read."""
        bucket = new_bucket(False)  # noqa: FBT003 - the only argument
        store = S3ObjectStore(bucket, "", s3_client)
        put(store, "deleted", b"once")
        put(store, "key", b"before")
        before = opened_upload(store, "key")
        s3_client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        put(store, "key", b"after")
        s3_client.delete_object(Bucket=bucket, Key="deleted")

        assert sorted(fetched(store, reference) for reference in references(store)) == [
            b"after",
            b"before",
            b"once",
        ]
        assert before in [listed.upload for listed in store.list()]

    def test_a_position_that_s3_does_not_know_is_not_the_end(self) -> None:
        """A sweep that stored the position must start again."""
        error = b"<Error><Code>InvalidArgument</Code><Message>Invalid version id specified</Message></Error>"
        head = b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\nConnection: close\r\n\r\n"
        with answering(head % len(error) + error) as endpoint, asking(endpoint) as store:
            with pytest.raises(ObjectNotFoundError, match="after version x of key"):
                list(store.list(after=ObjectReference(bucket="bucket", key="key", version="x")))
            with pytest.raises(StoreUnavailableError):
                list(store.list())
