"""A second, simplest implementation of ledger and table: the expected verdict on each upload, and its effects.

It follows docs/adr and the contract, and uses no rule of `rollcall.domain`: no `admit`, `judge` or counts.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Literal

import attrs

from rollcall.domain.policy import OnDuplicate, OnNewVersion, OnRepeat, Policy
from rollcall.domain.user import USERS

# The values in the order of `USERS.columns`.
User = tuple[str | int, ...]
# Import, line and proof, as in the column `rollcall_import`.
Origin = tuple[int, int, str]
Identity = tuple[str, str]

# The minimum age of an upload that is swept and of its last message, and the maximum age.
PATIENCE = timedelta(hours=1)
TOO_OLD = timedelta(days=1)

_MERGE_LOCK = "settling"
_token = re.compile(r"\bi([0-9]+)-([0-9]+)-([0-9a-f]{24})\b")


def proof(secret: bytes, line: int) -> str:
    """Return the keyed hash of a line that an import with this secret rejected."""
    return hashlib.sha256(secret + str(line).encode("ascii")).hexdigest()[:24]


def origins_in(text: str) -> set[Origin]:
    """Find the origins of rejected rows in a text."""
    return {(int(import_id), int(line), digits) for import_id, line, digits in _token.findall(text)}


@attrs.frozen
class Row:
    """One row of an upload.

    Attributes:
        line: Its line.
        user: Its user; None if the row is bad.
        origin: The rejected row that it corrects, or None.
        first: The same value for a row and for all its corrections.
    """

    line: int
    user: User | None
    origin: Origin | None = None
    first: Any = None


@attrs.frozen(kw_only=True)
class Dropped:
    """One version of one object.

    Attributes:
        fault: The code that refuses the whole upload, or None.
    """

    key: str
    version: str
    content: bytes
    rows: tuple[Row, ...]
    modified: datetime
    fault: str | None = None

    @property
    def identity(self) -> Identity:
        """Identity of the upload: key and version."""
        return self.key, self.version

    @property
    def corrects(self) -> Origin | None:
        """Return the first origin that names an import; otherwise the first origin, or None."""
        origins = [row.origin for row in self.rows if row.origin]
        return next((origin for origin in origins if origin[0]), origins[0] if origins else None)


@attrs.frozen(kw_only=True)
class Verdict:
    """The expected verdict on an upload.

    Attributes:
        because_of: The other import that caused it, or None.
        rejected: The lines of the rejected rows.
        rejected_on_merge: The lines that the ledger or the table rejects, with their codes.
        new: The new users, in order.
        changed: The updated users: their index in the table, and the new values.
        corrected: The rejected rows that it corrects.
    """

    status: str
    code: str | None = None
    because_of: int | None = None
    read: int = 0
    unchanged: int = 0
    withheld: int = 0
    rejected: tuple[int, ...] = ()
    rejected_on_merge: Mapping[int, str] = attrs.Factory(dict)
    new: tuple[User, ...] = ()
    changed: tuple[tuple[int, User], ...] = ()
    corrected: frozenset[Origin] = frozenset()

    @property
    def counts(self) -> dict[str, int]:
        """Counts of the rows, as in a receipt."""
        return {
            "read": self.read,
            "registered": len(self.new),
            "updated": len(self.changed),
            "unchanged": self.unchanged,
            "rejected": len(self.rejected),
            "withheld": self.withheld,
            "blank": 0,
        }


@attrs.define
class Entry:
    """One import in the ledger.

    Attributes:
        turn: Its number among all commits.
        secret: The secret that proves which rows it rejected.
    """

    import_id: int
    upload: Dropped
    verdict: Verdict
    turn: int
    secret: bytes = attrs.field(repr=False)
    undone: bool = False

    @property
    def registered(self) -> bool:
        """Whether it ever registered a user."""
        return self.verdict.status in {"loaded", "partially_loaded"}

    @property
    def active(self) -> bool:
        """Whether its users are in the table."""
        return self.registered and not self.undone

    def rejected(self, origin: Origin) -> bool:
        """Whether it rejected the row of this origin. The proof must match."""
        _, line, digits = origin
        own = all(row.origin is None for row in self.upload.rows)
        return own and line in self.verdict.rejected and digits == proof(self.secret, line)


@attrs.define
class Registered:
    """A user in the table."""

    user: User
    import_id: int


@attrs.define
class Model:
    """The expected ledger and table."""

    policy: Policy
    ledger: dict[Identity, Entry] = attrs.Factory(dict)
    table: list[Registered] = attrs.Factory(list)
    corrections: dict[Origin, int] = attrs.Factory(dict)
    import_ids: list[int] = attrs.Factory(list)
    queued: dict[Identity, list[datetime]] = attrs.Factory(dict)
    _turn: int = 0

    @property
    def _updates(self) -> bool:
        return bool(self.policy.unique_by) and self.policy.on_duplicate is OnDuplicate.UPDATE

    def get_import(self, import_id: int) -> Entry | None:
        """Return an import, or None."""
        return next((entry for entry in self.ledger.values() if entry.import_id == import_id), None)

    def users(self) -> dict[int, list[User]]:
        """Users of each import that has any, in order."""
        found: dict[int, list[User]] = {}
        for row in self.table:
            found.setdefault(row.import_id, []).append(row.user)
        return found

    def claims(self, upload: Dropped) -> set[object]:
        """Locks of an import."""
        orders = self._updates or (not self.policy.unique_by and self.policy.on_new_version is OnNewVersion.REFUSE)
        return {upload.identity, upload.content, *([upload.key] if orders else [])}

    def settling(self, upload: Dropped) -> set[object]:
        """Locks of a merge."""
        return {_MERGE_LOCK} if self.policy.unique_by or upload.corrects is not None else set()

    def undoing(self, import_id: int) -> set[object]:
        """Locks of an undo."""
        entry = self.get_import(import_id)
        return {entry.upload.identity, _MERGE_LOCK} if entry else set()

    def admit(self, upload: Dropped, *, again: bool) -> Verdict | None:  # noqa: PLR0911 - one for each answer
        """Return the verdict that the ledger alone decides, or None if the upload must be read."""
        mine = self.ledger.get(upload.identity)
        if mine and mine.active:
            return Verdict(status="skipped", code="redelivery", because_of=mine.import_id)
        if mine and mine.undone and not again:
            return Verdict(status="skipped", code="undone", because_of=mine.import_id)
        others = sorted(
            (other for other in self.ledger.values() if other.active and other is not mine),
            key=lambda other: other.import_id,
        )
        if self.policy.on_repeat is OnRepeat.SKIP and not self._updates:
            for other in others:
                if other.upload.content == upload.content:
                    return Verdict(status="skipped", code="repeat", because_of=other.import_id)
        before = [other for other in others if other.upload.key == upload.key]
        last = max(before, key=lambda other: other.turn, default=None)
        if last and self._updates and upload.modified < last.upload.modified:
            return Verdict(status="skipped", code="superseded", because_of=last.import_id)
        if upload.corrects is not None:
            if self._was_rejected(upload.corrects):
                return None
            return Verdict(status="refused", code="nothing-to-correct")
        if before and not self.policy.unique_by and self.policy.on_new_version is OnNewVersion.REFUSE:
            return Verdict(status="refused", code="key-already-loaded")
        return Verdict(status="refused", code=upload.fault) if upload.fault else None

    def judge(self, upload: Dropped) -> Verdict:  # noqa: C901 - one rule after the other
        """Return the verdict on an upload that is read, with the current table."""
        rejected = {row.line for row in upload.rows if not row.user}
        on_merge: dict[int, str] = {}
        if self._too_many(len(rejected), len(upload.rows), so_far=True):
            return self._withheld(upload, rejected, {})
        there = {self._who(row.user): place for place, row in enumerate(self.table)}
        here: dict[object, int] = {}
        new: list[User] = []
        changed: dict[int, User] = {}
        corrected: set[Origin] = set()
        mentioned: set[Origin] = set()
        for row in upload.rows:
            if not row.user:
                continue
            who = self._who(row.user)
            known = bool(self.policy.unique_by) and (who in there or who in here)
            code = self._why_uncorrectable(row.origin, mentioned) if row.origin else None
            if row.origin:
                mentioned.add(row.origin)
            if not code and known and self.policy.on_duplicate is OnDuplicate.REJECT:
                code = "duplicate-row"
            if code:
                rejected.add(row.line)
                on_merge[row.line] = code
                continue
            if row.origin:
                corrected.add(row.origin)
            if not known:
                here[who] = len(new)
                new.append(row.user)
            elif self._updates and who in here:
                new[here[who]] = row.user
            elif self._updates:
                changed[there[who]] = row.user
        if self._too_many(len(rejected), len(upload.rows)):
            return self._withheld(upload, rejected, on_merge)
        really = tuple((place, user) for place, user in changed.items() if self.table[place].user != user)
        return Verdict(
            status="partially_loaded" if rejected else "loaded",
            code="rows-rejected" if rejected else None,
            read=len(upload.rows),
            unchanged=len(upload.rows) - len(rejected) - len(new) - len(really),
            rejected=tuple(sorted(rejected)),
            rejected_on_merge=on_merge,
            new=tuple(new),
            changed=really,
            corrected=frozenset(corrected),
        )

    def commit(self, upload: Dropped, verdict: Verdict, import_id: int, secret: bytes) -> None:
        """Record a commit under an import id that no other verdict ever had."""
        self._turn += 1
        mine = self.ledger.get(upload.identity)
        assert mine is None or not mine.active, "a verdict in force was replaced"
        assert import_id not in self.import_ids
        self.import_ids.append(import_id)
        for place, user in verdict.changed:
            self.table[place].user = user
        self.table += [Registered(user, import_id) for user in verdict.new]
        self.corrections |= dict.fromkeys(verdict.corrected, import_id)
        self.ledger[upload.identity] = Entry(import_id, upload, verdict, self._turn, secret)

    def undo(self, import_id: int) -> int | None:
        """Undo an import.

        Returns:
            The number of removed users; None if it cannot be undone.
        """
        entry = self.get_import(import_id)
        if not entry or not entry.active or entry.verdict.changed:
            return None
        if any(origin[0] == import_id for origin in self.corrections):
            return None
        # A later import that compares users may have skipped rows because of this import's users.
        if self.policy.unique_by and any(
            other.active and other.turn > entry.turn for other in self.ledger.values()
        ):
            return None
        entry.undone = True
        before = len(self.table)
        self.table = [row for row in self.table if row.import_id != import_id]
        self.corrections = {origin: by for origin, by in self.corrections.items() if by != import_id}
        return before - len(self.table)

    def sweep(self, upload: Dropped, claimed: set[object], at: datetime) -> Literal["queued", "given up"] | None:
        """Return what a sweep does with an upload, and record it."""
        before = self.queued.setdefault(upload.identity, [])
        lost = upload.identity not in self.ledger and upload.identity not in claimed
        due = PATIENCE <= at - upload.modified <= TOO_OLD and (not before or before[-1] + PATIENCE <= at)
        if not lost or not due:
            return None
        if len(before) == 2:
            return "given up"
        before.append(at)
        return "queued"

    def missing(self) -> list[tuple[int, int]]:
        """Find good rows, by import and line, whose user is missing although users are compared."""
        if not self.policy.unique_by:
            return []
        there = {self._who(row.user) for row in self.table}
        return [
            (entry.import_id, row.line)
            for entry in self.ledger.values()
            if entry.active
            for row in entry.upload.rows
            if row.user and row.line not in entry.verdict.rejected and self._who(row.user) not in there
        ]

    def twice(self) -> list[object]:
        """Find rows that are registered more than once, corrected or not. Under `unique_by` there are none."""
        if self.policy.unique_by:
            return []
        registered = Counter(
            row.first
            for entry in self.ledger.values()
            if entry.active
            for row in entry.upload.rows
            if row.user and row.line not in entry.verdict.rejected
        )
        return [first for first, times in registered.items() if times > 1]

    def _who(self, user: User | None) -> object:
        values = dict(zip(USERS.columns, user or (), strict=False))
        return tuple(values.get(column) for column in self.policy.unique_by)

    def _was_rejected(self, origin: Origin) -> bool:
        """Whether an active verdict rejected this row."""
        entry = self.get_import(origin[0])
        return entry is not None and entry.active and entry.rejected(origin)

    def _why_uncorrectable(self, origin: Origin, mentioned: set[Origin]) -> str | None:
        if not self._was_rejected(origin):
            return "nothing-to-correct"
        return "already-corrected" if origin in self.corrections or origin in mentioned else None

    def _too_many(self, rejected: int, read: int, *, so_far: bool = False) -> bool:
        text = self.policy.max_rejected.text
        if text.isdigit():
            too_many = rejected > int(text)
        elif text.endswith("%"):
            too_many = not so_far and rejected * 100 > read * Fraction(text[:-1])
        else:
            too_many = False
        return too_many or (not so_far and 0 < rejected == read)

    def _withheld(self, upload: Dropped, rejected: set[int], on_merge: Mapping[int, str]) -> Verdict:
        return Verdict(
            status="refused",
            code="too-many-rejections",
            read=len(upload.rows),
            withheld=len(upload.rows) - len(rejected),
            rejected=tuple(sorted(rejected)),
            rejected_on_merge=on_merge,
        )
