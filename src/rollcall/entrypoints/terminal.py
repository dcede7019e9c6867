"""Receipts, users and progress as text for people. A pipe gets plain text."""

import io
import os
import re
import shlex
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import IO

import attrs
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from rollcall.application.import_users import Progress as Step
from rollcall.application.reasons import reason
from rollcall.domain.fields import FORBIDDEN_CHARACTERS, DecimalNumber, WholeNumber
from rollcall.domain.ledger import LedgerEntry
from rollcall.domain.receipt import Action, FaultTotal, Receipt, Remedy, Status
from rollcall.domain.record import AnyUser, RecordType
from rollcall.domain.rejection import Code, Rejection, counted
from rollcall.domain.upload import LOCAL_BUCKET
from rollcall.entrypoints.record_page import example, other_labels, rule_of

REJECTIONS_LISTED = 20
LABELS_LISTED = 10

_STYLES = {
    Status.LOADED: "bold green",
    Status.PARTIALLY_LOADED: "bold yellow",
    Status.REFUSED: "bold red",
    Status.SKIPPED: "bold cyan",
}
_FIGURES = frozenset({"rows", "first line", "line", "import", "read", "registered", "rejected"})
_PIPE_WIDTH = 10_000
_BLOCK_ROWS = 1000
_GAP = 2  # between two columns

_unprintable = re.compile(f"[{FORBIDDEN_CHARACTERS}]")
# In a local path, the store writes a byte that is not UTF-8 as `\xe9`. A backslash that could begin such an escape
# is `\x5c`.
_escaped = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")
_nothing = re.compile(rb"(?!)()")


@attrs.frozen
class Invocation:
    """The parts of a command that the next command must repeat.

    Attributes:
        program: The beginning of a command, quoted for a shell.
        reports: The option `--reports` with a space before it; empty if it was not given.
        database: The database, as part of a sentence.
    """

    program: str
    reports: str
    database: str


NO_DATABASE = Invocation("rollcall", "", "no database")


