"""What is said of things that look like secrets."""

import pytest

from hygiene.leaks import KNOWN, ROOT, Leak, complaints, known, to_look_into

LEAK = Leak("src/code.py", "0" * 40, 7, "AWS Access Key")
ENTRY = '[[file]]\npath = "src/code.py"\nwhy = "{why}"\nhashes = ["{sha1}"]\n'


def test_what_is_not_listed_is_told_with_its_place_and_the_lines_to_list_it() -> None:
    """But not itself."""
    [said] = complaints([LEAK], set())

    assert said.startswith("src/code.py:7 looks like a secret (AWS Access Key).")
    assert said.endswith(ENTRY.format(why="", sha1="0" * 40).rstrip())


def test_what_is_listed_is_let_be_wherever_it_stands_in_its_file() -> None:
    """Lines move."""
    listed = known(ENTRY.format(why="An example.", sha1="0" * 40))

    assert list(complaints([LEAK], listed)) == []


@pytest.mark.parametrize("found", [Leak("src/other.py", "0" * 40), Leak("src/code.py", "1" * 40)])
def test_what_is_listed_elsewhere_or_was_changed_is_told(found: Leak) -> None:
    """And what is no longer there has to go from the list."""
    said = list(complaints([found], {LEAK}))

    assert len(said) == 2
    assert said[0].startswith(found.path)
    assert said[1] == f"src/code.py has no longer what no_secrets.toml lists as {'0' * 40}: remove it there"


@pytest.mark.parametrize(("why", "sha1"), [("", "0" * 40), (" ", "0" * 40), ("An example.", "the secret itself")])
def test_an_entry_needs_a_reason_and_holds_hashes_alone(why: str, sha1: str) -> None:
    """The list itself is the one file that is not looked into."""
    with pytest.raises(ValueError, match=r"src/code\.py has"):
        known(ENTRY.format(why=why, sha1=sha1))


def test_the_list_can_be_read_and_every_other_file_is_looked_into() -> None:
    """Also those that no program reads."""
    assert known(KNOWN.read_text(encoding="utf-8"))
    assert {"README.md", "dev", ".ci/run", "tests/events/s3Event.json"} <= set(to_look_into())
    assert KNOWN.relative_to(ROOT).as_posix() not in to_look_into()
