"""Starts the command line. A failure while its modules load also becomes one sentence."""

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Load the command line and run it."""
    try:
        from rollcall.entrypoints import cli  # noqa: PLC0415 - this is what may fail
    except KeyboardInterrupt:
        sys.exit("rollcall: interrupted before anything was done")
    except ModuleNotFoundError as error:
        if (error.name or "rollcall").startswith("rollcall"):
            raise
        sys.exit(
            f"rollcall: the command line needs the package {error.name}: pip install 'rollcall[cli,embedded]'"
        )
    cli.main()


if __name__ == "__main__":
    main()
