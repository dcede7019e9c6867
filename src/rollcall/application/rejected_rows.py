"""The file of rejected rows: the uploader's own rows, and beside each the reason it was refused."""

import codecs
import csv
import hashlib
import io
import re
from collections.abc import Sequence
from typing import BinaryIO

from rollcall.application.dialect import Header
from rollcall.application.screening import RejectedRow
from rollcall.domain.rejection import Code

LINE, REASON, IMPORT, RECORD = "rollcall_line", "rollcall_reason", "rollcall_import", "rollcall_record"
OWN_LABELS = (LINE, REASON, IMPORT, RECORD)

MAX_RECORD_BYTES = 64 * 1024
CUT_MARK = " [cut here]"

# A spreadsheet runs a cell that starts like this. One quote before it stops that, and the quotes that stood there
# already are counted in, so that taking one away again is always right.
_runs_in_a_spreadsheet = re.compile(r"'*[=+\-@\t\r]")

_MARKS = {
    "utf-8": codecs.BOM_UTF8,  # always, for Excel takes UTF-8 without it for something else
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
}


class RejectedRows:
    """Writes rejected rows in the uploader's own dialect, however many, in constant memory.

    Args:
        spool: Takes the bytes; is read back from its beginning by `content`.
        header: The upload's header.
        encoding: The upload's encoding.
        import_id: The import that refused them; None in a dry run.
    """

    def __init__(self, spool: BinaryIO, header: Header, encoding: str, import_id: int | None) -> None:
        self._spool = spool
        self._header = header
        self._encoding = encoding
        self._import_id = "" if import_id is None else str(import_id)
        self._hash = hashlib.sha256()
        self._write(_MARKS.get(encoding, b""))
        if header.separator_line:
            self._write(self._encode(f"sep={header.delimiter}\r\n"))
        self._write_row([*header.labels, *OWN_LABELS])

    def add(self, rows: Sequence[RejectedRow]) -> None:
        """Append rows."""
        width = len(self._header.labels)
        for row in rows:
            whole = row.record.fault is None and len(row.record.cells) == width
            reason = "; ".join(fault.message for fault in row.rejection.faults)
            self._write_row(
                [
                    *(row.record.cells if whole else [""] * width),
                    str(row.rejection.line),
                    reason.encode("ascii", "backslashreplace").decode("ascii"),
                    self._import_id,
                    "" if whole else self._cut(row),
                ]
            )

    def content(self) -> tuple[str, BinaryIO]:
        """Finish the file.

        Returns:
            Its name, which carries the beginning of its own SHA-256, and its bytes at their beginning.
        """
        self._spool.seek(0)
        return f"rejected-{self._hash.hexdigest()[:12]}.csv", self._spool

    def _cut(self, row: RejectedRow) -> str:
        raw = row.record.text.encode()
        if len(raw) <= MAX_RECORD_BYTES and row.record.fault is not Code.RECORD_TOO_LONG:
            return row.record.text
        return raw[:MAX_RECORD_BYTES].decode(errors="ignore") + CUT_MARK

    def _write_row(self, cells: Sequence[str]) -> None:
        line = io.StringIO(newline="")
        csv.writer(line, delimiter=self._header.delimiter, lineterminator="\r\n").writerow(
            f"'{cell}" if _runs_in_a_spreadsheet.match(cell) else cell for cell in cells
        )
        self._write(self._encode(line.getvalue()))

    def _encode(self, text: str) -> bytes:
        return text.encode(self._encoding, "backslashreplace")

    def _write(self, data: bytes) -> None:
        self._hash.update(data)
        self._spool.write(data)
