"""Receipts for tests, and the check that each matches the published schema and counts each row once."""

import json
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import Any

import psycopg
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from rollcall.application.import_users import ImportUsers
from rollcall.application.receipts import to_json
from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.domain.receipt import Counts, FaultTotal, Receipt, Source, Status
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.upload import ObjectReference, Upload

ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "src/rollcall/entrypoints/api/receipt.schema.json").read_text(encoding="utf-8"))

_validator = Draft202012Validator(SCHEMA)

_CODES = {
    Status.LOADED: None,
    Status.PARTIALLY_LOADED: Code.ROWS_REJECTED,
    Status.REFUSED: Code.TOO_MANY_REJECTIONS,
    Status.SKIPPED: Code.REPEAT,
}


def a_receipt(
    upload: Upload, import_id: int | None, counts: Counts | None = None, status: Status = Status.LOADED
) -> Receipt:
    """Return a receipt; with rejected rows, no part of it is empty."""
    if counts is None:
        counts = Counts(read=2, registered=1, rejected=1) if status is Status.PARTIALLY_LOADED else Counts()
    totals = (FaultTotal(Code.TYPE_ERROR, "age", 1, 2), FaultTotal(Code.EXTRA_CELL, None, 1, 3))
    faults = (Fault(Code.TYPE_ERROR, "age is 'x'", "age"), Fault(Code.EXTRA_CELL, "no"))
    receipt = Receipt(
        status=status,
        code=_CODES[status],
        message=None if status is Status.LOADED else "one sentence, é 日本",
        source=Source(
            bucket=upload.bucket,
            key=upload.key,
            version=upload.version or "",
            size=upload.size,
            last_modified=upload.last_modified,
            encoding="utf-8",
            delimiter=",",
            ignored_columns=("e-mail", "'quoted\"", "\\u0041\n"),
        ),
        policy=Policy().as_dict(),
        counts=counts,
        totals=totals if counts.rejected else (),
        rejections=(Rejection(2, 4, faults),) if counts.rejected else (),
        rejected_rows="s3://reports/rejected.csv" if counts.rejected else None,
        started=upload.last_modified,
        seconds=0.1,
        import_id=import_id,
    )
    return as_published(receipt)


def is_as_published(shown: Any) -> bool:  # noqa: ANN401 - any JSON
    """Return whether a receipt that was read from JSON matches the published schema."""
    return bool(_validator.is_valid(shown))


def require_as_published(shown: Any) -> None:  # noqa: ANN401 - any JSON
    """Check a receipt that was read from JSON against the published schema.

    Raises:
        AssertionError: It does not match, and the message says where; or its counts do not add up.
    """
    error = best_match(_validator.iter_errors(shown))
    assert not error, f"a receipt is not as published at {error.json_path}: {error.message:.500}"
    counts = dict(shown["counts"])
    counts.pop("blank")
    assert counts.pop("read") == sum(counts.values()), "a row is lost or counted twice"


def as_published(receipt: Receipt) -> Receipt:
    """Check a receipt against the published schema, and return it.

    Raises:
        AssertionError: It does not match, or its counts do not add up.
    """
    require_as_published(json.loads(to_json(receipt)))
    return receipt


class CheckedImport(ImportUsers):
    """The use case; every receipt that it returns is checked."""

    def __call__(self, reference: ObjectReference, **how: Any) -> Receipt:  # noqa: ANN401 - as it was
        return as_published(super().__call__(reference, **how))

    def refuse(self, *named: Any, **how: Any) -> Receipt:  # noqa: ANN401 - as it was
        return as_published(super().refuse(*named, **how))


def require_ledger_as_published(database_url: str) -> None:
    """Check every receipt in a database against the published schema.

    Raises:
        AssertionError: One does not match.
    """
    with psycopg.connect(database_url) as connection:
        for (receipt,) in connection.execute("select receipt from imports"):
            require_as_published(receipt)


def require_files_as_published(folder: Path) -> None:
    """Check every receipt in a folder against the published schema.

    Raises:
        AssertionError: One does not match.
    """
    for path in folder.rglob("receipt.json"):
        require_as_published(json.loads(path.read_bytes()))


