"""An operator's settings for imports."""

import re
from enum import StrEnum
from fractions import Fraction
from typing import Self

import attrs

# The default limits of an upload, in bytes.
MAX_UPLOAD_BYTES = 5 * 1024**3  # as it is stored
MAX_CSV_BYTES = 20 * 1024**3  # after decompression
MAX_REJECTED_BYTES = 4 * 1024**3  # of its rejected rows on disk

_tolerance = re.compile(r"(?P<count>[0-9]{1,18})|(?P<percentage>[0-9]{1,3}(\.[0-9]{1,6})?)%")


@attrs.frozen
class Tolerance:
    """How many rejected rows an upload may have before it is refused as a whole.

    Attributes:
        text: "all", a count such as "10", or a percentage of the rows read such as "2.5%".
    """

    text: str = "all"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse a tolerance, ignoring case and white space around it.

        Raises:
            ValueError: The text has none of the three forms.
        """
        normal = text.strip().lower()
        found = _tolerance.fullmatch(normal)
        if normal != "all" and (not found or (found["percentage"] and Fraction(found["percentage"]) > 100)):  # noqa: PLR2004 - per cent
            raise ValueError("give all, a count such as 10, or a percentage such as 2.5%")
        return cls(normal)

    def exceeded_by(self, rejected: int, read: int) -> bool:
        """Return whether an upload has too many rejected rows.

        An upload in which every row is rejected always has too many. An upload without rows never has.

        Args:
            rejected: The number of rejected rows.
            read: The number of rows read.
        """
        if rejected and rejected == read:
            return True
        if self.text.endswith("%"):
            return rejected * 100 > read * Fraction(self.text.removesuffix("%"))
        return self.certainly_exceeded_by(rejected)

    def certainly_exceeded_by(self, rejected: int) -> bool:
        """Return whether that many rejected rows are already too many, before the whole upload is read."""
        return self.text.isdigit() and rejected > int(self.text)


class OnDuplicate(StrEnum):
    """What to do with a row whose user already exists, where `Policy.unique_by` identifies users."""

    SKIP = "skip"
    UPDATE = "update"
    REJECT = "reject"


class OnRepeat(StrEnum):
    """What to do with an upload whose content another upload has already loaded."""

    SKIP = "skip"
    IMPORT = "import"


class OnNewVersion(StrEnum):
    """What to do with a new version of a key when another version is already loaded."""

    REFUSE = "refuse"
    IMPORT = "import"


@attrs.frozen(kw_only=True)
class Policy:
    """An operator's settings for imports.

    Attributes:
        max_rejected: How many rejected rows an upload may have.
        unique_by: The columns that identify a user, in the order of the record. If empty, every row is a new user.
        on_duplicate: What to do with a row whose user already exists, in the table or earlier in the file.
        on_repeat: Whether content that is already loaded is registered again.
        on_new_version: Whether a new version of a loaded key is registered as a new list.
    """

    max_rejected: Tolerance = Tolerance()
    unique_by: tuple[str, ...] = ()
    on_duplicate: OnDuplicate = OnDuplicate.SKIP
    on_repeat: OnRepeat = OnRepeat.SKIP
    on_new_version: OnNewVersion = OnNewVersion.REFUSE

    @property
    def updates(self) -> bool:
        """Whether an import may change existing users, so that the order of imports matters."""
        return bool(self.unique_by) and self.on_duplicate is OnDuplicate.UPDATE

    @property
    def rejects_duplicates(self) -> bool:
        """Whether an import rejects a valid row whose user already exists."""
        return bool(self.unique_by) and self.on_duplicate is OnDuplicate.REJECT

    @property
    def orders_versions(self) -> bool:
        """Whether the decision on an import depends on imports of other versions of its key."""
        return self.updates or (not self.unique_by and self.on_new_version is OnNewVersion.REFUSE)

    def as_dict(self) -> dict[str, str]:
        """Return the settings as a receipt shows them."""
        return {
            "max_rejected": self.max_rejected.text,
            "unique_by": ",".join(self.unique_by),
            "on_duplicate": self.on_duplicate.value,
            "on_repeat": self.on_repeat.value,
            "on_new_version": self.on_new_version.value,
        }
