"""The contract of the stores of the page: forms, copies, parts and links, in memory, in a folder and in S3."""

import base64
import io
import json
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO
from urllib.parse import parse_qs, urlsplit
from urllib.request import url2pathname

import attrs
import pytest
import urllib3

from rollcall.adapters.local import LocalObjectStore
from rollcall.adapters.memory import MemoryObjectStore
from rollcall.adapters.s3 import S3ObjectStore, client
from rollcall.application.errors import FormRefusedError, ObjectChangedError, ObjectNotFoundError
from rollcall.application.forms import CONTENT_TYPE
from rollcall.application.ports import WholeStore
from rollcall.domain.upload import ObjectReference

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

KEY = f"web/{'0' * 64}/{'1' * 40}/list.csv"
TEN_MINUTES = timedelta(minutes=10)


@attrs.frozen
class Stores:
    """An inbox and a store of uploads, empty at first."""

    inbox: WholeStore
    uploads: WholeStore


@pytest.fixture(params=["memory", "folder", "s3", "s3-unversioned"])
def stores(
    request: pytest.FixtureRequest, new_bucket: Callable[[bool], str], s3_client: "S3Client", tmp_path: Path
) -> Stores:
    """Two stores of each kind."""
    kind: str = request.param
    if kind == "memory":
        return Stores(MemoryObjectStore("inbox"), MemoryObjectStore("uploads"))
    if kind == "folder":
        return Stores(LocalObjectStore(tmp_path / "inbox"), LocalObjectStore(tmp_path / "uploads"))
    versioned = kind == "s3"
    return Stores(
        S3ObjectStore(new_bucket(versioned), "in/", s3_client),
        S3ObjectStore(new_bucket(versioned), "out +é/", s3_client),
    )


def fetched(store: WholeStore, key: str) -> bytes:
    with store.open(ObjectReference(key=key)) as found:
        return b"".join(found.read())


class TestNewObjects:
    """An existing object is left as it is."""

    def test_an_object_is_created_once(self, stores: Stores) -> None:
        stores.uploads.create(KEY, io.BytesIO(b"first"))
        stores.uploads.create(KEY, io.BytesIO(b"second"))

        [listed] = stores.uploads.list()
        assert fetched(stores.uploads, KEY) == b"first"
        assert (listed.upload.bucket, listed.upload.key) == (
            stores.uploads.place(KEY).bucket,
            stores.uploads.place(KEY).key,
        )

    def test_exactly_the_listed_version_is_copied(self, stores: Stores) -> None:
        stores.inbox.put("a", io.BytesIO(b"first"))
        [first] = stores.inbox.list()
        stores.uploads.copy(stores.inbox, first, KEY)
        stores.inbox.put("a", io.BytesIO(b"other bytes"))
        newest = next(iter(stores.inbox.list()))
        stores.uploads.copy(stores.inbox, newest, KEY)

        [_] = stores.uploads.list()
        assert fetched(stores.uploads, KEY) == b"first"

    def test_a_replaced_object_is_never_copied(self, stores: Stores) -> None:
        """With versions, the listed version is copied; without, nothing is."""
        stores.inbox.put("a", io.BytesIO(b"first"))
        [first] = stores.inbox.list()
        stores.inbox.put("a", io.BytesIO(b"other bytes"))
        try:
            stores.uploads.copy(stores.inbox, first, KEY)
        except ObjectChangedError:
            assert list(stores.uploads.list()) == []
            assert len(list(stores.inbox.list())) == 1
        else:
            assert fetched(stores.uploads, KEY) == b"first"

    def test_a_missing_object_cannot_be_copied(self, stores: Stores) -> None:
        stores.inbox.put("a", io.BytesIO(b"first"))
        [first] = stores.inbox.list()
        gone = attrs.evolve(first, reference=attrs.evolve(first.reference, key=first.reference.key + "x"))

        with pytest.raises(ObjectNotFoundError):
            stores.uploads.copy(stores.inbox, gone, KEY)
        assert list(stores.uploads.list()) == []

    def test_ten_copies_at_once_are_one(self, stores: Stores) -> None:
        stores.inbox.put("a", io.BytesIO(b"data" * 1000))
        [listed] = stores.inbox.list()
        start = threading.Barrier(10)

        def copy(_: int) -> None:
            start.wait(timeout=30)
            stores.uploads.copy(stores.inbox, listed, KEY)

        with ThreadPoolExecutor(10) as pool:
            list(pool.map(copy, range(10)))

        [_] = stores.uploads.list()
        assert fetched(stores.uploads, KEY) == b"data" * 1000


