"""A store fails: one clear sentence, nothing half registered, and a redelivery completes the import."""

import gzip
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import attrs
import pytest

from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import ObjectChangedError, ObjectNotFoundError, StoreUnavailableError
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import add_user, asked
from support.campaigns import Campaign, Line
from support.fakes import Desk
from support.oracle import Oracle, foreign_users, in_s3
from support.privacy import require_quiet
from support.s3_server import Request, S3Server, s3_server
from support.uploads import FaultyUpload, made_upload


@attrs.frozen
class Buckets:
    """Buckets that fail, and a database that works.

    Attributes:
        oracle: Checks database and reports.
        users: The repository.
    """

    s3: S3Server
    oracle: Oracle
    users: PostgresUserRepository

    def drop(self, upload: FaultyUpload) -> ObjectReference:
        """Upload something, and announce it as S3 does: size, and version or ETag."""
        stored = self.s3.put(f"inbox/{upload.key}", upload.content)
        size = len(upload.content)
        if self.s3.versioned:
            return ObjectReference(bucket="inbox", key=upload.key, version=stored.version, size=size)
        return ObjectReference(bucket="inbox", key=upload.key, etag=stored.etag, size=size)

    def deliver(self, reference: ObjectReference, *, tries: int = 1) -> Receipt:
        uploads, reports = (self.s3.store(bucket, tries=tries) for bucket in ("inbox", "reports"))
        return Desk(users=self.users, through=uploads, into=reports).load(reference)

    def fail(self, reference: ObjectReference, upload: FaultyUpload, line: Line) -> str:
        """Import. It must fail with one sentence and change nothing in the table."""
        with pytest.raises((StoreUnavailableError, ObjectChangedError, ObjectNotFoundError)) as failed:
            self.deliver(reference)
        require_quiet(failed.value)
        sentence = str(failed.value)
        assert "\n" not in sentence
        assert "s3://" in sentence
        line.add(self.oracle.found([upload]))
        self.oracle.require_nothing_broken([upload])
        return sentence

    def merge(self, reference: ObjectReference, upload: FaultyUpload) -> None:
        """Deliver twice more, without a fault."""
        self.s3.breaking = lambda _: False
        self.deliver(reference)
        again = self.deliver(reference)
        assert again.code is Code.REDELIVERY
        self.oracle.require_all_settled([upload])


@pytest.fixture
def buckets(database_url: str) -> Iterator[Buckets]:
    """The database contains a user of no import, who must not change."""
    add_user(database_url)
    with ExitStack() as held:
        s3 = held.enter_context(s3_server())
        users = PostgresUserRepository(database_url, USERS)
        held.callback(users.close)
        oracle = Oracle(
            database_url=database_url,
            read_report=s3.read,
            receipt_address=in_s3,
            foreign=foreign_users(database_url),
        )
        yield Buckets(s3, oracle, users)


def _with_length(request: Request, data: bytes, sent: int) -> None:
    """The connection ends before the body does."""
    found = request.s3.find(request.object_path)
    assert found
    request.begin(200, {**request.describing(found), "Content-Length": str(len(data))})
    request.wfile.write(data[:sent])


def _without_length(request: Request, data: bytes, sent: int) -> None:
    """There is no Content-Length, so a cut looks like the end."""
    found = request.s3.find(request.object_path)
    assert found
    request.begin(200, request.describing(found))
    request.wfile.write(data[:sent])


def _in_chunks(request: Request, data: bytes, sent: int, *, ended: bool, length: bool) -> None:
    found = request.s3.find(request.object_path)
    assert found
    said = {"Content-Length": str(len(data))} if length else {}
    request.protocol_version = "HTTP/1.1"
    request.begin(200, {**request.describing(found), **said, "Transfer-Encoding": "chunked"})
    for start in range(0, sent, 1000):
        chunk = data[start : min(start + 1000, sent)]
        request.wfile.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
    if ended:
        request.wfile.write(b"0\r\n\r\n")


