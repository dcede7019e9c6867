"""Cells that a spreadsheet would run as formulas: made safe on the way out, and restored when they come back."""

import re

_RUN = r"[=+\-@\t\r]"
_run_there = re.compile(f"'*{_RUN}")
_made_safe = re.compile(f"'+{_RUN}")


def safe_cell(cell: str) -> str:
    """Put a quote before what a spreadsheet would run.

    Quotes that stood there already are counted in, so that taking one away again is always right.
    """
    return f"'{cell}" if _run_there.match(cell) else cell


def restored_cell(cell: str) -> str:
    """Take off a cell that comes back what made it safe."""
    return cell[1:] if _made_safe.match(cell) else cell
