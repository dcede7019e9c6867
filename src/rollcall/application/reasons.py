"""The reason why a row was rejected, on one line: for the rejected-rows file and for a terminal."""

from collections.abc import Iterable

from rollcall.domain.rejection import Fault


def reason(faults: Iterable[Fault]) -> str:
    r"""Join the faults of a row, each behind its code: "[blank-cell] name is blank; … [type-error] age is …".

    Args:
        faults: The faults, in the order of their columns.

    Returns:
        One line. A "[" always begins a code; inside a message it is written as "\x5b".
    """
    return " ".join(f"[{fault.code}] {_without_bracket(fault.message)}" for fault in faults)


def _without_bracket(message: str) -> str:
    return message.replace("[", r"\x5b")
