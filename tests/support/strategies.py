"""Strategies for rules, users, cells and whole uploads; those of users derive from `User` and its rules."""

import csv
import gzip
import io
import string
from collections.abc import Sequence
from datetime import date
from decimal import Decimal

import attrs
import re2
from hypothesis import reject
from hypothesis import strategies as st

from rollcall.domain.errors import DeclarationError
from rollcall.domain.fields import (
    WHITE_SPACE,
    Boolean,
    Choice,
    Date,
    DecimalNumber,
    Email,
    Rule,
    Text,
    Uuid,
    Value,
    WholeNumber,
    is_blank,
)
from rollcall.domain.record import Field, RecordType, field
from rollcall.domain.rejection import Code
from rollcall.domain.user import USERS, User

RULES: dict[str, Rule] = {field.name: field.metadata["rule"] for field in attrs.fields(User)}

# The contract's forbidden characters, spelled independently of the domain's pattern so that each checks the
# other: Cc, Zl, Zp, surrogates (by category) and bidirectional controls.
_BIDIRECTIONAL_CONTROLS = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ALLOWED = st.characters(
    codec="utf-8", exclude_categories=("Cc", "Zl", "Zp", "Cs"), exclude_characters=_BIDIRECTIONAL_CONTROLS
)
_FORBIDDEN = st.sampled_from("\x00\x01\x08\t\n\r\x1b\x1f\x7f\x80\x85\x9f\u2028\u2029" + _BIDIRECTIONAL_CONTROLS)

_PRINTABLE = st.characters(min_codepoint=0x20, max_codepoint=0x7E)

# Values that broke CSV readers, spreadsheets or COPY before.
_TRICKY = (
    "O'Brien",
    'Ann "Nan" Lee',
    '"',
    '""',
    "Lee, Ann",
    "Lee; Ann",
    "\\.",
    "\\N",
    "\\",
    "NULL",
    "null",
    "=1+1",
    "-1",
    "@home",
    "'=quoted",
    "name",
    "é",
    "e\u0301",
    "山田 太郎",
    "𠮷野家",
    "👩\u200d👩\u200d👧",
    "\ufeffmarked",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
    "0",
    "%s",
    "$1",
    "{}",
    "Côte d'Ivoire",
)


def texts(rule: Text) -> st.SearchStrategy[str]:
    """Values of a text field, trimmed."""
    if rule.pattern:
        return st.from_regex(rule.pattern, fullmatch=True, alphabet=_PRINTABLE).filter(
            lambda text: text == text.strip(WHITE_SPACE) and len(text) <= rule.max_length
        )
    anything = st.text(_ALLOWED, min_size=1, max_size=min(rule.max_length, 30))
    longest = st.sampled_from(("a", "é", "𠮷")).map(lambda character: character * rule.max_length)
    return (
        st.one_of(st.sampled_from(_TRICKY), anything, anything, longest)
        .map(lambda text: text.strip(WHITE_SPACE))
        .filter(lambda text: not is_blank(text) and len(text) <= rule.max_length)
    )


def values(rule: Rule) -> st.SearchStrategy[Value]:  # noqa: PLR0911 - one for each kind
    """Values of a field with this rule."""
    match rule:
        case Text():
            return texts(rule)
        case WholeNumber():
            return st.integers(rule.minimum, rule.maximum)
        case DecimalNumber():
            most = 10**rule.digits - 1
            tiny = st.integers(-(10**rule.places), 10**rule.places)
            return (st.integers(-most, most) | tiny).map(
                lambda number: Decimal((int(number < 0), tuple(map(int, str(abs(number)))), -rule.places))
            )
        case Date():
            return st.dates(rule.earliest, rule.latest)
        case Boolean():
            return st.booleans()
        case Choice():
            return st.sampled_from(rule.values)
        case Email():
            return _emails().filter(lambda email: len(email) <= rule.max_length)
        case Uuid():
            return st.uuids()
    raise NotImplementedError(f"say here what values a field with {rule} holds")


def _emails() -> st.SearchStrategy[str]:
    local = st.text(string.ascii_letters + string.digits + ".!#$%&'*+/=?^_`{|}~-", min_size=1, max_size=20)
    label = st.from_regex("[a-zA-Z0-9]([a-zA-Z0-9-]{0,5}[a-zA-Z0-9])?", fullmatch=True, alphabet=_PRINTABLE)
    return st.builds("{}@{}".format, local, st.lists(label, min_size=1, max_size=3).map(".".join))


