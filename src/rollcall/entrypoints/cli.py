"""The command line."""

import errno
import json
import os
import secrets
import shlex
import shutil
import signal
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, nullcontext, suppress
from functools import cache, partial, wraps
from itertools import islice
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Concatenate, NoReturn, ParamSpec, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import click

from rollcall import bootstrap
from rollcall.application.errors import (
    NotAdoptedError,
    NotMigratedError,
    NotPublishedError,
    ReportNotStoredError,
    RepositoryUnavailableError,
    StoreUnavailableError,
    UndoRefusedError,
    UndoUnconfirmedError,
    UnknownImportError,
    UploadError,
)
from rollcall.application.import_users import Progress
from rollcall.application.receipts import to_dict, to_json
from rollcall.application.reports import is_folder_beside
from rollcall.domain.errors import RollcallError
from rollcall.domain.policy import OnNewVersion
from rollcall.domain.receipt import ConservationError, Receipt, Status
from rollcall.domain.rejection import counted
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import User
from rollcall.entrypoints import record_page
from rollcall.entrypoints.terminal import NO_DATABASE, Invocation, Terminal
from rollcall.entrypoints.watch import watch
from rollcall.settings import Address, SettingError, Settings, read_settings

if TYPE_CHECKING:
    from rollcall.entrypoints.serve import Served

FAILED, USAGE = 1, 2
EXIT_CODES = {
    Status.LOADED: 0,
    Status.SKIPPED: 0,
    Status.PARTIALLY_LOADED: 3,
    Status.REFUSED: 4,
}
FROM_BEST_TO_WORST = (0, 3, 4, FAILED)
EXIT_STATUS = ("0  loaded, or skipped", "3  loaded in part", "4  refused", "1  failed", "2  wrong usage")

REPORTS_ELSEWHERE = "to store them elsewhere, run the command again with --reports FOLDER"
ONCE_MORE = "run the same command again; nothing is registered twice"

_interrupted = threading.Event()

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


@cache
def terminal() -> Terminal:
    """Return the one terminal of this process, on its standard streams."""
    return Terminal(sys.stdout, sys.stderr)


def pass_settings(command: Callable[Concatenate[Settings, P], R]) -> Callable[P, R]:
    """Return a command that reads the settings when it begins, so that its help works with wrong settings."""

    @wraps(command)
    def with_settings(*arguments: P.args, **options: P.kwargs) -> R:
        return command(read_settings(os.environ), *arguments, **options)

    return with_settings


as_json = click.option("--json", "as_json", is_flag=True, help="For programs: one JSON object a line.")
reports_option = click.option(
    "--reports",
    metavar="DIR|s3://…",
    help="Where receipts and rejected rows go. Default: ROLLCALL_REPORTS, else beside the file.",
)


def main() -> NoReturn:
    """Run the command line. Every failure becomes one sentence and an exit code."""
    for ending in signal.SIGTERM, signal.SIGHUP:
        if signal.getsignal(ending) is not signal.SIG_IGN:  # as `nohup` sets it
            signal.signal(ending, _interrupt)
    try:
        terminal()  # before the first output, because it also sets how the streams write what they cannot encode
        sys.exit(cli.main(prog_name="rollcall", standalone_mode=False))
    except click.UsageError as error:
        hint = f"; see {error.ctx.command_path} --help" if error.ctx else ""
        message = error.format_message().rstrip(".")
        _leave(f"{message[:1].lower()}{message[1:]}{hint}", USAGE)
    except SettingError as error:
        _leave(str(error), USAGE)
    except RollcallError as error:
        _leave("; ".join([str(error), *getattr(error, "__notes__", ())]), FAILED)
    except BrokenPipeError:
        _hang_up()  # the program that read our output has ended
        sys.exit(FAILED)
    except OSError as error:
        _hang_up()
        _leave(f"{_said_by_the_system(error)}; {ONCE_MORE}", FAILED)
    except (KeyboardInterrupt, click.Abort):
        _leave(f"interrupted; {ONCE_MORE}", FAILED)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    """End as after Ctrl-C, so that every context is left: transaction, files, embedded database."""
    # A terminal may send more than one signal when it is closed. The second must not interrupt the clean-up.
    for ending in signal.SIGTERM, signal.SIGHUP:
        signal.signal(ending, _do_nothing)
    _interrupted.set()
    raise KeyboardInterrupt


