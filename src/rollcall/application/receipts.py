"""Receipts as JSON, the form in which they are published and kept in the ledger."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import attrs

from rollcall.domain.receipt import Action, Counts, FaultTotal, Receipt, Remedy, Source, Status
from rollcall.domain.rejection import Code, Fault, Rejection


def to_dict(receipt: Receipt) -> dict[str, Any]:
    """Return a receipt as values that JSON has: objects, arrays, strings, numbers, null."""
    shown = attrs.asdict(receipt, value_serializer=lambda _, __, value: _plain(value))
    shown["rows_per_second"] = receipt.rows_per_second
    if receipt.first_receipt:
        shown["first_receipt"] = to_dict(receipt.first_receipt)
    return shown


def to_json(receipt: Receipt) -> str:
    """Return a receipt as one line of JSON in ASCII, so that no key or cell can break the line or a terminal."""
    return json.dumps(to_dict(receipt))


def from_dict(shown: Mapping[str, Any]) -> Receipt:
    """Return the receipt that `to_dict` converted.

    Args:
        shown: The result of `to_dict`, of this or an earlier version.
    """
    source = shown["source"]
    return Receipt(
        status=Status(shown["status"]),
        code=shown["code"] and Code(shown["code"]),
        message=shown["message"],
        # The receipts of earlier versions have no `remedies` and no `corrects`.
        remedies=tuple(
            Remedy(Action(remedy["action"]), remedy["import_id"]) for remedy in shown.get("remedies", ())
        ),
        source=Source(
            **{
                **source,
                "last_modified": source["last_modified"] and datetime.fromisoformat(source["last_modified"]),
                "ignored_columns": tuple(source["ignored_columns"]),
            }
        ),
        policy=shown["policy"],
        counts=Counts(**shown["counts"]),
        totals=tuple(FaultTotal(**{**total, "code": Code(total["code"])}) for total in shown["totals"]),
        rejections=tuple(
            Rejection(
                rejection["line"],
                rejection["last_line"],
                tuple(Fault(**{**fault, "code": Code(fault["code"])}) for fault in rejection["faults"]),
            )
            for rejection in shown["rejections"]
        ),
        rejected_rows=shown["rejected_rows"],
        started=datetime.fromisoformat(shown["started"]),
        seconds=shown["seconds"],
        import_id=shown["import_id"],
        corrects=shown.get("corrects"),
        first_receipt=shown["first_receipt"] and from_dict(shown["first_receipt"]),
    )


def _plain(value: object) -> object:
    return value.isoformat() if isinstance(value, datetime) else value
