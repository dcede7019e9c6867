"""IAM authentication for a database of Amazon RDS."""

from collections.abc import Iterator, Mapping

from boto3.session import Session
from botocore.exceptions import BotoCoreError

from rollcall.application.errors import RepositoryUnavailableError


class IamToken:
    """Signs a new token for each connection, which takes it as the password; a token is valid for 15 minutes.

    The source of the rules is Amazon RDS' user guide, "IAM database authentication".

    Args:
        host: The database's host, as the connection names it.
        port: The database's port.
        user: The database user.
    """

    def __init__(self, host: str, port: int, user: str) -> None:
        self._host = host
        self._port = port
        self._user = user

    def __call__(self) -> Iterator[Mapping[str, str]]:
        """Yield one candidate: the password.

        Raises:
            RepositoryUnavailableError: No token can be signed: AWS credentials or the region are missing.
        """
        try:
            token = Session().client("rds").generate_db_auth_token(self._host, self._port, self._user)
        except BotoCoreError as error:
            raise RepositoryUnavailableError(f"no password for {self._user} could be signed: {error}") from error
        yield {"password": token}
