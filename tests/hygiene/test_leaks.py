"""Findings that look like secrets, and the list of those that are not."""

import pytest

from support.leaks import KNOWN, ROOT, Leak, complaints, known, to_look_into

LEAK = Leak("src/code.py", "0" * 40, 7, "AWS Access Key")
ENTRY = '[[file]]\npath = "src/code.py"\nwhy = "{why}"\nhashes = ["{sha1}"]\n'


def test_an_unlisted_leak_is_shown_with_its_place_and_entry() -> None:
    [said] = complaints([LEAK], set())

    assert said.startswith("src/code.py:7 looks like a secret (AWS Access Key).")
    assert said.endswith(ENTRY.format(why="", sha1="0" * 40).rstrip())


def test_a_listed_leak_may_move_within_its_file() -> None:
    listed = known(ENTRY.format(why="An example.", sha1="0" * 40))

    assert list(complaints([LEAK], listed)) == []


@pytest.mark.parametrize("found", [Leak("src/other.py", "0" * 40), Leak("src/code.py", "1" * 40)])
def test_a_leak_in_another_file_or_with_a_new_value_is_reported(found: Leak) -> None:
    """The entry that matches nothing any more is reported too."""
    said = list(complaints([found], {LEAK}))

    assert len(said) == 2
    assert said[0].startswith(found.path)
    assert said[1] == f"src/code.py has no longer what no_secrets.toml lists as {'0' * 40}: remove it there"


@pytest.mark.parametrize(("why", "sha1"), [("", "0" * 40), (" ", "0" * 40), ("An example.", "the secret itself")])
def test_an_entry_needs_a_reason_and_holds_only_hashes(why: str, sha1: str) -> None:
    """The list itself is the only file that is not searched."""
    with pytest.raises(ValueError, match=r"src/code\.py has"):
        known(ENTRY.format(why=why, sha1=sha1))


def test_the_list_is_readable_and_every_other_file_is_searched() -> None:
    assert known(KNOWN.read_text(encoding="utf-8"))
    assert {"README.md", "dev", ".ci/run", "tests/events/s3Event.json"} <= set(to_look_into())
    assert KNOWN.relative_to(ROOT).as_posix() not in to_look_into()
