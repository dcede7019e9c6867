"""A demonstration of AWS on this machine: the built package in its runtime.

moto simulates S3, SQS, SNS and EventBridge over HTTP, and this program the HTTP API. PostgreSQL and the functions
are real.
"""

import csv
import io
import json
import logging
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import urllib3
from moto.server import ThreadedMotoServer

from rollcall.adapters.embedded_postgres import running
from support.api_events import http_event
from support.builders import asked, completed
from support.chain import TRIES
from support.emulator import Function
from support.stack import Stack, built, stacked
from support.template import ROOT, functions_of_routes, translated

EXAMPLES = ROOT / "examples"
# A person's corrections of the messy example's rejected rows, by line.
CORRECTED = {
    "5": {"Age": "30"},
    "6": {"Name": "Valentina Rojas"},
    "7": {"Age": "51"},
    "8": {"Name": "Late Arrival", "Country": "Kenya", "Age": "44"},
}
# A list for the Web API, and the correction of its bad row.
LIST = b"name,country,age\nMio,Japan,31\nLea,France,forty\n"
CORRECTION = {"age": "40"}
_INIT = re.compile(r"INIT REPORT\(durationMs: ([0-9.]+)\)")


def main() -> None:
    """Run the demonstration: the first deployment, files in the bucket, and the Web API."""
    with TemporaryDirectory() as folder, aws() as endpoint, running(Path(folder, "postgres")) as database_url:
        say("sam build")
        package = built(Path(folder, "package"))
        size = sum(path.stat().st_size for path in package.rglob("*") if path.is_file())
        tell(f"the package of all functions: {size / 1e6:.0f} MB unpacked")

        stack = stacked(package, endpoint, "demo", DatabaseUrl=database_url, DatabaseCa="")
        say("sam deploy")
        with stack.running("MigrateFunction") as migrate:
            tell(f"the migrate function: {json.dumps(migrate({}))}")
        with stack.running("ImportFunction") as function:
            play(stack, function, database_url)
            play_api(stack, function)
        show(
            database_url, "select id, status, registered, rejected, undone_at is not null from imports order by id"
        )


def play(stack: Stack, function: Function, database_url: str) -> None:
    """Upload several files, and show the results."""
    upload(stack, "sample_users.csv", (EXAMPLES / "sample_users.csv").read_bytes())
    deliver(stack, function)
    if found := _INIT.search(function.log.read_text(encoding="utf-8")):
        tell(f"(cold start here: {float(found[1]) / 1000:.2f} s)")

    upload(stack, "messy_users.csv", (EXAMPLES / "messy_users.csv").read_bytes())
    deliver(stack, function)
    say("S3 announces the receipt, and NotifyEmail gets an e-mail")
    with stack.running("NotifyFunction") as notify:
        *_, message = stack.notify(notify)
    for line in [f"Subject: {message['Subject']}", "", *message["Message"].splitlines()]:
        tell(f"  {line}".rstrip())
    [(key, rejected)] = [(key, data) for key, data in stack.reports().items() if "rejected-" in key]
    tell(f"s3://{stack.reports_bucket}/{key}:")
    for line in rejected.decode("utf-8-sig").splitlines():
        tell(f"  {line}")

    say("the cells are corrected, and the file is uploaded again")
    upload(stack, "corrected.csv", corrected(rejected))
    deliver(stack, function)

    say("a notification gets lost; the sweep finds the upload")
    # The sweep ignores uploads younger than the queue's visibility timeout.
    stack.chain.sqs.set_queue_attributes(QueueUrl=stack.chain.url, Attributes={"VisibilityTimeout": "0"})
    upload(stack, "lost.csv", completed(b"name,country,age\nLost,Nowhere,1\n"))
    stack.chain.lose()
    with stack.running("SweepFunction") as sweep:
        tell(f"the sweep function: {json.dumps(sweep({}))}")
    deliver(stack, function)

    say("somebody sends nonsense to the queue: after its last try it is in the dead-letter queue")
    stack.chain.sqs.send_message(QueueUrl=stack.chain.url, MessageBody="nonsense")
    for _ in range(TRIES):
        deliver(stack, function)
    stack.chain.receive()  # SQS moves it at the next receive
    dead = stack.chain.receive(stack.chain.dead)["Records"]
    tell(f"dead letters: {[record['body'] for record in dead]}")
    show(database_url, "select id, status, registered, rejected, object_key from imports order by id")
    show(database_url, "select name, country, age from users order by id")


