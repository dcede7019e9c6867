"""S3 buckets as stores of uploads and reports."""

import io
import re
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import takewhile
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Never, NoReturn
from urllib.parse import quote

import attrs
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from rollcall.application.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectUnreadableError,
    StoreUnavailableError,
    raise_without_context,
)
from rollcall.application.forms import CONTENT_TYPE, LEAST_BYTES, SUCCESS_STATUS
from rollcall.application.ports import ObjectReader, StoredObject
from rollcall.application.values import ListedObject, SignedForm
from rollcall.domain.upload import ObjectReference, Upload, owner_in

if TYPE_CHECKING:
    from botocore.awsrequest import AWSResponse
    from botocore.model import OperationModel
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectVersionTypeDef

_READ_BYTES = 64 * 1024
# Amazon S3 user guide, "Naming Amazon S3 objects": the length in UTF-8, including a prefix.
_MAX_KEY_BYTES = 1024
# boto3 holds the parts of a multipart upload in memory, by default ten at once; a single upload is streamed.
_WHOLE_IF_POSSIBLE = TransferConfig(use_threads=False, multipart_threshold=1024**3)

# A browser shows these by their name in a folder, and by these headers from S3.
_SHOWN_BY_BROWSERS = {
    ".html": {"ContentType": "text/html; charset=utf-8", "ContentDisposition": "inline"},
    ".json": {"ContentType": "application/json", "ContentDisposition": "inline"},
}

# S3's version id of an object that was stored while its bucket had no versioning.
_NO_VERSION = "null"

