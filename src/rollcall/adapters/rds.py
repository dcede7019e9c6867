"""Passwords for a database of Amazon RDS that lets IAM say who comes in."""

from collections.abc import Iterator, Mapping

from boto3.session import Session
from botocore.exceptions import BotoCoreError

from rollcall.application.ports import RepositoryUnavailableError


class IamToken:
    """A password that this machine signs anew for each connection; good for a quarter of an hour.

    Amazon RDS' user guide has it under "IAM database authentication".

    Args:
        host: The database's host, under which it is asked for.
        port: Its port.
        user: The database user.
    """

    def __init__(self, host: str, port: int, user: str) -> None:
        self._host = host
        self._port = port
        self._user = user

    def __call__(self) -> Iterator[Mapping[str, str]]:
        """Yield one.

        Raises:
            RepositoryUnavailableError: This machine has no credentials of AWS to sign with, or knows no region.
        """
        try:
            token = Session().client("rds").generate_db_auth_token(self._host, self._port, self._user)
        except BotoCoreError as error:
            raise RepositoryUnavailableError(f"no password for {self._user} could be signed: {error}") from error
        yield {"password": token}
