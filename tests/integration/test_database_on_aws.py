"""Access to a database on AWS: TLS with its certificate, a rotated secret, or IAM."""

import os
import socket
import struct
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme

from rollcall import bootstrap
from rollcall.adapters.postgres.schema import migration_ids
from rollcall.application.errors import RepositoryUnavailableError
from rollcall.application.ports import UserRepository
from rollcall.application.values import ImportRequest
from rollcall.domain.user import USERS
from rollcall.settings import SettingError, read_settings
from support.builders import ANN, an_upload, asked, eventually, load, serving
from support.database_secret import PASSWORD, USER, Secret, made_secret
from support.tls_postgres import TlsPostgres, tls_postgres

NOWHERE = Path("/nowhere")
WRONG = "Not The Password"

# The state of a socket and the kind of its timer, by proc_net_tcp(5).
_ESTABLISHED, _KEEPALIVE = "01", "02"


@pytest.fixture(scope="module")
def server() -> Iterator[TlsPostgres]:
    """A server that requires TLS and a password."""
    with tls_postgres() as started:
        started.let_in(USER, PASSWORD)
        bootstrap.migrate(read_settings({"ROLLCALL_DATABASE_URL": started.behind}), NOWHERE)
        yield started


@pytest.fixture
def secret(s3_endpoint: str) -> Iterator[Secret]:
    """A secret with the server's first password."""
    with made_secret(s3_endpoint) as made:
        yield made


def opened(server: TlsPostgres, **settings: str) -> AbstractContextManager[UserRepository]:
    """Open the repository as the Lambda does."""
    texts = {"database_url": server.url(), "database_ca": str(server.ca), **settings}
    named = {f"ROLLCALL_{name.upper()}": text for name, text in texts.items()}
    return bootstrap.repository(read_settings(named), NOWHERE, on_aws=True)


def comes_in(repository: UserRepository) -> None:
    """Use a repository, with or without entries."""
    next(repository.entries(), None)


def refused(entering: AbstractContextManager[UserRepository]) -> str:
    """Return the sentence of a failed connection."""
    with pytest.raises(RepositoryUnavailableError) as caught, entering as repository:
        comes_in(repository)
    assert "Password" not in repr(caught.getrepr())
    return str(caught.value)


def test_users_are_registered_over_tls_with_the_secret(server: TlsPostgres, secret: Secret) -> None:
    """The address alone has no user, no password and no setting for TLS."""
    with opened(server, database_secret_arn=secret.arn) as repository:
        load(repository, [ANN])
        encrypted = "select ssl from pg_stat_ssl join pg_stat_activity using (pid) where usename = %s"

        assert asked(server.behind, encrypted, USER) == [(True,)]
    assert asked(server.behind, "select name, country, age from users") == [USERS.values(ANN)]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux about its sockets")
def test_the_server_soon_probes_a_silent_importer(server: TlsPostgres, secret: Secret) -> None:
    """A machine without power closes no connection, so its locks would be held for two hours."""
    with opened(server, database_secret_arn=secret.arn) as repository:
        with repository.importing(ImportRequest(an_upload(), "sha")):
            assert eventually(lambda: any(seconds <= 30 for seconds in _seconds_until_asked(server.port)))
        # Only while locks are held.
        assert eventually(lambda: min(_seconds_until_asked(server.port), default=0) > 30)


def _seconds_until_asked(port: int) -> list[float]:
    """Return the seconds until the server probes each silent connection, by proc_net_tcp(5)."""
    sockets = [path.read_text("ascii").splitlines()[1:] for path in Path("/proc/net").glob("tcp*")]
    timers = [
        fields[5].split(":")
        for fields in map(str.split, chain.from_iterable(sockets))
        if fields[1].endswith(f":{port:04X}") and fields[3] == _ESTABLISHED
    ]
    return [int(ticks, 16) / os.sysconf("SC_CLK_TCK") for timer, ticks in timers if timer == _KEEPALIVE]