# S3 answers MethodNotAllowed if the version is a delete marker.
_NOT_FOUND = {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404", "MethodNotAllowed"}
_NOT_AS_ANNOUNCED = {"PreconditionFailed", "412"}


# A field that every successful answer of S3 has (Amazon S3 API reference, "Response Syntax" of each operation).
_ALWAYS_ANSWERED = {
    "ListObjectVersions": "IsTruncated",
    "PutObject": "ETag",
    "CreateMultipartUpload": "UploadId",
    "UploadPart": "ETag",
    "CompleteMultipartUpload": "ETag",
    "CopyObject": "CopyObjectResult",
}
_OBJECT_HEADERS = {"ETag", "Last-Modified", "Content-Length"}
_USED_HEADERS = {name.lower() for name in _OBJECT_HEADERS} | {"x-amz-version-id", "content-range"}
_OK, _PART, _FIRST_ERROR = 200, 206, 300
_BEYOND_THE_END = "InvalidRange"

# Amazon S3 user guide, "Working with version IDs": at most 1,024 bytes, fit for a URL.
_VERSION_ID = re.compile("[!-~]{1,1024}")
# RFC 9110, "ETag", without its quotes. A weak ETag (W/) does not match: the bytes may differ under it.
_ETAG = re.compile("[!#-~]{1,1024}")
_SIZE = re.compile("[0-9]{1,19}")
_MAX_SIZE = 2**63 - 1  # the ledger's largest number
# S3 is younger than 1970. Python's first and last years overflow when they are converted to other time zones.
_YEARS = range(1970, 9999)

# A read that is slower than this for a minute is given up.
_MIN_BYTES_PER_SECOND = 10_000
_SLOW_SECONDS = 60

# Amazon S3 API reference, "Error responses". For an object under a customer's key (SSE-C), it is InvalidRequest.
_ARCHIVED = "InvalidObjectState"
_NEEDS_KEY = "InvalidRequest", "The object was stored using a form of Server Side Encryption"


class _UnlikeS3Error(BotoCoreError):
    """A server's answer is not one that S3 gives."""

    fmt = "the server did not answer like S3: {what}; try again"


class _NoRegionError(BotoCoreError):
    """A redirect does not lead to the bucket."""

    fmt = "S3 redirects without naming the bucket's region; set the region of the bucket and try again"


@attrs.define
class Pace:
    """The pace at which a server sends, to stop waiting for a slow one.

    Only the time spent waiting for the server counts, so that a slow local disk does not matter.
    """

    _seconds: float = 0.0
    _received: int = 0

    def is_too_slow(self, seconds: float, received: int) -> bool:
        """Add one read, and return whether the server sent less than 10 kB/s over the last 60 s or more.

        Args:
            seconds: The seconds spent waiting for the server.
            received: The number of bytes received.
        """
        self._seconds += seconds
        self._received += received
        if self._seconds < _SLOW_SECONDS:
            return False
        too_slow = self._received < _MIN_BYTES_PER_SECOND * self._seconds
        self._seconds, self._received = 0.0, 0
        return too_slow


@attrs.frozen
class _S3Object:
    upload: Upload
    address: str
    answer: "GetObjectOutputTypeDef"
    spool: BinaryIO
    clock: Callable[[], float]

    def read(self) -> Iterator[bytes]:
        """Copy the body to the spool, and check its length against the size that S3 announced."""
        received = 0
        for data in _pieces(self.answer, self.address, self.clock):
            self.spool.write(data)
            received += len(data)
            yield data
        if received != self.upload.size:
            raise StoreUnavailableError(
                self.address, f"only {received:,} of {self.upload.size:,} bytes came; try again"
            )

    def reread(self) -> BinaryIO:
        self.spool.seek(0)
        return self.spool

    def verify(self) -> None:
        """Do nothing: no other program can change the copy."""


def _pieces(answer: "GetObjectOutputTypeDef", address: str, clock: Callable[[], float]) -> Iterator[bytes]:
    """Read the body of an answer in pieces.

    Raises:
        StoreUnavailableError: The server failed, or is too slow.
    """
    pace = Pace()
    while True:
        asked = clock()
        with _translated_errors(address):
            data = answer["Body"].read(_READ_BYTES)
        if not data:
            return
        if pace.is_too_slow(clock() - asked, len(data)):
            raise StoreUnavailableError(
                address, f"less than {_MIN_BYTES_PER_SECOND // 1000} kB/s came over {_SLOW_SECONDS} s; try again"
            )
        yield data


@attrs.frozen
class _UnreadableObject:
    """An object whose content S3 does not give."""

    upload: Upload
    reason: str

    def read(self) -> Never:
        """Raise the reason.

        Raises:
            ObjectUnreadableError: Always.
        """
        raise ObjectUnreadableError(self.reason)

    def reread(self) -> Never:
        """Raise the reason.

        Raises:
            ObjectUnreadableError: Always.
        """
        raise ObjectUnreadableError(self.reason)

    def verify(self) -> None:
        """Do nothing: nothing was read."""


class S3ObjectStore:
    """A bucket, or the part of a bucket below a prefix.

    Args:
        bucket: The bucket's name.
        prefix: The beginning of every key that is put or listed. A reference with a bucket has the whole key.
        client: A client of S3, with its own timeouts and retries.
        clock: Returns seconds that never go back, to measure the pace of a read.
    """

    def __init__(
        self,
        bucket: str,
        prefix: str,
        client: "S3Client",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._client = client
        self._clock = clock
        # The unique_id registers each check only once, because several stores share a client.
        for event, check in _CHECKS.items():
            client.meta.events.register(event, check, unique_id=f"rollcall-{event}")

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[StoredObject]:
        """Request an object; `read` reads its body."""
        bucket = reference.bucket or self._bucket
        key = reference.key if reference.bucket else self._prefix + reference.key
        address = f"s3://{bucket}/{key}"
        wanted = {}
        if reference.version is not None:
            wanted["VersionId"] = reference.version
        if reference.etag is not None:
            wanted["IfMatch"] = reference.etag
        answer, refusal, unreadable = None, None, ""
        with _translated_errors(address):
            try:
                answer = self._client.get_object(Bucket=bucket, Key=key, **wanted)  # type: ignore[arg-type]  # all str
            except ClientError as error:
                refusal, unreadable = error, _why_unreadable(error)
                if _code(error) not in _NOT_FOUND | _NOT_AS_ANNOUNCED and not unreadable:
                    raise
        if refusal and _code(refusal) in _NOT_FOUND:
            raise ObjectNotFoundError(address) from refusal
        if refusal and _code(refusal) in _NOT_AS_ANNOUNCED:
            raise ObjectChangedError(address) from refusal
        if not answer:
            upload = self._find(bucket, key, reference).upload
            yield _UnreadableObject(self._announced(upload, reference), unreadable)
            return
        with answer["Body"] as response, tempfile.TemporaryFile() as spool:
            # `read` would wait until all requested bytes have arrived, even from a very slow server.
            response.read = response.read1  # type: ignore[attr-defined, method-assign]  # of urllib3
            version, etag = answer.get("VersionId") or _NO_VERSION, answer["ETag"]
            with _translated_errors(address):
                _require_whole(answer)
                upload = _upload(bucket, key, version, etag, answer["ContentLength"], answer["LastModified"])
            # Some stores ignore the requested version and give the newest. Without versioning, the version is
            # missing or "null".
            if reference.version not in {None, version} or not _is_etag(reference.etag, etag):
                raise ObjectChangedError(address)
            if reference.size not in {None, upload.size}:
                # One version or ETag has one size, so a component between S3 and this machine is faulty.
                raise StoreUnavailableError(
                    address, f"{reference.size:,} bytes were announced, but S3 gives {upload.size:,}; try again"
                )
            upload = self._announced(upload, reference)
            yield _S3Object(upload, address, answer, spool, self._clock)

    def fits(self, key: str) -> bool:
        """Return whether S3 takes a key of this length, including the prefix."""
        try:
            return 0 < len((self._prefix + key).encode()) <= _MAX_KEY_BYTES
        except UnicodeEncodeError:  # a lone surrogate
            return False

    def require_writable(self, key: str) -> None:
        """Do nothing: only a write shows whether S3 allows one."""

    def put(self, key: str, content: BinaryIO) -> str:
        """Upload an object, a large one in parts. S3 makes it visible as a whole."""
        address = f"s3://{self._bucket}/{self._prefix}{key}"
        with _translated_errors(address):
            self._client.upload_fileobj(
                _Unclosed(content),  # type: ignore[arg-type]  # reading is all it does
                self._bucket,
                self._prefix + key,
                ExtraArgs=_SHOWN_BY_BROWSERS.get(PurePosixPath(key).suffix),
                Config=_WHOLE_IF_POSSIBLE,
            )
        return address

    def place(self, key: str) -> ObjectReference:
        return ObjectReference(bucket=self._bucket, key=self._prefix + key)

    def create(self, key: str, content: BinaryIO) -> None:
        """Upload an object with `If-None-Match: *`, in one piece."""
        with self._unless_existing(key):
            self._client.put_object(
                Bucket=self._bucket, Key=self._prefix + key, Body=content.read(), IfNoneMatch="*"
            )

    def copy(self, _source: ObjectReader, version: ListedObject, key: str) -> None:
        """Let S3 copy the version with `If-None-Match: *`. It copies at most 5 GiB in one request."""
        reference = version.reference
        address = f"s3://{reference.bucket}/{reference.key}"
        source: Any = {"Bucket": reference.bucket, "Key": reference.key}
        state: Any = {}
        if reference.version is not None:
            source["VersionId"] = reference.version
        if reference.etag is not None:
            state["CopySourceIfMatch"] = reference.etag
        refusal = None
        with self._unless_existing(key):
            try:
                self._client.copy_object(
                    Bucket=self._bucket,
                    Key=self._prefix + key,
                    CopySource=source,
                    IfNoneMatch="*",
                    # The original's own metadata says nothing about the copy.
                    MetadataDirective="REPLACE",
                    ContentType=CONTENT_TYPE,
                    **state,
                )
            except ClientError as error:
                if _code(error) not in _NOT_FOUND:
                    raise
                refusal = error
        if refusal:
            raise ObjectNotFoundError(address) from refusal

    @contextmanager
    def _unless_existing(self, key: str) -> Iterator[None]:
        """Translate errors of a conditional write, and do nothing if the object exists.

        Raises:
            ObjectChangedError: A precondition failed, and not because the object exists.
            StoreUnavailableError: S3 failed, or another write of the key is not finished.
        """
        address = f"s3://{self._bucket}/{self._prefix}{key}"
        refusal = None
        with _translated_errors(address):
            try:
                yield
            except ClientError as error:
                if _code(error) not in _NOT_AS_ANNOUNCED:
                    raise
                refusal = error
        if refusal and not self._exists(key):
            raise ObjectChangedError(address) from refusal

    def _exists(self, key: str) -> bool:
        with _translated_errors(f"s3://{self._bucket}/{self._prefix}{key}"):
            try:
                self._client.head_object(Bucket=self._bucket, Key=self._prefix + key)
            except ClientError as error:
                if _code(error) not in _NOT_FOUND:
                    raise
                return False
            return True

    def sign(self, key: str, *, max_bytes: int, expires: datetime) -> SignedForm:
        """Sign a POST policy. It has no ACL, so S3 refuses a form with one."""
        fixed = {"Content-Type": CONTENT_TYPE, "success_action_status": SUCCESS_STATUS}
        with _translated_errors(f"s3://{self._bucket}/{self._prefix}"):
            signed = self._client.generate_presigned_post(
                self._bucket,
                self._prefix + key,
                Fields=dict(fixed),
                Conditions=[
                    *({name: value} for name, value in fixed.items()),
                    ["content-length-range", LEAST_BYTES, max_bytes],
                ],
                ExpiresIn=max(1, int((expires - datetime.now(UTC)).total_seconds())),
            )
        return SignedForm(url=signed["url"], fields=signed["fields"])

    def link(self, key: str, *, seconds: int) -> str:
        """Sign a GET whose answer a browser stores as a file."""
        name = quote(key.rpartition("/")[2], safe="")
        with _translated_errors(f"s3://{self._bucket}/{self._prefix}{key}"):
            return self._client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._prefix + key,
                    "ResponseContentDisposition": f"attachment; filename*=UTF-8''{name}",
                    "ResponseContentType": CONTENT_TYPE,
                },
                ExpiresIn=seconds,
            )

    def read(self, key: str, start: int, length: int) -> bytes:
        """Request a range of an object."""
        address = f"s3://{self._bucket}/{self._prefix}{key}"
        answer, refusal = None, None
        with _translated_errors(address):
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=self._prefix + key, Range=f"bytes={start}-{start + length - 1}"
                )
            except ClientError as error:
                if _code(error) == _BEYOND_THE_END:
                    return b""
                if _code(error) not in _NOT_FOUND:
                    raise
                refusal = error
        if not answer:
            raise ObjectNotFoundError(address) from refusal
        with answer["Body"] as response:
            response.read = response.read1  # type: ignore[attr-defined, method-assign]  # as in `open`
            with _translated_errors(address):
                if not answer.get("ContentRange", "").startswith(f"bytes {start}-"):
                    raise _UnlikeS3Error(what="it did not give the part of the object that was asked for")
            data = b"".join(_pieces(answer, address, self._clock))
        if len(data) != answer["ContentLength"]:
            raise StoreUnavailableError(address, "only a part came of what was asked for; try again")
        return data

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        """Page through the versions of the bucket; without versioning S3 lists each object as version "null"."""
        address = f"s3://{self._bucket}/{self._prefix}{prefix}"
        start = {}
        if after:
            key = after.key if after.bucket else self._prefix + after.key
            start = {"KeyMarker": key, "VersionIdMarker": after.version or _NO_VERSION}
        try:
            for version in self._versions(self._bucket, self._prefix + prefix, start):
                with _translated_errors(address):
                    listed = _listed(self._bucket, version)
                yield attrs.evolve(listed, upload=self._announced(listed.upload, listed.reference))
        except StoreUnavailableError as error:
            refusal = error.__cause__
            if after and isinstance(refusal, ClientError) and _code(refusal) == "InvalidArgument":
                raise ObjectNotFoundError(f"{address} after version {after.version} of {after.key}") from error
            raise

    def _versions(self, bucket: str, prefix: str, start: Mapping[str, str]) -> Iterator["ObjectVersionTypeDef"]:
        """Yield every version of a listing, page by page, and check that the keys are in order and do not repeat.

        Raises:
            StoreUnavailableError: The listing breaks off, repeats itself or has keys out of place; or the store
                could not be reached.
        """
        address = f"s3://{bucket}/{prefix}"
        paginator = self._client.get_paginator("list_object_versions")
        pages = iter(paginator.paginate(Bucket=bucket, Prefix=prefix, **start))  # type: ignore[arg-type]  # all str
        last, seen = b"", set[str]()
        while True:
            with _translated_errors(address):
                if not (page := next(pages, None)):
                    return
                versions = page.get("Versions", [])
                keys = [version["Key"] for version in versions]
                next_key, next_version = page.get("NextKeyMarker"), page.get("NextVersionIdMarker", "")
                if page["IsTruncated"]:
                    if not next_key:
                        raise _UnlikeS3Error(what="its listing breaks off")
                    keys.append(next_key)
                for key in keys:
                    place = key.encode()
                    if place < last or not key.startswith(prefix):
                        raise _UnlikeS3Error(what="its listing has a key out of place")
                    if place > last:
                        last, seen = place, set()
                if page["IsTruncated"] and next_version in seen:
                    raise _UnlikeS3Error(what="its listing does not go on")
                seen.add(next_version)
            yield from versions

    def _announced(self, upload: Upload, reference: ObjectReference) -> Upload:
        """Return an upload with what its reference and its key say about it."""
        owned_by = owner_in(upload.bucket, upload.key.removeprefix(self._prefix))
        return attrs.evolve(upload, sequencer=reference.sequencer, owned_by=owned_by)

    def _find(self, bucket: str, key: str, reference: ObjectReference) -> ListedObject:
        """Return a version from the listing, for which S3 needs no encryption key of the owner.

        Raises:
            ObjectNotFoundError: The version no longer exists.
            StoreUnavailableError: The store could not be reached.
        """
        versions = takewhile(lambda version: version["Key"] == key, self._versions(bucket, key, {}))
        for version in versions:
            with _translated_errors(f"s3://{bucket}/{key}"):
                wanted = (
                    version["IsLatest"] if reference.version is None else version["VersionId"] == reference.version
                )
                if wanted and _is_etag(reference.etag, version["ETag"]):
                    return _listed(bucket, version)
        raise ObjectNotFoundError(f"s3://{bucket}/{key}")