class Terminal:
    """The text output of the command line.

    Args:
        output: The stream for results; None if the calling program has closed it.
        errors: The stream for progress and errors; None if the calling program has closed it.
    """

    def __init__(self, output: IO[str] | None, errors: IO[str] | None) -> None:
        self._console = _console(output)
        self._errors = _console(errors)

    def show_receipt(self, receipt: Receipt, invocation: Invocation, *, checked: bool = False) -> None:
        """Print the outcome for one upload, and the next steps.

        Args:
            receipt: The receipt of the upload.
            invocation: The parts of the command that the next one must repeat.
            checked: Whether the upload was only checked.
        """
        status = receipt.status
        words, style = _status(receipt)
        head = Text.assemble(("would be " * checked + words, style), "  ", (_short(receipt.source.key), "bold"))
        self._say(head)
        if receipt.message and status is not Status.PARTIALLY_LOADED:
            self._say(receipt.message, indent=2)
        if status.registers or receipt.counts.read:
            self._say(_counted(receipt), indent=2)
            if ignored := receipt.source.ignored_columns:
                self._say(f"columns ignored: {_listed(ignored)}", indent=2)
        if receipt.rejections:
            self._table(_rejections(receipt.rejections[:REJECTIONS_LISTED]), indent=2)
        if receipt.counts.rejected > REJECTIONS_LISTED:
            self._say(f"and {receipt.counts.rejected - REJECTIONS_LISTED:,} more; all of them by fault:", indent=2)
            self._table(_totals(receipt.totals), indent=2)
        if _corrects_nothing(receipt) and not checked:
            self._say(f"asked: {invocation.database}", indent=2)
        if receipt.rejected_rows and not receipt.status.registers:
            self._say("the rejected rows, to read:", indent=2)
            self._say_whole(f"    {_short(receipt.rejected_rows)}")
        if not checked:
            self._show_next_steps(receipt, invocation)

    def _show_next_steps(self, receipt: Receipt, invocation: Invocation) -> None:
        """Print the remedies as commands that can be pasted into a shell."""
        steps = [step for remedy in receipt.remedies if (step := self._step(remedy, receipt, invocation))]
        for number, (what, command) in enumerate(steps):
            self._say(f"{'or' if number else 'next'}: {what}:", indent=2)
            self._say_whole(f"    {command}")

    def _step(self, remedy: Remedy, receipt: Receipt, invocation: Invocation) -> tuple[str, str] | None:
        """Return a remedy in words.

        Returns:
            What to do, and the command for it; None if the receipt's message is enough.
        """

        def importing(address: str, option: str = "") -> str:
            file = quoted(_below_here(address), self._console.encoding)
            return f"{invocation.program} import{option}{invocation.reports} {file}"

        source = receipt.source
        upload = source.key if source.bucket == LOCAL_BUCKET else f"s3://{source.bucket}/{source.key}"
        match remedy:
            case Remedy(Action.CORRECT_REJECTED_ROWS, None) if receipt.rejected_rows:
                return "correct the rejected rows in this file, then import it", importing(receipt.rejected_rows)
            case Remedy(Action.IMPORT_AS_NEW):
                return "import it as a list of new users", importing(upload, " --as-new")
            case Remedy(Action.IMPORT_AGAIN, None):
                return "import it again", importing(upload, " --again")
            case Remedy(Action.CORRECT_ORIGINAL, None) if receipt.code is not Code.NOTHING_TO_CORRECT:
                return "correct the file itself, then import it again", importing(upload)
            case Remedy(action, int(import_id)):
                undo = f"undo import {import_id}", f"{invocation.program} undo {import_id}"
                look = f"look at import {import_id} and its files", f"{invocation.program} imports {import_id}"
                return undo if action is Action.UNDO else look
        return None

    def show_entries(self, entries: Iterator[LedgerEntry], invocation: Invocation) -> None:
        """Print all imports; if there are none, print in which database."""
        labels = "import", "status", "registered", "rejected", "started", "upload"
        rows = (
            (
                str(entry.import_id),
                "undone" if entry.undone else _status(entry.receipt),
                f"{entry.receipt.counts.registered:,}",
                f"{entry.receipt.counts.rejected:,}",
                _local_time(entry.receipt),
                _short(entry.receipt.source.key),
            )
            for entry in entries
        )
        if not self._long_table(labels, rows):
            self._say(f"no imports yet; asked: {invocation.database}")

    def show_entry(self, entry: LedgerEntry, invocation: Invocation) -> None:
        """Print the ledger's entry of one import."""
        undone = ", undone since" if entry.undone else ""
        self._say(f"import {entry.import_id}, started {_local_time(entry.receipt)}{undone}")
        self.show_receipt(entry.receipt, invocation)

    def show_users(
        self, record_type: RecordType, users: Iterator[AnyUser], limit: int, invocation: Invocation
    ) -> None:
        """Print the first users; if there are none, print in which database."""
        rows = (list(map(printable, record_type.texts(user))) for user in islice(users, limit))
        numbers = {
            field.name for field in record_type.fields if isinstance(field.rule, WholeNumber | DecimalNumber)
        }
        shown = self._long_table(record_type.columns, rows, numbers)
        if next(users, None):
            self._say(f"the first {limit:,}; more with --limit, all with --json")
        elif not shown:
            self._say(f"no users; asked: {invocation.database}")

    def show_record(self, record_type: RecordType) -> None:
        """Print the columns of a record, their rules, and an example row."""
        rows = (
            (field.name, printable(rule_of(field)), printable(other_labels(field))) for field in record_type.fields
        )
        self._long_table(("column", "what a cell must be", "also called"), rows)
        self._say("for example:")
        for line in example(record_type).splitlines():
            self._say_whole(line)
        user_type = record_type.user_type
        self._say(f"declared by {user_type.__module__}:{user_type.__qualname__}, table {record_type.table}")

    def say(self, sentence: str) -> None:
        """Print a sentence among the results."""
        self._say(sentence)

    def complain(self, sentence: str) -> None:
        """Print a sentence about an error: what went wrong and what to do."""
        self._errors.print(Text.assemble(("rollcall: ", "bold red"), printable(sentence)))

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """Show what the command is waiting for until the context ends, on a terminal only."""
        return self._errors.status(what) if self._errors.is_terminal else nullcontext()

    @contextmanager
    def progress(self) -> Iterator[Callable[[Step], None]]:
        """Show a progress bar until the context ends, on a terminal only."""
        if not self._errors.is_terminal:
            yield lambda _: None
            return
        # Imported only when a bar is shown, because the import takes time.
        from rich import progress  # noqa: PLC0415 - see above

        columns = (
            progress.TextColumn("{task.description}"),
            progress.BarColumn(bar_width=None),
            progress.TaskProgressColumn(),
            progress.DownloadColumn(),
            progress.TextColumn("{task.fields[rows]}"),
            progress.TimeRemainingColumn(),
        )
        with progress.Progress(*columns, console=self._errors, transient=True, expand=True) as bar:
            task = bar.add_task("checking", total=None, rows="")

            def show(step: Step) -> None:
                if bar.tasks[0].description != step.step:
                    bar.reset(task, description=step.step)
                elapsed = bar.tasks[0].elapsed or 0
                rate = f", {step.rows / elapsed:,.0f}/s" if elapsed > 1 else ""
                rows = f"{counted(step.rows, 'row')}{rate}" if step.rows else ""
                bar.update(task, completed=step.bytes_read, total=step.bytes_total, rows=rows)

            yield show

    def _say(self, text: str | Text, *, indent: int = 0) -> None:
        text = Text(printable(text)) if isinstance(text, str) else text
        self._console.print(Padding(text, (0, 0, 0, indent), expand=False))

    def _say_whole(self, line: str) -> None:
        """Print a line that can be copied, without adding a line end where it wraps."""
        self._console.print(Text(printable(line)), soft_wrap=True)

    def _long_table(
        self,
        labels: Sequence[str],
        rows: Iterator[Sequence[str | tuple[str, str]]],
        numbers: Container[str] = _FIGURES,
    ) -> bool:
        """Print a table of any length in blocks, because not all its rows may fit into memory.

        Args:
            labels: The labels of the columns.
            rows: The cells of each row, some with a style.
            numbers: The labels of the columns of numbers.

        Returns:
            Whether the table had a row.
        """
        widths = [len(label) for label in labels]
        shown = False
        while block := [list(map(_cell, row)) for row in islice(rows, _BLOCK_ROWS)]:
            table = _new_table(*labels, numbers=numbers, show_header=not shown)
            for row in block:
                table.add_row(*row)
                widths = [max(width, cell.cell_len) for width, cell in zip(widths, row, strict=True)]
            # The columns stay where they are in the next block, unless their cells have to be folded.
            if sum(widths) + _GAP * len(widths) <= self._console.width:
                for column, width in zip(table.columns, widths, strict=True):
                    column.min_width = width
            self._table(table)
            shown = True
        return shown

    def _table(self, table: Table, *, indent: int = 0) -> None:
        padded = Padding(table, (0, 0, 0, indent), expand=False)
        if self._console.is_terminal:
            self._console.print(padded)
            return
        with self._console.capture() as captured:
            self._console.print(padded)
        lines = (line.rstrip() for line in captured.get().removesuffix("\n").split("\n"))
        self._console.print(Text("\n".join(lines)), soft_wrap=True)


