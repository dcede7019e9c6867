"""A real spreadsheet program, LibreOffice Calc, opens rejected rows: it runs nothing and keeps every cell.

tests/unit/test_spreadsheets.py says the same of every cell, by our own model of a spreadsheet.
"""

import csv
import io
import itertools
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from rollcall.application.header import RECORD
from support.fakes import Desk

PROGRAM = shutil.which("soffice")

pytestmark = pytest.mark.skipif(not PROGRAM, reason="needs LibreOffice Calc (Debian: libreoffice-calc-nogui)")

PATIENCE_SECONDS = 240

# A colon is none of the separators at which every file is made safe.
SEPARATORS = ",;|\t"
DELIMITERS = SEPARATORS + ":"

STARTS = ["", " ", "'", "''", '"', "'\"", "\xa0", "\t", "\n", "x\n", 'x"', *(f"x{mark}" for mark in DELIMITERS)]
FORMULAS = ["=1+1", '"=1+1', "＝1+1", "+1+1", "-1+1", "@SUM(1)", "=cmd|' /C calc'!A0"]  # noqa: RUF001 - full width
CELLS = [start + formula for start, formula in itertools.product(STARTS, FORMULAS)]
LABELS = ["name", "country", "age", "=1+1", "x;=1+1,=1+1|=1+1\t=1+1:=1+1"]

# The parameters of LibreOffice's filter for CSV: separator, quote, UTF-8, from the first line on.
FILTER = "{},34,76,1"
FORMULA = "{urn:oasis:names:tc:opendocument:xmlns:table:1.0}formula"


def _run(folder: Path, *arguments: str | Path) -> None:
    """Run the program without a window and with settings of its own."""
    subprocess.run(  # noqa: S603 - the program that is tested with
        [PROGRAM or "", f"-env:UserInstallation={(folder / 'profile').as_uri()}", "--headless", *arguments],
        check=True,
        capture_output=True,
        timeout=PATIENCE_SECONDS,
    )


def _opened(folder: Path, files: Iterable[Path], separator: str) -> dict[str, Path]:
    """Open CSV files, split at a separator.

    Returns:
        What is seen of each, as XML, by the stem of its name.
    """
    out = folder / f"split-at-{ord(separator)}"
    split = FILTER.format(ord(separator))
    _run(folder, f"--infilter=CSV:{split}", "--convert-to", "fods", "--outdir", out, *files)
    return {path.stem: path for path in out.iterdir()}


def _saved(folder: Path, files: Iterable[Path]) -> dict[str, bytes]:
    """Save as CSV with semicolons."""
    target = f"csv:Text - txt - csv (StarCalc):{FILTER.format(ord(';'))}"
    _run(folder, "--convert-to", target, "--outdir", folder / "saved", *files)
    return {path.stem: path.read_bytes() for path in (folder / "saved").iterdir()}


def _formulas(path: Path) -> list[str]:
    return [cell.attrib[FORMULA] for cell in ET.parse(path).iter() if FORMULA in cell.attrib]  # noqa: S314 - our own


def _upload(delimiter: str) -> bytes:
    """Write rows that are rejected: whole, with too many cells, and with quotes that do not match.

    Their line ends are LF, which a spreadsheet program makes of others inside cells.
    """
    text = io.StringIO(newline="")
    if delimiter not in ",;\t":
        text.write(f"sep={delimiter}\n")
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(LABELS)
    writer.writerows([cell, "Chile", "x" + cell, cell, ""] for cell in CELLS)
    writer.writerow(["Ann", "Chile", "30", "", ""])
    writer.writerows([cell] * 7 for cell in CELLS)
    text.writelines(f'"a"{delimiter}"b"{cell.splitlines()[-1]}\n' for cell in CELLS)
    return text.getvalue().encode()


def _rejected_rows(desk: Desk, data: bytes, key: str) -> bytes:
    receipt = desk.load(desk.drop(data, key))
    assert receipt.counts.rejected > 2.5 * len(CELLS)
    return desk.read((receipt.rejected_rows or "").removeprefix("memory:"))


def _cells(data: bytes) -> list[list[str]]:
    """Read the uploader's cells and the raw text of rows that could not be split.

    Without tabs, which the program leaves out of cells, and without the line that says the delimiter.
    """
    text = data.decode("utf-8-sig")
    delimiter = next(mark for mark in SEPARATORS if f"country{mark}age" in text)
    lines = io.StringIO(text.removeprefix(f"sep={delimiter}\r\n"), newline="")
    rows = list(csv.reader(lines, delimiter=delimiter))
    kept = [*range(len(LABELS)), rows[0].index(RECORD)]
    return [[row[place].replace("\t", "") for place in kept] for row in rows]


def test_a_spreadsheet_program_runs_nothing_and_keeps_cells(tmp_path: Path) -> None:
    """However it splits the file, and so also when the file that it saves is uploaded again."""
    desk = Desk()
    first = {f"own-{ord(mark)}": _rejected_rows(desk, _upload(mark), f"{ord(mark)}.csv") for mark in DELIMITERS}
    controls = {f"control-{ord(mark)}": f"x{mark}=1+1\r\n".encode() for mark in DELIMITERS}
    for stem, data in {**first, **controls}.items():
        (tmp_path / f"{stem}.csv").write_bytes(data)

    to_save = []
    for mark in DELIMITERS:
        seen = _opened(tmp_path, tmp_path.glob("*.csv"), mark)
        safe = first if mark in SEPARATORS else [f"own-{ord(mark)}"]
        assert _formulas(seen[f"control-{ord(mark)}"]) == ["of:=1+1"]
        assert {stem: _formulas(seen[stem]) for stem in safe} == {stem: [] for stem in safe}
        if mark in SEPARATORS:
            to_save.append(seen[f"own-{ord(mark)}"])

    for stem, saved in _saved(tmp_path, to_save).items():
        again = _rejected_rows(desk, saved, f"again-{stem}.csv")
        assert _cells(again) == _cells(first[stem])
