"""Checks of uploads in the inbox: imports without a ledger, whose reports lie apart from those of imports."""

import hashlib
import json
from collections.abc import Iterator

from rollcall.application.receipts import to_dict
from rollcall.domain.receipt import Receipt, Source
from rollcall.domain.upload import LOCAL_BUCKET, WebUpload

FOLDER = "checks"


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


def etag_of(check: Receipt) -> str:
    """Return the ETag of a check. Every check of the same version under the same settings has the same."""
    verdict = to_dict(check)
    for measured in "started", "seconds", "rows_per_second":
        del verdict[measured]
    return f'"{hashlib.sha256(json.dumps(verdict, sort_keys=True).encode()).hexdigest()}"'
