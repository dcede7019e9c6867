"""Uploads for fault tests: each row contains its file and line, and is a canary."""

import random

import attrs

from support.builders import completed

CANARY = "Canary"  # no log, traceback or message may contain it

_COUNTRIES = ("Japan", "Türkiye", "日本", '"Korea, Republic of"')
_BAD = ("{name},{country},old", "{name},,30", "{name},{country}", ",{country},151", '{name},"x"y,7')


@attrs.frozen
class FaultyUpload:
    """A CSV file and the expected result of importing it.

    Attributes:
        key: Its object key, or file name.
        content: Its bytes.
        good: The user of each good row, by line: name, country and age.
        bad: The lines of the bad rows.
    """

    key: str
    content: bytes
    good: dict[int, tuple[str, str, int]]
    bad: frozenset[int]


def made_upload(key: str, *, rows: int, bad_share: float = 0.1, seed: int = 0) -> FaultyUpload:
    """Make an upload. The same arguments make the same upload.

    Args:
        key: Its object key, or file name.
        rows: The number of rows.
        bad_share: The share of bad rows, of every kind in turn.
        seed: The seed of the random choices.
    """
    chance = random.Random(f"{key} {seed}")  # noqa: S311 - repeatable, not secret
    lines = ["name,country,age"]
    good: dict[int, tuple[str, str, int]] = {}
    for line in range(2, rows + 2):
        name, country, age = f"{CANARY} {key} {line}", chance.choice(_COUNTRIES), chance.randrange(151)
        if chance.random() < bad_share:
            lines.append(chance.choice(_BAD).format(name=name, country=country))
        else:
            good[line] = (name, country.strip('"'), age)
            # Some rows leave the fast path, so that faults hit both paths.
            lines.append(f"{name},{country},{age}" if chance.random() < 0.9 else f'"{name}",{country},  {age} ')
    return FaultyUpload(
        key, completed("\n".join([*lines, ""]).encode()), good, frozenset(range(2, rows + 2)) - set(good)
    )
