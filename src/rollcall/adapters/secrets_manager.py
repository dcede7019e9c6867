"""Database credentials from AWS Secrets Manager."""

import json
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from boto3.session import Session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from rollcall.application.errors import RepositoryUnavailableError, raise_without_context

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

# The keys of a database secret that are connection parameters, with libpq's names. The source is the user guide of
# AWS Secrets Manager, "JSON structure of AWS Secrets Manager database credential secrets".
_LIBPQ_NAMES = {"username": "user", "password": "password", "host": "host", "port": "port", "dbname": "dbname"}
_NEEDED = {"user", "password"}


class DatabaseSecret:
    """Credentials that are fetched at the first connection, kept, and fetched again after they were rejected.

    Args:
        arn: The ARN of the secret.
        client: Creates a client of Secrets Manager, with its own timeouts and retries.
    """

    def __init__(self, arn: str, client: "Callable[[], SecretsManagerClient]") -> None:
        self._arn = arn
        self._client = client
        self._kept: Mapping[str, str] | None = None

    def __call__(self) -> Iterator[Mapping[str, str]]:
        """Yield the kept credentials; if the database rejects them, yield the current ones after a rotation.

        Raises:
            RepositoryUnavailableError: The secret could not be read, or is no database secret.
        """
        rejected = self._kept
        if rejected is not None:
            yield rejected
        self._kept = self._fetch()
        if self._kept != rejected:
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
            raise_without_context(self._of_another_kind())  # the cause would show the secret
        if not found.keys() >= _NEEDED:
            raise self._of_another_kind()
        return found

    def _unreadable(self, reason: str) -> RepositoryUnavailableError:
        return RepositoryUnavailableError(f"the secret {self._arn} could not be read: {reason}")

    def _of_another_kind(self) -> RepositoryUnavailableError:
        return RepositoryUnavailableError(
            f"the secret {self._arn} is no database secret; it should be the JSON object that "
            "Amazon RDS creates, with username and password"
        )


def client() -> "SecretsManagerClient":
    """Return a client whose calls fail after some seconds at most."""
    return Session().client(
        "secretsmanager",
        config=Config(connect_timeout=2, read_timeout=5, retries={"mode": "standard", "total_max_attempts": 3}),
    )