@st.composite
def patterns(draw: st.DrawFn) -> str:
    """Patterns as a text may declare them; some match only texts that are too long, or take too many attempts."""
    single = st.builds(
        "{}{}".format,
        st.sampled_from(
            ("[A-Z]", "[0-9]", "[a-z0-9._-]", r"[!-\]]", r"[\^a\-z]", "[ -~]", *'x-K ,"~', r"\.", r"\\")
        ),
        st.sampled_from(("", "", "", "?", "+", "*", "{2}", "{1,3}", "{2,}")),
    )
    sequence = st.lists(single, min_size=1, max_size=3).map("".join)
    group = st.builds("({}{}){}".format, st.sampled_from(("", "?:")), sequence, st.sampled_from(("", "?")))
    one = st.lists(sequence | group, min_size=1, max_size=3).map("".join)
    return "|".join(draw(st.lists(one, min_size=1, max_size=2)))


@st.composite
def _texts_of_a_form(draw: st.DrawFn) -> Text:
    pattern = draw(patterns())
    text = st.from_regex(pattern, fullmatch=True, alphabet=_PRINTABLE)
    try:
        return Text(max_length=draw(st.integers(3, 60)), pattern=pattern, example=draw(text))
    except DeclarationError:
        reject()


_FORMATS = ("D.M.YYYY", "DD.MM.YYYY", "M/D/YYYY", "YYYYMMDD", "YYYY年M月D日", "YYYY/MM/DD")
_WORDS = ("yes", "y", "1", "on", "はい", "x", "no", "n", "0", "off", "いいえ", "Straße", "oui, oui", "ok")
_CHOICES = (*_WORDS, "member", "Guest", "a,b", 'a "b"', "\\.", "NULL", "=1+1", "-", "a.b", "山田", "K", "x" * 200)


def rules() -> st.SearchStrategy[Rule]:
    """Rules of every kind, as records may declare them."""
    limits = st.tuples(st.integers(0, 2**53 - 1), st.integers(0, 2**53 - 1)) | st.tuples(
        st.integers(0, 300), st.integers(0, 300)
    )
    return st.one_of(
        st.builds(Text, st.integers(3, 300)),
        _texts_of_a_form(),
        limits.map(lambda pair: WholeNumber(min(pair), max(pair))),
        st.integers(1, 45).flatmap(
            lambda digits: st.builds(DecimalNumber, st.just(digits), st.integers(0, digits - 1))
        ),
        st.builds(
            lambda formats, days: Date(tuple(formats), min(days), max(days)),
            st.sets(st.sampled_from(_FORMATS)),
            st.tuples(st.dates(), st.dates()) | st.just((date.min, date.max)),
        ),
        st.lists(st.sampled_from(_WORDS), unique=True).flatmap(
            lambda words: st.integers(0, len(words)).map(
                lambda half: Boolean(true=tuple(words[:half]), false=tuple(words[half:]))
            )
        ),
        st.builds(
            lambda values, any_case: Choice(tuple(values), any_case),
            st.lists(st.sampled_from(_CHOICES), min_size=1, unique=True),
            st.booleans(),
        ),
        st.builds(Email, st.integers(60, 254)),
        st.just(Uuid()),
    )


def users() -> st.SearchStrategy[User]:
    """Any user that can be registered."""
    return st.builds(User, **{column: values(rule) for column, rule in RULES.items()})


@st.composite
def cells_for(draw: st.DrawFn, rule: Rule, value: Value) -> str:
    """Cells that a field parses to this value: padded, with needless zeros, or in another declared form."""
    text = rule.text(value)
    zeros = "0" * draw(st.sampled_from((0, 0, 0, 1, 40)))
    match rule:
        case WholeNumber():
            text = zeros + text
        case DecimalNumber():
            number = text.lstrip("-")
            point = "" if "." in number else "."
            more = draw(st.sampled_from(("", "", f"{point}{zeros or '0'}")))
            text = ("-" if text != number else "") + zeros + number + more
        case Date() if isinstance(value, date):
            text = draw(st.sampled_from([text, *(_dated(value, form) for form in rule.formats)]))
        case Boolean():
            words = [text, *(rule.true if value else rule.false)]
            text = draw(_in_any_case(draw(st.sampled_from(words))))
        case Choice(any_case=True) | Uuid():
            text = draw(_in_any_case(text))
    padding = st.one_of(st.just(""), st.just(""), st.text(st.sampled_from(WHITE_SPACE), max_size=3))
    return draw(padding) + text + draw(padding)