def _pause(seconds: float) -> None:
    """Wait.

    Raises:
        KeyboardInterrupt: A signal came before. Its own exception is lost if a destructor was running.
    """
    if _interrupted.is_set():
        raise KeyboardInterrupt
    time.sleep(seconds)


def _do_nothing(_number: int, _frame: FrameType | None) -> None:
    """Ignore a signal. Unlike `SIG_IGN`, this is no error for a signal that already waits for its handler."""


def _leave(sentence: str, code: int) -> NoReturn:
    with suppress(OSError):  # the terminal may be closed
        terminal().complain(sentence)
    sys.exit(code)


def _hang_up() -> None:
    """Redirect the output to nowhere, so that flushing it at exit does not fail again."""
    if sys.stdout:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _said_by_the_system(error: OSError) -> str:
    reason = "the disk is full" if error.errno == errno.ENOSPC else (error.strerror or "failed").lower()
    return f"{reason} ({error.filename})" if error.filename else reason


def _examples(*lines: str, exit_status: bool = False) -> str:
    """Return the end of a command's help, with the line breaks that click would remove."""
    parts = ["\b", "Examples:", *(f"  {line}" for line in lines)]
    if exit_status:
        parts += ["", "\b", "Exit status, of several files the worst:", *(f"  {line}" for line in EXIT_STATUS)]
    return "\n".join(parts)


@click.group(
    context_settings={"help_option_names": ["-h", "--help"]},
    invoke_without_command=True,
    epilog=_examples(
        "rollcall import users.csv    register its users",
        "rollcall check users.csv     only judge it, without a database",
        "rollcall imports             what was imported",
        "rollcall undo 3              remove the users of import 3",
    ),
)
@click.version_option(package_name="rollcall")
@click.pass_context
def cli(context: click.Context) -> None:
    """Register the users listed in CSV files: exactly once, with every rejected row explained.

    The database is ROLLCALL_DATABASE_URL. If that is not set, Rollcall runs a database of its own.
    """
    if not context.invoked_subcommand:
        click.echo(context.get_help())
        context.exit(USAGE)