def client(owner: str | None = None) -> "S3Client":
    """Return a client of S3 with limits: 5 s to connect, 60 s without an answer, 4 tries.

    Args:
        owner: The AWS account that has to own each bucket, otherwise S3 refuses the request; None for any account.
    """
    made = Session().client(
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=60,
            retries={"mode": "standard", "total_max_attempts": 4},
            signature_version="s3v4",  # otherwise boto3 signs forms and addresses as before 2014
        ),
    )

    def require_owner(
        params: dict[str, Any], model: "OperationModel", context: Mapping[str, Any], **_: object
    ) -> None:
        # A browser would not send the header that this adds to an address.
        if not context.get("is_presign_request"):
            params["ExpectedBucketOwner"] = owner
            if model.name == "CopyObject":
                params["ExpectedSourceBucketOwner"] = owner

    def sign_for_region(context: dict[str, Any], **_: object) -> None:
        # boto3 would sign for an address of all regions. A new bucket redirects from there, which a page may not
        # follow, and the signature of a download does not fit where that leads.
        context["use_global_endpoint"] = False

    made.meta.events.register_first("before-endpoint-resolution.s3", sign_for_region)
    if owner:
        made.meta.events.register("before-parameter-build.s3", require_owner)
    return made


class _Unclosed(io.BufferedIOBase):
    """A stream that boto3 cannot close, because its caller owns it."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def readable(self) -> bool:
        """Return True, otherwise boto3 does not take the stream."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._content.read(-1 if size is None else size)

    def seekable(self) -> bool:
        """Return True, otherwise boto3 reads the whole stream first."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()


def _listed(bucket: str, version: "ObjectVersionTypeDef") -> ListedObject:
    # A listing may have fractions of a second; the header that `open` reads has none.
    last_modified = version["LastModified"].replace(microsecond=0)
    version_id = version["VersionId"] or _NO_VERSION
    known = version_id != _NO_VERSION
    upload = _upload(bucket, version["Key"], version_id, version["ETag"], version["Size"], last_modified)
    return ListedObject(
        ObjectReference(
            bucket=bucket,
            key=upload.key,
            # Without a version id, it is found only until another version or a deletion follows it.
            version=version_id if known or not version["IsLatest"] else None,
            etag=None if known else version["ETag"],
        ),
        upload,
    )


def _upload(bucket: str, key: str, version_id: str, etag: str, size: int, last_modified: datetime) -> Upload:
    """Return the upload that S3 describes.

    Raises:
        _UnlikeS3Error: A value is malformed or impossible.
    """
    if not _VERSION_ID.fullmatch(version_id):
        raise _UnlikeS3Error(what="the version id is malformed")
    tag = _bare(etag)
    if not _ETAG.fullmatch(tag):
        raise _UnlikeS3Error(what="the ETag is malformed")
    if not 0 <= size <= _MAX_SIZE:
        raise _UnlikeS3Error(what="the size is impossible")
    if last_modified.tzinfo is None or last_modified.year not in _YEARS:
        raise _UnlikeS3Error(what="the time of the last change is impossible")
    return Upload(
        bucket=bucket,
        key=key,
        # Without its quotes, because the version becomes part of paths.
        version=f"{tag}-{last_modified:%Y%m%dT%H%M%SZ}" if version_id == _NO_VERSION else version_id,
        size=size,
        last_modified=last_modified,
    )


def _require_whole(answer: "GetObjectOutputTypeDef") -> None:
    """Check that an answer has a whole object.

    Raises:
        _UnlikeS3Error: It has a part.
    """
    if "ContentRange" in answer:
        raise _UnlikeS3Error(what="it gave a part of the object where the whole was asked for")


def _is_etag(wanted: str | None, given: str) -> bool:
    return wanted is None or _bare(wanted) == _bare(given)


def _bare(etag: str) -> str:
    """Return an ETag without quotes; not every server writes them."""
    return etag[1:-1] if len(etag) > 1 and etag[0] == etag[-1] == '"' else etag


def _check_object(response_dict: dict[str, Any], **_: object) -> None:
    """Check that S3 answers with an object or a part of it, before botocore parses the headers.

    If botocore cannot parse the headers, it does not close the body. Unused headers are removed, so that malformed
    ones do no harm.

    Raises:
        _UnlikeS3Error: The answer lacks a header, or has a malformed one.
    """
    status, headers = response_dict["status_code"], response_dict["headers"]
    if status >= _FIRST_ERROR:
        return
    fault = None
    if status != _OK and (status != _PART or "Content-Range" not in headers):
        fault = f"it answered with status {status}, not {_OK}"
    elif missing := sorted(name for name in _OBJECT_HEADERS if name not in headers):
        fault = f"its answer has no {' and no '.join(missing)}"
    elif not _SIZE.fullmatch(headers["Content-Length"]):
        fault = "the Content-Length is malformed"
    elif not _is_time(headers["Last-Modified"]):
        fault = "the Last-Modified is malformed"
    if fault:
        response_dict["body"].close()
        raise _UnlikeS3Error(what=fault)
    for name in [name for name in headers if name.lower() not in _USED_HEADERS]:
        del headers[name]


def _is_time(text: str) -> bool:
    try:
        return parsedate_to_datetime(text).year in _YEARS
    except ValueError:
        return False


def _check_answer(
    http_response: "AWSResponse", parsed: Mapping[str, Any], model: "OperationModel", **_: object
) -> None:
    """Check that a successful answer has the field that S3 always gives.

    Raises:
        _UnlikeS3Error: The field is missing.
    """
    wanted = _ALWAYS_ANSWERED.get(model.name)
    if wanted and http_response.status_code < _FIRST_ERROR and wanted not in parsed:
        raise _UnlikeS3Error(what=f"its answer has no {wanted}")


def _give_up_redirect(**_: object) -> NoReturn:
    """Stop botocore from asking for a bucket's region after a redirect that does not name it: it would never end.

    Raises:
        _NoRegionError: Always.
    """
    raise _NoRegionError


_CHECKS: dict[str, Callable[..., None]] = {
    "before-parse.s3.GetObject": _check_object,
    "after-call.s3": _check_answer,
    "before-call.s3.HeadBucket": _give_up_redirect,
}


@contextmanager
def _translated_errors(address: str) -> Iterator[None]:
    """Translate boto3's errors into the port's."""
    try:
        yield
    except ClientError as error:
        raise StoreUnavailableError(address, f"S3 answered {_code(error) or 'an error'}") from error
    except UnicodeEncodeError as error:
        raise StoreUnavailableError(ascii(address), "this cannot be a key") from error
    except (BotoCoreError, Boto3Error) as error:
        # The cause may contain the part of the body that was read before it broke off.
        raise_without_context(StoreUnavailableError(address, str(error)))
    except (ResponseParserError, ValueError, LookupError, RuntimeError) as error:
        # botocore raises these for an answer that it cannot parse; their texts show parts of it.
        unreadable = _UnlikeS3Error(what=f"its answer is malformed ({type(error).__name__})")
        raise_without_context(StoreUnavailableError(address, str(unreadable)))


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _why_unreadable(error: ClientError) -> str:
    """Return why S3 gives the content only after another request by its owner; "" for any other error."""
    code, message = _code(error), error.response.get("Error", {}).get("Message", "")
    if code == _ARCHIVED:
        return "the upload is archived in S3; restore it, or upload it again to a class that can be read at once"
    if code == _NEEDS_KEY[0] and message.startswith(_NEEDS_KEY[1]):
        return (
            "the upload is encrypted with a key that S3 does not keep; upload it again without a key of your own"
        )
    return ""
