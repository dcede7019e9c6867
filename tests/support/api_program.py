"""The Web API in a process of its own, because Powertools answers one request at a time in a process.

python api_program.py DATABASE_URL [killed]

It reads events, one a line, and answers each with one line, both in JSON. If it is to be killed, it kills itself
between the commit of a user and the answer.
"""

import json
import os
import signal
import sys

from rollcall.adapters.dry_run import NoReports
from rollcall.bootstrap import now
from rollcall.bootstrap.web import api_services
from rollcall.entrypoints.api import Api
from rollcall.settings import read_settings


def _die(*_: object) -> str:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError


def main(database_url: str, *how: str) -> None:
    """Answer requests until there are no more."""
    if how:
        setattr(NoReports, "put", _die)  # noqa: B010 - a method that mypy would not let be replaced
    settings = read_settings({"ROLLCALL_DATABASE_URL": database_url})
    with api_services(settings) as services:
        api = Api(settings=settings, services=lambda: services, now=now)
        for line in sys.stdin:
            print(json.dumps(api(json.loads(line), None)), flush=True)  # noqa: T201 - its answer


if __name__ == "__main__":
    main(*sys.argv[1:])