@cli.command(
    "import",
    short_help="Register the users of files.",
    epilog=_examples(
        "rollcall import users.csv",
        "rollcall import march/*.csv --json",
        "rollcall import s3://incoming/users.csv --reports s3://reports",
        exit_status=True,
    ),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…|s3://BUCKET/KEY…")
@click.option("--again", is_flag=True, help="Import an undone upload again.")
@click.option("--as-new", is_flag=True, help="Import a new version of a loaded file as a list of new users.")
@reports_option
@as_json
@pass_settings
def import_(
    settings: Settings,
    files: tuple[str, ...],
    *,
    again: bool,
    as_new: bool,
    reports: str | None,
    as_json: bool,
) -> int:
    """Register the users of files.

    A file that is already imported is skipped, so it is always safe to run the same command again.
    """
    policy = settings.policy
    if as_new:
        policy = attrs.evolve(policy, on_new_version=OnNewVersion.IMPORT)
    report_address = _report_address(settings, reports)
    if report_address is None and any(map(_is_s3, files)):
        raise click.UsageError("an upload in S3 needs a store for its receipt: give --reports")
    show = partial(_show, as_json=as_json, invocation=_invocation(settings, reports))
    importer = bootstrap.importer(settings, _data_folder(settings), report_address=report_address, policy=policy)
    with _opened(settings, importer) as import_users:

        def import_one(file: str, progress: Callable[[Progress], None]) -> Receipt:
            return import_users(_reference(file), again=again, progress=progress)

        return _for_each(files, import_one, show, as_json=as_json)


@cli.command(
    short_help="Judge files without a database.",
    epilog=_examples("rollcall check users.csv", "rollcall check users.csv --json | jq .counts", exit_status=True),
)
@click.argument("files", nargs=-1, required=True, metavar="FILE…|s3://BUCKET/KEY…")
@as_json
@pass_settings
def check(settings: Settings, files: tuple[str, ...], *, as_json: bool) -> int:
    """Judge files as an import would, without a database, and keep nothing.

    Only the database knows whether a file, its content or another version of it is already imported, whether a
    user already exists, and whether a row was already corrected. These are not checked; duplicates within a file
    are.
    """
    not_checked = ["whether this upload, its content or another version of it is already imported"]
    if settings.policy.unique_by:
        not_checked.append("whether its users already exist")
    corrects = False
    judge = bootstrap.checker(settings)

    def check_one(file: str, progress: Callable[[Progress], None]) -> Receipt:
        nonlocal corrects
        receipt = judge(_reference(file), progress=progress)
        corrects |= receipt.corrects is not None
        return receipt

    code = _for_each(files, check_one, partial(_show, as_json=as_json, checked=True), as_json=as_json)
    if corrects:
        not_checked.append("whether its rows were already corrected")
    if not as_json and code != FAILED:
        terminal().say(f"not checked: {'; '.join(not_checked)}")
    return code


@cli.command(
    "watch",
    short_help="Import every file that is put in a folder.",
    epilog=_examples("rollcall watch incoming/", "rollcall watch incoming/ --reports outgoing/ --json"),
)
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--interval",
    type=click.FloatRange(min=0.1),
    default=2.0,
    show_default=True,
    help="How many seconds a file must not have changed before it is imported.",
)
@click.option(
    "--notify",
    metavar="URL|COMMAND",
    help="Post the outcome of each file to a URL, or give it to a command on its standard input, as JSON.",
)
@reports_option
@as_json
@pass_settings
def watch_(
    settings: Settings,
    folder: Path | None,
    *,
    interval: float,
    notify: str | None,
    reports: str | None,
    as_json: bool,
) -> None:
    """Import every file in a folder, by default ROLLCALL_UPLOADS, until interrupted.

    A file is imported when it has stopped changing. A file that cannot be imported at the moment is tried again.
    """
    if folder is None:
        if not settings.uploads or settings.uploads.scheme != "file":
            raise click.UsageError("no folder given: pass DIR, or set ROLLCALL_UPLOADS to file:///folder")
        folder = Path(settings.uploads.place)
    folder = Path(os.path.abspath(folder))  # noqa: PTH100 - resolve() would follow links
    report_address = _report_address(settings, reports)
    if report_address:
        _require_outside(folder, report_address)
    notify_outcome = _notifier(settings, notify, report_address)
    skipped: set[str] = set()
    failed: dict[ObjectReference, str] = {}

    def skip(error: StoreUnavailableError) -> None:
        if str(error) not in skipped:
            skipped.add(str(error))
            terminal().complain(f"{error}; skipped, the rest of the folder is watched")

    uploads, last_line_has_end = bootstrap.folder(folder, skip)
    importer = bootstrap.importer(settings, _data_folder(settings), uploads=uploads, report_address=report_address)
    with _opened(settings, importer) as import_users:
        show = partial(_show, as_json=as_json, invocation=_invocation(settings, reports))

        def take(reference: ObjectReference) -> bool:
            try:
                receipt = import_users(reference)
            except (UploadError, RepositoryUnavailableError, ConservationError, OSError) as error:
                complaint = _said_by_the_system(error) if isinstance(error, OSError) else str(error)
                # The system may name a temporary file, whose name differs at each try.
                kind = str(error.errno) if isinstance(error, OSError) else complaint
                if kind not in failed.values():
                    terminal().complain(f"{complaint}; trying again")
                failed[reference] = kind
                return False
            failed.pop(reference, None)
            show(receipt)
            notify_outcome(receipt)
            return True

        with suppress(KeyboardInterrupt):  # the normal end
            next(uploads.list(), None)  # raises if the folder cannot be listed
            if not as_json:
                terminal().say(f"watching {folder}; end with Ctrl-C")
            watch(
                uploads,
                take,
                lambda: _pause(interval),
                last_line_has_end=last_line_has_end,
                report=lambda error: terminal().complain(f"{error}; trying again"),
            )


