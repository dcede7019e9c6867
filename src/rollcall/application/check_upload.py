"""Checks of uploads in the inbox: imports without a ledger, whose reports lie apart from those of imports."""

import hashlib
import json
import re
from collections.abc import Iterator

from rollcall.application.receipts import to_dict
from rollcall.domain.receipt import Receipt, Source
from rollcall.domain.upload import LOCAL_BUCKET, WEB_UPLOAD_ID, WebUpload

FOLDER = "checks"
# An upload may have a key below `checks/`, too, and reports on its import.
_check_key = re.compile(rf"{FOLDER}/{WEB_UPLOAD_ID}/")


def folder_of(upload: WebUpload) -> str:
    """Return the folder of all checks of an upload."""
    return f"{FOLDER}/{upload.id}"


def folders_of(source: Source) -> Iterator[str]:
    """Yield the folder, in the store of reports, of the check of one version of an upload of the page."""
    upload = WebUpload.of_key(source.key)
    if not upload:
        raise AssertionError("only uploads of the page are checked")
    version = source.version
    if source.bucket == LOCAL_BUCKET and source.last_modified:
        # The version of a file is its SHA-256, which only a reader of the whole file knows.
        version = f"{source.size}-{source.last_modified:%Y%m%dT%H%M%S.%f}"
    yield f"{folder_of(upload)}/{version}"


def is_check(key: str) -> bool:
    """Return whether a key in the store of reports is that of a report on a check, and not on an import."""
    return bool(_check_key.match(key))


def etag_of(check: Receipt) -> str:
    """Return the ETag of a check. Every check of the same version under the same settings has the same."""
    verdict = to_dict(check)
    for measured in "started", "seconds", "rows_per_second":
        del verdict[measured]
    return f'"{hashlib.sha256(json.dumps(verdict, sort_keys=True).encode()).hexdigest()}"'
