"""A function in AWS's own runtime, on this machine: emulator, runtime client and package.

Nothing else is on its path, so a package with a missing module fails here as on AWS. Linux on x86_64 only.
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
    """The function raised, timed out or died. The emulator answers that with HTTP 200.

    Attributes:
        kind: Lambda's type of the error.
    """

    def __init__(self, answer: Mapping[str, Any]) -> None:
        self.kind = str(answer.get("errorType", ""))
        super().__init__(f"{self.kind}: {answer.get('errorMessage')}")


@attrs.frozen
class Tools:
    """AWS's tools to run functions on a local machine, in a virtual environment of their own.

    Attributes:
        emulator: The Runtime Interface Emulator.
        site_packages: Where the runtime's client is installed.
    """

    emulator: Path
    site_packages: Path

    @classmethod
    def installed_in(cls, environment: Path) -> "Tools":
        """Find the tools in a virtual environment that has aws-sam-cli and awslambdaric."""
        [site_packages] = environment.glob("lib/python3*/site-packages")
        return cls(site_packages / "samcli/local/rapid/aws-lambda-rie-x86_64", site_packages)


@attrs.frozen
class Function:
    """A function that answers invocations, one at a time.

    Attributes:
        log: The file with its and the emulator's output.
    """

    log: Path
    _port: int
    _timeout_seconds: int
    _session: int

    def __call__(self, event: Event) -> Any:  # noqa: ANN401 - any JSON
        """Invoke the function and wait for its answer.

        Raises:
            FunctionError: The function failed.
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
            # For a function that timed out, the emulator answers with plain text.
            raise FunctionError({"errorType": "Runtime", "errorMessage": text}) from None
        if isinstance(answer, dict) and "errorType" in answer:
            raise FunctionError(answer)
        return answer

    def processes(self) -> list[int]:
        """Find the processes of the function's runtime, without the emulator's own."""
        found = []
        for status in Path("/proc").glob("[0-9]*/stat"):
            with suppress(OSError):  # the process has ended
                # The process name ends at the last parenthesis; the session is the fourth field after it.
                fields = status.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == self._session and int(status.parent.name) != self._session:
                    found.append(int(status.parent.name))
        return found

    @property
    def lines(self) -> list[str]:
        """Log lines of the function itself."""
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
        python: The interpreter of the runtime; only its standard library is visible.
        package: The folder that Lambda would unpack as /var/task.
        handler: The handler, as the template names it.
        environment: Its environment variables, in addition to AWS's own.
        folder: An empty folder for the emulator's files.
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
        "PYTHONDONTWRITEBYTECODE": "1",  # /var/task is read-only
        "PATH": os.defpath,
        "TZ": ":UTC",
    }
    log = folder / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(  # noqa: S603 - our own command
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
