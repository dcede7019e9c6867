"""What was dropped, and what makes it the same upload again."""

import hashlib
import json
from datetime import datetime

import attrs

# The bucket of every file of this machine, whose key is its absolute path.
LOCAL_BUCKET = "file:"


@attrs.frozen(kw_only=True)
class ObjectReference:
    """Where somebody says an upload lies; whether it does is for the store to say.

    Attributes:
        bucket: The bucket's name; empty for the store's own.
        key: The object key, decoded.
        version: The version wanted; None for the newest.
        etag: The ETag that was announced, where no version tells states apart; None if none was.
        sequencer: See `Upload`; only with a version that no other replaces. Whoever names a key knows none.
    """

    bucket: str = ""
    key: str
    version: str | None = None
    etag: str | None = None
    sequencer: str | None = attrs.field(default=None, eq=False)

    @property
    def announced(self) -> bool:
        """Whether a notification named exactly this state of the object, rather than a person its key."""
        return self.version is not None or self.etag is not None

    @property
    def identity(self) -> str | None:
        """That of the upload it leads to, see `Upload`; None where only the store can tell."""
        tells = self.version is not None and self.etag is None
        return _digest(self.bucket, self.key, self.version) if tells else None


@attrs.frozen(kw_only=True)
class Upload:
    """One version of one object, as the store answers.

    Attributes:
        bucket: The bucket's name, or "file:" for a file of this machine.
        key: The object key, or the absolute path.
        version: What tells this version from others of the key: the version id; without versioning the ETag and
            Last-Modified; None for a local file, whose content tells (see `with_content`).
        size: In bytes, as stored.
        last_modified: When the store took it in, which S3 tells to the second; orders versions where no sequencer
            does.
        sequencer: The number in hexadecimal digits by which S3 orders what happened to one key; None where it was
            not announced, or without.
    """

    bucket: str
    key: str
    version: str | None
    size: int
    last_modified: datetime
    sequencer: str | None = attrs.field(default=None, eq=False)

    def with_content(self, sha256: str) -> "Upload":
        """Give an upload that its store does not version the version of its content.

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
        """The hexadecimal SHA-256 of bucket and key: equal for every version of the same key."""
        return _digest(self.bucket, self.key)


def is_earlier(sequencer: str, than: str) -> bool:
    """Compare the sequencers of two events on one key (Amazon S3 user guide, "Event message structure")."""
    digits = max(len(sequencer), len(than))
    return sequencer.upper().ljust(digits, "0") < than.upper().ljust(digits, "0")


def is_folder(key: str, size: int | None) -> bool:
    """Tell whether an object only stands for a folder, as consoles make them: `x/`, with nothing in it."""
    return key.endswith("/") and not size


def _digest(*parts: str | None) -> str:
    # JSON keeps ("a", "bc") and ("ab", "c") apart; a hash fits an index whatever the length of the key.
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
