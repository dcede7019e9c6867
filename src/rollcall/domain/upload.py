"""Uploads, and the identity by which the same upload is recognised again."""

import hashlib
import json
import math
import re
from datetime import UTC, datetime

import attrs

# The bucket of every file of this machine. The key of such a file is its absolute path.
LOCAL_BUCKET = "file:"
# The bucket of every user that a request of the Web API registers. The key of such a request is `request_key`.
API_BUCKET = "api:"

# The folder of the page's uploads, see `web_key`. Only the Web API can write below it.
WEB_FOLDER = "web/"
_web_key = re.compile(
    WEB_FOLDER + r"(?P<owner>[0-9a-f]{64})/(?P<upload>[0-9a-f]{40})(?P<as_new>-new)?/(?P<name>[^/]+)"
)
_web_key_below = re.compile(rf"(?:\A|/){_web_key.pattern}\Z")
WEB_UPLOAD_ID = "[0-9a-f]{64}-[0-9a-f]{40}"
_TIME_DIGITS = 8
_request_key = re.compile(r"(?P<owner>[0-9a-f]{64})/.+", re.DOTALL)

# In text, a byte that is not UTF-8 is written as `\xe9`. A backslash that could begin such an escape is `\x5c`.
_escaped = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")
_looks_escaped = re.compile(rb"\\(?=x(?:[89a-f][0-9a-f]|5c))")


@attrs.frozen(kw_only=True)
class ObjectReference:
    """A reference to an upload, by a notification or a person. The object need not exist.

    Attributes:
        bucket: The bucket's name; empty for the store's own bucket.
        key: The object key, decoded.
        version: The version; None for the newest.
        etag: The announced ETag, for a bucket without versions; None if no ETag was announced.
        sequencer: See `Upload`. Only given with a version id; None if a person names the key.
        size: The announced size in bytes, with a version or an ETag; None if no size was announced. A store that
            gives another size for the same state is wrong.
    """

    bucket: str = ""
    key: str
    version: str | None = None
    etag: str | None = None
    sequencer: str | None = attrs.field(default=None, eq=False)
    size: int | None = attrs.field(default=None, eq=False)

    @property
    def announced(self) -> bool:
        """Whether a notification named exactly this state of the object; a person only names the key."""
        return self.version is not None or self.etag is not None

    @property
    def identity(self) -> str | None:
        """The identity of the upload, see `Upload.identity`; None if only the store can determine it."""
        has_version_id = self.version is not None and self.etag is None
        return _digest(self.bucket, self.key, self.version) if has_version_id else None


@attrs.frozen(kw_only=True)
class Upload:
    """One version of one object, as the store describes it.

    Attributes:
        bucket: The bucket's name, or "file:" for a file of this machine.
        key: The object key, or the absolute path.
        version: The version id; without versioning, the ETag and Last-Modified; None for a local file until its
            content is known (see `with_content`).
        size: The stored size in bytes.
        last_modified: When the store received the object; S3 gives whole seconds. Orders versions where there is
            no sequencer.
        sequencer: The hexadecimal number by which S3 orders the events on one key; None if no event announced the
            upload, or the event had no sequencer.
        owned_by: The uploader, see `owner`; None if the upload belongs to the operators.
    """

    bucket: str
    key: str
    version: str | None
    size: int
    last_modified: datetime
    sequencer: str | None = attrs.field(default=None, eq=False)
    owned_by: str | None = attrs.field(default=None, eq=False)

    def with_content(self, sha256: str) -> "Upload":
        """Return the upload with its content's SHA-256 as version, if the store gave it no version.

        Args:
            sha256: The hexadecimal SHA-256 of the content.
        """
        return self if self.version is not None else attrs.evolve(self, version=sha256)

    @property
    def identity(self) -> str:
        """The hexadecimal SHA-256 of bucket, key and version: equal for every delivery of the same upload."""
        return _digest(self.bucket, self.key, self.version)

    @property
    def key_identity(self) -> str:
        """The hexadecimal SHA-256 of bucket and key: equal for every version of the same key.

        Each upload of the page has a key of its own. There, the uploader and the file's name take its place,
        unless the upload is registered as a new list.
        """
        found = self.owned_by and _web_key.search(self.key)
        if not found or found["as_new"]:
            return _digest(self.bucket, self.key)
        return _digest(self.bucket, f"{self.key[: found.start('upload')]}{found['name']}")

    @property
    def is_request(self) -> bool:
        """Whether the upload is one user that a request of the Web API registers."""
        return self.bucket == API_BUCKET


