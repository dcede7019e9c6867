"""The check of our language finds riddling words in prose and nowhere else."""

from support.words import prose, riddles

SOURCE = '''"""Whoever reads this."""
x = "whatever is in a string does not count"  # tells why
def f():
    """Return it.

    Mend the second one.
    """
'''


def test_riddling_words_are_found_with_their_lines() -> None:
    words, found = riddles(prose(SOURCE))

    assert sorted(found) == [(1, "Whoever"), (2, "tells"), (6, "Mend")]
    assert words == 11
