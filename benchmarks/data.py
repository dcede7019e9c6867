"""The files of the benchmark: the same users in many forms. Each file is created once and then kept.

User number n is always the same person, and no two users have the same name and country. A clean row has 30 bytes
on average, and two of three rows contain a letter that is not ASCII. In the forms `WITH_BAD_ROWS`, one row of each
hundred is bad; `is_bad` and `GOOD_ROWS` both compute which.

Two forms are for a table that has the users of a clean file with ten times the rows. `next` has only other users.
In `nightly`, one row of each hundred is a new user or has another age, by turns; the other rows are in the table.
"""

import gzip
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path

_GIVEN = """
    Aarav Adèle Aiko Alice Amélie Ana André Anh Anna Ben Björn Bob Carla Chloé Chinedu David Elena Émile Emma
    Fatima Felix Françoise Giulia Hana Hans Ingrid Isabella Jack James Jan João José Juan Kofi Lars Léa Li
    Liam Linh Lucía Łukasz Maria Marie Mary Mateo Mia Mohammed Noah Olga Oliver Omar Paul Priya Rosa Søren
    Sofia Taro Thị Tomás Wei Yusuf Zoë Ζωή 太郎
""".split()  # noqa: SIM905 - a table of names reads better without the quotes, here and below
_FAMILY = """
    Abebe Ahmed Andersson Bauer Brown Castro Chen Cohen Costa Da-Silva Díaz Dubois Eze Fernández Fischer
    Garcia González Haddad Hansen Horvát Ivanova Jansen Johansson Jones Kamau Kim Kowalska Kumar Lee López
    Martin Mensah Meyer Müller Murphy Nakamura Nguyễn Novák O'Brien Okafor Ørsted Papadopoulos Patel Pereira
    Popescu Rossi Ruiz Santos Sato Schmidt Silva Singh Smith Sørensen Suzuki Svensson Takahashi Taylor Tran
    Virtanen Wang Weiß Yılmaz 山田
""".split()  # noqa: SIM905 - as above
_COUNTRIES = [
    country.replace("_", " ")
    for country in """
    Argentina Australia Österreich Bangladesh België Bolivia Brasil Canada Chile China Colombia Costa_Rica
    Česko Danmark Ecuador Egypt Éire España Ethiopia Suomi France Germany Ghana Ελλάδα Guatemala Magyarország
    Ísland India Indonesia Israel Italia Jamaica Japan Jordan Kenya Korea Lebanon Lietuva Luxembourg Malaysia
    México Morocco Nederland New_Zealand Nigeria Norge Pakistan Panama Perú Philippines Polska Portugal
    România Senegal South_Africa Sri_Lanka Sverige Schweiz Thailand Türkiye UK USA Việt_Nam 日本
""".split()  # noqa: SIM905 - as above
]

_NAMES = [f"{first} {second} {family}" for first in _GIVEN for second in _GIVEN for family in _FAMILY]
_MOST_USERS = len(_NAMES) * len(_COUNTRIES)  # 2 ** 24

_CLEAN = "{name},{country},{age}\n"
_ROWS = {
    "clean": _CLEAN,
    "bad": _CLEAN,
    "bad values": _CLEAN,
    "all bad": _CLEAN,
    "padded": " {name} , {country} , {age} \n",
    "quoted": '"{name}","{country}","{age}"\n',
    "semicolon": "{name};{country};{age}\n",
    "crlf": "{name},{country},{age}\r\n",
    "long names": "{name:ö<200},{country},{age}\n",
    "wide": "{name},{country},{age}" + ",another cell" * 20 + "\n",
    "next": _CLEAN,
    "nightly": _CLEAN,
}
TABLE_PER_FILE = 10  # the table has this many times the rows of the files `next` and `nightly`
# The file of clean rows in other encodings.
_ENCODINGS = {"cp1252": "cp1252", "utf-16": "utf-16"}
FORMS = (*_ROWS, *_ENCODINGS, "gzip")
FOR_A_FULL_TABLE = frozenset({"next", "nightly"})
WITH_BAD_ROWS = frozenset({"bad", "bad values"})
OTHER_USERS = frozenset({"long names", "cp1252"})  # cp1252 lacks some letters, so some names differ

