"""The composition root: it builds adapters from the settings, and use cases from the adapters."""

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
from rollcall.application.errors import SchemaError, StoreUnavailableError, UnknownImportError
from rollcall.application.import_users import ImportUsers
from rollcall.application.ports import ObjectStore, UserRepository
from rollcall.application.reports import folders_of
from rollcall.application.sweep import LostUploadAction, Sweep
from rollcall.application.values import ListedObject
from rollcall.domain.policy import Policy
from rollcall.domain.receipt import Source
from rollcall.domain.upload import LOCAL_BUCKET, ObjectReference
from rollcall.settings import PREFIX, Address, DatabaseAuth, SettingError, Settings

if TYPE_CHECKING:
    from rollcall.adapters.postgres.connection import Credentials
    from rollcall.adapters.sqs import SqsQueues

_POSTGRES_PORT = 5432


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


def object_store(address: Address, *, owner: str | None = None) -> ObjectStore:
    """Return the store at an address.

    Args:
        address: Where it is.
        owner: The AWS account that has to own a bucket; None for any account.
    """
    if address.scheme == "s3":
        # Importing boto3 takes longer than importing a small file, so each adapter is imported only when needed.
        from rollcall.adapters.s3 import S3ObjectStore, client  # noqa: PLC0415 - see above

        return S3ObjectStore(address.place, address.prefix, client(owner))
    if address.scheme == "file":
        return LocalObjectStore(Path(address.place))
    from rollcall.adapters.memory import MemoryObjectStore  # noqa: PLC0415 - see above

    return MemoryObjectStore()


def is_report(settings: Settings, reference: ObjectReference) -> bool:
    """Return whether an object in S3 is in our own store of reports, from which nothing is imported.

    Raises:
        SettingError: Reports and uploads have the same address, so they cannot be distinguished.
    """
    reports, uploads = settings.reports, settings.uploads
    if not reports or (reports.scheme, reports.place) != ("s3", reference.bucket):
        return False
    inside = uploads and uploads.place == reports.place and uploads.prefix.startswith(reports.prefix)
    if inside or not reports.prefix:
        # Each receipt would be imported and get a receipt, without end, or each upload would count as a report.
        allowed = f"another bucket, or a folder in it that uploads do not use: s3://{reports.place}/reports"
        raise SettingError(f"{PREFIX}REPORTS", f"s3://{reports.place}/{reports.prefix}".rstrip("/"), allowed)
    return reference.key.startswith(reports.prefix)


def queue_sender() -> Callable[[str, str, Mapping[str, str], int], None]:
    """Return a function that sends messages to SQS queues: `SqsQueues.send`.

    It creates the client with the first message, because most invocations send none.
    """

    @cache
    def queues() -> "SqsQueues":
        from rollcall.adapters.sqs import SqsQueues, client  # noqa: PLC0415 - see object_store

        return SqsQueues(client())

    def send(arn: str, body: str, attributes: Mapping[str, str], delay_in_seconds: int) -> None:
        queues().send(arn, body, attributes, delay_in_seconds)

    return send


def uploaded_file(path: Path) -> tuple[ObjectStore, ObjectReference]:
    """Return the store and the reference of a file of this machine.

    Raises:
        StoreUnavailableError: The path names an open file that has no path of its own.
    """
    absolute = path_of(path)
    return LocalObjectStore(Path(absolute.anchor)), ObjectReference(key=key_of(absolute.relative_to("/")))


def is_folder_with_reports(path: Path) -> bool:
    """Return whether a path is a folder of reports beside an uploaded file."""
    return is_folder_of_reports(path.name) and path.is_dir()


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