def is_earlier(sequencer: str, than: str) -> bool:
    """Return whether an event came before another on the same key, by their sequencers.

    The rule is in the Amazon S3 user guide, "Event message structure".
    """
    digits = max(len(sequencer), len(than))
    return sequencer.upper().ljust(digits, "0") < than.upper().ljust(digits, "0")


def owner(caller: str) -> str:
    """Return the name of an uploader in keys and in the ledger: the hexadecimal SHA-256 of the caller."""
    return _digest(caller)


def web_key(owner: str, upload: str, name: str, *, as_new: bool = False) -> str:
    """Return the key of an upload of the page.

    Args:
        owner: See `owner`.
        upload: See `WebUpload.token`.
        name: The file's name; `/` and control characters in it are replaced.
        as_new: Whether it is a new list, also if the uploader already registered a file of that name.
    """
    cleaned = re.sub(r"[/\x00-\x1f\x7f-\x9f\ud800-\udfff]", "_", name) or "_"
    return f"{WEB_FOLDER}{owner}/{upload}{'-new' if as_new else ''}/{cleaned}"


def request_key(owner: str, idempotency_key: str) -> str:
    """Return the key of a user that a request registers: two different pairs never give the same key."""
    return f"{owner}/{idempotency_key}"


def owner_in(bucket: str, key: str) -> str | None:
    """Return the uploader that a key names.

    Args:
        bucket: The bucket, or `API_BUCKET`.
        key: The key below the root of the store of uploads, where only the Web API can write such keys.
    """
    found = (_request_key if bucket == API_BUCKET else _web_key).fullmatch(key)
    return found["owner"] if found else None


@attrs.frozen
class WebUpload:
    """An upload of the page, before and after it is registered.

    Attributes:
        owner: See `owner`.
        token: The time until which its file is awaited, in seconds since 1970 as 8 hexadecimal digits; then 128
            bits that nobody can guess, as 32.
    """

    owner: str
    token: str

    @classmethod
    def started(cls, owner: str, random: str, *, until: datetime) -> "WebUpload":
        """Return a new upload, whose file is awaited.

        Args:
            owner: See `owner`.
            random: 128 random bits as 32 hexadecimal digits.
            until: The time from which its form is refused.
        """
        return cls(owner, f"{math.ceil(until.timestamp()):0{_TIME_DIGITS}x}{random}")

    @classmethod
    def written(cls, owner: str, digest: str) -> "WebUpload":
        """Return an upload whose file the server writes, so that nothing is awaited.

        Args:
            owner: See `owner`.
            digest: 128 bits of a hash as 32 hexadecimal digits.
        """
        return cls(owner, f"{0:0{_TIME_DIGITS}x}{digest}")

    @classmethod
    def parse(cls, upload_id: str) -> "WebUpload":
        """Return the upload with an id that matches `WEB_UPLOAD_ID`."""
        return cls(*upload_id.split("-"))

    @classmethod
    def of_key(cls, key: str) -> "WebUpload | None":
        """Return the upload whose key a key is, also below a prefix; None for other keys."""
        found = _web_key_below.search(key)
        return cls(found["owner"], found["upload"]) if found else None

    @property
    def id(self) -> str:
        """Its id in the Web API."""
        return f"{self.owner}-{self.token}"

    @property
    def awaited_until(self) -> datetime:
        """The time from which its form is refused."""
        return datetime.fromtimestamp(int(self.token[:_TIME_DIGITS], 16), UTC)

    @property
    def prefix(self) -> str:
        """The beginning of its keys, in the inbox and in the store of uploads."""
        return f"{WEB_FOLDER}{self.owner}/{self.token}"

    def key(self, name: str, *, as_new: bool = False) -> str:
        """Return the key; see `web_key`."""
        return web_key(self.owner, self.token, name, as_new=as_new)


def path_text(path: bytes) -> str:
    """Return any path as text that can be shown and stored; `local_key` is the inverse."""
    return _looks_escaped.sub(rb"\\x5c", path).decode("utf-8", "backslashreplace")


def local_key(text: str) -> str:
    """Return the key of a local file from the text of its path: surrogates stand for bytes that are not UTF-8."""
    path = _escaped.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("utf-8", "surrogatepass"))
    return path.decode("utf-8", "surrogateescape")


def is_folder(key: str, size: int | None) -> bool:
    """Return whether an object only represents a folder, as consoles create it: an empty object named `x/`."""
    return key.endswith("/") and not size


def _digest(*parts: str | None) -> str:
    # JSON keeps ("a", "bc") and ("ab", "c") apart. A hash fits into an index even if the key is long.
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
