"""The command line."""

import errno
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, nullcontext
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import NoReturn

import attrs
import click
import platformdirs

from rollcall import bootstrap
from rollcall.application.import_users import Progress
from rollcall.application.ports import (
    ImportInProgressError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectStore,
    RepositoryUnavailableError,
    SchemaError,
    StoreUnavailableError,
    UndoRefusedError,
    UnknownImportError,
    UserRepository,
)
from rollcall.application.receipts import to_dict, to_json
from rollcall.domain.policy import OnNewVersion
from rollcall.domain.receipt import ConservationError, Receipt, Status
from rollcall.domain.upload import ObjectReference
from rollcall.entrypoints.terminal import Terminal
from rollcall.entrypoints.watch import watch
from rollcall.settings import Address, SettingError, Settings, read_settings

FAILED, USAGE = 1, 2
EXIT_CODES = {
    Status.LOADED: 0,
    Status.SKIPPED: 0,
    Status.PARTIALLY_LOADED: 3,
    Status.REFUSED: 4,
}
FROM_BEST_TO_WORST = (0, 3, 4, FAILED)

# What is wrong with one file leaves the next as it is; what is wrong with the database does not.
FILE_ERRORS = (ObjectNotFoundError, ObjectChangedError, StoreUnavailableError, ImportInProgressError)
ERRORS = (
    *FILE_ERRORS,
    RepositoryUnavailableError,
    SchemaError,
    UnknownImportError,
    UndoRefusedError,
    ConservationError,
)

terminal = Terminal(sys.stdout, sys.stderr)

as_json = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object a line.")
reports_option = click.option(
    "--reports",
    metavar="DIR|s3://…",
    help="Where receipts and rejected rows go. Default: ROLLCALL_REPORTS, else beside the file.",
)


def main() -> NoReturn:
    """Run the command line; every failure becomes one sentence and an exit code."""
    signal.signal(signal.SIGTERM, _terminated)
    try:
        sys.exit(cli.main(standalone_mode=False))
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        _leave(f"{error.format_message().rstrip('.')}{hint}", USAGE)
    except SettingError as error:
        _leave(str(error), USAGE)
    except ERRORS as error:
        _leave(str(error), FAILED)
    except BrokenPipeError:
        # Whoever read our output has seen enough. What is still buffered must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(FAILED)
    except OSError as error:
        reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or "failed").lower()
        where = f" ({error.filename})" if error.filename else ""
        _leave(f"{reason}{where}; nothing was registered that was not reported", FAILED)
    except (KeyboardInterrupt, click.Abort):
        _leave("interrupted; what was not reported is not registered, and the same command does the rest", FAILED)


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    # As an exception it lets every context end as it should: transaction, files, embedded database.
    raise SystemExit(128 + signal.SIGTERM)


def _leave(sentence: str, code: int) -> NoReturn:
    terminal.complain(sentence)
    sys.exit(code)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rollcall")
@click.pass_context
def cli(context: click.Context) -> None:
    r"""Register the users listed in CSV files: exactly once, every refused row explained.

    \b
    Examples:
      rollcall import users.csv           register its users
      rollcall check users.csv            only judge it, without a database
      rollcall imports                    what was imported
      rollcall undo 3                     take import 3 back

    The database is ROLLCALL_DATABASE_URL; where that is not set, one that comes with Rollcall.
    """
    context.obj = read_settings(os.environ)


@cli.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE…|s3://BUCKET/KEY…")
@click.option("--again", is_flag=True, help="Import an upload once more that was undone.")
@click.option("--as-new", is_flag=True, help="Import a new version of a loaded file as a list of new users.")
@reports_option
@as_json
@click.pass_obj
def import_(
    settings: Settings,
    files: tuple[str, ...],
    *,
    again: bool,
    as_new: bool,
    reports: str | None,
    as_json: bool,
) -> int:
    r"""Register the users of files.

    A file that is already imported is skipped, so it is always safe to run the same command once more.

    \b
    Exit status: 0 loaded or skipped, 3 some rows were rejected, 4 refused, 1 failed, 2 wrong usage;
    of several files the worst.

    \b
    Examples:
      rollcall import users.csv
      rollcall import march/*.csv --json
      rollcall import s3://incoming/users.csv --reports s3://reports
    """
    policy = settings.policy
    if as_new:
        policy = attrs.evolve(policy, on_new_version=OnNewVersion.IMPORT)
    report_store = _report_store(settings, reports)
    if report_store is None and any(map(_is_s3, files)):
        raise click.UsageError("an upload in S3 needs a place for its receipt: give --reports")

    with _users(settings) as users:

        def import_one(file: str, progress: Callable[[Progress], None]) -> Receipt:
            uploads, reference = _upload(file)
            import_users = bootstrap.import_users(
                settings, uploads=uploads, reports=report_store, users=users, policy=policy
            )
            return import_users(reference, again=again, progress=progress)

        return _for_each(files, import_one, as_json=as_json)


@cli.command()
@click.argument("files", nargs=-1, required=True, metavar="FILE…|s3://BUCKET/KEY…")
@as_json
@click.pass_obj
def check(settings: Settings, files: tuple[str, ...], *, as_json: bool) -> int:
    r"""Judge files as an import would, without a database, and keep nothing.

    Only the database knows whether a file, its content or another version of it is imported already, so that
    is not checked.

    \b
    Exit status: as of import.

    \b
    Examples:
      rollcall check users.csv
      rollcall check users.csv --json | jq .counts
    """

    def check_one(file: str, progress: Callable[[Progress], None]) -> Receipt:
        uploads, reference = _upload(file)
        return bootstrap.dry_run(settings, uploads=uploads)(reference, progress=progress)

    code = _for_each(files, check_one, as_json=as_json)
    if not as_json:
        terminal.say("not checked: whether this upload, its content or another version of it is imported already")
    return code


