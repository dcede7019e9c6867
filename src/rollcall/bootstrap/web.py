"""What the Web API and the uploader's page need: their stores and use cases.

A module of its own, because importing it takes time that an import does not have.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

import attrs

from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import ObjectReader, ReportStore, UserRepository
from rollcall.application.reports import Reports
from rollcall.bootstrap import import_users, now, receipt_page, repository
from rollcall.bootstrap.services import Services
from rollcall.bootstrap.uploading import Uploading, WebStores, checks, uploading, web_stores
from rollcall.settings import Settings

__all__ = [
    "Local",
    "Services",
    "Uploading",
    "WebStores",
    "api_services",
    "local",
    "upload_checker",
    "uploading",
    "web_stores",
]


def upload_checker(settings: Settings, inbox: ObjectReader, reports: ReportStore) -> ImportUsers:
    """Return the use case that judges uploads in the inbox and stores only the reports on that.

    Args:
        settings: The settings.
        inbox: The uploads that are not registered.
        reports: The store of reports.
    """
    from rollcall.adapters.dry_run import DryRunUserRepository  # noqa: PLC0415 - see `stores`

    return import_users(settings, DryRunUserRepository(settings.record), uploads=inbox, into=checks(reports))


@attrs.frozen(kw_only=True)
class Local:
    """What `rollcall serve` needs, on this machine.

    Attributes:
        users: Users and ledger; safe for threads.
        stores: Inbox, uploads and reports.
        check: The use case that judges what lies in the inbox.
        import_users: The use case that imports the uploads.
    """

    users: UserRepository
    stores: WebStores
    check: ImportUsers
    import_users: ImportUsers


@contextmanager
def local(settings: Settings, data: Path) -> Iterator[Local]:
    """Open what `rollcall serve` needs. Stores that the settings do not name are folders below `data`.

    Args:
        settings: The settings.
        data: The folder.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: The settings do not lead to a database.
    """
    stores = web_stores(settings, data)
    with repository(settings, data) as users:
        into = Reports(store=stores.reports, page=partial(receipt_page, settings.record))
        importer = import_users(settings, users, uploads=stores.uploads, into=into)
        check = upload_checker(settings, stores.inbox, stores.reports)
        yield Local(users=users, stores=stores, check=check, import_users=importer)


@contextmanager
def api_services(settings: Settings, data: Path = Path(), *, on_aws: bool = False) -> Iterator[Services]:
    """Yield the use cases of the Web API. Each is opened when it is first used, and closed at the end.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        on_aws: Whether this runs on AWS, where the database connection is always verified by TLS.
    """
    with ExitStack() as opened:
        yield Services(
            open_users=lambda: opened.enter_context(repository(settings, data, on_aws=on_aws)),
            open_uploading=lambda users: uploading(settings, web_stores(settings), users, now),
            policy=settings.policy,
            now=now,
        )
