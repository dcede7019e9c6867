"""A folder as the bucket: what is dropped there is taken once it has stopped changing."""

from collections.abc import Callable
from datetime import datetime

from rollcall.application.ports import ObjectStore
from rollcall.domain.upload import ObjectReference

_State = tuple[int, datetime]


def watch(
    folder: ObjectStore,
    take: Callable[[ObjectReference], bool],
    pause: Callable[[], object],
) -> None:
    """Take every file, and again whenever it changes; never return.

    Args:
        folder: What is watched.
        take: Deals with one file; returns whether that is done, or must be tried again after a pause.
        pause: Waits. A file is taken when its size and time have held from before it to after it.
    """
    before: dict[ObjectReference, _State] = {}
    taken: dict[ObjectReference, _State] = {}
    while True:
        now: dict[ObjectReference, _State] = {}
        for listed in folder.list():
            reference = listed.reference
            state = now[reference] = listed.upload.size, listed.upload.last_modified
            if before.get(reference) == state != taken.get(reference) and take(reference):
                taken[reference] = state
        taken = {reference: state for reference, state in taken.items() if reference in now}
        before = now
        pause()
