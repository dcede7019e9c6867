"""The reason of a rejected row: each fault after its code, on one line."""

import re

from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.reasons import reason
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.user import USERS, User

cells = st.text(max_size=6)


def test_each_fault_follows_its_code() -> None:
    """In the order of the columns."""
    faults = (
        Fault(Code.BLANK_CELL, "name is blank; fill it in", "name"),
        Fault(Code.TYPE_ERROR, "age is 'x'", "age"),
    )

    assert reason(faults) == "[blank-cell] name is blank; fill it in [type-error] age is 'x'"


@given(row=st.tuples(*[cells] * len(USERS.columns)))
def test_the_faults_of_a_reason_can_be_separated(row: tuple[str, ...]) -> None:
    """Even if a message shows a cell that looks like the beginning of a fault."""
    judged = USERS.parse([f"[{cell}]\0 [blank-cell] {cell}" for cell in row])
    assert not isinstance(judged, User)

    assert re.findall(r"\[([^]]*)\] (\w+)", reason(judged)) == [(fault.code, fault.column) for fault in judged]
    assert reason(judged).count("[") == len(judged)