def _notifier(
    settings: Settings, receiver: str | None, report_address: Address | None
) -> Callable[[Receipt], None]:
    """Return a function that notifies a receiver of an outcome; if that fails, it prints one sentence.

    Args:
        settings: The settings.
        receiver: A URL or a command; None to notify nobody.
        report_address: The store of reports; None for a folder beside each local file.

    Raises:
        click.UsageError: The receiver is neither a URL nor a command of this machine.
    """
    if receiver is None:
        return lambda _: None
    from rollcall.application.notification import import_finished  # noqa: PLC0415 - one command needs it

    try:
        publish = bootstrap.local_publisher(receiver)
    except ValueError:
        # Without the value, because a URL may contain a secret.
        raise click.UsageError(
            "--notify names no command of this machine and no URL; give http://…, https://… or a command"
        ) from None
    address_of = bootstrap.receipt_address(settings, report_address)

    def notify(receipt: Receipt) -> None:
        if receipt.first_receipt:
            return  # the receiver got the first delivery
        try:
            publish(import_finished(receipt, address_of(receipt)))
        except NotPublishedError as error:
            terminal().complain(f"nobody was notified of {receipt.source.key}: {error}")

    return notify


@cli.command(short_help="List imports.", epilog=_examples("rollcall imports", "rollcall imports 3 --json"))
@click.argument("import_id", metavar="[ID]", type=int, required=False)
@as_json
@pass_settings
def imports(settings: Settings, import_id: int | None, *, as_json: bool) -> None:
    """List imports, the newest first; or show the receipt of one import."""
    with _opened(settings, bootstrap.repository(settings, _data_folder(settings))) as users:
        if import_id is not None:
            entry = users.get_import(import_id)
            if as_json:
                click.echo(json.dumps({**to_dict(entry.receipt), "undone": entry.undone}))
            else:
                terminal().show_entry(entry, _invocation(settings))
            return
        with closing(users.entries()) as entries:
            if as_json:
                for entry in entries:
                    click.echo(json.dumps({**to_dict(entry.receipt), "undone": entry.undone}))
            else:
                terminal().show_entries(entries, _invocation(settings))


@cli.command(
    short_help="List users.", epilog=_examples("rollcall users --import 3", "rollcall users --json > users.jsonl")
)
@click.option("--import", "import_id", type=int, metavar="ID", help="Only the users of this import.")
@click.option(
    "--limit", type=click.IntRange(min=0), help="Largest number of users. Default: 50, or all with --json."
)
@as_json
@pass_settings
def users(settings: Settings, import_id: int | None, limit: int | None, *, as_json: bool) -> None:
    """List users in the order in which they were registered, which is that of their file."""
    with _opened(settings, bootstrap.repository(settings, _data_folder(settings))) as repository:
        if import_id is not None:
            repository.get_import(import_id)
        with closing(repository.users(import_id)) as found:
            if as_json:
                for user in islice(found, limit):
                    click.echo(json.dumps(settings.record.as_dict(user)))
            else:
                terminal().show_users(
                    settings.record, found, 50 if limit is None else limit, _invocation(settings)
                )


