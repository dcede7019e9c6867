"""A worker process to be frozen: it imports one file within a deadline.

python worker.py DATABASE_URL FILE SECONDS
"""

import sys
import time
from contextlib import closing
from pathlib import Path

from rollcall import bootstrap
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import RepositoryUnavailableError
from rollcall.domain.user import USERS
from rollcall.settings import read_settings


def main(database_url: str, file: str, seconds: str) -> str | None:
    """Import the file as the import Lambda imports an announced upload.

    Returns:
        The error that prevented the import, or None.
    """
    killed_at = time.monotonic() + float(seconds)
    reference = bootstrap.file_reference(Path(file))
    with closing(PostgresUserRepository(database_url, USERS)) as users:
        importer = bootstrap.import_users(read_settings({}), users)
        try:
            importer(reference, seconds_left=lambda: killed_at - time.monotonic())
        except RepositoryUnavailableError as error:
            return str(error)
    return None


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
