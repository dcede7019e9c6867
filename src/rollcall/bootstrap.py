"""The composition root: settings become adapters, adapters become use cases."""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import attrs

from rollcall.adapters.local import LocalObjectStore, below, beside, key_of, path_of
from rollcall.adapters.local import is_report as is_folder_of_reports
from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import (
    Listed,
    ObjectStore,
    SchemaError,
    StoreUnavailableError,
    UnknownImportError,
    UserRepository,
)
from rollcall.application.reports import folders_of
from rollcall.application.sweep import Fate, Sweep
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Source
from rollcall.domain.upload import LOCAL_BUCKET, ObjectReference
from rollcall.settings import PREFIX, Address, DatabaseAuth, SettingError, Settings

if TYPE_CHECKING:
    from rollcall.adapters.postgres.connecting import Credentials
    from rollcall.adapters.sqs import SqsQueues

_POSTGRES_PORT = 5432


def now() -> datetime:
    """Tell the time."""
    return datetime.now(UTC)


def object_store(address: Address, *, owner: str | None = None) -> ObjectStore:
    """Open the store at an address.

    Args:
        address: Where it is.
        owner: The AWS account that has to own a bucket; None for any account.
    """
    if address.scheme == "s3":
        # boto3 takes longer to import than a small file to load, so only those who need an adapter wait for it.
        from rollcall.adapters.s3 import S3ObjectStore, client  # noqa: PLC0415 - see above

        return S3ObjectStore(address.place, address.prefix, client(owner))
    if address.scheme == "file":
        return LocalObjectStore(Path(address.place))
    from rollcall.adapters.memory import MemoryObjectStore  # noqa: PLC0415 - see above

    return MemoryObjectStore()


def is_report(settings: Settings, reference: ObjectReference) -> bool:
    """Return whether an object in S3 lies among our own reports, where nothing is imported.

    Raises:
        SettingError: Reports go among the uploads, so that nothing tells them apart.
    """
    reports, uploads = settings.reports, settings.uploads
    if not reports or (reports.scheme, reports.place) != ("s3", reference.bucket):
        return False
    inside = uploads and uploads.place == reports.place and uploads.prefix.startswith(reports.prefix)
    if inside or not reports.prefix:
        # Each receipt would be an upload with a receipt of its own, without end, or each upload a report.
        allowed = f"another bucket, or a folder in it that uploads do not use: s3://{reports.place}/reports"
        raise SettingError(f"{PREFIX}REPORTS", f"s3://{reports.place}/{reports.prefix}".rstrip("/"), allowed)
    return reference.key.startswith(reports.prefix)


def queue_sender() -> Callable[[str, str, Mapping[str, str], int], None]:
    """Give a way to send messages to queues of SQS: `SqsQueues.send`.

    Nothing is made ready for it before the first message, since hardly any invocation sends one.
    """

    @cache
    def queues() -> "SqsQueues":
        from rollcall.adapters.sqs import SqsQueues, client  # noqa: PLC0415 - see object_store

        return SqsQueues(client())

    def send(arn: str, body: str, attributes: Mapping[str, str], delay_in_seconds: int) -> None:
        queues().send(arn, body, attributes, delay_in_seconds)

    return send


def uploaded_file(path: Path) -> tuple[ObjectStore, ObjectReference]:
    """Take any file of this machine for an upload.

    Raises:
        StoreUnavailableError: The path names an open file that has no path of its own.
    """
    absolute = path_of(path)
    return LocalObjectStore(Path(absolute.anchor)), ObjectReference(key=key_of(absolute.relative_to("/")))


def is_folder_with_reports(path: Path) -> bool:
    """Tell whether a path is a folder of reports beside an uploaded file."""
    return is_folder_of_reports(path.name) and path.is_dir()


