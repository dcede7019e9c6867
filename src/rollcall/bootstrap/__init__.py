"""The composition root: it builds adapters from the settings, and use cases from the adapters.

Each entry point opens what it needs by one context manager, which closes it again.
"""

import shlex
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import ObjectReader, UserRepository
from rollcall.application.reports import Reports
from rollcall.application.sweep import LostUploadAction, Sweep
from rollcall.application.values import ListedObject
from rollcall.bootstrap.database import migrate, repository
from rollcall.bootstrap.stores import (
    PAGE_FOLDER,
    AnyUpload,
    file_reference,
    folder,
    is_report,
    object_store,
    receipt_address,
    receipt_page,
    reports,
)
from rollcall.domain.policy import Policy
from rollcall.settings import Address, Settings

if TYPE_CHECKING:
    from rollcall.adapters.aws_events import AwsPublisher
    from rollcall.adapters.sqs import SqsQueues
    from rollcall.application.notification import Notification

__all__ = [
    "PAGE_FOLDER",
    "Queues",
    "checker",
    "file_reference",
    "folder",
    "import_users",
    "importer",
    "local_publisher",
    "migrate",
    "now",
    "object_store",
    "publisher",
    "receipt_address",
    "receipt_page",
    "reports",
    "repository",
    "sweeper",
]


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


@contextmanager
def importer(
    settings: Settings,
    data: Path = Path(),
    *,
    uploads: ObjectReader | None = None,
    report_address: Address | None = None,
    policy: Policy | None = None,
    on_aws: bool = False,
) -> Iterator[ImportUsers]:
    """Open the use case that imports uploads, with its database.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        uploads: The store of uploads; None for every upload that a person can name.
        report_address: The store of receipts and rejected rows; None for a folder beside each local file.
        policy: Replaces the policy of the settings; None keeps it.
        on_aws: Whether this runs on AWS, where the database connection is always verified by TLS.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: The settings do not lead to a database.
    """
    with repository(settings, data, on_aws=on_aws) as users:
        store = reports(settings, report_address)
        yield import_users(settings, users, uploads=uploads, into=store, policy=policy)


def checker(settings: Settings) -> ImportUsers:
    """Return the use case that judges uploads and stores nothing."""
    from rollcall.adapters.dry_run import DryRunUserRepository, NoReports  # noqa: PLC0415 - see `stores`

    return import_users(settings, DryRunUserRepository(settings.record), into=Reports(store=NoReports()))


@contextmanager
def sweeper(
    settings: Settings,
    uploads: Address,
    queue: str,
    *,
    announcement: Callable[[ListedObject], str],
    tell: Callable[[ListedObject, LostUploadAction], None],
    give_up: Callable[[ListedObject], None],
) -> Iterator[Sweep]:
    """Open the sweep on AWS. The queue's visibility timeout is the age from which an upload may be lost.

    Args:
        settings: The settings.
        uploads: The address of the uploads; it must name versions.
        queue: The ARN of the queue to which uploads are announced.
        announcement: Returns the message that announces an upload.
        tell: Called for each lost upload after it was queued or given up.
        give_up: Called for each upload once, by the first sweep that gives it up.

    Raises:
        StoreUnavailableError: The queue's visibility timeout could not be read.
        SettingError: The settings do not lead to a database.
    """
    from rollcall.adapters.sqs import SqsQueues, client  # noqa: PLC0415 - see `stores`

    queues = SqsQueues(client())

    def announce(lost: Iterable[ListedObject]) -> None:
        queues.send_all(queue, map(announcement, lost))

    with repository(settings, Path(), on_aws=True) as users:
        yield Sweep(
            uploads=object_store(uploads, owner=settings.bucket_owner),
            users=users,
            is_report=partial(is_report, settings.reports, uploads),
            queue=announce,
            tell=tell,
            now=now,
            older_than=queues.visibility_timeout(queue),
            younger_than=settings.sweep_days,
            give_up=give_up,
        )


def import_users(
    settings: Settings,
    users: UserRepository,
    *,
    uploads: ObjectReader | None = None,
    into: Reports | None = None,
    policy: Policy | None = None,
) -> ImportUsers:
    """Build the use case that imports uploads, with the limits of the settings.

    Args:
        settings: The settings.
        users: The repository of users and ledger.
        uploads: The store of uploads; None for every upload that a person can name.
        into: The receipts and rejected rows; None for a folder beside each local file.
        policy: Replaces the policy of the settings; None keeps it.
    """
    return ImportUsers(
        uploads=uploads or AnyUpload(),
        reports=into or reports(settings, None),
        users=users,
        policy=policy or settings.policy,
        encodings=settings.encodings,
        max_upload_bytes=settings.max_upload_bytes,
        max_csv_bytes=settings.max_csv_bytes,
        max_rejected_bytes=settings.max_rejected_bytes,
        now=now,
        spool=tempfile.TemporaryFile,
    )


class Queues:
    """The SQS queues of the import Lambda: `SqsQueues`.

    It creates the client with the first call, because most invocations make none.
    """

    def send(self, arn: str, body: str, attributes: Mapping[str, str], delay_in_seconds: int) -> None:
        """Send a message; see `SqsQueues.send`."""
        self._queues.send(arn, body, attributes, delay_in_seconds)

    def hide(self, arn: str, receipt_handle: str, seconds: int) -> None:
        """Change how long a message is hidden; see `SqsQueues.hide`."""
        self._queues.hide(arn, receipt_handle, seconds)

    @cached_property
    def _queues(self) -> "SqsQueues":
        from rollcall.adapters.sqs import SqsQueues, client  # noqa: PLC0415 - see `stores`

        return SqsQueues(client())


def local_publisher(receiver: str) -> Callable[["Notification"], None]:
    """Return a function that sends notifications to a receiver: `Webhook` or `Command`.

    Args:
        receiver: A URL of http or https, or a command with its arguments as in a shell.

    Raises:
        ValueError: It is neither, or this machine has no such command.
    """
    from rollcall.adapters.webhook import Command, Webhook  # noqa: PLC0415 - see `stores`

    if "://" in receiver.partition(" ")[0]:
        return Webhook(receiver)
    command = shlex.split(receiver)
    if not command or not shutil.which(command[0]):
        raise ValueError
    return Command(command)


def publisher(settings: Settings) -> Callable[["Notification"], None] | None:
    """Return a function that publishes notifications on AWS: `AwsPublisher`.

    It creates the clients with the first notification, because most invocations of an import send none.

    Args:
        settings: The settings.

    Returns:
        The function; None if the settings name no topic.
    """
    topic = settings.notify_topic
    if topic is None:
        return None

    @cache
    def opened() -> "AwsPublisher":
        from rollcall.adapters.aws_events import aws_publisher  # noqa: PLC0415 - see `stores`

        return aws_publisher(topic)

    def publish(notification: "Notification") -> None:
        opened()(notification)

    return publish
