"""S3 buckets as stores of uploads and reports."""

import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import takewhile
from typing import TYPE_CHECKING, BinaryIO, Never

import attrs
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rollcall.application.ports import (
    Listed,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectUnreadableError,
    StoredObject,
    StoreUnavailableError,
    raise_alone,
)
from rollcall.domain.upload import ObjectReference, Upload

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, ObjectVersionTypeDef

_READ_BYTES = 64 * 1024
# Amazon S3 user guide, "Naming Amazon S3 objects": of UTF-8, a prefix included.
_MAX_KEY_BYTES = 1024
# What goes in parts is held in memory, by default ten of them at once; what goes whole is read while it is sent.
_WHOLE_IF_POSSIBLE = TransferConfig(use_threads=False, multipart_threshold=1024**3)

# What S3 calls the one version of an object of a bucket without versions, or from before it had any.
_NO_VERSION = "null"

# MethodNotAllowed is what S3 says of a version that is a delete marker.
_NOT_FOUND = {"NoSuchKey", "NoSuchVersion", "NoSuchBucket", "404", "MethodNotAllowed"}
_NOT_AS_ANNOUNCED = {"PreconditionFailed", "412"}


# Amazon S3 API reference, "Error responses". Of an object under a customer's key (SSE-C) S3 says InvalidRequest.
_ARCHIVED = "InvalidObjectState"
_NEEDS_KEY = "InvalidRequest", "The object was stored using a form of Server Side Encryption"


@attrs.frozen
class _S3Object:
    upload: Upload
    address: str
    answer: "GetObjectOutputTypeDef"
    spool: BinaryIO

    def fetch(self, watch: Callable[[bytes], None]) -> BinaryIO:
        """Copy the body to this machine; S3 says how long it must be."""
        received = 0
        with _told_by(self.address):
            while data := self.answer["Body"].read(_READ_BYTES):
                watch(data)
                self.spool.write(data)
                received += len(data)
        if received != self.upload.size:
            raise StoreUnavailableError(
                self.address, f"only {received:,} of {self.upload.size:,} bytes came; try again"
            )
        self.spool.seek(0)
        return self.spool

    def verify(self) -> None:
        """Do nothing: the copy is ours alone."""


@attrs.frozen
class _UnreadableObject:
    """An object whose content S3 does not give."""

    upload: Upload
    reason: str

    def fetch(self, watch: Callable[[bytes], None]) -> Never:  # noqa: ARG002 - the port's
        """Raise why."""
        raise ObjectUnreadableError(self.reason)

    def verify(self) -> None:
        """Do nothing: nothing was read."""


class S3ObjectStore:
    """A bucket, or what lies below a prefix of one.

    Args:
        bucket: Its name.
        prefix: Stands before every key that is put or listed; a reference that names a bucket has its whole key.
        client: A client of S3, with its own timeouts and retries.
    """

    def __init__(self, bucket: str, prefix: str, client: "S3Client") -> None:
        self._bucket = bucket
        self._prefix = prefix
        self._client = client

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[StoredObject]:
        """Ask for an object; its body is read by `fetch`."""
        bucket = reference.bucket or self._bucket
        key = reference.key if reference.bucket else self._prefix + reference.key
        address = f"s3://{bucket}/{key}"
        wanted = {}
        if reference.version is not None:
            wanted["VersionId"] = reference.version
        if reference.etag is not None:
            wanted["IfMatch"] = reference.etag
        with _told_by(address):
            try:
                answer = self._client.get_object(Bucket=bucket, Key=key, **wanted)  # type: ignore[arg-type]  # all str
            except ClientError as error:
                if _code(error) in _NOT_FOUND:
                    raise ObjectNotFoundError(address) from error
                if _code(error) in _NOT_AS_ANNOUNCED:
                    raise ObjectChangedError(address) from error
                if not (reason := _why_unreadable(error)):
                    raise
                answer, unreadable = None, _UnreadableObject(self._find(bucket, key, reference).upload, reason)
        if not answer:
            yield unreadable
            return
        with answer["Body"], tempfile.TemporaryFile() as spool:
            if not answer.keys() >= {"ETag", "LastModified", "ContentLength"}:
                raise StoreUnavailableError(address, "what answered there is not S3")
            # Some stores give the newest whatever they are asked for. Without versions there is none, or "null".
            given = answer.get("VersionId") or "null", answer["ETag"]
            if reference.version not in {None, given[0]} or reference.etag not in {None, given[1]}:
                raise ObjectChangedError(address)
            upload = Upload(
                bucket=bucket,
                key=key,
                version=_version(answer.get("VersionId"), answer["ETag"], answer["LastModified"]),
                size=answer["ContentLength"],
                last_modified=answer["LastModified"],
            )
            yield _S3Object(upload, address, answer, spool)

    def fits(self, key: str) -> bool:
        """Return whether S3 takes a key of this length, with our prefix."""
        try:
            return 0 < len((self._prefix + key).encode()) <= _MAX_KEY_BYTES
        except UnicodeEncodeError:  # a lone surrogate
            return False

    def require_writable(self, key: str) -> None:
        """Do nothing: only a write tells whether S3 lets us."""

    def put(self, key: str, content: BinaryIO) -> str:
        """Upload an object; a large one goes in parts, and S3 makes it visible as a whole."""
        address = f"s3://{self._bucket}/{self._prefix}{key}"
        with _told_by(address):
            self._client.upload_fileobj(
                _Unclosed(content),  # type: ignore[arg-type]  # reading is all it does
                self._bucket,
                self._prefix + key,
                Config=_WHOLE_IF_POSSIBLE,
            )
        return address

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[Listed]:
        """Page through the versions of the bucket; without versioning S3 lists each object as version "null"."""
        address = f"s3://{self._bucket}/{self._prefix}{prefix}"
        start = {}
        if after:
            key = after.key if after.bucket else self._prefix + after.key
            start = {"KeyMarker": key, "VersionIdMarker": after.version or _NO_VERSION}
        pages = self._client.get_paginator("list_object_versions").paginate(
            Bucket=self._bucket,
            Prefix=self._prefix + prefix,
            **start,  # type: ignore[arg-type]  # all str
        )
        with _told_by(address):
            try:
                for page in pages:
                    for version in page.get("Versions", ()):
                        yield _listed(self._bucket, version)
            except ClientError as error:
                if after and _code(error) == "InvalidArgument":
                    raise ObjectNotFoundError(f"{address} after version {after.version} of {after.key}") from error
                raise

    def _find(self, bucket: str, key: str, reference: ObjectReference) -> Listed:
        """Find a version in the listing, which needs no key of the owner's.

        Raises:
            ObjectNotFoundError: It went since.
        """
        pages = self._client.get_paginator("list_object_versions").paginate(Bucket=bucket, Prefix=key)
        versions = (version for page in pages for version in page.get("Versions", ()))
        for version in takewhile(lambda version: version["Key"] == key, versions):
            wanted = (
                version["IsLatest"] if reference.version is None else version["VersionId"] == reference.version
            )
            if wanted and reference.etag in {None, version["ETag"]}:
                return _listed(bucket, version)
        raise ObjectNotFoundError(f"s3://{bucket}/{key}")


