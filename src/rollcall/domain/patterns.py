"""Patterns for texts, in the part of regular expressions that Python, RE2 and JSON Schema read alike."""

import re
from typing import Any

import attrs

from rollcall.domain.errors import DeclarationError

NOTHING = r"[^\x00-\x{10ffff}]"  # in RE2, a pattern that matches no text

# A backslash could end COPY; a space at an end would be trimmed.
_NEVER_CLEAN = " \\"
# The largest number of attempts by which Python may try to match one text.
_MOST_ATTEMPTS = 1_000_000

_class = r"\[(?!\^)(?:\\[\\\[\]^-]|(?!--|&&|~~|\|\|)[ -Z_-~])+\]"
_literal = r"""\\[$()*+./?\[\\\]^{|}]|[ !"#%&',\-/0-9:;<=>@A-Z_`a-z~]"""
_count = r"[?*+]|\{[0-9]{1,3}(?:,[0-9]{0,3})?\}"
_single = rf"(?:{_class}|{_literal})(?:{_count})?(?![?*+{{])"
_group = rf"\((?:\?:)?(?:{_single})+(?:\|(?:{_single})+)*\)\??(?![?*+{{])"
_supported = re.compile(rf"(?:{_single}|{_group})+(?:\|(?:{_single}|{_group})+)*")
_tokens = re.compile(rf"(?P<count>{_count})|(?P<group>\((?:\?:)?)|(?P<characters>{_class}|{_literal})|[|)]")
_ASCII = [chr(point) for point in range(0x20, 0x7F)]


def in_re2(text: str) -> str:
    """Return a pattern of RE2 that matches only this text."""
    return "".join(
        character if character.isascii() and character.isalnum() else rf"\x{{{ord(character):x}}}"
        for character in text
    )


@attrs.frozen
class Pattern:
    """A pattern that a whole text must match.

    It has printable ASCII characters, classes of them such as `[A-Z0-9-]`, counts such as `?`, `+` and `{2,4}`,
    alternatives with `|`, and groups that are not nested and not repeated: `[0-9]{5}(-[0-9]{4})?`.

    Attributes:
        source: The pattern as declared.
        max_length: The largest length of a text.

    Raises:
        DeclarationError: The pattern has other parts, matches the empty text, or could take too long.
    """

    source: str
    max_length: int
    _compiled: re.Pattern[str] = attrs.field(init=False, eq=False, repr=False)

    @_compiled.default
    def _compile(self) -> re.Pattern[str]:
        if not _supported.fullmatch(self.source):
            raise DeclarationError(
                f"the pattern {self.source} is not understood; write it with ASCII characters, classes such as "
                "[0-9] for \\d, counts, alternatives, and groups that are neither nested nor repeated; it is for "
                "the whole cell, without ^ and $"
            )
        try:
            compiled = re.compile(self.source)
        except re.error as error:
            raise DeclarationError(f"the pattern {self.source} is wrong: {error.msg}") from None
        if compiled.fullmatch(""):
            raise DeclarationError(f"the pattern {self.source} matches the empty text, which is blank")
        if self._attempts > _MOST_ATTEMPTS:
            raise DeclarationError(
                f"the pattern {self.source} could take too many attempts; give closer counts or less max_length"
            )
        return compiled

    def matches(self, text: str) -> bool:
        """Return whether a text of at most `max_length` characters matches."""
        return self._compiled.fullmatch(text) is not None

    def schema(self) -> str:
        """Return the pattern for JSON Schema, which searches."""
        return f"^(?:{self.source})$"

    def clean(self, without: str) -> str:
        """Return a pattern of RE2 that matches the same texts, except those with a space or certain characters.

        Args:
            without: The characters.
        """

        def written(token: re.Match[str]) -> str:
            if token["group"]:
                return "(?:"
            if not token["characters"]:
                return token[0]
            one = re.compile(token[0])
            left = [each for each in _ASCII if each not in without + _NEVER_CLEAN and one.fullmatch(each)]
            return f"[{''.join(map(in_re2, left))}]" if left else NOTHING

        return f"(?:{_tokens.sub(written, self.source)})"

    @property
    def _attempts(self) -> int:
        """The largest number of attempts to match one text."""
        attempts = 1
        for token in _tokens.finditer(self.source):
            attempts *= self._attempts_of(token)
        return attempts

    def _attempts_of(self, token: re.Match[Any]) -> int:
        if token["count"] in {"*", "+"}:
            return self.max_length
        if token["count"] == "?" or token[0] == "|":
            return 2
        if token["count"] and "," in token["count"]:
            least, _, most = token["count"].strip("{}").partition(",")
            return max(int(most or self.max_length) - int(least) + 1, 1)
        return 1
