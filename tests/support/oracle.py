"""The promise after any fault: each row is registered exactly once or not at all, as the ledger says."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from support.builders import asked
from support.uploads import FaultyUpload

_USERS = "select name, country, age from users where import_id = %s order by id"
_FOREIGN = "select id, name, country, age from users where import_id is null order by id"
_LEDGER = "select id, object_key, in_force, undone_at is not null, receipt from imports order by id"


@attrs.frozen
class Found:
    """Differences between table and ledger. There must be none.

    Attributes:
        lost: Rows that are missing from the table.
        duplicated: Rows that are in the table more than once, or wrongly.
    """

    lost: int = 0
    duplicated: int = 0


@attrs.frozen(kw_only=True)
class Oracle:
    """Checks a database and a reports store after a fault.

    Attributes:
        database_url: The database of users and ledger.
        read_report: Returns the bytes at an address that a receipt names.
        receipt_address: Returns the address of a receipt in the store, given the receipt in the ledger.
        foreign: The users of no import, who must not have changed; see `foreign_users`.
        asked: Runs a query on a connection of the test's own.
    """

    database_url: str
    read_report: Callable[[str], bytes]
    receipt_address: Callable[[Mapping[str, Any]], str]
    foreign: list[tuple[Any, ...]] = attrs.Factory(list)
    asked: Callable[..., list[tuple[Any, ...]]] = asked

    def found(self, uploads: Iterable[FaultyUpload]) -> Found:
        """Count lost and duplicated rows, whether or not the uploads already have their verdict."""
        by_key = {upload.key: upload for upload in uploads}
        lost = duplicated = 0
        known = []
        for import_id, key, in_force, _, _ in self.asked(self.database_url, _LEDGER):
            known.append(import_id)
            here = self.asked(self.database_url, _USERS, import_id)
            wanted = list(_upload_of(key, by_key).good.values()) if in_force else []
            lost += len(set(wanted) - set(here))
            duplicated += len(here) - len(set(here) & set(wanted))
        [(unaccounted,)] = self.asked(
            self.database_url,
            "select count(*) from users where import_id is not null and not import_id = any(%s)",
            known,
        )
        return Found(lost, duplicated + unaccounted)

    def require_nothing_broken(self, uploads: Iterable[FaultyUpload]) -> None:
        """Check that the table equals the ledger, and that the users of no import are unchanged."""
        assert self.found(uploads) == Found()
        assert self.asked(self.database_url, _FOREIGN) == self.foreign

    def require_all_settled(self, uploads: Iterable[FaultyUpload]) -> None:
        """Check every promise after each upload was delivered again without a fault.

        Each upload is active exactly once, with its receipt and its rejected-rows file, or is undone.
        """
        uploads = list(uploads)
        self.require_nothing_broken(uploads)
        by_key = {upload.key: upload for upload in uploads}
        settled = []
        for _, key, in_force, undone, receipt in self.asked(self.database_url, _LEDGER):
            if in_force or undone:
                upload = _upload_of(key, by_key)
                settled.append(upload.key)
                self._require_reports(upload, receipt)
        assert sorted(settled) == sorted(by_key)

    def _require_reports(self, upload: FaultyUpload, receipt: Mapping[str, Any]) -> None:
        assert json.loads(self.read_report(self.receipt_address(receipt))) == receipt
        assert receipt["counts"]["rejected"] == len(upload.bad)
        if upload.bad:
            content = self.read_report(receipt["rejected_rows"])
            assert (
                hashlib.sha256(content)
                .hexdigest()
                .startswith(receipt["rejected_rows"].rpartition("rejected-")[2].removesuffix(".csv"))
            )
            rows = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""))
            assert {int(row["rollcall_line"]) for row in rows} == upload.bad


def foreign_users(database_url: str) -> list[tuple[Any, ...]]:
    """List the users of no import."""
    return asked(database_url, _FOREIGN)


def _upload_of(key: str, by_key: Mapping[str, FaultyUpload]) -> FaultyUpload:
    """Find an upload by the key in the ledger; for a local file, that key is the absolute path."""
    return next(upload for name, upload in by_key.items() if key == name or key.endswith(f"/{name}"))


def in_s3(receipt: Mapping[str, Any]) -> str:
    """Return the address of a receipt in the bucket of reports."""
    return "s3://reports/{key}/{version}/receipt.json".format(**receipt["source"])