@contextmanager
def repository(settings: Settings, data: Path, *, on_aws: bool = False) -> Iterator[UserRepository]:
    """Open the repository of users and ledger that the settings name.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        on_aws: See `_database`.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: The settings do not lead to a database.
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
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        on_aws: See `_database`.

    Returns:
        The steps that were taken, in order; empty if the schema was up to date.

    Raises:
        RepositoryUnavailableError: The database could not be reached, or refused a statement.
        SchemaError: The database's encoding is not UTF-8, or it contains duplicates under the setting unique_by.
        SettingError: The settings do not lead to a database.
    """
    from rollcall.adapters.postgres.migration import migrate as apply  # noqa: PLC0415 - see object_store

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
    """Build the use case that imports uploads.

    Args:
        settings: The settings.
        uploads: The store of uploads.
        reports: The store of receipts and rejected rows; None for a folder beside each local file.
        users: The repository of users and ledger.
        policy: Replaces the policy of the settings; None keeps it.
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
    """Build the use case that judges uploads and stores nothing."""
    from rollcall.adapters.dry_run import DryRunUserRepository, NoReports  # noqa: PLC0415 - see object_store

    return import_users(settings, uploads=uploads, reports=NoReports(), users=DryRunUserRepository())


def sweep(
    settings: Settings,
    *,
    uploads: ObjectStore,
    users: UserRepository,
    queue: str,
    announcement: Callable[[ListedObject], str],
    tell: Callable[[ListedObject, LostUploadAction], None],
) -> Sweep:
    """Build the sweep. The queue's visibility timeout is the age from which an upload may be lost.

    Args:
        settings: The settings.
        uploads: The store of uploads; it must name versions.
        users: The repository of users and ledger.
        queue: The ARN of the queue to which uploads are announced.
        announcement: Returns the message that announces an upload.
        tell: Called for each lost upload after it was queued or given up.

    Raises:
        StoreUnavailableError: The queue's visibility timeout could not be read.
    """
    from rollcall.adapters.sqs import SqsQueues, client  # noqa: PLC0415 - see object_store

    queues = SqsQueues(client())

    def announce(lost: Iterable[ListedObject]) -> None:
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
    """The parameters of a database connection.

    Attributes:
        conninfo: The address of the database.
        credentials: Returns candidates for the parameters that the address does not contain.
        embedded: Whether it is the embedded PostgreSQL.
    """

    conninfo: str
    credentials: "Credentials" = lambda: [{}]
    embedded: bool = False


@contextmanager
def _database(settings: Settings, data: Path, *, on_aws: bool) -> Iterator[_Database]:
    """Yield the connection parameters of the database; while they are in use, an embedded PostgreSQL runs.

    Args:
        settings: The settings.
        data: The folder of the embedded PostgreSQL, used if the settings name no database.
        on_aws: Whether this runs on AWS, where the connection is always verified by TLS.

    Raises:
        RepositoryUnavailableError: The embedded PostgreSQL does not start.
        SettingError: The settings do not lead to a database.
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
    """Return whether the settings name a database; otherwise the embedded one is used."""
    return settings.database_url is not None or settings.database_secret_arn is not None


def _credentials(settings: Settings) -> "Credentials | None":
    """Return the source of credentials that the settings name; None if the address contains them.

    Raises:
        SettingError: IAM needs a user and a host, and the database address does not contain them.
    """
    if settings.database_auth is DatabaseAuth.IAM:
        from rollcall.adapters.rds import IamToken  # noqa: PLC0415 - see object_store

        try:
            address = urlsplit(settings.database_url or "")
            host, port, user = address.hostname, address.port or _POSTGRES_PORT, unquote(address.username or "")
        except ValueError:  # the port is no number
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
    """Return the connection parameters by which the server's certificate is verified.

    Raises:
        SettingError: The CA bundle does not exist.
    """
    if settings.database_ca is None:
        return {"sslmode": "verify-full"}
    if not Path(settings.database_ca).is_file():
        allowed = attrs.fields(Settings).database_ca.metadata["allowed"]
        raise SettingError(f"{PREFIX}DATABASE_CA", settings.database_ca, allowed)
    return {"sslmode": "verify-full", "sslrootcert": settings.database_ca}


def _migrate_when_behind(users: UserRepository, database: _Database, policy: Policy) -> None:
    """Migrate the embedded database if its schema is older. Only Rollcall uses it, so nobody has to agree."""
    try:
        with suppress(UnknownImportError):
            users.get_import(0)  # the cheapest call that checks the schema
    except SchemaError:
        from rollcall.adapters.postgres.migration import migrate as apply  # noqa: PLC0415 - see object_store

        apply(database.conninfo, policy)