FRAMINGS: dict[str, Callable[[Request, bytes, int], None]] = {
    "with Content-Length": _with_length,
    "without Content-Length": _without_length,
    "in chunks": lambda request, data, sent: _in_chunks(request, data, sent, ended=False, length=False),
    "in chunks and a Content-Length": lambda request, data, sent: _in_chunks(
        request, data, sent, ended=False, length=True
    ),
    "in chunks, as if that were all": lambda request, data, sent: _in_chunks(
        request, data, sent, ended=True, length=True
    ),
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_a_truncated_body_is_never_taken_for_a_shorter_file(
    buckets: Buckets, campaign: Campaign, framing: str
) -> None:
    """Cut at a row boundary, where the part is a whole CSV, and within a row."""
    upload = made_upload("list.csv", rows=campaign.choose(7, 200), seed=campaign.seed)
    reference = buckets.drop(upload)
    boundaries = [at for at in range(1, len(upload.content)) if upload.content[at - 1 : at] == b"\n"]
    points = sorted({0, *boundaries, *(at + 1 for at in boundaries[::3]), *(at - 2 for at in boundaries[::4])})
    points = [at for at in points if at < len(upload.content)]
    with campaign.line(f"S3: body cut short, {framing}") as line:
        line.points = len(points)
        for sent in points:

            def cut(request: Request, sent: int = sent) -> bool:
                if request.command != "GET" or not request.object_path.startswith("inbox/"):
                    return False
                FRAMINGS[framing](request, upload.content, sent)
                return True

            buckets.s3.breaking = cut
            buckets.fail(reference, upload, line)
        buckets.merge(reference, upload)


def test_a_stalled_server_is_waited_for_up_to_the_time_limit(buckets: Buckets, campaign: Campaign) -> None:
    """It stalls before its answer, and at any place in the body."""
    upload = made_upload("list.csv", rows=200, seed=campaign.seed)
    reference = buckets.drop(upload)
    points = [None, *range(0, len(upload.content), len(upload.content) // campaign.choose(3, 40))]
    with campaign.line("S3: stalled") as line:
        line.points = len(points)
        for sent in points:

            def stall(request: Request, sent: int | None = sent) -> bool:
                if request.command != "GET":
                    return False
                if sent is not None:
                    _with_length(request, upload.content, sent)
                    request.wfile.flush()
                request.stall()
                return True

            buckets.s3.breaking = stall
            assert "time" in buckets.fail(reference, upload, line).lower()
        buckets.merge(reference, upload)


WHERE: dict[str, Callable[[Request], bool]] = {
    "the upload": lambda request: request.command == "GET" and request.object_path.startswith("inbox/"),
    "the rejected rows": lambda request: request.command == "PUT" and "/rejected-" in request.object_path,
    "the receipt": lambda request: request.command == "PUT" and request.object_path.endswith("receipt.json"),
}


@pytest.mark.parametrize("where", WHERE)
@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (403, "AccessDenied")])
def test_a_store_that_refuses_for_good_is_reported(
    buckets: Buckets, campaign: Campaign, where: str, status: int, code: str
) -> None:
    """Before the commit, nothing is registered. After it, everything is, and the redelivery stores the receipt."""
    upload = made_upload("list.csv", rows=40, seed=campaign.seed)
    reference = buckets.drop(upload)

    def refuse(request: Request) -> bool:
        if WHERE[where](request):
            request.refuse(status, code)
            return True
        return False

    with campaign.line(f"S3: {code} without end, for {where}") as line:
        line.points = 1
        for _ in range(campaign.choose(1, 10)):
            buckets.s3.breaking = refuse
            assert code in buckets.fail(reference, upload, line)
        registered = asked(buckets.oracle.database_url, "select count(*) from imports where in_force")
        assert registered == [(int(where == "the receipt"),)]
        buckets.merge(reference, upload)


@pytest.mark.parametrize("where", WHERE)
def test_a_store_that_is_busy_once_is_asked_again(buckets: Buckets, campaign: Campaign, where: str) -> None:
    """The client asks again in the same delivery."""
    with campaign.line(f"S3: SlowDown once, for {where}") as line:
        line.points = 1
        uploads = []
        for number in range(campaign.choose(1, 10)):
            upload = made_upload(f"{number}.csv", rows=40, seed=campaign.seed)
            uploads.append(upload)
            reference = buckets.drop(upload)
            left = [1]

            def refuse(request: Request, left: list[int] = left) -> bool:
                if left and WHERE[where](request):
                    left.pop()
                    request.refuse(503, "SlowDown")
                    return True
                return False

            buckets.s3.breaking = refuse
            receipt = buckets.deliver(reference, tries=2)
            assert (receipt.status, left) == (Status.PARTIALLY_LOADED, [])
            line.add(buckets.oracle.found(uploads))
        buckets.oracle.require_all_settled(uploads)


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "not versioned"])
@pytest.mark.parametrize("ignores", [False, True], ids=["", "conditions ignored"])
@pytest.mark.parametrize("when", ["before", "during"])
@pytest.mark.parametrize("what", ["overwritten", "deleted"])
def test_only_the_announced_version_is_imported(
    buckets: Buckets, campaign: Campaign, what: str, when: str, *, versioned: bool, ignores: bool
) -> None:
    """Also with a store that ignores the requested version and always returns the newest, as some do."""
    buckets.s3.versioned, buckets.s3.ignores_conditions = versioned, ignores
    first = made_upload("list.csv", rows=40, seed=campaign.seed)
    reference = buckets.drop(first)
    other = made_upload("list.csv", rows=30, seed=campaign.seed + 1)

    def change() -> None:
        if what == "deleted":
            buckets.s3.delete("inbox/list.csv")
        else:
            buckets.s3.put("inbox/list.csv", other.content)

    def change_midway(request: Request) -> bool:
        if not WHERE["the upload"](request):
            return False
        found = buckets.s3.find(request.object_path)
        assert found
        buckets.s3.breaking = lambda _: False
        request.begin(200, {**request.describing(found), "Content-Length": str(len(found.data))})
        request.wfile.write(found.data[:500])
        change()
        request.wfile.write(found.data[500:])
        return True

    if when == "before":
        change()
    else:
        buckets.s3.breaking = change_midway
    how = f"{what} {when} the read, {'' if versioned else 'not '}versioned{', conditions ignored' * ignores}"
    with campaign.line(f"S3: {how}") as line:
        line.points = 1
        receipt = buckets.deliver(reference)
        kept = versioned and not ignores and what == "overwritten"
        if when == "during" or kept:
            assert receipt.status is Status.PARTIALLY_LOADED
        else:
            gone = Code.SOURCE_GONE if what == "deleted" else Code.SOURCE_CHANGED
            assert (receipt.status, receipt.code) == (Status.SKIPPED, gone)
            assert asked(buckets.oracle.database_url, "select count(*) from imports") == [(0,)]
        line.add(buckets.oracle.found([first]))
        buckets.oracle.require_nothing_broken([first])