texts = st.text(st.characters(exclude_categories=()), max_size=12)
sentences = st.text(st.characters(exclude_categories=()), min_size=1, max_size=12)
lines = st.integers(1, 10**9)
numbers = st.none() | lines
row_codes = st.sampled_from([Code(code) for code in SCHEMA["$defs"]["row_code"]["enum"]])
refusal_codes = st.sampled_from([Code(code) for code in SCHEMA["$defs"]["refusal_code"]["enum"]])
skip_codes = st.sampled_from([Code(code) for code in SCHEMA["$defs"]["skip_code"]["enum"]])
columns = st.none() | st.sampled_from(["name", "country", "age"])
times = st.datetimes(timezones=st.just(UTC) | st.just(timezone(timedelta(hours=9))))
faults = st.builds(Fault, row_codes, sentences, columns)
rejections = st.builds(
    lambda line, more, found: Rejection(line, line + more, tuple(found)),
    lines,
    st.integers(0, 100),
    st.lists(faults, min_size=1, max_size=3),
)
totals = st.builds(FaultTotal, row_codes, columns, lines, lines)
sources = st.builds(
    Source,
    bucket=texts,
    key=texts,
    version=texts,
    size=st.none() | st.integers(0, 10**12),
    last_modified=st.none() | times,
    sha256=st.none() | st.binary(min_size=32, max_size=32).map(bytes.hex),
    encoding=st.none() | sentences,
    delimiter=st.none() | st.sampled_from(",;\t"),
    compression=st.sampled_from([None, "gzip"]),
    ignored_columns=st.lists(texts, max_size=3).map(tuple),
)
policies = st.builds(
    Policy,
    max_rejected=st.sampled_from(["all", "0", "10", "2.5%"]).map(Tolerance.parse),
    unique_by=st.sampled_from([(), ("name",), ("name", "country")]),
    on_duplicate=st.sampled_from(OnDuplicate),
    on_repeat=st.sampled_from(OnRepeat),
    on_new_version=st.sampled_from(OnNewVersion),
)


def _counts(*fates: str, rejected: int = 0) -> st.SearchStrategy[Counts]:
    """Counts in which only these fates occur, with at least this many rejected rows."""
    least = {fate: rejected if fate == "rejected" else 0 for fate in (*fates, "blank")}
    return st.fixed_dictionaries({fate: st.integers(least[fate], 10**12) for fate in least}).map(
        lambda met: Counts(read=sum(met[fate] for fate in fates), **met)
    )


def _receipts(status: Status, **parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Receipt]:
    return st.builds(
        Receipt,
        status=st.just(status),
        source=sources,
        policy=policies.map(Policy.as_dict),
        started=times,
        seconds=st.timedeltas(timedelta(0)).map(timedelta.total_seconds),
        import_id=numbers,
        corrects=numbers,
        **parts,
    )


loaded = _receipts(Status.LOADED, counts=_counts("registered", "updated", "unchanged"))
partially_loaded = _receipts(
    Status.PARTIALLY_LOADED,
    code=st.just(Code.ROWS_REJECTED),
    message=sentences,
    counts=_counts("registered", "updated", "unchanged", "rejected", rejected=1),
    totals=st.lists(totals, min_size=1, max_size=3).map(tuple),
    rejections=st.lists(rejections, min_size=1, max_size=3).map(tuple),
    rejected_rows=st.none() | sentences,
)
refused = _receipts(
    Status.REFUSED,
    code=refusal_codes,
    message=sentences,
    counts=_counts("rejected", "withheld"),
    totals=st.lists(totals, max_size=3).map(tuple),
    rejections=st.lists(rejections, max_size=3).map(tuple),
    rejected_rows=st.none() | sentences,
)
skipped = _receipts(
    Status.SKIPPED, code=skip_codes, message=sentences, first_receipt=st.none() | loaded | partially_loaded
)
receipts = loaded | partially_loaded | refused | skipped