class TestParts:
    """A part of an object is read with one request."""

    @pytest.mark.parametrize(("start", "length"), [(0, 3), (2, 4), (0, 100), (9, 1), (9, 2), (10, 5), (10**18, 5)])
    def test_a_part_has_exactly_its_bytes(self, stores: Stores, start: int, length: int) -> None:
        stores.inbox.put("a", io.BytesIO(b"0123456789"))

        assert stores.inbox.read("a", start, length) == b"0123456789"[start : start + length]

    def test_a_part_of_a_missing_object_is_not_found(self, stores: Stores) -> None:
        with pytest.raises(ObjectNotFoundError):
            stores.inbox.read("a", 0, 1)

    def test_an_empty_object_has_no_part(self, stores: Stores) -> None:
        stores.inbox.put("a", io.BytesIO(b""))

        assert stores.inbox.read("a", 0, 10) == b""

    def test_a_link_leads_to_the_file(self, stores: Stores) -> None:
        stores.inbox.put("b/é+ list.csv", io.BytesIO(b"data"))

        link = stores.inbox.link("b/é+ list.csv", seconds=60)

        if link.startswith("http"):
            answer = urllib3.request("GET", link, timeout=10)
            query = parse_qs(urlsplit(link).query)
            assert (answer.status, answer.data) == (200, b"data")
            assert query["response-content-disposition"] == ["attachment; filename*=UTF-8''%C3%A9%2B%20list.csv"]
            assert query["X-Amz-Expires"] == ["60"]
            assert query["X-Amz-SignedHeaders"] == ["host"]
        elif link.startswith("file:"):
            assert Path(url2pathname(urlsplit(link).path)).read_bytes() == b"data"
        else:
            assert link == "memory:b/é+ list.csv"


