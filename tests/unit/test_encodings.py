"""Rejected rows keep their letters in every encoding that may be set."""

import codecs
import encodings
import pkgutil

import pytest

from rollcall.domain.receipt import Status
from rollcall.domain.user import USERS
from rollcall.settings import SettingError, read_settings
from support.builders import MORE, completed
from support.fakes import Desk

# Letters of many scripts, characters of quoting, and characters that some encodings map to two code points.
LETTERS = "éßñøþğžőșŷ€ΩπДжіאבعغไก山田日本한글中文か゚Ê̄~\\`|^{}[]#$@%\"'+-=&"


def _may_be_set(name: str) -> bool:
    try:
        read_settings({"ROLLCALL_ENCODINGS": name})
    except SettingError:
        return False
    return True


STANDARD = sorted(module.name for module in pkgutil.iter_modules(encodings.__path__) if _may_be_set(module.name))


def _has(character: str, encoding: str) -> bool:
    try:
        return character.encode(encoding).decode(encoding) == character
    except UnicodeError:
        return False


def test_every_text_encoding_of_python_may_be_set() -> None:
    """All text encodings of Python, of any standard."""
    assert len(STANDARD) > 100
    assert {"utf_8", "utf_16", "cp1252", "cp932", "shift_jis", "iso2022_jp", "hz", "gb18030", "cp500"} < {
        *STANDARD
    }


@pytest.mark.parametrize("encoding", STANDARD)
def test_rejected_rows_keep_the_encoding_of_the_upload(encoding: str) -> None:
    """Read, rejected, written, corrected and read again, letter by letter, with escapes and BOM."""
    letters = "".join(letter for letter in LETTERS if _has(letter, encoding))
    name = f"x{letters}y"
    quoted = name.replace('"', '""')
    text = f'name,country,age\r\n"{quoted}",A,1\r\n"{quoted}",B,old\r\n"{quoted}"y,C,1\r\n'
    desk = Desk()
    importer = desk.importer(encodings=(codecs.lookup(encoding).name,))

    first = importer(desk.drop(completed(text.encode()).decode().encode(encoding), "a.csv"))
    [rejected] = [data for key, data in desk.stored().items() if "rejected-" in key]
    mended = (
        rejected.decode(encoding)
        .replace("B,old", "B,2")
        .replace(
            f"{',' * len(USERS.columns)}4", f'{"".join(f"{cell}," for cell in MORE.values())}"{quoted}",C,3,4'
        )
    )
    second = importer(desk.drop(mended.encode(encoding), "b.csv"))

    assert (first.status, first.counts.registered) == (Status.PARTIALLY_LOADED, 1)
    assert (second.status, second.corrects) == (Status.LOADED, first.import_id)
    assert desk.rows() == [(name, "A", 1), (name, "B", 2), (name, "C", 3)]
