"""What must be true whatever broke: each row is registered exactly once or not at all, as the ledger says."""

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from contracts.steps import asked
from faults.uploads import FaultyUpload

_USERS = "select name, country, age from users where import_id = %s order by id"
_FOREIGN = "select id, name, country, age from users where import_id is null order by id"
_LEDGER = "select id, object_key, in_force, undone_at is not null, receipt from imports order by id"


@attrs.frozen
class Found:
    """How far the table is from what the ledger says; nothing may be.

    Attributes:
        lost: Rows that should be in the table and are not.
        duplicated: Rows that are there more than once, or should not be there.
    """

    lost: int = 0
    duplicated: int = 0


@attrs.frozen(kw_only=True)
class Oracle:
    """Judges a database and a store of reports after something broke.

    Attributes:
        database_url: Where users and ledger live.
        read_report: Gives the bytes that lie at an address that a receipt names.
        receipt_address: Names where the receipt of an import has to lie, from the receipt in the ledger.
        foreign: The users who were there before, whom nobody may have touched; see `foreign_users`.
        asked: Asks the database from behind.
    """

    database_url: str
    read_report: Callable[[str], bytes]
    receipt_address: Callable[[Mapping[str, Any]], str]
    foreign: list[tuple[Any, ...]] = attrs.Factory(list)
    asked: Callable[..., list[tuple[Any, ...]]] = asked

    def found(self, uploads: Iterable[FaultyUpload]) -> Found:
        """Count what is lost and what is duplicated, whether or not the uploads have their verdict yet."""
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
        """Hold the table to the ledger, and the users who were there before to what they were."""
        assert self.found(uploads) == Found()
        assert self.asked(self.database_url, _FOREIGN) == self.foreign

    def require_all_settled(self, uploads: Iterable[FaultyUpload]) -> None:
        """Hold everything to the promise, once each upload was delivered again and nothing broke.

        Each is in force exactly once, with its receipt and the file of its rejected rows, or was undone.
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
    """List the users whom no import registered."""
    return asked(database_url, _FOREIGN)


def _upload_of(key: str, by_key: Mapping[str, FaultyUpload]) -> FaultyUpload:
    """Find an upload by what the ledger has for its key, which for a local file is its whole path."""
    return next(upload for name, upload in by_key.items() if key == name or key.endswith(f"/{name}"))
