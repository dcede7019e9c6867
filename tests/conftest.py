"""The test root: a real PostgreSQL, a server that speaks S3 over HTTP, and Hypothesis' profiles.

Each server starts once a session, when the first test needs it; tests get empty databases and buckets.
`ROLLCALL_TEST_DATABASE_URL` names another PostgreSQL to test against; its user must be able to create databases
and roles; the roles of docs/roles.sql stay there.
"""

import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import psycopg
import pytest
from hypothesis import settings
from moto.s3.exceptions import PreconditionFailed, S3ClientError
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
from psycopg import sql

from rollcall.adapters.embedded_postgres import running
from rollcall.adapters.s3 import client
from support.database_roles import migrate_as_documented
from support.receipts import require_ledger_as_published

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NewDatabase = Callable[[], AbstractContextManager[str]]
NewBucket = Callable[[bool], str]

# A plugin of the whole session: it prints its table at the end.
pytest_plugins = ["support.campaigns"]

# Amazon S3 user guide, "Naming Amazon S3 objects".
MAX_KEY_BYTES = 1024

CI = os.environ.get("CI", "").lower() not in {"", "0", "false"}

# No deadlines, because a database may be slow. A developer's machine tries new examples in every run and remembers
# failures. CI tries more examples, but the same ones for the same code: a red run must be caused by the change
# under test, and must be red again when it is repeated. On its other versions of Python it tries fewer.
settings.register_profile("default", max_examples=30, deadline=None)
settings.register_profile(
    "ci", settings.get_profile("default"), max_examples=100, derandomize=True, database=None, print_blob=True
)
settings.register_profile("other-python", settings.get_profile("ci"), max_examples=20)
settings.load_profile("ci" if CI else "default")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail skipped tests in CI."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail skipped modules in CI."""
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = f"nothing may be skipped in CI: {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def database_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a PostgreSQL server whose user may create databases."""
    if named := os.environ.get("ROLLCALL_TEST_DATABASE_URL"):
        yield named
        return
    with running(tmp_path_factory.mktemp("postgres")) as url:
        yield url


@pytest.fixture(scope="session")
def new_database(database_server: str) -> NewDatabase:
    """Make an empty database without tables; drop it at the end, even with open connections."""

    @contextmanager
    def make() -> Iterator[str]:
        name = f"rollcall_test_{secrets.token_hex(6)}"
        with psycopg.connect(database_server, autocommit=True) as connection:
            connection.execute(
                sql.SQL("create database {} template template0 encoding 'UTF8' locale 'C'").format(
                    sql.Identifier(name)
                )
            )
            # Test data need not survive a power failure.
            connection.execute(
                sql.SQL("alter database {} set synchronous_commit = off").format(sql.Identifier(name))
            )
        try:
            yield urlsplit(database_server)._replace(path=f"/{name}").geturl()
        finally:
            with psycopg.connect(database_server, autocommit=True) as connection:
                connection.execute(sql.SQL("drop database {} with (force)").format(sql.Identifier(name)))

    return make


@pytest.fixture(scope="session")
def migrated_database(new_database: NewDatabase) -> Iterator[str]:
    """URL of a database with Rollcall's tables and roles; see `emptied`."""
    with new_database() as url:
        migrate_as_documented(url)
        yield url


@pytest.fixture(scope="session")
def emptied(migrated_database: str) -> Callable[[], str]:
    """Empty the migrated database, fast enough for each Hypothesis example, and return its URL."""

    def empty() -> str:
        with psycopg.connect(migrated_database, autocommit=True) as connection:
            connection.execute("truncate users, imports, corrections, lost_uploads restart identity")
            # An index that a failed test left must not fail later tests.
            left = connection.execute(
                "select indexname from pg_indexes where tablename = 'users' "
                "and starts_with(indexname, 'users_unique_by_')"
            ).fetchall()
            for (index,) in left:
                connection.execute(sql.SQL("drop index {}").format(sql.Identifier(index)))
        return migrated_database

    return empty


@pytest.fixture
def database_url(emptied: Callable[[], str]) -> Iterator[str]:
    """URL of a migrated database without users."""
    url = emptied()
    yield url
    require_ledger_as_published(url)


@pytest.fixture(scope="session", autouse=True)
def _no_real_account() -> Iterator[None]:
    """Keep every test out of any AWS account that this machine knows."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        patch.setenv("AWS_CONFIG_FILE", os.devnull)
        patch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
        yield


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """URL of a server that speaks S3, used by every S3 client of this session."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    answer = S3Response._key_response  # noqa: SLF001 - moto lacks these checks, and has no other place to

    copying = threading.Lock()

    def answer_as_s3(self: S3Response, *request: Any) -> Any:  # noqa: ANN401 - as it was
        key = self.parse_key_name()
        if len(key.encode()) > MAX_KEY_BYTES:
            raise S3ClientError("KeyTooLongError", "Your key is too long")
        if "x-amz-copy-source" not in self.headers or self.headers.get("If-None-Match") != "*":
            return answer(self, *request)
        with copying:  # moto ignores the conditions of a copy
            if self.backend.get_object(self.bucket_name, key):
                raise PreconditionFailed("If-None-Match")
            bucket, _, source = unquote(self.headers["x-amz-copy-source"].partition("?")[0]).partition("/")
            found = self.backend.get_object(bucket, source)
            if found and self.headers.get("x-amz-copy-source-if-match", found.etag) != found.etag:
                raise PreconditionFailed("x-amz-copy-source-If-Match")
            return answer(self, *request)

    with ExitStack() as started, pytest.MonkeyPatch.context() as patch:
        patch.setattr(S3Response, "_key_response", answer_as_s3)
        server.start()
        started.callback(server.stop)
        _, port = server.get_host_and_port()
        endpoint = f"http://127.0.0.1:{port}"
        patch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        yield endpoint


@pytest.fixture(scope="session")
def s3_client(s3_endpoint: str) -> "S3Client":  # noqa: ARG001 - the client looks there
    """A client of the S3 server, made by Rollcall's own code."""
    return client()


@pytest.fixture(scope="session")
def new_bucket(s3_client: "S3Client") -> NewBucket:
    """Make an empty bucket, with versioning or without, and return its name."""

    def make(versioned: bool) -> str:  # noqa: FBT001 - what the one argument of `NewBucket` is
        name = f"bucket-{secrets.token_hex(6)}"
        s3_client.create_bucket(Bucket=name)
        if versioned:
            s3_client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        return name

    return make
