"""Corrected rows: which rejected row each of them stands for, and the proof that it was rejected."""

import hashlib
from typing import NamedTuple

import attrs

# The import of rejected rows that cannot be corrected where they are: those of a check, those of a refused file of
# corrected rows, and those whose origin is unknown. No ledger has it.
NO_IMPORT = 0

# 96 bits: too many to guess, and short enough for a cell.
PROOF_DIGITS = 24
SECRET_BYTES = 32


class Origin(NamedTuple):
    """The rejected row that a corrected row stands for.

    Attributes:
        import_id: The import that rejected it.
        line: The line on which it started in that import's upload.
        proof: See `Verdict.origin`; empty in a file of an earlier version, which gave no proof.
    """

    import_id: int
    line: int
    proof: str = ""

    @property
    def provable(self) -> bool:
        """Whether some ledger may confirm it."""
        return self.import_id != NO_IMPORT and self.proof != ""


@attrs.frozen
class Verdict:
    """One verdict on one upload, as far as it proves which lines it rejected.

    Attributes:
        import_id: Its number in the ledger.
        secret: Random bytes that only the ledger keeps; empty for a verdict that proves nothing.
    """

    import_id: int
    secret: bytes = attrs.field(repr=False)

    def origin(self, line: int) -> Origin:
        """Return the origin of a line that this verdict rejects.

        The proof is the beginning of the hexadecimal SHA-256 of the secret and the line in decimal digits, which
        PostgreSQL computes with its own `sha256(bytea)`.

        Args:
            line: The physical line, 1-based, on which the row starts.
        """
        digest = hashlib.sha256(self.secret + b"%d" % line).hexdigest()
        return Origin(self.import_id, line, digest[:PROOF_DIGITS])

    def rejected(self, origin: Origin) -> bool:
        """Return whether this verdict rejected the row, as its origin claims."""
        return bool(self.secret) and origin == self.origin(origin.line)


NO_VERDICT = Verdict(NO_IMPORT, b"")
