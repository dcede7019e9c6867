"""The stores of uploads and reports that the settings name.

Importing boto3 takes longer than importing a small file, so each adapter is imported only when it is needed.
"""

import json
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

import rollcall
from rollcall.adapters.local import LocalObjectStore, key_of, path_of
from rollcall.application.errors import StoreUnavailableError
from rollcall.application.ports import ObjectReader, ObjectStore, StoredObject, WholeStore
from rollcall.application.reports import RECEIPT_NAME, Reports, folders_beside
from rollcall.domain.receipt import Receipt
from rollcall.domain.record import RecordType
from rollcall.domain.upload import LOCAL_BUCKET, ObjectReference
from rollcall.settings import PREFIX, Address, SettingError, Settings

if TYPE_CHECKING:
    from rollcall.application.receipt_page import ReceiptPage

# The files of the uploader's page.
PAGE_FOLDER = Path(rollcall.__file__).parent / "web"


def object_store(address: Address, *, owner: str | None = None) -> WholeStore:
    """Return the store at an address.

    Args:
        address: Where it is.
        owner: The AWS account that has to own a bucket; None for any account.
    """
    return STORES[address.scheme](address, owner)


def _s3(address: Address, owner: str | None) -> WholeStore:
    from rollcall.adapters.s3 import S3ObjectStore, client  # noqa: PLC0415 - see above

    return S3ObjectStore(address.place, address.prefix, client(owner))


def _folder(address: Address, _owner: str | None) -> WholeStore:
    return LocalObjectStore(Path(address.place))


def _memory(_address: Address, _owner: str | None) -> WholeStore:
    from rollcall.adapters.memory import MemoryObjectStore  # noqa: PLC0415 - see above

    return MemoryObjectStore()


# A test keeps these equal to the schemes that the settings allow.
STORES: dict[str, Callable[[Address, str | None], WholeStore]] = {"s3": _s3, "file": _folder, "memory": _memory}


@attrs.frozen
class AnyUpload:
    """Every upload that a person can name: a file of this machine, or an object of a bucket."""

    _s3: Callable[[], ObjectReader] = attrs.Factory(lambda: cache(lambda: object_store(Address("s3"))))

    def open(self, reference: ObjectReference) -> AbstractContextManager[StoredObject]:
        """Open an object of its bucket, or a file whose key is its path below `/`."""
        store = self._s3() if reference.bucket else LocalObjectStore(Path("/"))
        return store.open(reference)


def file_reference(path: Path) -> ObjectReference:
    """Return the reference to a file of this machine, see `AnyUpload`.

    Raises:
        StoreUnavailableError: The path names an open file that has no path of its own.
    """
    return ObjectReference(key=key_of(path_of(path).relative_to("/")))


def folder(
    path: Path, skip: Callable[[StoreUnavailableError], object]
) -> tuple[ObjectStore, Callable[[ObjectReference], bool]]:
    """Return a folder of this machine as a store of uploads.

    Args:
        path: The absolute path of the folder.
        skip: Called for each entry that a listing leaves out because it cannot be read.

    Returns:
        The store, and a function that returns whether the last line of a file has an end.
    """
    store = LocalObjectStore(path, skip=skip)
    return store, store.last_line_has_end


def reports(settings: Settings, address: Address | None) -> Reports:
    """Return the reports in a store.

    Args:
        settings: The settings.
        address: The address of the store; None for a folder beside each local file.
    """
    page = partial(receipt_page, settings.record)
    if address is None:
        return Reports(store=LocalObjectStore(Path("/")), folders=folders_beside, page=page)
    return Reports(
        store=object_store(address, owner=settings.bucket_owner),
        is_report=partial(is_report, address, settings.uploads),
        page=page,
    )


def receipt_address(settings: Settings, address: Address | None) -> Callable[[Receipt], str]:
    """Return a function that returns the address of a stored receipt, for a person.

    Args:
        settings: The settings.
        address: The address of the store of reports; None for a folder beside each local file.
    """
    store: WholeStore = (
        object_store(address, owner=settings.bucket_owner) if address else LocalObjectStore(Path("/"))
    )
    folder_of = reports(settings, address).folder

    def address_of(receipt: Receipt) -> str:
        place = store.place(f"{folder_of(receipt.source)}/{RECEIPT_NAME}")
        return place.key if place.bucket == LOCAL_BUCKET else f"s3://{place.bucket}/{place.key}"

    return address_of


def receipt_page(record_type: RecordType, receipt: Receipt) -> str:
    """Return a receipt as HTML for people."""
    return _receipt_page(record_type)(receipt)


@cache
def _receipt_page(record_type: RecordType) -> "ReceiptPage":
    from rollcall.application.receipt_page import LANGUAGES, ReceiptPage  # noqa: PLC0415 - see above

    own = _read_json(PAGE_FOLDER.parent / "application" / "receipt_page.json")
    catalogues = {
        language: {**_read_json(PAGE_FOLDER / f"{language}.json"), "file": own[language]} for language in LANGUAGES
    }
    return ReceiptPage(catalogues, record_type)


def _read_json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def is_report(reports: Address | None, uploads: Address | None, reference: ObjectReference) -> bool:
    """Return whether an object in S3 is in our own store of reports.

    Raises:
        SettingError: Reports and uploads have the same address, so they cannot be distinguished.
    """
    if reports is None or (reports.scheme, reports.place) != ("s3", reference.bucket):
        return False
    inside = uploads and uploads.place == reports.place and uploads.prefix.startswith(reports.prefix)
    if inside or not reports.prefix:
        # Each receipt would be imported and get a receipt, without end, or each upload would count as a report.
        allowed = f"another bucket, or a folder in it that uploads do not use: s3://{reports.place}/reports"
        raise SettingError(f"{PREFIX}REPORTS", f"s3://{reports.place}/{reports.prefix}".rstrip("/"), allowed)
    return reference.key.startswith(reports.prefix)
