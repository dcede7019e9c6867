"""The keys of an upload's reports in a store of reports."""

import hashlib
from collections.abc import Iterator

from rollcall.domain.receipt import Source

RECEIPT_NAME = "receipt.json"
LONGEST_REPORT_NAME = "rejected-0123456789ab.csv"

_KEPT_BYTES = 100


def folders_of(source: Source) -> Iterator[str]:
    """Yield the folders for the reports on an upload, `<key>/<version>` first; the first that fits is used."""
    for key in report_keys(source.key):
        yield f"{key}/{source.version}"
    yield f"{digest(source.key)}/{source.version}"


def report_keys(key: str) -> Iterator[str]:
    """Yield an upload's key, then the key with a shortened last part for stores in which the whole does not fit.

    The shortened part is the beginning of the last part, so that people recognise it, and the SHA-256 of the key.
    """
    yield key
    folders, slash, name = key.rpartition("/")
    beginning = name.encode("utf-8", "surrogatepass")[:_KEPT_BYTES].decode("utf-8", "ignore")
    yield f"{folders}{slash}{beginning}-{digest(key)}"


def digest(key: str) -> str:
    """Return the hexadecimal SHA-256 of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
