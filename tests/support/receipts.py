"""Receipts for tests, and the check that each matches the published schema and counts each row once."""

import json
from pathlib import Path
from typing import Any

import psycopg
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from rollcall.application.import_users import ImportUsers
from rollcall.application.receipts import to_json
from rollcall.domain.policy import Policy
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