def printable(text: str) -> str:
    """Return a text with control and bidirectional characters escaped, which keys and messages may contain."""
    return _unprintable.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)


def quoted(path: str, encoding: str) -> str:
    """Return a file's name quoted for a shell, so that it names the same bytes when it is pasted.

    Args:
        path: The name as a receipt has it.
        encoding: The encoding of the terminal. Characters that it cannot show are written as bytes of UTF-8.
    """
    path = f"./{path}" if path.startswith("-") else path  # otherwise the shell command would read an option
    raw = path.encode("utf-8", "backslashreplace")
    escapes = _escaped if "://" not in path else _nothing
    shown = path.isascii() or encoding.lower() in {"utf-8", "utf8"}
    if shown and not _unprintable.search(path) and not escapes.search(raw):
        return shlex.quote(path)

    def octal(found: "re.Match[bytes]") -> bytes:
        values = bytes.fromhex(found[1].decode()) if found[1] else found[0]
        return b"".join(b"\\%03o" % value for value in values)

    return "$'" + re.sub(escapes.pattern + rb"|[^ -&(-\[\]-~]", octal, raw).decode("ascii") + "'"


def _console(stream: IO[str] | None) -> Console:
    if stream is None:
        stream = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the process ends
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")  # not every terminal can show every name
    terminal = stream.isatty()
    # With a width of 0, or one that is no number, rich would print nothing.
    environment = {
        name: value
        for name, value in os.environ.items()
        if name not in {"COLUMNS", "LINES"} or (value.isdecimal() and int(value))
    }
    return Console(
        file=stream,
        force_terminal=terminal,
        width=None if terminal else _PIPE_WIDTH,
        highlight=False,
        markup=False,
        emoji=False,
        _environ=environment,
    )