def _in_any_case(word: str) -> st.SearchStrategy[str]:
    return st.sampled_from((word, word.upper(), word.title(), word.lower()))


def _dated(day: date, form: str) -> str:
    """Write a date in a format such as `D.M.YYYY`."""
    parts = {
        "YYYY": f"{day.year:04}",
        "MM": f"{day.month:02}",
        "DD": f"{day.day:02}",
        "M": day.month,
        "D": day.day,
    }
    for part, number in parts.items():
        form = form.replace(part, f"{number}")
    return form


def valid_cells(rule: Rule) -> st.SearchStrategy[str]:
    """Cells that a field with this rule accepts."""
    return values(rule).flatmap(lambda value: cells_for(rule, value))


def is_clean(rule: Rule, text: str, without: str = "") -> bool:
    """Whether a text matches a rule's pattern of clean text, and is not too long for it."""
    matches = re2.fullmatch(rule.clean(without), text.encode(errors="surrogatepass")) is not None
    return matches and len(text) <= (rule.clean_length or len(text))


def blank_cells() -> st.SearchStrategy[str]:
    """Cells without a visible character."""
    return st.text(st.sampled_from(WHITE_SPACE + "\u200b\u200c\u200d\ufeff\u00ad"), max_size=4)


_OF_ANOTHER_TYPE: dict[type, Sequence[str]] = {
    DecimalNumber: (
        "1,5",
        "1.",
        ".5",
        "+1",
        "1e2",
        "1_0",
        "0x1",
        "NaN",
        "Infinity",
        "--1",
        "1 000",
        "½",
        "٣",
        "1\0",
    ),
    Date: (
        "2023-02-29",
        "2024-13-01",
        "0000-01-01",
        "45292",
        "today",
        "31-12-2024",
        "24-01-01",
        "٢٠٢٤-01-01",
        "1\0",
    ),
    Boolean: ("maybe", "tru", "2", "10", "null", "true.", "t\0"),
    Email: (
        *(
            "ann",
            "ann@",
            "@b.example",
            "a b@c.example",
            "a@b@c",
            "a@b..c",
            "a@-b",
            "a@b-",
            "a@b.",
            "a@b.c,",
            '"a"@b',
        ),
        *("山@b.example", "a@例え.jp", f"a@{'x' * 64}", "a\0@b.example", "(a)@b", "a@[127.0.0.1]"),
    ),
    Uuid: (
        *("123e4567-e89b-12d3-a456-42661417400", "123e4567e89b12d3a456426614174000", "g" * 36, "1\0"),
        "{123e4567-e89b-12d3-a456-426614174000}",
    ),
}


def invalid_cells(rule: Rule) -> st.SearchStrategy[tuple[str, Code]]:
    """Cells that a field with this rule rejects, each with its code."""
    blank = blank_cells().map(lambda cell: (cell, Code.BLANK_CELL))
    if isinstance(rule, Text) and not rule.pattern:
        inside = st.tuples(_FORBIDDEN, st.sampled_from(("a", "é", "山"))).map(
            lambda pair: pair[1] + pair[0] + pair[1]
        )
        return st.one_of(
            blank,
            inside.map(lambda cell: (cell, Code.FORBIDDEN_VALUE)),
            st.integers(1, 100).map(lambda more: ("é" * (rule.max_length + more), Code.CONSTRAINT_ERROR)),
        )
    if isinstance(rule, WholeNumber):
        not_digits = st.sampled_from(
            (
                *("-1", "+1", "1.0", "1e1", "1_0", "0x1f", "thirty", "30 years", "1,0", "\x001", "=1"),
                "\N{FULLWIDTH DIGIT THREE}",
                "\N{ARABIC-INDIC DIGIT THREE}",
                "\N{VULGAR FRACTION ONE QUARTER}",
            )
        )
        return st.one_of(
            blank,
            not_digits.map(lambda cell: (cell, Code.TYPE_ERROR)),
            st.integers(rule.maximum + 1).map(lambda number: (str(number), Code.CONSTRAINT_ERROR)),
            st.just(("9" * 5000, Code.CONSTRAINT_ERROR)),
        )
    wrong = [(cell, Code.TYPE_ERROR) for cell in _OF_ANOTHER_TYPE.get(type(rule), ())]
    return st.one_of(blank, st.sampled_from([*wrong, *_out_of_range(rule)]))


