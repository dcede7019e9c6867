"""The embedded PostgreSQL, for a user without a database server: no service, no port, no password.

All its files are in one folder:

    DATA/postgres/    PostgreSQL's own folder and its socket, closed to everyone but the server's user
    DATA/server.log   the server's log since its last start
    DATA/turn.lock    locked by the process that is starting or stopping the server
    DATA/users.lock   locked, shared, by every process that uses the server
    DATA/server.lock  locked by the server itself: it inherits the lock from the process that starts it

A lock counts only while a living process holds it; that its file exists means nothing. So a killed process, or
another process that now has its id, never counts as a server, never blocks one, and never keeps one running.

PostgreSQL refuses to run as root. For root, the server runs as the owner of `DATA/postgres`; if root created the
folder, that is `nobody`. The server is started inside that folder and needs no access to the folders above: no
other folder's owner or mode is ever changed, and a home folder keeps mode 0700. (Without /proc, as on macOS,
`nobody` does need that access.) Programs that this user cannot reach are copied, once, to /var/cache/rollcall.

While this process uses the server, libpq's variables (`PGHOST`, `PGSERVICE`, `PGTZ`, ...) are not in its
environment: they describe another server. Giving each option a value in the URL would not be enough: libpq looks
up `PGSERVICE` before it reads the URL, and `PGTZ` is no option.

It runs on Linux and macOS; Windows has no flock.
"""

from rollcall.adapters.embedded_postgres.processes import EmbeddedPostgresError
from rollcall.adapters.embedded_postgres.sharing import running

__all__ = ["EmbeddedPostgresError", "running"]
