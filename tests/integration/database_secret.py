"""A secret in Secrets Manager that tells the way into a database, as far as moto plays it over HTTP."""

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
PASSWORD = "The First Password"  # noqa: S105 - of a server that lives as long as a test


@attrs.frozen
class Secret:
    """A secret.

    Attributes:
        arn: Its name in full.
    """

    arn: str
    _secrets: "SecretsManagerClient"

    def holds(self, text: str) -> None:
        """Put something into it."""
        self._secrets.put_secret_value(SecretId=self.arn, SecretString=text)

    def tells(self, password: str, **further: object) -> None:
        """Put what Amazon RDS does into it."""
        self.holds(json.dumps({"engine": "postgres", "username": USER, "password": password, **further}))

    def is_gone(self) -> None:
        """Delete it."""
        self._secrets.delete_secret(SecretId=self.arn, ForceDeleteWithoutRecovery=True)


@contextmanager
def made_secret(endpoint: str) -> Iterator[Secret]:
    """Make one that tells `USER` and `PASSWORD`, at which every client looks as long as it is there."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", endpoint)
        manager = client()
        made = Secret(
            manager.create_secret(Name=f"database-{secrets.token_hex(4)}", SecretString="{}")["ARN"], manager
        )
        made.tells(PASSWORD)
        yield made
        made.is_gone()
