"""The stores and the use cases of the page's uploads."""

import secrets
import tempfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import attrs

from rollcall.adapters.local import LocalObjectStore, reason_of
from rollcall.application import check_upload
from rollcall.application.correct_list import CorrectList
from rollcall.application.correct_rows import CorrectRows
from rollcall.application.find_upload import FindUpload
from rollcall.application.ports import FormReceiver, ReportStore, UserRepository, WebReports, WholeStore
from rollcall.application.register_upload import RegisterUpload
from rollcall.application.reports import Reports
from rollcall.application.start_upload import StartUpload
from rollcall.bootstrap.stores import object_store
from rollcall.settings import PREFIX, STORE_ADDRESSES, Address, SettingError, Settings

_RANDOM_BYTES = 16


@attrs.frozen(kw_only=True)
class WebStores:
    """The stores of the page's uploads.

    Attributes:
        inbox: The uploads that are not registered.
        uploads: The uploads that are registered.
        reports: The reports on both.
    """

    inbox: WholeStore
    uploads: WholeStore
    reports: WholeStore

    @property
    def receiver(self) -> FormReceiver | None:
        """The inbox, if it takes forms by itself; None if browsers send them to S3."""
        return self.inbox if isinstance(self.inbox, LocalObjectStore) else None


@attrs.frozen(kw_only=True)
class Uploading:
    """The use cases of the page's uploads.

    Attributes:
        start: Starts an upload.
        find: Returns the state of an upload.
        register: Registers a checked upload.
        correct: Corrects rejected rows of an import.
        correct_list: Corrects a list that its check refused.
        checks: The reports on uploads in the inbox.
        reports: The reports on imports.
        store: The store of both.
    """

    start: StartUpload
    find: FindUpload
    register: RegisterUpload
    correct: CorrectRows
    correct_list: CorrectList
    checks: Reports
    reports: Reports
    store: WebReports


def web_stores(settings: Settings, data: Path | None = None) -> WebStores:
    """Return the stores that the settings name.

    Args:
        settings: The settings.
        data: The folder in which stores lie that the settings do not name; None if they must name all.

    Raises:
        SettingError: A store is not set, or its folder cannot be created. Or inbox and uploads are of two kinds,
            or one is in the other.
    """
    inbox = _address(settings, "inbox", data)
    uploads = _address(settings, "uploads", data)
    reports = _address(settings, "reports", data)
    if inbox.scheme != uploads.scheme or _is_inside(inbox, uploads) or _is_inside(uploads, inbox):
        allowed = f"a store of the same kind as {PREFIX}UPLOADS, and outside it"
        raise SettingError(f"{PREFIX}INBOX", f"{inbox.place}/{inbox.prefix}", allowed)
    owner = settings.bucket_owner
    return WebStores(
        inbox=object_store(inbox, owner=owner),
        uploads=object_store(uploads, owner=owner),
        reports=object_store(reports, owner=owner),
    )


def checks(reports: ReportStore) -> Reports:
    """Return the reports on uploads in the inbox."""
    return Reports(store=reports, folders=check_upload.folders_of)


def uploading(
    settings: Settings, stores: WebStores, users: UserRepository, now: Callable[[], datetime]
) -> Uploading:
    """Build the use cases of the page's uploads.

    Args:
        settings: The settings.
        stores: See `web_stores`.
        users: The repository of users and ledger.
        now: Returns the current time, with its time zone.
    """
    checked, reports = checks(stores.reports), Reports(store=stores.reports)
    find = FindUpload(
        inbox=stores.inbox,
        uploads=stores.uploads,
        checks=checked,
        reports=stores.reports,
        users=users,
        now=now,
    )
    return Uploading(
        start=StartUpload(
            inbox=stores.inbox,
            max_upload_bytes=settings.max_upload_bytes,
            random=lambda: secrets.token_hex(_RANDOM_BYTES),
            now=now,
        ),
        find=find,
        register=RegisterUpload(
            find=find,
            inbox=stores.inbox,
            uploads=stores.uploads,
            users=users,
            policy=settings.policy,
            now=now,
        ),
        correct=CorrectRows(find=find, uploads=stores.uploads, reports=reports, store=stores.reports, users=users),
        correct_list=CorrectList(
            record_type=settings.record,
            find=find,
            inbox=stores.inbox,
            encodings=settings.encodings,
            spool=tempfile.TemporaryFile,
        ),
        checks=checked,
        reports=reports,
        store=stores.reports,
    )


def _is_inside(one: Address, other: Address) -> bool:
    if one.scheme == "file":
        return Path(one.place).is_relative_to(other.place)
    return one.scheme == "s3" and one.place == other.place and one.prefix.startswith(other.prefix)


def _address(settings: Settings, name: str, data: Path | None) -> Address:
    address: Address | None = getattr(settings, name)
    setting = PREFIX + name.upper()
    if not address and not data:
        raise SettingError(setting, "", STORE_ADDRESSES)
    address = address or Address("file", f"{data}/{name}")
    if address.scheme == "file":
        try:
            Path(address.place).mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SettingError(setting, address.place, f"another folder ({reason_of(error)})") from error
    return address
