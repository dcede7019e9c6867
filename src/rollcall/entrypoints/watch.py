"""A folder as the bucket: a file in it is imported when it has stopped changing."""

from collections.abc import Callable
from datetime import datetime

import attrs

from rollcall.application.errors import StoreUnavailableError
from rollcall.application.ports import ObjectListing
from rollcall.domain.upload import ObjectReference

# A file whose last line has no end may be cut off, so it waits this many further intervals.
_FURTHER_INTERVALS = 10
# The wait doubles with each failed try up to this many intervals: on a full disk each try reads the whole file.
_MOST_INTERVALS = 32


@attrs.define
class _Watched:
    """A file in the folder.

    Attributes:
        state: The file's size and modification time.
        intervals: The number of intervals for which the state has not changed.
        due: The number of such intervals after which the file is examined next; None if it is done.
        failures: The number of failed tries since the state changed.
    """

    state: tuple[int, datetime]
    intervals: int = 0
    due: int | None = 1
    failures: int = 0


def watch(
    folder: ObjectListing,
    take: Callable[[ObjectReference], bool],
    pause: Callable[[], object],
    *,
    last_line_has_end: Callable[[ObjectReference], bool],
    report: Callable[[StoreUnavailableError], object],
) -> None:
    """Take every file once, and again when it has changed. This function never returns.

    Args:
        folder: The watched folder.
        take: Imports one file; returns False if it failed and must be tried again later.
        pause: Waits for one interval. A file is taken when size and time have not changed for an interval.
        last_line_has_end: Returns whether the last line of a file has an end. If it has none, the file is taken
            ten intervals later.
        report: Called when the folder cannot be listed, and then not again until it could be listed.
    """
    files: dict[ObjectReference, _Watched] = {}
    listable = True
    while True:
        found: dict[ObjectReference, _Watched] = {}
        try:
            for listed in folder.list():
                reference, state = listed.reference, (listed.upload.size, listed.upload.last_modified)
                file = files.get(reference)
                if not file or file.state != state:
                    found[reference] = _Watched(state)
                    continue
                found[reference] = file
                file.intervals += 1
                if file.intervals != file.due:
                    continue
                if file.intervals == 1 and not last_line_has_end(reference):
                    file.due += _FURTHER_INTERVALS
                elif take(reference):
                    file.due = None
                else:
                    file.failures += 1
                    file.due += min(2**file.failures, _MOST_INTERVALS)
        except StoreUnavailableError as error:
            if listable:
                report(error)
            listable = False
            files |= found
        else:
            listable = True
            files = found
        pause()
