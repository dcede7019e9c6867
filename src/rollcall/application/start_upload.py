"""Start an upload of the page: sign a form with which the browser puts one file into the inbox."""

from collections.abc import Callable
from datetime import datetime, timedelta

import attrs

from rollcall.application.decoding import EXPORT, UNPACK, size_fault
from rollcall.application.errors import UploadNotAcceptedError
from rollcall.application.ports import UploadForms
from rollcall.application.values import SignedForm
from rollcall.domain.rejection import Code, Fault
from rollcall.domain.upload import WebUpload

FORM_LIFETIME = timedelta(minutes=10)
# Amazon S3 user guide, "Uploading objects": the largest size of an object in one request.
MAX_FORM_BYTES = 5 * 1024**3

# The names of files that are never a CSV, plain or as gzip.
_NO_LISTS = {
    "an Excel workbook": (EXPORT, ".xlsx", ".xlsm", ".xlsb", ".xls"),
    "an OpenDocument spreadsheet": (EXPORT, ".ods"),
    "a Numbers document": (EXPORT, ".numbers"),
    "a document": (EXPORT, ".pdf", ".doc", ".docx", ".odt", ".rtf", ".html", ".htm"),
    "an image": (EXPORT, ".png", ".jpg", ".jpeg", ".gif", ".heic", ".webp", ".tif", ".tiff"),
    "a Parquet file": (EXPORT, ".parquet"),
    "an archive": (UNPACK, ".zip", ".7z", ".rar", ".tar", ".tgz", ".bz2", ".xz", ".zst", ".lz4"),
}


@attrs.frozen(kw_only=True)
class StartedUpload:
    """An upload that a browser can send.

    Attributes:
        upload: The upload.
        form: The form to send.
        expires: The time from which the form is refused.
        max_bytes: The largest size of the file, in bytes.
    """

    upload: WebUpload
    form: SignedForm
    expires: datetime
    max_bytes: int


@attrs.frozen(kw_only=True)
class StartUpload:
    """The use case.

    Attributes:
        inbox: Where browsers put files.
        max_upload_bytes: The largest size of an upload, in bytes.
        random: Returns 128 new random bits as 32 hexadecimal digits.
        now: Returns the current time, with its time zone.
    """

    inbox: UploadForms
    max_upload_bytes: int
    random: Callable[[], str]
    now: Callable[[], datetime]

    def __call__(self, owner: str, filename: str, size: int) -> StartedUpload:
        """Sign a form for one new key.

        Args:
            owner: See `owner`.
            filename: The name of the file on the uploader's machine.
            size: The size of the file as it is sent, in bytes.

        Raises:
            UploadNotAcceptedError: The file is too large, or can never be a list by its name.
            StoreUnavailableError: The form could not be signed.
        """
        max_bytes = min(self.max_upload_bytes, MAX_FORM_BYTES)
        if size > max_bytes:
            raise UploadNotAcceptedError(size_fault("the file", max_bytes))
        if fault := _no_list(filename):
            raise UploadNotAcceptedError(fault)
        expires = self.now() + FORM_LIFETIME
        upload = WebUpload.started(owner, self.random(), until=expires)
        key = upload.key(filename)
        if not self.inbox.fits(key):
            fault = Fault(Code.SOURCE_UNREADABLE, "the file's name cannot be stored; give it a shorter one")
            raise UploadNotAcceptedError(fault)
        return StartedUpload(
            upload=upload,
            form=self.inbox.sign(key, max_bytes=max_bytes, expires=expires),
            expires=expires,
            max_bytes=max_bytes,
        )


def _no_list(filename: str) -> Fault | None:
    name = filename.lower().removesuffix(".gz")
    for what, (advice, *endings) in _NO_LISTS.items():
        if name.endswith(tuple(endings)):
            return Fault(Code.FORMAT_ERROR, f"the file is {what} by its name, not a CSV; {advice}")
    return None
