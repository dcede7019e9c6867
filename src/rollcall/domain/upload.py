"""What was dropped, and what makes it the same upload again."""

import hashlib
import json
from datetime import datetime

import attrs


@attrs.frozen(kw_only=True)
class ObjectReference:
    """Where somebody says an upload lies; whether it does is for the store to say.

    Attributes:
        bucket: The bucket's name; empty for the store's own.
        key: The object key, decoded.
        version: The version wanted; None for the newest.
        etag: The ETag that was announced, where no version tells states apart; None if none was.
    """

    bucket: str = ""
    key: str
    version: str | None = None
    etag: str | None = None

    @property
    def announced(self) -> bool:
        """Whether a notification named exactly this state of the object, rather than a person its key."""
        return self.version is not None or self.etag is not None


@attrs.frozen(kw_only=True)
class Upload:
    """One version of one object, as the store answers.

    Attributes:
        bucket: The bucket's name, or "file:" for a file of this machine.
        key: The object key, or the absolute path.
        version: What tells this version from others of the key: the version id; without versioning the ETag and
            Last-Modified; None for a local file, whose content tells (see `with_content`).
        size: In bytes, as stored.
        last_modified: When the store took it in; orders versions.
    """

    bucket: str
    key: str
    version: str | None
    size: int
    last_modified: datetime

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


def _digest(*parts: str | None) -> str:
    # JSON keeps ("a", "bc") and ("ab", "c") apart; a hash fits an index whatever the length of the key.
    return hashlib.sha256(json.dumps(parts).encode("ascii")).hexdigest()