# One row for each kind of fault. A CSV reader detects some of them, a database others.
_BAD_VALUES = (
    "{name},{country},abc\n",
    "{name},{country},151\n",
    ",{country},{age}\n",
)
_BAD_ROWS = (
    *_BAD_VALUES,
    "{name},{country}\n",
    "{name},{country},{age},{age}\n",
    '"{name}" Jr,{country},{age}\n',
    "{name}\a,{country},{age}\n",
)
# A quote that is not closed until another bad row, hundreds of rows later, has quotes.
_RUNAWAY_QUOTE = '"{name},{country},{age}\n'
_HUNDREDS_TO_A_RUNAWAY = 700

# `not is_bad` in SQL, for rows that COPY loaded into an empty table, where ids begin with 1.
GOOD_ROWS = "(id - 1) % 100 <> ((id - 1) / 100 * 61 + 17) % 100"


def is_bad(number: int) -> bool:
    """Return whether the row of a user, counted from 0, is bad in the forms `WITH_BAD_ROWS`."""
    return number % 100 == (number // 100 * 61 + 17) % 100


def csv_file(folder: Path, form: str, rows: int) -> Path:
    """Return the path of a file of the first users, and create the file if it does not exist.

    Args:
        folder: The folder of the files.
        form: One of `FORMS`.
        rows: The number of rows without the header; a multiple of 100.
    """
    # The name contains a checksum of this code, so that files of an earlier version are not used.
    path = folder / f"{form.replace(' ', '-')}-{rows}-{zlib.crc32(Path(__file__).read_bytes()):08x}.csv"
    if path.exists():
        return path
    unfinished = path.with_suffix(".new")
    if form == "gzip":
        with csv_file(folder, "clean", rows).open("rb") as clean, gzip.open(unfinished, "wb", 6) as packed:
            shutil.copyfileobj(clean, packed)
    elif encoding := _ENCODINGS.get(form):
        with (
            csv_file(folder, "clean", rows).open(encoding="utf-8", newline="") as text,
            unfinished.open("w", encoding=encoding, errors="replace", newline="") as recoded,
        ):
            shutil.copyfileobj(text, recoded)
    else:
        with unfinished.open("w", encoding="utf-8", newline="") as file:
            file.writelines(_lines(form, rows))
    return unfinished.rename(path)


def small_files(folder: Path, files: int, rows: int) -> list[Path]:
    """Return the paths of many small files of `rows` clean rows each; no user is in two files."""
    paths = [folder / f"{number}.csv" for number in range(files)]
    if not folder.exists():
        unfinished = folder.with_name("small.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir()
        lines = _lines("clean", files * rows)
        header = next(lines)
        for path in paths:
            unfinished.joinpath(path.name).write_text(
                header + "".join(next(lines) for _ in range(rows)), encoding="utf-8"
            )
        unfinished.rename(folder)
    return paths


def _lines(form: str, rows: int) -> Iterator[str]:
    row = _ROWS[form]
    yield _header(form)
    for number in range(rows):
        hundred = number // 100
        is_new = form == "next" or (form == "nightly" and is_bad(number) and hundred % 2 == 0)
        ages = 1 if form == "nightly" and is_bad(number) else 0
        if is_new:
            name, country, age = _user(TABLE_PER_FILE * rows + number)
        else:
            name, country, age = _user(TABLE_PER_FILE * number if form == "nightly" else number)
        if form == "all bad":
            line = _BAD_ROWS[number % len(_BAD_ROWS)]
        elif form == "bad values" and is_bad(number):
            line = _BAD_VALUES[hundred % len(_BAD_VALUES)]
        elif form == "bad" and is_bad(number):
            runaway = hundred % _HUNDREDS_TO_A_RUNAWAY == 50  # noqa: PLR2004 - the row after it has no quote
            line = _RUNAWAY_QUOTE if runaway else _BAD_ROWS[hundred % len(_BAD_ROWS)]
        else:
            line = row
        yield line.format(name=name, country=country, age=age + ages)


def _user(number: int) -> tuple[str, str, int]:
    """Return name, country and age of a user, counted from 0."""
    # Multiplying by odd factors, and mixing the upper bits into the lower, is one-to-one: no user comes twice.
    mixed = number * 0x9E3779B1 % _MOST_USERS
    mixed = (mixed ^ mixed >> 12) * 0x85EBCA6B % _MOST_USERS
    return _NAMES[mixed // len(_COUNTRIES)], _COUNTRIES[mixed % len(_COUNTRIES)], mixed % 97


def _header(form: str) -> str:
    if form == "wide":
        return "name,country,age," + ",".join(f"column {number}" for number in range(1, 21)) + "\n"
    row = _CLEAN if form == "long names" else _ROWS[form]
    return row.format(name="name", country="country", age="age")