def play_api(stack: Stack, importing: Function) -> None:
    """Upload a file through the Web API, register it, correct its bad row, and undo both imports."""
    with (
        stack.running("ApiFunction") as api,
        stack.running("UndoFunction") as undo,
        stack.running("CheckFunction") as check,
    ):
        ask = http_api({"ApiFunction": api, "UndoFunction": undo})
        started = ask("POST /api/uploads", send={"filename": "volunteers.csv", "size": len(LIST)})
        say("the form, with the file, goes to the inbox")
        form = {**started["fields"], "file": ("volunteers.csv", LIST)}
        tell(f"S3: {urllib3.request('POST', started['url'], fields=form, timeout=10).status}")
        stack.deliver(check, stack.inbox)
        checked = ask("GET /api/uploads/{id}", started["id"])
        tell(f"the verdict: {checked['check']['receipt']['counts']}")

        etag = checked["check"]["etag"]
        ask("PUT /api/uploads/{id}/registration", started["id"], send={}, headers={"if-match": etag})
        deliver(stack, importing)
        registered = ask("GET /api/uploads/{id}", started["id"])["import"]["id"]
        [row] = ask("GET /api/imports/{id}/rejections", registered)["rows"]
        corrections = {"rows": [{"line": row["line"], "cells": {**row["cells"], **CORRECTION}}]}
        correction = ask("POST /api/imports/{id}/corrections", registered, send=corrections)["id"]
        deliver(stack, importing)
        corrected = ask("GET /api/uploads/{id}", correction)["import"]["id"]
        for number in corrected, registered:
            ask("POST /api/imports/{id}/undo", number, send={})


def http_api(functions: dict[str, Function]) -> Callable[..., Any]:
    """Return a function that asks the Web API, and shows the answer.

    Args:
        functions: The running functions, by their names in the template.
    """
    answering = functions_of_routes(translated())

    def ask(route: str, of: str | int = "", *, send: object = None, headers: dict[str, str] | None = None) -> Any:  # noqa: ANN401 - any JSON
        method, path = route.replace("{id}", str(of)).split()
        body = None if send is None else json.dumps(send)
        shown = str(of) if isinstance(of, int) else f"{of[:6]}..."
        say(route.replace("{id}", shown) + (f"  {body}" if body else ""))
        event = {**http_event(method, path, body=body, headers=headers), "routeKey": route}
        answer = functions[answering[route]](event)
        found = json.loads(answer["body"])
        told = {name: found[name] for name in ("state", "rows", "undone", "detail") if name in found}
        tell(f"{answer['statusCode']}  {json.dumps(told, ensure_ascii=False) if told else ''}")
        return found

    return ask


def show(database_url: str, query: str) -> None:
    """Show the rows of a query."""
    say(query)
    for row in asked(database_url, query):
        tell("  ".join(map(str, row)))


def upload(stack: Stack, key: str, data: bytes) -> None:
    """Put an object into the uploads bucket, which notifies the queue."""
    say(f"aws s3 cp {key} s3://{stack.chain.bucket}/")
    stack.chain.drop(data, key)


def deliver(stack: Stack, function: Function) -> None:
    """Invoke the function with the queued messages, and show its log."""
    before = len(function.lines)
    stack.deliver(function)
    for line in function.lines[before:]:
        entry = json.loads(line)
        if "level" in entry:  # skip metrics
            told = {
                name: entry[name]
                for name in ("key", "import_id", "registered", "rejected", "corrects", "reason")
                if entry.get(name)
            }
            tell(f"the import function: {entry['message']} {json.dumps(told)}")


def corrected(rejected: bytes) -> bytes:
    """Correct the cells of the messy example's rejected rows, and leave everything else as it is."""
    rows = list(csv.DictReader(io.StringIO(rejected.decode("utf-8-sig"), newline="")))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, rows[0])
    writer.writeheader()
    writer.writerows({**row, **CORRECTED[row["rollcall_line"]]} for row in rows)
    return text.getvalue().encode("utf-8-sig")


@contextmanager
def aws() -> Iterator[str]:
    """Run the simulated AWS, and return its address."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # it would log every request
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        endpoint = f"http://{host}:{port}"
        os.environ |= {
            "AWS_ENDPOINT_URL_SQS": endpoint,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "demo",
            "AWS_SECRET_ACCESS_KEY": "demo",
        }
        yield endpoint
    finally:
        server.stop()


def say(what: str) -> None:
    """Print what happens next."""
    print(f"\n$ {what}")


def tell(what: str) -> None:
    """Print a result."""
    print(what, flush=True)


if __name__ == "__main__":
    main()