def _out_of_range(rule: Rule) -> list[tuple[str, Code]]:
    """Return cells of the right type, or of no type, that a rule does not allow."""
    match rule:
        case Text():
            cells = ["é", "no\0", "x" * (rule.max_length + 1)]
        case DecimalNumber():
            whole = "1" + "0" * (rule.digits - rule.places)
            cells = [whole, f"-{whole}.0", f"0.{'0' * rule.places}1", "9" * 5000, "1." + "9" * 5000]
        case Date():
            cells = [
                str(date.fromordinal(day))
                for day in (rule.earliest.toordinal() - 1, rule.latest.toordinal() + 1)
                if date.min.toordinal() <= day <= date.max.toordinal()
            ]
        case Choice():
            cells = ["another", rule.values[0] * 2, "é\0"]
        case Email():
            cells = ["a" * rule.max_length + "@b.example"]
        case _:
            cells = []
    return [(cell, Code.CONSTRAINT_ERROR) for cell in cells]


@attrs.frozen(kw_only=True)
class CsvUpload:
    """A CSV upload and the expected result of its import.

    Attributes:
        data: The bytes to upload.
        users: The expected users, in order.
        faults: The first line of each rejected row, and its faults as (code, column), in order.
        blank: The number of blank rows after the header.
        delimiter: The delimiter.
        encoding: The encoding, as a receipt names it.
        compression: "gzip" or None.
        ignored_columns: The labels that belong to no field.
    """

    data: bytes
    users: tuple[User, ...]
    faults: tuple[tuple[int, tuple[tuple[Code, str | None], ...]], ...]
    blank: int
    delimiter: str
    encoding: str
    compression: str | None
    ignored_columns: tuple[str, ...]

    @property
    def read(self) -> int:
        """Number of rows read."""
        return len(self.users) + len(self.faults)


@attrs.frozen(kw_only=True)
class _Row:
    """One record before it is written: its raw text and its expected user or faults."""

    raw: str
    user: User | None = None
    faults: tuple[tuple[Code, str | None], ...] = ()


@attrs.frozen(kw_only=True)
class _Dialect:
    delimiter: str
    labels: tuple[str, ...]
    columns: tuple[str | None, ...]  # the field of each label, or None


def _line_ends(text: str) -> int:
    return len(text.replace("\r\n", "\n").replace("\r", "\n").split("\n")) - 1


@st.composite
def _as_csv(draw: st.DrawFn, cell: str, delimiter: str) -> str:
    """Write a cell, quoted where necessary and sometimes where it is not."""
    must = cell.startswith('"') or any(mark in cell for mark in (delimiter, "\r", "\n"))
    if must or draw(st.integers(0, 3)) == 0:
        return '"' + cell.replace('"', '""') + '"'
    return cell


@st.composite
def _dialects(draw: st.DrawFn) -> _Dialect:
    delimiter = draw(st.sampled_from((",", ",", ";", "\t")))
    ignored: list[str | None] = [None] * draw(st.integers(0, 2))
    columns = draw(st.permutations([*USERS.columns, *ignored]))
    labels = [
        draw(st.sampled_from((column, column.upper(), column.title(), f" {column} ")))
        if column
        else f"column {position}"
        for position, column in enumerate(columns)
    ]
    return _Dialect(delimiter=delimiter, labels=tuple(labels), columns=tuple(columns))


@st.composite
def _good_rows(draw: st.DrawFn, dialect: _Dialect) -> _Row:
    user = draw(users())
    return _Row(raw=draw(_written(_cells_of(draw, dialect, {}, user), dialect.delimiter)), user=user)


@st.composite
def _bad_rows(draw: st.DrawFn, dialect: _Dialect) -> _Row:
    """Rows with rejected cells, or a blank row if all the cells are blank."""
    user = draw(users())
    which = draw(st.sets(st.sampled_from(USERS.columns), min_size=1))
    bad = {column: draw(invalid_cells(RULES[column])) for column in USERS.columns if column in which}
    cells = _cells_of(draw, dialect, {column: cell for column, (cell, _) in bad.items()}, user)
    raw = draw(_written(cells, dialect.delimiter))
    if all(map(is_blank, cells)):
        return _Row(raw=raw)
    return _Row(raw=raw, faults=tuple((code, column) for column, (_, code) in bad.items()))