@cli.command(short_help="Undo an import.", epilog=_examples("rollcall undo 3"))
@click.argument("import_id", metavar="ID", type=int)
@click.option("--yes", is_flag=True, help="Also if fewer of its users are left than it registered.")
@pass_settings
def undo(settings: Settings, import_id: int, *, yes: bool) -> None:
    """Undo an import: remove the users that it registered."""
    with _opened(settings, bootstrap.repository(settings, _data_folder(settings))) as repository:
        try:
            removed = repository.undo(import_id, bootstrap.now(), confirmed=yes)
        except UndoUnconfirmedError as error:
            if not sys.stdin.isatty():
                _leave(f"{error}; to remove these, give --yes", FAILED)
            if not click.confirm(f"{error}. Undo it?", err=True):
                _leave("nothing was changed", FAILED)
            removed = repository.undo(import_id, bootstrap.now(), confirmed=True)
    terminal().say(f"import {import_id} is undone: {counted(removed, 'user')} removed")


@cli.command(
    short_help="Bring the schema of the database up to date.",
    epilog=_examples("ROLLCALL_DATABASE_URL=postgresql://… rollcall migrate"),
)
@click.option(
    "--adopt", is_flag=True, help="Use a table that another program made, if it has every column of the record."
)
@pass_settings
def migrate(settings: Settings, *, adopt: bool) -> None:
    """Bring the schema of the database up to date.

    The embedded database is migrated without this command.
    """
    try:
        applied = bootstrap.migrate(settings, _data_folder(settings), adopt=adopt)
    except NotAdoptedError as error:
        error.add_note(f"or use it as it is: {_invocation(settings).program} migrate --adopt")
        raise
    terminal().say(f"applied {', '.join(applied)}" if applied else "the schema is up to date")


@cli.command(
    short_help="Show the columns of a file and their rules.",
    epilog=_examples("rollcall record", "rollcall record --markdown > our-file.md"),
)
@click.option("--markdown", is_flag=True, help="As a page for the people who make files.")
@pass_settings
def record(settings: Settings, *, markdown: bool) -> None:
    """Show the columns of a file and their rules, as the record in force declares them."""
    if markdown:
        click.echo(record_page.markdown(settings.record), nl=False)
    else:
        terminal().show_record(settings.record)


@cli.command(
    short_help="Print the OpenAPI document of the Web API.",
    epilog=_examples("rollcall openapi > openapi.json"),
)
@pass_settings
def openapi(settings: Settings) -> None:
    """Print the OpenAPI 3.1 document of the Web API."""
    with _packages_of("serve"):
        from rollcall.entrypoints.api import ROUTES  # noqa: PLC0415 - few commands need Powertools
        from rollcall.entrypoints.api.openapi import as_text  # noqa: PLC0415 - see above

    click.echo(as_text(ROUTES, settings.record))


@cli.command(
    "serve",
    short_help="Run the Web API on this machine.",
    epilog=_examples("rollcall serve", "rollcall serve --port 0 --no-open"),
)
@click.option(
    "--host", default="127.0.0.1", show_default=True, metavar="ADDRESS", help="An address of this machine alone."
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8765,
    show_default=True,
    help="The port; 0 for any that is free.",
)
@click.option("--no-open", is_flag=True, help="Do not open the browser.")
@pass_settings
def serve_(settings: Settings, *, host: str, port: int, no_open: bool) -> None:
    """Run the Web API on this machine, until interrupted.

    Only programs of this machine reach it, and only with the token that is printed. Inbox, uploads and
    reports are folders beside the embedded database, unless ROLLCALL_UPLOADS and ROLLCALL_REPORTS name others.
    """
    with _packages_of("serve"):
        from rollcall.bootstrap import web  # noqa: PLC0415 - no other command needs a web server
        from rollcall.entrypoints import serve  # noqa: PLC0415 - as above
        from rollcall.entrypoints.api import Api  # noqa: PLC0415 - few commands need Powertools

    if not serve.is_loopback(host):
        raise click.UsageError(
            f"{host} is no address of this machine alone, such as 127.0.0.1; to serve others, deploy template.yaml"
        )
    with (
        serve.listening(host, port) as server,
        _opened(settings, web.local(settings, _data_folder(settings))) as local,
    ):
        services = web.Services(
            open_users=lambda: local.users,
            open_uploading=lambda users: web.uploading(settings, local.stores, users, bootstrap.now),
            policy=settings.policy,
            now=bootstrap.now,
        )
        api = Api(
            settings=settings,
            services=lambda: services,
            now=bootstrap.now,
            caller_of=serve.local_caller,
        )
        receiver = local.stores.receiver
        waiting = serve.Waiting(local)
        # A KeyboardInterrupt is the normal end.
        with serve.Worker(_complain_of_job).running(waiting.jobs) as look, suppress(KeyboardInterrupt):
            served = serve.Served(
                api=api,
                token=secrets.token_urlsafe(32),
                host=host,
                port=server.bind_addr[1],
                receive=receiver.receive if receiver else None,
                max_upload_bytes=settings.max_upload_bytes,
                log=_log,
                changed=look,
            )
            _introduce(served, open_page=not no_open and sys.stdout.isatty())
            serve.serve(server, served)


