"""The sound screen: what records look like that are good without a doubt, derived from the rules of `User`.

Whatever passes parses to what stands in it, and PostgreSQL reads it back the same. Being stricter costs speed,
being laxer is wrong.
"""

import re
from collections.abc import Callable, Sequence
from operator import itemgetter

import attrs

from rollcall.application.dialect import Header
from rollcall.domain.user import RULES, Rule

# With these, a clean record is far shorter than the longest record that is read at all.
MOST_CLEAN_COLUMNS = 100
MOST_IGNORED_CHARACTERS = 1000

_QUOTE = '"'
_PADDING = " \t"
# What would separate or open cells in a `Block`.
_APART = '",'
_LINE_END = r"\r?\n"


@attrs.frozen
class CleanRecords:
    """Records of one kind that are good without a doubt, each on a line of its own.

    Attributes:
        pattern: Any number of such records.
        as_rows: Brings a run of them to the form of a `Block`.
    """

    pattern: re.Pattern[str]
    as_rows: Callable[[str], str]


def clean_records(header: Header) -> Sequence[CleanRecords]:
    """Derive from the rules of `User` what records certainly parse to what stands in them.

    Returns:
        Every kind of them, the cheapest first; none in a file of mended rows: each must say which row it was.
    """
    if header.corrects or len(header.labels) > MOST_CLEAN_COLUMNS:
        return ()
    if header.delimiter == "," and header.positions == tuple(range(len(header.labels))):
        return _in_place(), _out_of_place(header)
    return (_out_of_place(header),)


def _in_place() -> CleanRecords:
    """Describe records that stand in the file as `Block` wants them, quoted or not."""
    cells = (f"(?:{_quoted(rule)}|{rule.clean(without=_APART)})" for rule in RULES)

    def as_rows(run: str) -> str:
        return run.replace("\r\n", "\n") if "\r" in run else run

    return CleanRecords(_any_number_of(",".join(cells)), as_rows)


def _out_of_place(header: Header) -> CleanRecords:
    """Describe records whose clean cells are padded, or stand among others or in another order."""
    delimiter = re.escape(header.delimiter)
    apart = _APART + header.delimiter
    padding = f"[{_PADDING.replace(header.delimiter, '')}]*+"
    # Only at the very start of a cell does a quote open it, and only at the very end does one close it.
    opens, closes = rf"(?<![^{delimiter}\r\n])", rf"(?=[{delimiter}\r\n])"
    most = f"{{0,{MOST_IGNORED_CHARACTERS}}}+"
    cells = [rf'(?:{opens}"[^"\r\n]{most}"{closes}|[^"\r\n{delimiter}]{most})'] * len(header.labels)
    groups = list(cells)
    for rule, position in zip(RULES, header.positions, strict=True):
        cell = f"{opens}{_quoted(rule)}{closes}|{rule.clean(without=apart)}"
        cells[position] = f"{padding}(?:{cell}){padding}"
        groups[position] = f"{padding}({cell}){padding}"
    record = re.compile(delimiter.join(groups) + _LINE_END)
    in_the_file = sorted(header.positions)
    in_order = itemgetter(*(in_the_file.index(position) for position in header.positions))

    def as_rows(run: str) -> str:
        return "".join([",".join(in_order(found)) + "\n" for found in record.findall(run)])

    return CleanRecords(_any_number_of(delimiter.join(cells)), as_rows)


def _quoted(rule: Rule) -> str:
    """Describe a clean cell in quotes, in which anything may stand but quotes."""
    return f'"{rule.clean(without=_QUOTE)}"'


def _any_number_of(record: str) -> re.Pattern[str]:
    # Greedy and not possessive: before Python 3.11.5 a possessive group matched what its inside does not.
    return re.compile(f"(?:{record}{_LINE_END})*")
