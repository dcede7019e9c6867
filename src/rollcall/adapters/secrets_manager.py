"""The user and password of a database, kept in Secrets Manager."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rollcall.application.ports import RepositoryUnavailableError, raise_alone

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# Of what Amazon RDS writes into such a secret, what tells libpq the way in. The user guide of AWS Secrets Manager
# has it under "JSON structure of AWS Secrets Manager database credential secrets".
_LIBPQ_NAMES = {"username": "user", "password": "password", "host": "host", "port": "port", "dbname": "dbname"}
_NEEDED = {"user", "password"}


class DatabaseSecret:
    """Credentials that are fetched when they are first needed, kept, and fetched again when they were turned down.

    Args:
        arn: The secret's name in full.
        client: Makes a client of Secrets Manager, with its own timeouts and retries.
    """

    def __init__(self, arn: str, client: "Callable[[], SecretsManagerClient]") -> None:
        self._arn = arn
        self._client = client
        self._kept: Mapping[str, str] | None = None

    def __call__(self) -> Iterator[Mapping[str, str]]:
        """Yield what is kept, then what is there now, if that is something else: it was rotated meanwhile.

        Raises:
            RepositoryUnavailableError: The secret could not be read, or is of another kind.
        """
        turned_down = self._kept
        if turned_down is not None:
            yield turned_down
        self._kept = self._fetch()
        if self._kept != turned_down:
            yield self._kept

    def _fetch(self) -> Mapping[str, str]:
        try:
            text = self._client().get_secret_value(SecretId=self._arn)["SecretString"]
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code") or "an error"
            raise self._unreadable(f"Secrets Manager answered {code}") from error
        except BotoCoreError as error:
            raise self._unreadable(str(error)) from error
        except KeyError:
            raise self._of_another_kind() from None
        try:
            secret = json.loads(text)
            found = {name: str(secret[key]) for key, name in _LIBPQ_NAMES.items() if key in secret}
        except (ValueError, TypeError):
            raise_alone(self._of_another_kind())  # the cause would show it
        if not found.keys() >= _NEEDED:
            raise self._of_another_kind()
        return found

    def _unreadable(self, reason: str) -> RepositoryUnavailableError:
        return RepositoryUnavailableError(f"the secret {self._arn} could not be read: {reason}")

    def _of_another_kind(self) -> RepositoryUnavailableError:
        return RepositoryUnavailableError(
            f"the secret {self._arn} does not tell the way into a database; it should be the JSON object that "
            "Amazon RDS makes, with username and password"
        )


def client() -> "SecretsManagerClient":
    """Make a client that gives up within seconds."""
    return Session().client(
        "secretsmanager",
        config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}),
    )