def folder(
    path: Path, skip: Callable[[StoreUnavailableError], object]
) -> tuple[ObjectStore, Callable[[ObjectReference], bool]]:
    """Take a folder of this machine for a bucket.

    Args:
        path: The folder, absolute.
        skip: Is called for each entry that a listing leaves out because it cannot be read.

    Returns:
        The store, and a function that tells whether the last line of a file has an end.
    """
    store = LocalObjectStore(path, skip=skip)
    return store, store.last_line_has_end


@contextmanager
def repository(settings: Settings, data: Path, *, on_aws: bool = False) -> Iterator[UserRepository]:
    """Open the users and the ledger that the settings name.

    Args:
        settings: What was set.
        data: The folder of the embedded PostgreSQL, used where no database is named.
        on_aws: See `_database`.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: What was set does not lead to a database.
    """
    if settings.database_url == "memory:":
        from rollcall.adapters.memory import MemoryUserRepository  # noqa: PLC0415 - see object_store

        yield MemoryUserRepository()
        return
    with _database(settings, data, on_aws=on_aws) as database:
        from rollcall.adapters.postgres.repository import PostgresUserRepository  # noqa: PLC0415 - see object_store

        users = PostgresUserRepository(database.conninfo, database.credentials)
        try:
            if database.embedded:
                _migrate_when_behind(users, database, settings.policy)
            yield users
        finally:
            users.close()


def migrate(settings: Settings, data: Path, *, on_aws: bool = False) -> list[str]:
    """Bring the schema up to date.

    Args:
        settings: What was set.
        data: The folder of the embedded PostgreSQL, used where no database is named.
        on_aws: See `_database`.

    Returns:
        What was done; empty if there was nothing to do.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or refused.
        SchemaError: The database does not speak UTF-8, or holds users whom the settings take for one.
        SettingError: What was set does not lead to a database.
    """
    from rollcall.adapters.postgres.migrating import migrate as apply  # noqa: PLC0415 - see object_store

    with _database(settings, data, on_aws=on_aws) as database:
        return apply(database.conninfo, settings.policy, database.credentials)


def import_users(
    settings: Settings,
    *,
    uploads: ObjectStore,
    reports: ObjectStore | None,
    users: UserRepository,
    policy: Policy | None = None,
) -> ImportUsers:
    """Put the use case together.

    Args:
        settings: What was set.
        uploads: Where uploads lie.
        reports: Where receipts and rejected rows go; None for beside the uploaded files of this machine.
        users: Where users and ledger live.
        policy: In place of the one that was set.
    """
    return ImportUsers(
        uploads=uploads,
        reports=reports or LocalObjectStore(Path("/")),
        users=users,
        policy=policy or settings.policy,
        encodings=settings.encodings,
        max_upload_bytes=settings.max_upload_bytes,
        max_csv_bytes=settings.max_csv_bytes,
        max_rejected_bytes=settings.max_rejected_bytes,
        now=now,
        spool=tempfile.TemporaryFile,
        report_folders=_report_folders(beside_uploads=reports is None),
    )


def dry_run(settings: Settings, *, uploads: ObjectStore) -> ImportUsers:
    """Put together a use case that judges and keeps nothing."""
    from rollcall.adapters.dry_run import DryRunUserRepository, NoReports  # noqa: PLC0415 - see object_store

    return import_users(settings, uploads=uploads, reports=NoReports(), users=DryRunUserRepository())


def sweep(
    settings: Settings,
    *,
    uploads: ObjectStore,
    users: UserRepository,
    queue: str,
    announcement: Callable[[Listed], str],
    tell: Callable[[Listed, Fate], None],
) -> Sweep:
    """Put the sweep together, which asks the queue how patient it has to be.

    Args:
        settings: What was set.
        uploads: Where uploads lie, with versions that it names.
        users: Where users and ledger live.
        queue: The ARN of the queue to which uploads are announced.
        announcement: Makes the message that announces an upload.
        tell: Is told of each upload that is lost, once that has become of it.

    Raises:
        StoreUnavailableError: The queue could not be asked.
    """
    from rollcall.adapters.sqs import SqsQueues, client  # noqa: PLC0415 - see object_store

    queues = SqsQueues(client())

    def announce(lost: Iterable[Listed]) -> None:
        queues.send_all(queue, map(announcement, lost))

    return Sweep(
        uploads=uploads,
        users=users,
        is_report=partial(is_report, settings),
        queue=announce,
        tell=tell,
        now=now,
        older_than=queues.visibility_timeout(queue),
        younger_than=settings.sweep_days,
    )