@st.composite
def _rows_of_another_width(draw: st.DrawFn, dialect: _Dialect) -> _Row:
    cells = _cells_of(draw, dialect, {}, draw(users()))
    if draw(st.booleans()):
        cells = [*cells, *draw(st.lists(st.text("ab", max_size=3), min_size=1, max_size=3))]
        code = Code.EXTRA_CELL
    else:
        # Cells of ignored columns may be missing at the end.
        needed = [position for position, column in enumerate(dialect.columns) if column]
        cells = ["a", *cells][: draw(st.integers(1, needed[-1]))]
        code = Code.MISSING_CELL
    return _Row(raw=draw(_written(cells, dialect.delimiter)), faults=((code, None),))


@st.composite
def _rows_of_mismatched_quotes(draw: st.DrawFn, dialect: _Dialect) -> _Row:
    """Rows with text after a closing quote; the rest of the record is still read by the quoting rules."""
    inside = draw(st.sampled_from(("a", "", "a\nb", 'a""b')))
    rest = draw(st.sampled_from(("x", " ", "é")))
    return _Row(
        raw=dialect.delimiter.join([f'"{inside}"{rest}', *["1"] * (len(dialect.labels) - 1)]),
        faults=((Code.MALFORMED_QUOTING, None),),
    )


@st.composite
def _blank_rows(draw: st.DrawFn, dialect: _Dialect) -> _Row:
    cells = draw(st.lists(blank_cells(), min_size=1, max_size=len(dialect.labels) + 1))
    return _Row(raw=draw(_written(cells, dialect.delimiter)))


def _cells_of(draw: st.DrawFn, dialect: _Dialect, bad: dict[str, str], user: User) -> list[str]:
    return [
        draw(st.text(st.characters(codec="utf-8"), max_size=5))
        if column is None
        else bad[column]
        if column in bad
        else draw(cells_for(RULES[column], getattr(user, column)))
        for column in dialect.columns
    ]


@st.composite
def _written(draw: st.DrawFn, cells: Sequence[str], delimiter: str) -> str:
    return delimiter.join(draw(_as_csv(cell, delimiter)) for cell in cells)


@st.composite
def csv_uploads(draw: st.DrawFn, *, bad_rows: bool = True, max_rows: int = 8) -> CsvUpload:
    """CSV uploads with a good header, in any dialect, encoding and compression, with any mix of rows.

    Args:
        draw: Hypothesis' draw.
        bad_rows: Whether rows may be rejected.
        max_rows: The maximal number of rows.
    """
    dialect = draw(_dialects())
    kinds = [_good_rows(dialect), _good_rows(dialect), _blank_rows(dialect)]
    if bad_rows:
        kinds += [_bad_rows(dialect), _rows_of_another_width(dialect), _rows_of_mismatched_quotes(dialect)]
    rows = draw(st.lists(st.one_of(kinds), max_size=max_rows))
    if bad_rows and draw(st.integers(0, 5)) == 0:
        # A runaway quote in the last row rejects no other row.
        rows.append(_Row(raw=f'"open{dialect.delimiter}1', faults=((Code.MALFORMED_QUOTING, None),)))
    # A lone CR before an LF would be one line end, so one file does not mix them.
    ends = draw(st.sampled_from((("\n",), ("\r\n",), ("\n", "\r\n"), ("\r",))))
    says_separator = draw(st.integers(0, 4)) == 0
    lines = [f"sep={dialect.delimiter}"] if says_separator else []
    lines.append(draw(_written(dialect.labels, dialect.delimiter)))
    first = len(lines) + 1
    lines += [row.raw for row in rows]
    text = "".join(line + draw(st.sampled_from(ends)) for line in lines[:-1])
    # An empty last line without a line end is not a line.
    text += lines[-1] + ("" if lines[-1] and draw(st.booleans()) else ends[0])
    starts = [first]
    for row in rows:
        starts.append(starts[-1] + 1 + _line_ends(row.raw))
    encoding, data = draw(_encoded(text))
    compressed = draw(st.integers(0, 4)) == 0
    return CsvUpload(
        data=gzip.compress(data, mtime=0) if compressed else data,
        users=tuple(row.user for row in rows if row.user),
        faults=tuple((line, row.faults) for line, row in zip(starts, rows, strict=False) if row.faults),
        blank=sum(not row.user and not row.faults for row in rows),
        delimiter=dialect.delimiter,
        encoding=encoding,
        compression="gzip" if compressed else None,
        ignored_columns=tuple(
            label for label, column in zip(dialect.labels, dialect.columns, strict=True) if column is None
        ),
    )


