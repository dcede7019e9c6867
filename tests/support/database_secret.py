"""A secret in Secrets Manager with access to a database, with moto in place of AWS, over HTTP."""

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs
import pytest

from rollcall.adapters.secrets_manager import client

if TYPE_CHECKING:
    from mypy_boto3_secretsmanager import SecretsManagerClient

USER = "importer"
PASSWORD = "The First Password"  # noqa: S105 - of a server that only a test uses


@attrs.frozen
class Secret:
    """A secret in Secrets Manager.

    Attributes:
        arn: The ARN of the secret.
    """

    arn: str
    _secrets: "SecretsManagerClient"

    def holds(self, text: str) -> None:
        """Store a text in the secret."""
        self._secrets.put_secret_value(SecretId=self.arn, SecretString=text)

    def tells(self, password: str, **further: object) -> None:
        """Store what Amazon RDS stores in a secret."""
        self.holds(json.dumps({"engine": "postgres", "username": USER, "password": password, **further}))

    def is_gone(self) -> None:
        """Delete the secret."""
        self._secrets.delete_secret(SecretId=self.arn, ForceDeleteWithoutRecovery=True)


@contextmanager
def made_secret(endpoint: str) -> Iterator[Secret]:
    """Make a secret with `USER` and `PASSWORD`, and point every client at this endpoint meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
        manager = client()
        made = Secret(
            manager.create_secret(Name=f"database-{secrets.token_hex(4)}", SecretString="{}")["ARN"], manager
        )
        made.tells(PASSWORD)
        yield made
        made.is_gone()
