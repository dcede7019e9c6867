"""Receipts, users and progress as text for people. A pipe gets it plain."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import IO

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from rollcall.application.import_users import Progress as Step
from rollcall.domain.policy import LedgerEntry
from rollcall.domain.receipt import Receipt, Status
from rollcall.domain.rejection import Rejection
from rollcall.domain.user import COLUMNS, User

REJECTIONS_LISTED = 20

_STYLES = {
    Status.LOADED: "bold green",
    Status.PARTIALLY_LOADED: "bold yellow",
    Status.REFUSED: "bold red",
    Status.SKIPPED: "bold cyan",
}
_PIPE_WIDTH = 10_000


class Terminal:
    """What a person sees.

    Args:
        output: Takes results.
        errors: Takes progress and complaints.
    """

    def __init__(self, output: IO[str], errors: IO[str]) -> None:
        self._console = _console(output)
        self._errors = _console(errors)

    def show_receipt(self, receipt: Receipt) -> None:
        """Tell what became of one upload, and what to do next."""
        name = printable(receipt.source.key)
        head = Text.assemble((receipt.status.replace("_", " "), _STYLES[receipt.status]), "  ", (name, "bold"))
        self._say(head)
        if receipt.message:
            self._say(Text(f"  {printable(receipt.message)}"))
        if receipt.status is not Status.SKIPPED and receipt.counts.read:
            self._say(Text(f"  {_counted(receipt)}"))
        if receipt.source.ignored_columns and receipt.counts.read:
            ignored = ", ".join(printable(label) or "(no label)" for label in receipt.source.ignored_columns[:10])
            self._say(Text(f"  columns ignored: {ignored}"))
        if receipt.rejections:
            self._table(_rejections(receipt.rejections[:REJECTIONS_LISTED]))
            more = receipt.counts.rejected - REJECTIONS_LISTED
            if more > 0:
                self._say(Text(f"  and {more:,} more"))
        if receipt.rejected_rows:
            self._say(Text(f"  rejected rows: {printable(receipt.rejected_rows)}"))

    def show_entries(self, entries: Iterator[LedgerEntry]) -> None:
        """List imports, as many as there are."""
        table = _new_table("import", "status", "read", "registered", "rejected", "started", "upload")
        for entry in entries:
            receipt = entry.receipt
            table.add_row(
                str(entry.import_id),
                _status(entry),
                f"{receipt.counts.read:,}",
                f"{receipt.counts.registered:,}",
                f"{receipt.counts.rejected:,}",
                f"{receipt.started:%Y-%m-%d %H:%M:%S}",
                printable(receipt.source.key),
            )
        if table.row_count:
            self._table(table)
        else:
            self._say(Text("no imports yet"))

    def show_entry(self, entry: LedgerEntry) -> None:
        """Tell all that the ledger knows of one import."""
        self._say(Text(f"import {entry.import_id}{', undone' if entry.undone else ''}", style="bold"))
        self.show_receipt(entry.receipt)

    def show_users(self, users: Iterator[User], limit: int) -> None:
        """List the first users."""
        table = _new_table(*COLUMNS)
        for user in islice(users, limit):
            table.add_row(*(str(value) for value in user.values()))
        self._table(table)
        if next(users, None):
            self._say(Text(f"  and more; --limit shows as many as you like, of {limit:,} now"))

    def say(self, sentence: str) -> None:
        """Say something that was asked for."""
        self._say(Text(printable(sentence)))

    def complain(self, sentence: str) -> None:
        """Say what went wrong and what to do."""
        self._errors.print(Text.assemble(("rollcall: ", "bold red"), printable(sentence)), soft_wrap=True)

    @contextmanager
    def progress(self) -> Iterator[Callable[[Step], None]]:
        """Show a bar while the context lasts, on a terminal only."""
        if not self._errors.is_terminal:
            yield lambda _: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[rows]}"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self._errors, transient=True) as bar:
            task = bar.add_task("checking", total=None, rows="")

            def show(step: Step) -> None:
                if bar.tasks[0].description != step.step:
                    bar.reset(task, description=step.step)
                elapsed = bar.tasks[0].elapsed or 0
                rate = f", {step.rows / elapsed:,.0f} rows/s" if elapsed > 1 else ""
                rows = f"{step.rows:,} rows{rate}" if step.rows else ""
                bar.update(task, completed=step.bytes_read, total=step.bytes_total, rows=rows)

            yield show

    def _say(self, text: Text) -> None:
        self._console.print(text, soft_wrap=True)

    def _table(self, table: Table) -> None:
        if not self._console.is_terminal:
            table.box = None
            self._console.print(table)
        else:
            self._console.print(table)


def printable(text: str) -> str:
    """Escape what could move the cursor or hide text: keys and messages may hold anything."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _console(stream: IO[str]) -> Console:
    width = None if stream.isatty() else _PIPE_WIDTH
    return Console(file=stream, width=width, highlight=False, markup=False, emoji=False)


def _new_table(*labels: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for label in labels:
        figures = label in {"line", "import", "read", "registered", "rejected", "age"}
        table.add_column(label, justify="right" if figures else "left", overflow="fold")
    return table


def _rejections(rejections: Sequence[Rejection]) -> Table:
    table = _new_table("line", "reason")
    for rejection in rejections:
        lines = (
            f"{rejection.line}"
            if rejection.line == rejection.last_line
            else f"{rejection.line}-{rejection.last_line}"
        )
        table.add_row(lines, Text("; ".join(printable(fault.message) for fault in rejection.faults)))
    return table


def _status(entry: LedgerEntry) -> Text:
    status = entry.receipt.status
    return Text("undone") if entry.undone else Text(status.replace("_", " "), style=_STYLES[status])


def _counted(receipt: Receipt) -> str:
    counts = receipt.counts
    parts = [f"{counts.read:,} rows read"]
    parts += [
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
    blank = f" ({counts.blank:,} blank)" if counts.blank else ""
    number = f" as import {receipt.import_id}" if receipt.import_id else ""
    return f"{', '.join(parts)}{blank}{number} in {receipt.seconds:.2f} s ({receipt.rows_per_second:,} rows/s)"