@st.composite
def _encoded(draw: st.DrawFn, text: str) -> tuple[str, bytes]:
    encoding, mark = draw(
        st.sampled_from(
            (
                ("utf-8", b""),
                ("utf-8", b""),
                ("utf-8", b"\xef\xbb\xbf"),
                ("utf-16-le", b"\xff\xfe"),
                ("utf-16-be", b"\xfe\xff"),
            )
        )
    )
    return encoding, mark + text.encode(encoding)


def refused_uploads() -> st.SearchStrategy[tuple[bytes, Code]]:
    """Refused uploads, each with the code of its refusal."""
    header = ",".join(USERS.columns).encode()
    body = header + b"\n" + b",".join([b"1"] * len(USERS.columns)) + b"\n"
    anything = st.binary(max_size=50)
    return st.one_of(
        st.sampled_from((b"", b"\n", b"\r\n \r\n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0))).map(
            lambda data: (data, Code.EMPTY_FILE)
        ),
        anything.map(lambda rest: (b"PK\x03\x04" + rest, Code.FORMAT_ERROR)),
        anything.map(lambda rest: (b"%PDF-" + rest, Code.FORMAT_ERROR)),
        st.integers(3, 30).map(lambda end: (gzip.compress(body, mtime=0)[:end], Code.COMPRESSION_ERROR)),
        st.sampled_from((b"\x80", b"\x83\x65", b"\xff", b"caf\xe9,")).map(
            lambda bad: (body + bad + b"\n", Code.ENCODING_ERROR)
        ),
        st.sampled_from(USERS.columns).map(
            lambda column: (
                ",".join(label for label in USERS.columns if label != column).encode() + b"\n",
                Code.MISSING_LABEL,
            )
        ),
        st.sampled_from(USERS.columns).map(
            lambda column: (header + b"," + column.upper().encode() + b"\n", Code.DUPLICATE_LABEL)
        ),
        st.integers(1, 5).map(lambda rows: (header + b"\n" + b"x\n" * rows, Code.TOO_MANY_REJECTIONS)),
    )


_COLUMN_NAMES = ("a", "a_b", "b", "age", "line", "place", "select", "user", "x" * 63)
_LABELS = ("氏名", "Full name", "E-Mail", "straße", "Y, Z")


@st.composite
def record_types(draw: st.DrawFn) -> RecordType:
    """Records with fields of any kind, some optional, some with further labels."""
    names = draw(st.lists(st.sampled_from(_COLUMN_NAMES), min_size=1, max_size=5, unique=True))
    labels = draw(st.permutations(_LABELS))
    required = draw(st.integers(0, len(names) - 1))
    fields = {
        name: field(
            draw(rules()),
            optional=number != required and draw(st.booleans()),
            labels=labels[number : number + draw(st.integers(0, 1))],
        )
        for number, name in enumerate(names)
    }
    return RecordType.of(attrs.make_class("Generated", fields, kw_only=True))


@st.composite
def uploads_of(draw: st.DrawFn, record_type: RecordType) -> bytes:
    """CSV uploads of a record, with good, bad and blank cells; some lack optional columns, or have others."""
    present = [each for each in record_type.fields if not each.optional or draw(st.booleans())]
    columns: Sequence[Field | None] = draw(st.permutations([*present, *[None] * draw(st.integers(0, 1))]))
    delimiter = draw(st.sampled_from(",;\t"))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=delimiter, lineterminator=draw(st.sampled_from(("\n", "\r\n"))))
    writer.writerow([draw(st.sampled_from((each.name, *each.labels))) if each else "note" for each in columns])
    for _ in range(draw(st.integers(0, 6))):
        writer.writerow([draw(_cells_in(each)) if each else "any" for each in columns])
    return text.getvalue().encode()


def _cells_in(each: Field) -> st.SearchStrategy[str]:
    good = valid_cells(each.rule)
    bad = invalid_cells(each.rule).map(lambda pair: pair[0])
    return st.one_of(good, good, good, good, bad | blank_cells() if each.optional else bad)