def _report_folders(*, beside_uploads: bool) -> Callable[[Source], Iterator[str]]:
    def folders(source: Source) -> Iterator[str]:
        if source.bucket != LOCAL_BUCKET:
            return folders_of(source)
        return beside(source) if beside_uploads else below(source)

    return folders


@attrs.frozen(kw_only=True)
class _Database:
    """The way to a database.

    Attributes:
        conninfo: Its address.
        credentials: Fill what the address leaves out.
        embedded: Whether it is our own.
    """

    conninfo: str
    credentials: "Credentials" = lambda: [{}]
    embedded: bool = False


@contextmanager
def _database(settings: Settings, data: Path, *, on_aws: bool) -> Iterator[_Database]:
    """Find the way to the database.

    Args:
        settings: What was set.
        data: The folder of the embedded PostgreSQL, used where no database is named.
        on_aws: Whether we run on AWS, where nobody is trusted on the way to the database.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: What was set leads to no database.
    """
    if not names_database(settings):
        from rollcall.adapters.embedded_postgres import running  # noqa: PLC0415 - see object_store

        with running(data) as conninfo:
            yield _Database(conninfo=conninfo, embedded=True)
        return
    credentials = _credentials(settings)
    tls = _tls(settings) if on_aws or settings.database_ca or credentials else {}
    yield _Database(
        conninfo=settings.database_url or "postgresql://",
        credentials=lambda: ({**tls, **found} for found in (credentials() if credentials else [{}])),
    )


def names_database(settings: Settings) -> bool:
    """Tell whether the settings name a database, so that the embedded one is not meant."""
    return settings.database_url is not None or settings.database_secret_arn is not None


def _credentials(settings: Settings) -> "Credentials | None":
    """Find who knows what the address of the database leaves out; None if nobody has to."""
    if settings.database_auth is DatabaseAuth.IAM:
        from rollcall.adapters.rds import IamToken  # noqa: PLC0415 - see object_store

        try:
            address = urlsplit(settings.database_url or "")
            host, port, user = address.hostname, address.port or _POSTGRES_PORT, unquote(address.username or "")
        except ValueError:  # a port that is none
            host = None
        if not host or not user:
            allowed = "postgresql://user@host:port/database: IAM signs a password for that user at that host"
            raise SettingError(f"{PREFIX}DATABASE_URL", "(hidden)", allowed)
        return IamToken(host, port, user)
    if settings.database_secret_arn:
        from rollcall.adapters.secrets_manager import DatabaseSecret, client  # noqa: PLC0415 - see object_store

        return DatabaseSecret(settings.database_secret_arn, cache(client))
    return None


def _tls(settings: Settings) -> dict[str, str]:
    """Say how the server has to prove who it is, where its address does not.

    Raises:
        SettingError: There is no such file of certificates.
    """
    if settings.database_ca is None:
        return {"sslmode": "verify-full"}
    if not Path(settings.database_ca).is_file():
        allowed = attrs.fields(Settings).database_ca.metadata["allowed"]
        raise SettingError(f"{PREFIX}DATABASE_CA", settings.database_ca, allowed)
    return {"sslmode": "verify-full", "sslrootcert": settings.database_ca}


def _migrate_when_behind(users: UserRepository, database: _Database, policy: Policy) -> None:
    """Migrate the embedded database, which is nobody else's, without being asked."""
    try:
        with suppress(UnknownImportError):
            users.entry(0)  # the least that there is to ask
    except SchemaError:
        from rollcall.adapters.postgres.migrating import migrate as apply  # noqa: PLC0415 - see object_store

        apply(database.conninfo, policy)