def test_the_secret_alone_is_enough_to_connect(server: TlsPostgres, secret: Secret) -> None:
    """Without Amazon RDS, a secret may hold host, port and database name as well."""
    secret.tells(PASSWORD, host="localhost", port=server.port, dbname="postgres")
    with opened(server, database_url="", database_secret_arn=secret.arn) as repository:
        comes_in(repository)


def test_the_address_overrides_the_secret(server: TlsPostgres, secret: Secret) -> None:
    """A proxy in front of the database has another host than the secret."""
    secret.tells(PASSWORD, host="nowhere.invalid", port=1, dbname="nothing")
    with opened(server, database_secret_arn=secret.arn) as repository:
        comes_in(repository)


@pytest.mark.parametrize("says", [{}, {"database_secret_arn": "the secret's"}], ids=["password", "secret"])
def test_a_server_with_another_name_is_not_trusted(
    server: TlsPostgres, secret: Secret, says: dict[str, str]
) -> None:
    """Its certificate is for `localhost`."""
    url = server.url("127.0.0.1").replace("//", f"//{USER}:The%20First%20Password@" if not says else "//")
    sentence = refused(opened(server, database_url=url, **dict.fromkeys(says, secret.arn)))

    assert 'server certificate for "localhost" does not match host name "127.0.0.1"' in sentence


def test_a_certificate_of_another_authority_is_not_trusted(
    server: TlsPostgres, secret: Secret, tmp_path: Path
) -> None:
    """An attacker between client and database can have a certificate of another authority."""
    another = tmp_path / "another.pem"
    trustme.CA().cert_pem.write_to_path(another)

    assert "certificate verify failed" in refused(
        opened(server, database_ca=str(another), database_secret_arn=secret.arn)
    )


def test_a_server_without_tls_learns_nothing() -> None:
    """Not even the name of a user is sent."""
    with serving(lambda connection: _say(connection, b"N")) as port:
        url = f"postgresql://{USER}:The%20Password@localhost:{port}/postgres"
        settings = read_settings({"ROLLCALL_DATABASE_URL": url})

        assert "server does not support SSL" in refused(bootstrap.repository(settings, NOWHERE, on_aws=True))


def test_a_missing_ca_bundle_stops_the_start(server: TlsPostgres) -> None:
    """A deployment may have left it out."""
    with (
        pytest.raises(
            SettingError, match=r"^ROLLCALL_DATABASE_CA is '/nowhere/ca.pem'; give the path of an existing PEM"
        ),
        opened(server, database_ca="/nowhere/ca.pem"),
    ):
        pass


def test_on_a_machine_the_address_alone_decides_about_tls(server: TlsPostgres) -> None:
    """Without a setting for AWS, libpq's own rules apply."""
    url = server.url("127.0.0.1").replace("//", f"//{USER}:The%20First%20Password@")
    with bootstrap.repository(read_settings({"ROLLCALL_DATABASE_URL": url}), NOWHERE) as repository:
        comes_in(repository)


def test_the_secret_is_fetched_once(server: TlsPostgres, secret: Secret) -> None:
    """The cached secret serves every later connection, even if Secrets Manager is unreachable."""
    with opened(server, database_secret_arn=secret.arn) as repository:
        comes_in(repository)
        secret.is_gone()
        _cut(server)
        comes_in(repository)


def test_a_rotated_password_is_fetched_again(server: TlsPostgres, secret: Secret) -> None:
    """After the server rejected the old password."""
    with opened(server, database_secret_arn=secret.arn) as repository:
        comes_in(repository)
        server.let_in(USER, "The Next Password")
        secret.tells("The Next Password")
        _cut(server)
        comes_in(repository)
    server.let_in(USER, PASSWORD)


def test_a_wrong_password_is_reported_and_not_shown(server: TlsPostgres, secret: Secret) -> None:
    """The same repository works once the secret is corrected, as a warm function needs."""
    secret.tells(WRONG)
    with opened(server, database_secret_arn=secret.arn) as repository:
        with pytest.raises(RepositoryUnavailableError, match="password authentication failed") as caught:
            comes_in(repository)
        assert WRONG not in repr(caught.getrepr(chain=True))
        secret.tells(PASSWORD)
        comes_in(repository)


