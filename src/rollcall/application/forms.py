"""The forms of stores that are no bucket of S3: signed and enforced as S3 does with the policy of a POST."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import BinaryIO

import attrs

from rollcall.application.decoding import CHUNK_BYTES
from rollcall.application.errors import FormRefusedError
from rollcall.application.values import SignedForm

# The type says nothing about the content: an import finds out what a file is.
CONTENT_TYPE = "application/octet-stream"
FORM_PATH = "/inbox"  # where the local server takes the forms
SUCCESS_STATUS = "201"
LEAST_BYTES = 1


@attrs.frozen
class Forms:
    """Signs forms, and checks those that are sent.

    Attributes:
        url: Where browsers send the forms.
        secret: Random bytes that nobody else knows.
    """

    url: str
    secret: bytes = attrs.field(repr=False)

    def sign(self, key: str, max_bytes: int, expires: datetime) -> SignedForm:
        """Return a form; see `UploadForms.sign`."""
        fixed = {"key": key, "Content-Type": CONTENT_TYPE, "success_action_status": SUCCESS_STATUS}
        signed = {"expiration": expires.isoformat(), "max_bytes": max_bytes, "fields": fixed}
        policy = base64.b64encode(json.dumps(signed).encode()).decode()
        return SignedForm(url=self.url, fields={**fixed, "policy": policy, "signature": self._signature(policy)})

    def read(self, fields: Mapping[str, str], now: datetime) -> tuple[str, int]:
        """Return the key and the largest size that were signed.

        Args:
            fields: The fields of a form.
            now: The current time.

        Raises:
            FormRefusedError: The form was not signed, has other fields than were signed, or expired.
        """
        policy, signature = fields.get("policy", ""), fields.get("signature", "")
        if not hmac.compare_digest(self._signature(policy).encode(), signature.encode(errors="replace")):
            raise FormRefusedError("the form was not signed here")
        signed = json.loads(base64.b64decode(policy))
        if now >= datetime.fromisoformat(signed["expiration"]):
            raise FormRefusedError("the form expired; ask for another")
        if dict(fields) != {**signed["fields"], "policy": policy, "signature": signature}:
            raise FormRefusedError("the form has other fields than were signed")
        return signed["fields"]["key"], signed["max_bytes"]

    def _signature(self, policy: str) -> str:
        return hmac.new(self.secret, policy.encode(errors="replace"), hashlib.sha256).hexdigest()


def pieces(content: BinaryIO, max_bytes: int) -> Iterator[bytes]:
    """Read a file that comes with a form, in pieces.

    Raises:
        FormRefusedError: The file is empty, or has more bytes than were signed.
    """
    received = 0
    while data := content.read(CHUNK_BYTES):
        received += len(data)
        if received > max_bytes:
            raise FormRefusedError(
                f"the file has more than the {max_bytes:,} bytes that are allowed", too_long=True
            )
        yield data
    if received < LEAST_BYTES:
        raise FormRefusedError("the file is empty")


def form_used() -> FormRefusedError:
    """Return the refusal of a form whose object exists."""
    return FormRefusedError("the form was used before; ask for another")
