"""Notifications for programs on this machine and elsewhere: by HTTP, or by the standard input of a command."""

import json
import subprocess
from collections.abc import Sequence
from urllib.parse import unquote

import urllib3
from urllib3.exceptions import HTTPError, NewConnectionError
from urllib3.exceptions import TimeoutError as HTTPTimeoutError
from urllib3.util import parse_url

from rollcall.application.errors import NotPublishedError
from rollcall.application.notification import Notification

HTTP_SECONDS = 10
COMMAND_SECONDS = 30


class Webhook:
    """Posts the event of each notification to a URL, as JSON.

    An error shows the host alone, because the rest of the URL may contain a secret.

    Args:
        url: The URL, of http or https.

    Raises:
        ValueError: It is no such URL.
    """

    def __init__(self, url: str) -> None:
        parsed = parse_url(url)
        if parsed.scheme not in {"http", "https"} or not parsed.host:
            raise ValueError
        self._url = url
        self._host = parsed.host
        basic_auth = unquote(parsed.auth) if parsed.auth else None
        self._headers = {"Content-Type": "application/json", **urllib3.make_headers(basic_auth=basic_auth)}
        self._pool = urllib3.PoolManager(timeout=urllib3.Timeout(total=HTTP_SECONDS), retries=False)

    def __call__(self, notification: Notification) -> None:
        """Post a notification. A redirection is a failure.

        Raises:
            NotPublishedError: The receiver could not be reached, or did not answer with a status of 200 to 299.
        """
        try:
            # Its body is not read, because it may be endless.
            answer = self._pool.request(
                "POST",
                self._url,
                body=_json(notification),
                headers=self._headers,
                redirect=False,
                preload_content=False,
            )
            answer.close()
        except NewConnectionError:  # which is a timeout, too, for urllib3
            raise NotPublishedError(self._host, "it could not be reached") from None
        except HTTPTimeoutError:
            raise NotPublishedError(self._host, f"it did not answer in {HTTP_SECONDS} seconds") from None
        except (HTTPError, OSError) as error:
            # Without the error's text, which may show the whole URL.
            raise NotPublishedError(self._host, f"the connection failed ({type(error).__name__})") from None
        if not 200 <= answer.status < 300:  # noqa: PLR2004 - the successes of HTTP
            raise NotPublishedError(self._host, f"it answered with status {answer.status}")


class Command:
    """Runs a command for each notification, with the event on its standard input, as JSON.

    Args:
        command: The program and its arguments.
        seconds: How long the command may run.
    """

    def __init__(self, command: Sequence[str], seconds: float = COMMAND_SECONDS) -> None:
        self._command = command
        self._seconds = seconds

    def __call__(self, notification: Notification) -> None:
        """Run the command, and kill it when its time is up.

        Raises:
            NotPublishedError: The command could not be started, did not end in time, or failed.
        """
        program = self._command[0]
        try:
            ended = subprocess.run(  # noqa: S603 - the operator's own command
                self._command,
                input=_json(notification),
                # Our own output may be JSON.
                stdout=subprocess.DEVNULL,
                timeout=self._seconds,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise NotPublishedError(program, f"it did not end in {self._seconds:g} seconds") from None
        except OSError as error:
            raise NotPublishedError(program, f"it could not be started: {error.strerror}") from None
        if ended.returncode:
            raise NotPublishedError(program, f"it ended with status {ended.returncode}")


def _json(notification: Notification) -> bytes:
    return json.dumps(notification.event).encode("ascii") + b"\n"
