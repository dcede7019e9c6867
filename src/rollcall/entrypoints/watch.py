"""A folder as the bucket: what is dropped there is taken once it has stopped changing."""

from collections.abc import Callable
from datetime import datetime

from rollcall.application.ports import ObjectNotFoundError, ObjectStore, StoreUnavailableError
from rollcall.domain.upload import ObjectReference

_State = tuple[int, datetime] | str


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
        for reference in folder.list():
            state = _state(folder, reference)
            if state is None:
                continue  # it went between the two calls
            now[reference] = state
            if before.get(reference) == state != taken.get(reference) and take(reference):
                taken[reference] = state
        taken = {reference: state for reference, state in taken.items() if reference in now}
        before = now
        pause()


def _state(folder: ObjectStore, reference: ObjectReference) -> _State | None:
    try:
        with folder.open(reference) as found:
            return found.upload.size, found.upload.last_modified
    except ObjectNotFoundError:
        return None
    except StoreUnavailableError as error:
        return str(error)  # whoever takes it meets the same error, and tells