@cli.command("watch")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="How many seconds a file must hold still before it is taken.",
)
@reports_option
@as_json
@click.pass_obj
def watch_(settings: Settings, folder: Path, *, interval: float, reports: str | None, as_json: bool) -> None:
    r"""Import every file dropped in a folder, until interrupted.

    \b
    Example:
      rollcall watch incoming/
    """
    uploads, folder_itself = bootstrap.folder(folder)
    with _users(settings) as users:
        import_users = bootstrap.import_users(
            settings, uploads=uploads, reports=_report_store(settings, reports), users=users
        )
        if not as_json:
            terminal.say(f"watching {folder_itself}; end with Ctrl-C")

        def take(reference: ObjectReference) -> bool:
            try:
                _show(import_users(reference), as_json=as_json)
            except (*FILE_ERRORS, RepositoryUnavailableError) as error:
                terminal.complain(f"{error}; trying again")
                return False
            return True

        watch(uploads, take, lambda: time.sleep(interval))


@cli.command()
@click.argument("import_id", metavar="[ID]", type=int, required=False)
@as_json
@click.pass_obj
def imports(settings: Settings, import_id: int | None, *, as_json: bool) -> None:
    r"""List what was imported, the newest first; or show the receipt of one import.

    \b
    Examples:
      rollcall imports
      rollcall imports 3 --json
    """
    with _users(settings) as users:
        if import_id is not None:
            entry = users.entry(import_id)
            if as_json:
                click.echo(json.dumps({**to_dict(entry.receipt), "undone": entry.undone}))
            else:
                terminal.show_entry(entry)
            return
        with closing(users.entries()) as entries:
            if as_json:
                for entry in entries:
                    click.echo(json.dumps({**to_dict(entry.receipt), "undone": entry.undone}))
            else:
                terminal.show_entries(entries)


@cli.command()
@click.option("--import", "import_id", type=int, metavar="ID", help="Only the users of this import.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many. Default: 50, or all with --json.")
@as_json
@click.pass_obj
def users(settings: Settings, import_id: int | None, limit: int | None, *, as_json: bool) -> None:
    r"""List users in the order in which they were registered, hence of their file.

    \b
    Examples:
      rollcall users --import 3
      rollcall users --json > users.jsonl
    """
    with _users(settings) as repository:
        if import_id is not None:
            repository.entry(import_id)
        with closing(repository.users(import_id)) as found:
            if as_json:
                for user in islice(found, limit):
                    click.echo(json.dumps(attrs.asdict(user)))
            else:
                terminal.show_users(found, 50 if limit is None else limit)


@cli.command()
@click.argument("import_id", metavar="ID", type=int)
@click.pass_obj
def undo(settings: Settings, import_id: int) -> None:
    r"""Take an import back: remove the users it registered.

    \b
    Example:
      rollcall undo 3
    """
    with _users(settings) as repository:
        removed = repository.undo(import_id, bootstrap.now())
    terminal.say(f"import {import_id} is undone: {removed:,} users removed")


@cli.command()
@click.pass_obj
def migrate(settings: Settings) -> None:
    r"""Bring the schema of the database up to date.

    \b
    Example:
      ROLLCALL_DATABASE_URL=postgresql://… rollcall migrate
    """
    applied = bootstrap.migrate(settings, _data_folder(settings))
    terminal.say(f"applied {', '.join(applied)}" if applied else "the schema is up to date")


def _for_each(
    files: tuple[str, ...], do: Callable[[str, Callable[[Progress], None]], Receipt], *, as_json: bool
) -> int:
    """Deal with file after file, whatever becomes of each.

    Returns:
        The worst exit code.
    """
    codes = []
    for file in files:
        try:
            with nullcontext(lambda _: None) if as_json else terminal.progress() as progress:
                receipt = do(file, progress)
        except FILE_ERRORS as error:
            terminal.complain(str(error))
            codes.append(FAILED)
        else:
            _show(receipt, as_json=as_json)
            codes.append(EXIT_CODES[receipt.status])
    return max(codes, key=FROM_BEST_TO_WORST.index)


def _show(receipt: Receipt, *, as_json: bool) -> None:
    if as_json:
        click.echo(to_json(receipt))
    else:
        terminal.show_receipt(receipt)


def _users(settings: Settings) -> AbstractContextManager[UserRepository]:
    return bootstrap.repository(settings, _data_folder(settings))


def _data_folder(settings: Settings) -> Path:
    return Path(settings.data or platformdirs.user_data_path("rollcall"))


def _is_s3(file: str) -> bool:
    return file.startswith("s3://")


def _upload(file: str) -> tuple[ObjectStore, ObjectReference]:
    if not _is_s3(file):
        return bootstrap.uploaded_file(Path(file))
    bucket, _, key = file.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise click.UsageError(f"{file} names no object; give s3://BUCKET/KEY")
    return bootstrap.object_store(Address("s3", bucket)), ObjectReference(bucket=bucket, key=key)


def _report_store(settings: Settings, reports: str | None) -> ObjectStore | None:
    if reports is None:
        return bootstrap.object_store(settings.reports) if settings.reports else None
    if _is_s3(reports):
        try:
            return bootstrap.object_store(Address.parse(reports))
        except ValueError:
            raise click.UsageError(f"--reports is {reports!r}; give a folder or s3://bucket[/prefix]") from None
    return bootstrap.object_store(Address("file", os.path.abspath(reports)))  # noqa: PTH100 - Path has no such