class TestPolicy:
    """S3 enforces the policy of a form, so it must say exactly what is meant. The test server does not."""

    def test_the_policy_holds_exactly_what_is_signed(
        self, new_bucket: Callable[[bool], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "a-token")
        bucket = new_bucket(True)  # noqa: FBT003 - the only argument
        s3 = client("123456789012")
        expires = datetime.now(UTC) + TEN_MINUTES

        form = S3ObjectStore(bucket, "in/", s3).sign(KEY, max_bytes=1000, expires=expires)
        s3.close()

        policy = json.loads(base64.b64decode(form.fields["policy"]))
        assert set(policy) == {"expiration", "conditions"}
        assert abs(datetime.fromisoformat(policy["expiration"]) - expires) < timedelta(seconds=5)
        conditions = [item for item in policy["conditions"] if isinstance(item, list)]
        fixed = {
            name: value for item in policy["conditions"] if isinstance(item, dict) for name, value in item.items()
        }
        assert conditions == [["content-length-range", 1, 1000]]
        assert len(policy["conditions"]) == len(fixed) + 1
        assert fixed == {
            "bucket": bucket,
            "key": f"in/{KEY}",
            "Content-Type": CONTENT_TYPE,
            "success_action_status": "201",
            "x-amz-algorithm": "AWS4-HMAC-SHA256",
            "x-amz-credential": form.fields["x-amz-credential"],
            "x-amz-date": form.fields["x-amz-date"],
            "x-amz-security-token": "a-token",
        }
        assert {**form.fields, "bucket": bucket} == {
            **fixed,
            "policy": form.fields["policy"],
            "x-amz-signature": form.fields["x-amz-signature"],
        }
        assert "a-token" not in repr(form)

    def test_a_copy_names_both_owners_and_a_link_none(self, new_bucket: Callable[[bool], str]) -> None:
        """A browser would not send the header of a signed owner."""
        sent: list[Mapping[str, Any]] = []
        s3 = client("123456789012")
        s3.meta.events.register(
            "before-sign.s3.CopyObject", lambda request, **_: sent.append(dict(request.headers))
        )
        store = S3ObjectStore(new_bucket(True), "", s3)  # noqa: FBT003 - the only argument
        store.put("a", io.BytesIO(b"data"))
        store.copy(store, next(store.list()), "b")
        link = store.link("b", seconds=60)
        s3.close()

        owners = [{name: value for name, value in headers.items() if "owner" in name.lower()} for headers in sent]
        assert [set(map(str, named.values())) for named in owners] == [{"123456789012"}]
        assert len(owners[0]) == 2
        assert "owner" not in link

    def test_a_signed_form_stores_the_file(self, new_bucket: Callable[[bool], str], s3_client: "S3Client") -> None:
        store = S3ObjectStore(new_bucket(True), "in/", s3_client)  # noqa: FBT003 - the only argument
        form = store.sign(KEY, max_bytes=1000, expires=datetime.now(UTC) + TEN_MINUTES)

        answer = urllib3.request("POST", form.url, fields={**form.fields, "file": ("x", b"data")}, timeout=10)

        assert answer.status == 201
        assert fetched(store, KEY) == b"data"

    def test_a_signed_address_names_the_region(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S3 would redirect a request to a new bucket from its address of all regions."""
        for name, value in {
            "DEFAULT_REGION": "eu-central-1",
            "ACCESS_KEY_ID": "x",
            "SECRET_ACCESS_KEY": "x",
        }.items():
            monkeypatch.setenv(f"AWS_{name}", value)
        monkeypatch.delenv("AWS_ENDPOINT_URL_S3", raising=False)
        monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
        s3 = client()
        store = S3ObjectStore("bucket", "", s3)
        host = "https://bucket.s3.eu-central-1.amazonaws.com/"

        assert store.sign(KEY, max_bytes=1000, expires=datetime.now(UTC) + TEN_MINUTES).url == host
        assert store.link(KEY, seconds=60).startswith(host)
        s3.close()


class Now:
    """A clock that stands still until it is set."""

    time = datetime(2026, 1, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.time


@attrs.frozen
class Receiving:
    """A store that takes the forms itself.

    Attributes:
        store: The store.
        receive: Takes a form.
        now: Its clock.
    """

    store: WholeStore
    receive: Callable[[Mapping[str, str], BinaryIO], str]
    now: Now

    def form(self, key: str = KEY, max_bytes: int = 10) -> dict[str, str]:
        """Return the fields of a new form."""
        return dict(self.store.sign(key, max_bytes=max_bytes, expires=self.now.time + TEN_MINUTES).fields)

    def stored(self) -> list[str]:
        """Return the keys of all objects."""
        return [listed.reference.key for listed in self.store.list()]


@pytest.fixture(params=["memory", "folder"])
def receiving(request: pytest.FixtureRequest, tmp_path: Path) -> Receiving:
    """Each store that takes forms itself."""
    now = Now()
    if request.param == "memory":
        memory = MemoryObjectStore("inbox", now)
        return Receiving(memory, memory.receive, now)
    folder = LocalObjectStore(tmp_path, now=now)
    return Receiving(folder, folder.receive, now)


class BrokenStream(io.BytesIO):
    """A file whose sender hangs up."""

    def read(self, size: int | None = -1, /) -> bytes:
        if data := super().read(size):
            return data
        raise ConnectionResetError(104, "reset")


class TestLocalTwin:
    """A store that is no bucket enforces by itself what S3 would."""

    def test_a_form_stores_its_file(self, receiving: Receiving) -> None:
        assert receiving.receive(receiving.form(), io.BytesIO(b"0123456789")) == KEY
        assert fetched(receiving.store, KEY) == b"0123456789"

    @pytest.mark.parametrize(("data", "too_long"), [(b"0123456789x", True), (b"x" * 10**6, True), (b"", False)])
    def test_a_file_of_another_size_is_refused(self, receiving: Receiving, data: bytes, too_long: bool) -> None:  # noqa: FBT001 - a parameter of the test
        with pytest.raises(FormRefusedError) as refused:
            receiving.receive(receiving.form(), io.BytesIO(data))

        assert refused.value.too_long is too_long
        assert receiving.stored() == []

    @pytest.mark.parametrize(
        "changed",
        [
            {"key": KEY + "x"},
            {"Content-Type": "text/html"},
            {"success_action_status": "200"},
            {"acl": "public-read"},
            {"signature": "0" * 64},
            {"signature": "é"},
            {"policy": "e30="},
            {"policy": "\ud800"},
        ],
        ids=str,
    )
    def test_a_changed_form_is_refused(self, receiving: Receiving, changed: dict[str, str]) -> None:
        with pytest.raises(FormRefusedError):
            receiving.receive({**receiving.form(), **changed}, io.BytesIO(b"data"))
        assert receiving.stored() == []

    @pytest.mark.parametrize("missing", ["key", "Content-Type", "success_action_status", "policy", "signature"])
    def test_a_form_without_a_field_is_refused(self, receiving: Receiving, missing: str) -> None:
        fields = receiving.form()
        del fields[missing]

        with pytest.raises(FormRefusedError):
            receiving.receive(fields, io.BytesIO(b"data"))

    def test_the_policy_of_another_form_is_refused(self, receiving: Receiving) -> None:
        other = receiving.form("other", max_bytes=10**9)

        with pytest.raises(FormRefusedError):
            receiving.receive({**receiving.form(), "policy": other["policy"]}, io.BytesIO(b"data"))

    def test_an_expired_form_is_refused(self, receiving: Receiving) -> None:
        fields = receiving.form()
        receiving.now.time += TEN_MINUTES

        with pytest.raises(FormRefusedError, match="expired"):
            receiving.receive(fields, io.BytesIO(b"data"))

    def test_a_form_is_used_once(self, receiving: Receiving) -> None:
        fields = receiving.form()
        receiving.receive(fields, io.BytesIO(b"first"))

        with pytest.raises(FormRefusedError, match="used before"):
            receiving.receive(fields, io.BytesIO(b"second"))
        assert fetched(receiving.store, KEY) == b"first"

    def test_a_form_of_another_process_is_refused(self, receiving: Receiving, tmp_path: Path) -> None:
        other = LocalObjectStore(tmp_path, now=receiving.now)
        fields = dict(other.sign(KEY, max_bytes=10, expires=receiving.now.time + TEN_MINUTES).fields)

        with pytest.raises(FormRefusedError, match="not signed here"):
            receiving.receive(fields, io.BytesIO(b"data"))

    def test_a_file_that_breaks_off_is_not_stored(self, receiving: Receiving) -> None:
        with pytest.raises(Exception, match="reset"):
            receiving.receive(receiving.form(), BrokenStream(b"data"))

        assert receiving.stored() == []
        assert receiving.receive(receiving.form(), io.BytesIO(b"data")) == KEY

    def test_ten_uses_at_once_store_one_file(self, receiving: Receiving) -> None:
        fields, start = receiving.form(), threading.Barrier(10)

        def use(number: int) -> Any:  # noqa: ANN401 - a key or None
            start.wait(timeout=30)
            try:
                return receiving.receive(fields, io.BytesIO(b"%d" % number))
            except FormRefusedError:
                return None

        with ThreadPoolExecutor(10) as pool:
            used = list(pool.map(use, range(10)))

        assert used.count(KEY) == 1
        assert fetched(receiving.store, KEY) == b"%d" % used.index(KEY)