def _introduce(served: "Served", *, open_page: bool) -> None:
    """Print how to ask the Web API, and open its page if it has one."""
    if served.has_page:
        click.echo(f"serving {served.address}/#token={served.token}; end with Ctrl-C")
        if open_page:
            webbrowser.open(f"{served.address}/#token={served.token}")
        return
    click.echo(f"serving {served.address}/api/openapi.json; end with Ctrl-C")
    click.echo(f"try: curl -H 'Authorization: Bearer {served.token}' {served.address}/api/policy")


def _complain_of_job(error: Exception, again: bool) -> None:  # noqa: FBT001 - as the worker calls it
    from rollcall.entrypoints.serve import reason  # noqa: PLC0415 - see `serve_`

    terminal().complain(f"{reason(error)}; {'trying again' if again else ONCE_MORE}")


def _log(line: str) -> None:
    with suppress(OSError):  # the terminal may be closed; requests are answered nevertheless
        sys.stderr.write(f"{line}\n")


@contextmanager
def _packages_of(extra: str) -> Iterator[None]:
    """Load modules that need the packages of an extra; if one is missing, leave with what to install."""
    try:
        yield
    except ModuleNotFoundError as error:
        package, _, _ = (error.name or "rollcall").partition(".")
        if package == "rollcall":
            raise
        _leave(f"this command needs the package {package}: pip install 'rollcall[cli,embedded,{extra}]'", FAILED)


def _for_each(
    files: tuple[str, ...],
    do: Callable[[str, Callable[[Progress], None]], Receipt],
    show: Callable[[Receipt], None],
    *,
    as_json: bool,
) -> int:
    """Import or check each file; a failure of one file does not stop the next. Folders of reports are skipped.

    Returns:
        The worst exit code.
    """
    # `dir/*` also names folders of reports after a first import.
    reports = [
        file for file in files if not _is_s3(file) and is_folder_beside(Path(file).name) and Path(file).is_dir()
    ]
    if reports and not as_json:
        terminal().say(f"skipped, because it contains reports: {', '.join(reports)}")
    codes = [0]
    for file in files:
        if file in reports:
            continue
        try:
            with nullcontext(lambda _: None) if as_json else terminal().progress() as progress:
                receipt = do(file, progress)
        except (UploadError, ConservationError) as error:
            next_step = f"; {REPORTS_ELSEWHERE}" if isinstance(error, ReportNotStoredError) else ""
            terminal().complain(f"{error}{next_step}")
            codes.append(FAILED)
        else:
            show(receipt)
            codes.append(EXIT_CODES[receipt.status])
    return max(codes, key=FROM_BEST_TO_WORST.index)


def _show(receipt: Receipt, *, as_json: bool, invocation: Invocation = NO_DATABASE, checked: bool = False) -> None:
    if as_json:
        click.echo(to_json(receipt))
    else:
        terminal().show_receipt(receipt, invocation, checked=checked)


