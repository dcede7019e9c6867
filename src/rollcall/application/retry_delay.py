"""When a failed import is tried again."""

_DELAYS_SECONDS = (30, 120, 600)
_JITTER = 0.25


def retry_delay(tries: int, chance: float) -> int | None:
    """Return the seconds until the next try of an import whose failure may pass.

    The first delays are short: most such failures, for example a restart of the database, pass within minutes.

    Args:
        tries: The number of tries until now, at least 1.
        chance: A random number from 0 to 1. It varies the delay by a quarter, so that many imports that failed at
            the same moment are not tried again at the same moment.

    Returns:
        The delay; None for as long as the queue hides a message anyway.
    """
    if tries > len(_DELAYS_SECONDS):
        return None
    return round(_DELAYS_SECONDS[tries - 1] * (1 + _JITTER * (2 * chance - 1)))