@pytest.mark.parametrize("size", [-1, 1, -40], ids=str)
def test_a_size_that_differs_from_the_body_is_an_error(buckets: Buckets, campaign: Campaign, size: int) -> None:
    """The announced size is larger or smaller."""
    upload = made_upload("list.csv", rows=40, seed=campaign.seed)
    reference = buckets.drop(upload)

    def lie(request: Request) -> bool:
        found = buckets.s3.find(request.object_path)
        if not found or not WHERE["the upload"](request):
            return False
        request.protocol_version = "HTTP/1.1"
        said = {"Content-Length": str(len(found.data) + size), "Transfer-Encoding": "chunked"}
        request.begin(200, {**request.describing(found), **said})
        request.wfile.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(found.data), found.data))
        return True

    with campaign.line(f"S3: a size of {size:+} bytes announced") as line:
        line.points = 1
        buckets.s3.breaking = lie
        buckets.fail(reference, upload, line)
        buckets.merge(reference, upload)


# Makes status, body and further headers from the object.
OtherBody = Callable[[bytes], tuple[int, bytes, dict[str, str]]]
OTHER_BODIES: dict[str, OtherBody] = {
    "a part, as such": lambda data: (206, data[:500], {"Content-Range": f"bytes 0-499/{len(data)}"}),
    "a part with status 206": lambda data: (206, data[:500], {}),
    "a part as the whole": lambda data: (200, data[: data.index(b"\n", 500) + 1], {}),
    "nothing": lambda _: (200, b"", {}),
    "more": lambda data: (200, data + data[data.index(b"\n") + 1 :], {}),
    "compressed": lambda data: (200, gzip.compress(data), {"Content-Encoding": "gzip"}),
}


@pytest.mark.parametrize("versioned", [True, False], ids=["versioned", "not versioned"])
def test_another_body_than_the_announced_one_is_not_imported(
    buckets: Buckets, campaign: Campaign, *, versioned: bool
) -> None:
    """The server only resembles S3, and its answer is valid HTTP."""
    buckets.s3.versioned = versioned
    upload = made_upload("list.csv", rows=40, seed=campaign.seed)
    reference = buckets.drop(upload)
    with campaign.line(f"S3: another body than announced, {'' if versioned else 'not '}versioned") as line:
        line.points = len(OTHER_BODIES)
        for other in OTHER_BODIES.values():

            def lie(request: Request, other: OtherBody = other) -> bool:
                found = buckets.s3.find(request.object_path)
                if not found or not WHERE["the upload"](request):
                    return False
                status, body, headers = other(found.data)
                request.answer(status, body, **request.describing(found), **headers)
                return True

            buckets.s3.breaking = lie
            buckets.fail(reference, upload, line)
        buckets.merge(reference, upload)


def test_a_body_that_differs_from_its_checksum_is_not_imported(buckets: Buckets, campaign: Campaign) -> None:
    """S3 keeps a checksum for each object that a newer client stored."""
    upload = made_upload("list.csv", rows=40, seed=campaign.seed)
    reference = buckets.drop(upload)

    def garble(request: Request) -> bool:
        found = buckets.s3.find(request.object_path)
        if not found or not WHERE["the upload"](request):
            return False
        body = found.data.replace(b"Japan", b"Jbpan")
        request.answer(200, body, **{**request.describing(found), "x-amz-checksum-crc32": "AAAAAA=="})
        return True

    with campaign.line("S3: a body that is not what its checksum says") as line:
        line.points = 1
        buckets.s3.breaking = garble
        assert "checksum" in buckets.fail(reference, upload, line)
        buckets.merge(reference, upload)
