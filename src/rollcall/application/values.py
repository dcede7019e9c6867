"""The values that the use cases exchange with the two ports."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain

import attrs

from rollcall.domain.correction import Origin
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy
from rollcall.domain.receipt import ConservationError, Receipt
from rollcall.domain.record import AnyUser
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference, Upload


@attrs.frozen
class ListedObject:
    """One version of one object in a listing.

    Attributes:
        reference: The reference to exactly this version.
        upload: The same upload that opening the reference gives.
    """

    reference: ObjectReference
    upload: Upload


@attrs.frozen(kw_only=True)
class SignedForm:
    """A form with which a browser uploads one file (multipart/form-data); see `UploadForms`.

    Attributes:
        url: Where to send the form.
        fields: The fields to send before the file. They are a secret of the uploader.
    """

    url: str
    fields: Mapping[str, str] = attrs.field(repr=False)


@attrs.frozen
class ImportRequest:
    """A request to import one upload.

    Attributes:
        upload: The upload; its version MUST be known once its content is read.
        sha256: The hexadecimal SHA-256 of the content; None if the content was not read.
        policy: The operator's settings.
        corrects: The import whose rejected rows are corrected; None for a file of users.
        seconds_left: The seconds from now until the importer's deadline. After the deadline, a rival that waits
            for the locks may end this import, because a frozen process would never release them. None if no rival
            may. The repository's clock measures the deadline, so a wrong clock elsewhere does no harm.
        reading: Whether the content is still being read; see `Importing.identify`.
    """

    upload: Upload
    sha256: str | None
    policy: Policy = Policy()
    corrects: int | None = attrs.field(default=None, kw_only=True)
    seconds_left: float | None = attrs.field(default=None, kw_only=True)
    reading: bool = attrs.field(default=False, kw_only=True)

    @property
    def upload_locks(self) -> set[str]:
        """The names of the locks on the upload, and on its key if versions of it are compared.

        They are acquired before `content_locks`, so that rivals cannot deadlock. None if the version is not known.
        """
        if self.upload.version is None:
            return set()
        ordered = self.policy.orders_versions or self.upload.is_request
        return {self.upload.identity, *([self.upload.key_identity] if ordered else [])}

    @property
    def content_locks(self) -> set[str]:
        """The names of the locks on the content; none as long as it is not known."""
        return {self.sha256} if self.sha256 else set()

    @property
    def forbids_repeat(self) -> bool:
        """Whether two imports in force with such a policy must not have the same content."""
        return self.policy.on_repeat is OnRepeat.SKIP and not self.policy.updates

    @property
    def forbids_new_version(self) -> bool:
        """Whether two imports in force with such a policy must not be versions of the same key.

        A request of the Web API has one body, with every policy.
        """
        if self.upload.is_request:
            return True
        refused = self.policy.on_new_version is OnNewVersion.REFUSE
        return refused and self.corrects is None and not self.policy.unique_by


@attrs.frozen
class Block:
    """Accepted rows, to be registered.

    Attributes:
        csv: The rows as RFC 4180 CSV in UTF-8: the text of each value in the order of the columns, separated by
            commas, a line feed after each row. No cell contains a line end. An empty cell without quotes is no
            value.
        spans: The physical lines, 1-based, on which the rows start in the upload, in order. Consecutive lines
            share a range.
        origins: For each row, the rejected row that it corrects; None in a file of users.
    """

    csv: bytes
    spans: Sequence[range]
    origins: Sequence[Origin] | None = None

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(map(len, self.spans))

    @property
    def lines(self) -> Iterator[int]:
        """The physical line, 1-based, on which each row starts."""
        return chain.from_iterable(self.spans)


@attrs.frozen
class Reread:
    """Lines and codes that are read from their beginning each time, without being held."""

    read: Callable[[], Iterator[tuple[int, Code]]]

    def __iter__(self) -> Iterator[tuple[int, Code]]:
        """Read them."""
        return self.read()


@attrs.frozen(kw_only=True)
class MergeResult:
    """Result of merging the rows of an import with existing users.

    Attributes:
        registered: The number of rows that became new users.
        updated: The number of rows that changed existing users.
        unchanged: The number of rows that changed nothing.
        rejected_on_merge: The number of rows that were rejected in the merge.
        rows_rejected_on_merge: The line and the code of each row that was rejected in the merge, in the order of
            the file. MUST be read only before rows are discarded or the import is committed.
    """

    registered: int
    updated: int = 0
    unchanged: int = 0
    rejected_on_merge: int = 0
    rows_rejected_on_merge: Iterable[tuple[int, Code]] = ()

    def require(self, receipt: Receipt) -> None:
        """Check that the counts of a receipt agree with this result.

        Raises:
            ConservationError: The counts differ.
        """
        here = self.registered, self.updated, self.unchanged
        said = receipt.counts.registered, receipt.counts.updated, receipt.counts.unchanged
        if here != said:
            raise ConservationError(
                f"{here} users are registered, updated and unchanged, while the receipt says {said}"
            )


@attrs.frozen(kw_only=True)
class RegisteredUser:
    """A user in the repository.

    Attributes:
        id: The number of the user. A user that was registered later has a higher one, except for imports that ran
            at the same time.
        import_id: The import that registered the user; None if no import did.
        user: The user.
    """

    id: int
    import_id: int | None
    user: AnyUser


@attrs.frozen
class LostUploads:
    """Uploads that should have a ledger entry by now and have none, by their identities.

    Attributes:
        queue: The uploads to queue once more.
        give_up: The uploads that were queued as often as allowed.
        newly_given_up: Those of them that no earlier call returned as given up.
    """

    queue: frozenset[str] = frozenset()
    give_up: frozenset[str] = frozenset()
    newly_given_up: frozenset[str] = frozenset()