def client(owner: str | None = None) -> "S3Client":
    """Make a client that gives up in time: within seconds to connect, a minute in silence, and a few tries.

    Args:
        owner: The AWS account that has to own each bucket, or S3 refuses the request; None for any account.
    """
    made = Session().client(
        "s3",
        config=Config(connect_timeout=5, read_timeout=60, retries={"mode": "standard", "total_max_attempts": 4}),
    )
    if owner:
        made.meta.events.register(
            "before-parameter-build.s3", lambda params, **_: params.update(ExpectedBucketOwner=owner)
        )
    return made


class _Unclosed(io.BufferedIOBase):
    """Keeps boto3 from closing what it uploads, which is not its own."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def readable(self) -> bool:
        """Say so, or boto3 does not take it."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        return self._content.read(-1 if size is None else size)

    def seekable(self) -> bool:
        """Say so, or boto3 reads the whole of it first."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._content.seek(offset, whence)

    def tell(self) -> int:
        return self._content.tell()


def _listed(bucket: str, version: "ObjectVersionTypeDef") -> Listed:
    # Where it has a fraction of a second, a header such as `open` gets has none.
    last_modified = version["LastModified"].replace(microsecond=0)
    known = version["VersionId"] not in {_NO_VERSION, ""}
    return Listed(
        ObjectReference(
            bucket=bucket,
            key=version["Key"],
            # Without a name it is found only as long as no other version, and no deletion, came after it.
            version=version["VersionId"] if known or not version["IsLatest"] else None,
            etag=None if known else version["ETag"],
        ),
        Upload(
            bucket=bucket,
            key=version["Key"],
            version=_version(version["VersionId"], version["ETag"], last_modified),
            size=version["Size"],
            last_modified=last_modified,
        ),
    )


def _version(version_id: str | None, etag: str, last_modified: datetime) -> str:
    if version_id not in {None, _NO_VERSION}:
        return str(version_id)
    # ETags come in quotes, which are legal in no path.
    return f"{etag.strip(chr(34))}-{last_modified:%Y%m%dT%H%M%SZ}"


@contextmanager
def _told_by(address: str) -> Iterator[None]:
    """Turn boto3's errors into the port's."""
    try:
        yield
    except ClientError as error:
        raise StoreUnavailableError(address, f"S3 answered {_code(error) or 'an error'}") from error
    except UnicodeEncodeError as error:
        raise StoreUnavailableError(ascii(address), "this cannot be a key") from error
    except (BotoCoreError, Boto3Error) as error:
        # What was read of a body before it broke off is part of what broke.
        raise_alone(StoreUnavailableError(address, str(error)))


def _code(error: ClientError) -> str:
    return error.response.get("Error", {}).get("Code", "")


def _why_unreadable(error: ClientError) -> str | None:
    """Return why S3 gives the content only after another request by the owner; None if that is not the matter."""
    code, message = _code(error), error.response.get("Error", {}).get("Message", "")
    if code == _ARCHIVED:
        return "the upload is archived in S3; restore it, or upload it again to a class that can be read at once"
    if code == _NEEDS_KEY[0] and message.startswith(_NEEDS_KEY[1]):
        return (
            "the upload is encrypted with a key that S3 does not keep; upload it again without a key of your own"
        )
    return None