@contextmanager
def _opened(settings: Settings, opening: AbstractContextManager[T]) -> Iterator[T]:
    """Open a use case with its database; errors that an operator can act on say which database was asked."""
    with ExitStack() as held:
        with terminal().waiting("opening the database"):
            opened = held.enter_context(opening)
        try:
            yield opened
        except (UnknownImportError, UndoRefusedError) as error:
            if isinstance(error, UnknownImportError):
                error.add_note("`rollcall imports` lists them")
            error.add_note(f"asked: {_database(settings)}")
            raise
        except NotMigratedError as error:
            error.add_note(f"run: {_invocation(settings).program} migrate")
            raise


def _invocation(settings: Settings, reports: str | None = None) -> Invocation:
    """Return the parts that the next command must repeat to use the same database and the same reports."""
    program = Path(sys.argv[0])
    on_path = shutil.which("rollcall")
    if program.name != "rollcall" or (on_path and os.path.realpath(on_path) == os.path.realpath(program)):
        program = Path("rollcall")
    words = [shlex.quote(str(program))]
    if settings.data and not settings.names_database:
        words.insert(0, f"ROLLCALL_DATA={shlex.quote(settings.data)}")
    declared = settings.record.user_type
    if declared is not User:
        words.insert(0, f"ROLLCALL_RECORD={declared.__module__}:{declared.__qualname__}")
    option = "" if reports is None else f" --reports={shlex.quote(reports)}"
    return Invocation(" ".join(words), option, _database(settings))


def _database(settings: Settings) -> str:
    """Return the database as part of a sentence, without its password."""
    if not settings.names_database:
        return f"the embedded PostgreSQL in {_data_folder(settings)}"
    if settings.database_url == "memory:":
        return "a database in memory"
    # libpq reads the address first, then its `PG*` variables.
    address = urlsplit(settings.database_url or "")
    named = dict(parse_qsl(address.query))
    host = named.get("host") or address.netloc.rpartition("@")[2] or os.environ.get("PGHOST")
    name = named.get("dbname") or unquote(address.path.removeprefix("/")) or os.environ.get("PGDATABASE")
    service = named.get("service") or os.environ.get("PGSERVICE")
    if host and name:
        return f"the database {name} at {host}"
    if settings.database_secret_arn:
        return f"the database of the secret {settings.database_secret_arn}"
    if service:
        return f"the database of the service {service}"
    return f"the database {name or 'named as its user'} at {host or 'this machine'}"


def _data_folder(settings: Settings) -> Path:
    if settings.data:
        return Path(settings.data)
    import platformdirs  # noqa: PLC0415 - most commands do not need it

    return platformdirs.user_data_path("rollcall")


def _is_s3(file: str) -> bool:
    return file.startswith("s3://")


def _reference(file: str) -> ObjectReference:
    if "://" not in file:
        return bootstrap.file_reference(Path(file))
    if not _is_s3(file):
        raise click.UsageError(f"{file} is no address of an upload; give a file or s3://BUCKET/KEY")
    bucket, _, key = file.removeprefix("s3://").partition("/")
    if not bucket or not key:
        raise click.UsageError(f"{file} names no object; give s3://BUCKET/KEY")
    return ObjectReference(bucket=bucket, key=key)


def _report_address(settings: Settings, reports: str | None) -> Address | None:
    if reports is None:
        return settings.reports
    if "://" in reports:
        try:
            return Address.parse(reports)
        except ValueError:
            raise click.UsageError(f"--reports is {reports!r}; give a folder or s3://bucket[/prefix]") from None
    return Address("file", os.path.abspath(reports))  # noqa: PTH100 - resolve() would follow links


def _require_outside(watched: Path, reports: Address) -> None:
    """Check that reports are not stored in the watched folder, where they would be imported.

    Raises:
        click.UsageError: Reports would be stored in the watched folder.
    """
    if reports.scheme != "file":
        return
    # In the store of reports, the reports on a local file have the whole path of that file.
    stored = os.path.realpath(Path(reports.place, watched.relative_to("/")))
    if Path(stored).is_relative_to(os.path.realpath(watched)):
        raise click.UsageError(
            f"reports in {reports.place} would be stored in the watched folder {watched} and imported;"
            " give --reports a folder outside it"
        )
