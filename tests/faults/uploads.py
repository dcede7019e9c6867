"""Uploads made for breaking things: every row says of which file and line it is, and is a canary besides."""

import random

import attrs

CANARY = "Canary"  # what no log, traceback or message may hold

_COUNTRIES = ("Japan", "Türkiye", "日本", '"Korea, Republic of"')
_BAD = ("{name},{country},old", "{name},,30", "{name},{country}", ",{country},151", '{name},"x"y,7')


@attrs.frozen
class FaultyUpload:
    """A CSV and what has to become of it.

    Attributes:
        key: Its object key, or file name.
        content: Its bytes.
        good: The line of each good row, and the user that it holds: name, country and age.
        bad: The lines of the bad rows.
    """

    key: str
    content: bytes
    good: dict[int, tuple[str, str, int]]
    bad: frozenset[int]


def made_upload(key: str, *, rows: int, bad_share: float = 0.1, seed: int = 0) -> FaultyUpload:
    """Make an upload; the same arguments make the same one.

    Args:
        key: Its object key, or file name.
        rows: How many rows it has.
        bad_share: How large a share of them is bad, of every kind in turn.
        seed: What chooses them.
    """
    chance = random.Random(f"{key} {seed}")  # noqa: S311 - to be repeated, not to be secret
    lines = ["name,country,age"]
    good: dict[int, tuple[str, str, int]] = {}
    for line in range(2, rows + 2):
        name, country, age = f"{CANARY} {key} {line}", chance.choice(_COUNTRIES), chance.randrange(151)
        if chance.random() < bad_share:
            lines.append(chance.choice(_BAD).format(name=name, country=country))
        else:
            good[line] = (name, country.strip('"'), age)
            # Some leave the fast way, so that both are broken in the middle.
            lines.append(f"{name},{country},{age}" if chance.random() < 0.9 else f'"{name}",{country},  {age} ')
    return FaultyUpload(key, "\n".join([*lines, ""]).encode(), good, frozenset(range(2, rows + 2)) - set(good))