@pytest.mark.parametrize(
    "text", ["{", "[]", '"S3CRET"', '{"username": "u"}', '{"password": "S3CRET"}', "S3CRET", "null"]
)
def test_a_secret_in_another_format_is_not_shown(server: TlsPostgres, secret: Secret, text: str) -> None:
    """It may hold any text."""
    secret.holds(text)
    sentence = refused(opened(server, database_secret_arn=secret.arn))

    assert "should be the JSON object that Amazon RDS creates" in sentence
    assert "S3CRET" not in sentence


def test_a_missing_secret_is_named(server: TlsPostgres, s3_endpoint: str) -> None:
    """The ARN may be mistyped, or reading it may be forbidden."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", s3_endpoint)
        arn = "arn:aws:secretsmanager:us-east-1:123456789012:secret:nothing"

        assert f"the secret {arn} could not be read: Secrets Manager answered ResourceNotFound" in refused(
            opened(server, database_secret_arn=arn)
        )


def test_rollcall_migrate_uses_the_secret(secret: Secret) -> None:
    """`rollcall migrate` on a machine needs no more settings than the Lambda."""
    with tls_postgres() as server:
        server.let_in(USER, PASSWORD)
        settings = {
            "ROLLCALL_DATABASE_URL": server.url(),
            "ROLLCALL_DATABASE_CA": str(server.ca),
            "ROLLCALL_DATABASE_SECRET_ARN": secret.arn,
        }
        applied = bootstrap.migrate(read_settings(settings), NOWHERE)

        assert applied == [*migration_ids(), "made the table users"]
        assert asked(server.behind, "select count(*) from _yoyo_migration") == [(len(migration_ids()),)]


def test_iam_signs_a_password_for_the_user_and_host() -> None:
    """Each connection gets a new password."""
    told: list[str] = []

    @contextmanager
    def database() -> Iterator[int]:
        with serving(lambda connection: told.append(_password_of(connection))) as port:
            yield port

    with database() as port:
        settings = read_settings(
            {
                "ROLLCALL_DATABASE_URL": f"postgresql://im%20porter@localhost:{port}/app?sslmode=disable",
                "ROLLCALL_DATABASE_AUTH": "iam",
            }
        )
        refused(bootstrap.repository(settings, NOWHERE, on_aws=True))

        token = urlsplit(f"https://{told[0]}")
        assert (token.hostname, token.port) == ("localhost", port)
        assert parse_qs(token.query)["DBUser"] == ["im porter"]
        assert parse_qs(token.query)["X-Amz-Expires"] == ["900"]


@pytest.mark.parametrize(
    "url", ["", "postgresql://", "postgresql://host/db", "postgresql://user@/db", "postgresql://u@h:x/d"]
)
def test_iam_without_a_user_and_a_host_stops_the_start(url: str) -> None:
    """The start fails."""
    settings = read_settings({"ROLLCALL_DATABASE_URL": url or "postgresql://", "ROLLCALL_DATABASE_AUTH": "iam"})

    with (
        pytest.raises(SettingError, match=r"ROLLCALL_DATABASE_URL is '[(]hidden[)]'; give postgresql://user@host"),
        bootstrap.repository(settings, NOWHERE),
    ):
        pass


def _cut(server: TlsPostgres) -> None:
    server.end_connections(USER)
    query = "select count(*) from pg_stat_activity where usename = %s"
    assert eventually(lambda: asked(server.behind, query, USER) == [(0,)])


def _say(connection: socket.socket, answer: bytes) -> None:
    connection.recv(1024)
    connection.sendall(answer)


def _password_of(connection: socket.socket) -> str:
    """Ask a client for its password in clear text, and return it."""
    length, _ = struct.unpack("!II", connection.recv(8))
    connection.recv(length - 8)
    connection.sendall(b"R" + struct.pack("!II", 8, 3))
    _, length = struct.unpack("!cI", connection.recv(5))
    return connection.recv(length - 4).rstrip(b"\0").decode()
