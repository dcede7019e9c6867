"""The reports on uploads: where they lie in a store, and how they are read and stored there."""

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import BinaryIO

import attrs

from rollcall.application.errors import (
    ObjectChangedError,
    ObjectNotFoundError,
    ReportNotStoredError,
    StoreUnavailableError,
)
from rollcall.application.ports import ReportStore
from rollcall.application.receipts import from_dict, to_json
from rollcall.domain.receipt import Receipt, Source
from rollcall.domain.upload import LOCAL_BUCKET, ObjectReference, WebUpload, local_key

RECEIPT_NAME = "receipt.json"
PAGE_NAME = "receipt.html"
LONGEST_REPORT_NAME = "rejected-0123456789ab.csv"
FOLDER_SUFFIX = ".rollcall"

_KEPT_BYTES = 100
# The version of a local file is a SHA-256. Its first digits distinguish the versions of one file in a short path.
_VERSION_DIGITS = 16
_NOT_REGISTERED = "nothing is registered, and the reports could not be stored"


def folders_of(source: Source) -> Iterator[str]:
    """Yield the folders in a store of reports for the reports on an upload, the first choice first."""
    if source.bucket == LOCAL_BUCKET:
        key, version = local_key(source.key), source.version[:_VERSION_DIGITS]
    else:
        key, version = source.key, source.version
    for folder in (*_spellings(key), _digest(key)):
        yield f"{folder.lstrip('/') if source.bucket == LOCAL_BUCKET else folder}/{version}"


def folders_beside(source: Source) -> Iterator[str]:
    """Yield the folders beside a local file for the reports on it, the first choice first, as keys below `/`."""
    for key in _spellings(local_key(source.key)):
        yield f"{key.lstrip('/')}{FOLDER_SUFFIX}/{source.version[:_VERSION_DIGITS]}"


def is_folder_beside(name: str) -> bool:
    """Return whether a folder has the name of a folder of reports beside a local file."""
    return name.endswith(FOLDER_SUFFIX)


@attrs.frozen(kw_only=True)
class Reports:
    """The reports on uploads.

    Attributes:
        store: Where they are stored.
        folders: Yields the folders in the store for the reports on an upload, the preferred one first. The first
            in which all reports fit is used.
        is_report: Returns whether an announced or listed object is a report, from which nothing is imported.
        page: Returns a receipt as HTML for people. It is stored beside the receipt, unless the upload came by the
            uploader's page. None to store no such file.
    """

    store: ReportStore
    folders: Callable[[Source], Iterable[str]] = folders_of
    is_report: Callable[[ObjectReference], bool] = lambda _: False
    page: Callable[[Receipt], str] | None = None

    def has_receipt(self, source: Source) -> bool:
        """Return whether any receipt of an upload is stored.

        Raises:
            StoreUnavailableError: The store could not be reached.
        """
        try:
            with self.store.open(self._receipt(source)):
                return True
        except ObjectNotFoundError:
            return False

    def has(self, receipt: Receipt) -> bool:
        """Return whether exactly this receipt of an upload is stored, and not an earlier one.

        Raises:
            ReportNotStoredError: The store could not be reached.
        """
        wanted = to_json(receipt)
        try:
            with _translated_errors(receipt), self.store.open(self._receipt(receipt.source)) as found:
                if found.upload.size != len(wanted) + 1:
                    return False
                # The ledger may return the members of a receipt in another order.
                return bool(json.loads(b"".join(found.read())) == json.loads(wanted))
        except (ObjectNotFoundError, ObjectChangedError, ValueError):
            return False

    def read_receipt(self, source: Source) -> Receipt | None:
        """Return the stored receipt of an upload; None if there is none.

        Raises:
            StoreUnavailableError: The store could not be reached.
        """
        try:
            return self.read(self._receipt(source))
        except ObjectNotFoundError:
            return None

    def read(self, reference: ObjectReference) -> Receipt:
        """Return a stored receipt.

        Raises:
            ObjectNotFoundError: There is no such object.
            StoreUnavailableError: The store could not be reached.
        """
        with self.store.open(reference) as found:
            return from_dict(json.loads(b"".join(found.read())))

    def rejected_rows_key(self, receipt: Receipt) -> str | None:
        """Return the key of the file of rejected rows in the store; None if no row was rejected."""
        address = receipt.rejected_rows
        return f"{self.folder(receipt.source)}/{address.rpartition('/')[2]}" if address else None

    def store_receipt(self, receipt: Receipt) -> None:
        """Store a receipt, in place of an existing one of the same upload, and its page for people.

        Raises:
            ReportNotStoredError: The receipt could not be stored.
        """
        folder = self.folder(receipt.source)
        files = {RECEIPT_NAME: to_json(receipt) + "\n"}
        if self.page and not WebUpload.of_key(receipt.source.key):
            # Before the receipt: after a crash between the two, a redelivery finds no receipt and stores both.
            files = {PAGE_NAME: self.page(receipt), **files}
        with _translated_errors(receipt):
            for name, text in files.items():
                self.store.put(f"{folder}/{name}", io.BytesIO(text.encode("utf-8", "backslashreplace")))

    def require_writable(self, source: Source) -> None:
        """Check before the commit whether the reports on an upload certainly cannot be stored.

        Raises:
            ReportNotStoredError: The reports cannot be stored.
        """
        with _translated_errors():
            self.store.require_writable(self._receipt(source).key)

    def store_rejected_rows(self, source: Source, name: str, content: BinaryIO) -> str:
        """Store the rejected rows of an upload before its commit.

        Returns:
            The address of the file of rejected rows.

        Raises:
            ReportNotStoredError: The file could not be stored.
        """
        with _translated_errors():
            return self.store.put(f"{self.folder(source)}/{name}", content)

    def folder(self, source: Source) -> str:
        """Return the folder for an upload: the first in which every report fits, or else the last."""
        folders = list(self.folders(source))
        fitting = (folder for folder in folders if self.store.fits(f"{folder}/{LONGEST_REPORT_NAME}"))
        return next(fitting, folders[-1])

    def _receipt(self, source: Source) -> ObjectReference:
        return ObjectReference(key=f"{self.folder(source)}/{RECEIPT_NAME}")


@contextmanager
def _translated_errors(receipt: Receipt | None = None) -> Iterator[None]:
    """Translate a failure of the store into an error that also says what is registered.

    Args:
        receipt: The receipt of the import; None if it is not committed yet.

    Raises:
        ReportNotStoredError: The store failed.
    """
    try:
        yield
    except StoreUnavailableError as error:
        raise ReportNotStoredError(_committed(receipt) if receipt else _NOT_REGISTERED, str(error)) from error


def _committed(receipt: Receipt) -> str:
    if receipt.import_id is None:
        return _NOT_REGISTERED
    counts = receipt.counts
    return (
        f"import {receipt.import_id} is committed (users registered: {counts.registered:,}, "
        f"updated: {counts.updated:,}), but its receipt could not be stored"
    )


def _spellings(key: str) -> Iterator[str]:
    """Yield an upload's key, then the key with a shortened last part for stores in which the whole does not fit.

    The shortened part is the beginning of the last part, so that people recognise it, and the SHA-256 of the key.
    """
    yield key
    folders, slash, name = key.rpartition("/")
    beginning = name.encode("utf-8", "surrogatepass")[:_KEPT_BYTES].decode("utf-8", "ignore")
    yield f"{folders}{slash}{beginning}-{_digest(key)}"


def _digest(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()
