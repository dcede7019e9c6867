"""A function in the runtime that AWS gives it, on this machine: emulator, the runtime's client, and the package.

Nothing else is on its path, so a package that lacks something fails here as it would there. Linux on x86_64 only.
"""

import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import attrs

Event = dict[str, Any]

_INVOKE = "/2015-03-31/functions/function/invocations"
_START_SECONDS = 20
_RUNTIME_CLIENT = ("awslambdaric", "runtime_client*.so", "simplejson", "snapshot_restore_py.py")


class FunctionError(RuntimeError):
    """The function raised, ran out of time, or died; the emulator answers that with HTTP 200.

    Attributes:
        kind: The type of the error, as Lambda has it.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.kind = str(answer.get("errorType", ""))
        super().__init__(f"{self.kind}: {answer.get('errorMessage')}")


@attrs.frozen
class Tools:
    """What AWS publishes for running functions on one's own machine, in an environment of its own.

    Attributes:
        emulator: The Runtime Interface Emulator.
        site_packages: Where the runtime's client is installed.
    """

    emulator: Path
    site_packages: Path

    @classmethod
    def installed_in(cls, environment: Path) -> "Tools":
        """Find them in a virtual environment that has aws-sam-cli and awslambdaric."""
        [site_packages] = environment.glob("lib/python3*/site-packages")
        return cls(site_packages / "samcli/local/rapid/aws-lambda-rie-x86_64", site_packages)


@attrs.frozen
class Function:
    """A function that answers invocations, one at a time.

    Attributes:
        log: What it and the emulator write.
    """

    log: Path
    _port: int
    _timeout_seconds: int
    _session: int

    def __call__(self, event: Event) -> Any:  # noqa: ANN401 - whatever JSON it answers
        """Invoke it and wait for its answer.

        Raises:
            FunctionError: It failed.
        """
        connection = HTTPConnection("127.0.0.1", self._port, timeout=self._timeout_seconds + _START_SECONDS)
        try:
            connection.request("POST", _INVOKE, json.dumps(event))
            text = connection.getresponse().read().decode()
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            # What the emulator says of a function that ran out of time is a bare sentence.
            raise FunctionError({"errorType": "Runtime", "errorMessage": text}) from None
        if isinstance(answer, dict) and "errorType" in answer:
            raise FunctionError(answer)
        return answer

    def processes(self) -> list[int]:
        """Find the processes of the function's runtime, without the emulator's own."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # it ended meanwhile
                # What stands before the parenthesis may hold anything; session is the fourth behind it.
                fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == self._session and int(status.parent.name) != self._session:
                    found.append(int(status.parent.name))
        return found

    @property
    def lines(self) -> list[str]:
        """The lines that the function itself has logged."""
        text = self.log.read_text(encoding="utf-8", errors="surrogateescape")
        return [line for line in text.splitlines() if line.startswith("{")]


@contextmanager
def emulated(
    tools: Tools,
    python: Path,
    package: Path,
    handler: str,
    environment: Mapping[str, str],
    folder: Path,
    *,
    timeout_seconds: int = 60,
) -> Iterator[Function]:
    """Start a function.

    Args:
        tools: The emulator and the runtime's client.
        python: The interpreter of the runtime; of its own packages only the standard library is seen.
        package: The folder that would be unpacked as /var/task.
        handler: What is called, as the template names it.
        environment: What is set for it, beside what AWS sets.
        folder: An empty folder for what the emulator needs.
        timeout_seconds: How long an invocation may take.
    """
    client = folder / "runtime"
    client.mkdir()
    for pattern in _RUNTIME_CLIENT:
        [found] = tools.site_packages.glob(pattern)
        (client / found.name).symlink_to(found)
    port, runtime_port = _free_ports(2)
    command = [
        *(str(tools.emulator), "--runtime-interface-emulator-address", f"127.0.0.1:{port}"),
        *("--runtime-api-address", f"127.0.0.1:{runtime_port}"),
        *(str(python), "-S", "-m", "awslambdaric", handler),
    ]
    set_by_aws = {
        "AWS_LAMBDA_FUNCTION_NAME": handler.rpartition(".")[0].rpartition(".")[2],
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(timeout_seconds),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1769",
        "LAMBDA_TASK_ROOT": str(package),
        "PYTHONPATH": f"{package}{os.pathsep}{client}",
        "PYTHONDONTWRITEBYTECODE": "1",  # what is unpacked there cannot be written to
        "PATH": os.defpath,
        "TZ": ":UTC",
    }
    log = folder / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(  # noqa: S603 - the tests' own words
            command,
            stdin=subprocess.DEVNULL,
            stdout=written,
            stderr=subprocess.STDOUT,
            cwd=package,
            env={**environment, **set_by_aws},
            start_new_session=True,
        ) as process,
    ):
        try:
            _wait_for(port)
            yield Function(log, port, timeout_seconds, process.pid)
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def _free_ports(number: int) -> list[int]:
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(number)]
    ports = [server.getsockname()[1] for server in listening]
    for server in listening:
        server.close()
    return ports


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return