def _new_table(*labels: str, numbers: Container[str] = _FIGURES, show_header: bool = True) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="bold", show_header=show_header)
    for label in labels:
        table.add_column(label, justify="right" if label in numbers else "left", overflow="fold")
    return table


def _cell(cell: str | tuple[str, str]) -> Text:
    return Text(cell) if isinstance(cell, str) else Text(*cell)


def _rejections(rejections: Sequence[Rejection]) -> Table:
    table = _new_table("line", "reason")
    for rejection in rejections:
        lines = (
            f"{rejection.line}"
            if rejection.line == rejection.last_line
            else f"{rejection.line}-{rejection.last_line}"
        )
        table.add_row(lines, printable(reason(rejection.faults)))
    return table


def _totals(totals: Sequence[FaultTotal]) -> Table:
    table = _new_table("rows", "first line", "fault")
    for total in totals:
        table.add_row(
            f"{total.count:,}", f"{total.first_line:,}", f"{total.column or 'the row'} {total.code.says}"
        )
    return table


def _counted(receipt: Receipt) -> str:
    counts = receipt.counts
    fates = [
        f"{number:,} {name}"
        for name, number in (
            ("registered", counts.registered),
            ("updated", counts.updated),
            ("unchanged", counts.unchanged),
            ("rejected", counts.rejected),
            ("withheld", counts.withheld),
        )
        if number
    ]
    if counts.blank:
        fates.append(f"{counts.blank:,} blank skipped")
    about = [f"{receipt.seconds:.2f} s"]
    if counts.read:
        about.append(f"{receipt.rows_per_second:,} rows/s")
    if receipt.import_id and receipt.status.registers:
        about.insert(0, f"import {receipt.import_id}")
    return f"{counted(counts.read, 'row')} read{': ' * bool(fates)}{', '.join(fates)} ({', '.join(about)})"


def _status(receipt: Receipt) -> tuple[str, str]:
    return receipt.status.replace("_", " "), _STYLES[receipt.status]


def _listed(labels: Sequence[str]) -> str:
    listed = ", ".join(label or "(no label)" for label in labels[:LABELS_LISTED])
    return f"{listed} and {len(labels) - LABELS_LISTED:,} more" if len(labels) > LABELS_LISTED else listed


def _local_time(receipt: Receipt) -> str:
    return f"{receipt.started.astimezone():%Y-%m-%d %H:%M}"


def _short(path: str) -> str:
    """Return a path relative to the current folder if it is below it, otherwise the whole path."""
    return printable(_below_here(path))


def _below_here(path: str) -> str:
    return path.removeprefix(f"{Path.cwd()}/")


def _corrects_nothing(receipt: Receipt) -> bool:
    codes = {receipt.code, *(total.code for total in receipt.totals)}
    return Code.NOTHING_TO_CORRECT in codes
