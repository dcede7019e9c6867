"""`rollcall serve` in a process of its own, and requests to it."""

import http.client
import json
import re
import socket
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from subprocess import PIPE, Popen
from typing import IO, Any, cast

import attrs

from support.command_line import CommandLine
from support.forms import form_around, multipart_type

SECONDS = 30.0

# The program with an inbox that takes any form, signed or not.
WITH_INBOX = (
    sys.executable,
    *("-W", "error", "-c"),
    """
import sys
from pathlib import Path
from rollcall.adapters.local import LocalObjectStore
from rollcall.entrypoints import serve
from rollcall.entrypoints.__main__ import main
store = LocalObjectStore(Path(sys.argv.pop(1)))
served = serve.Served
serve.Served = lambda **given: served(**{**given, "receive": lambda fields, file: store.put(fields["key"], file)})
main()
""",
)


@attrs.frozen
class Reply:
    """An answer over HTTP.

    Attributes:
        status: Its status.
        headers: Its headers.
        body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - any JSON
        """The body, read from JSON."""
        return json.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """The status and the code of a problem."""
        assert self.headers["Content-Type"] == "application/problem+json"
        assert self.json["status"] == self.status
        return self.status, self.json["type"].removeprefix("urn:rollcall:problem:")


@attrs.frozen
class Server:
    """A running `rollcall serve`.

    Attributes:
        process: The process.
        port: Its port.
        token: The token that it printed.
    """

    process: Popen[bytes]
    port: int
    token: str

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes | Iterable[bytes] | None = None,
        **headers: str,
    ) -> Reply:
        """Send one request, with the token, on a connection of its own. Headers are given with `_` for `-`."""
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request(method, path, body, {name: value for name, value in sent.items() if value})
            answer = connection.getresponse()
            return Reply(answer.status, dict(answer.headers), answer.read())
        finally:
            connection.close()

    def upload(self, key: str, pieces: Iterable[bytes], size: int) -> Reply:
        """Upload a file in a form, without the token."""
        before, after = form_around({"key": key})
        whole = len(before) + size + len(after)
        parts = (part for group in ([before], pieces, [after]) for part in group)
        return self.ask(
            "POST",
            "/inbox",
            body=parts,
            Content_Length=str(whole),
            Content_Type=multipart_type(),
            Authorization="",
        )

    def cut_upload(self, key: str, sent: bytes, size: int) -> None:
        """Begin to upload a file of a size, and disconnect after its first bytes."""
        before, after = form_around({"key": key})
        head = (
            f"POST /inbox HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: {multipart_type()}\r\n"
            f"Content-Length: {len(before) + size + len(after)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS) as connection:
            connection.sendall(head.encode() + before + sent)

    def peak_bytes(self) -> int:
        """Return the peak of the process's memory; on Linux only."""
        [peak] = re.findall(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text("ascii"))
        return int(peak) * 1024


@contextmanager
def serving(
    rollcall: CommandLine, *, inbox: Path | None = None, err: int = PIPE, **environment: str
) -> Iterator[Server]:
    """Run `rollcall serve` at a free port.

    Args:
        rollcall: Where it is started.
        inbox: The folder for uploads; None for no inbox.
        err: Where its log goes. A pipe that nobody reads has room for about a thousand requests.
        environment: Further variables.
    """
    program = {} if inbox is None else {"program": (*WITH_INBOX, str(inbox))}
    process = rollcall.start("serve", "--port", "0", environment=environment, err=err, **cast("Any", program))
    try:
        yield _started(process)
    finally:
        with process:  # which closes its pipes
            process.terminate()
            process.wait(SECONDS)


def _started(process: Popen[bytes]) -> Server:
    out = cast("IO[bytes]", process.stdout)
    line = out.readline().decode()
    found = re.search(r"serving http://127\.0\.0\.1:(\d+)/#token=([\w-]+);", line)
    if not found:
        process.kill()
        raise AssertionError(line + cast("IO[bytes]", process.stderr).read().decode())
    return Server(process, int(found[1]), found[2])
