"""Corrected rows: the rejected row that each one corrects, and the proof that it was rejected."""

import hashlib
from typing import NamedTuple

import attrs

# The import id of rejected rows that cannot be corrected in their file: those of a check, those of a refused file
# of corrected rows, and those whose origin is unknown. No ledger has this id.
NO_IMPORT = 0

# 96 bits: too many to guess, and short enough for a cell.
PROOF_DIGITS = 24
SECRET_BYTES = 32


class Origin(NamedTuple):
    """The rejected row that a corrected row corrects.

    Attributes:
        import_id: The import that rejected the row.
        line: The physical line, 1-based, on which the row started in that import's upload.
        proof: See `Verdict.origin`. Empty in a file that an earlier version wrote, without a proof.
    """

    import_id: int
    line: int
    proof: str = ""

    @property
    def provable(self) -> bool:
        """Whether a ledger can confirm this origin."""
        return self.import_id != NO_IMPORT and self.proof != ""


@attrs.frozen
class Verdict:
    """The part of a verdict on an upload that proves which lines it rejected.

    Attributes:
        import_id: The verdict's number in the ledger.
        secret: Random bytes that only the ledger keeps. Empty for a verdict that cannot prove anything.
    """

    import_id: int
    secret: bytes = attrs.field(repr=False)

    def origin(self, line: int) -> Origin:
        """Return the origin of a line that this verdict rejects.

        The proof is the first `PROOF_DIGITS` digits of the hexadecimal SHA-256 of the secret followed by the line
        in decimal digits. PostgreSQL computes the same with its own `sha256(bytea)`.

        Args:
            line: The physical line, 1-based, on which the row starts.
        """
        digest = hashlib.sha256(self.secret + b"%d" % line).hexdigest()
        return Origin(self.import_id, line, digest[:PROOF_DIGITS])

    def rejected(self, origin: Origin) -> bool:
        """Return whether this verdict rejected the row that an origin names."""
        return bool(self.secret) and origin == self.origin(origin.line)


NO_VERDICT = Verdict(NO_IMPORT, b"")
