"""Find words in docstrings and comments that make a reader read a sentence twice.

    python tests/support/words.py src tests

At most one in a thousand words of each folder may be such a word. CONTRIBUTING.md says how we write.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ALLOWED_IN_A_THOUSAND = 1

_riddling = re.compile(
    r"\b(who(so)?ever|whatever|wherever|whichever|told|tells?|mend(s|ed|ing)?|mind(s|ed)|anew|for ever|but for"
    r"|of which|turn(s|ed)? down|be it|befall(s|en)?|forsake(n|s)?|ways? (in|on)|comes? back|drop(s|ped)? back"
    r"|dropped)\b",
    re.IGNORECASE,
)
_word = re.compile(r"[A-Za-z][A-Za-z'-]*")


def prose(source: str) -> Iterator[tuple[int, str]]:
    """Yield each docstring and comment of a Python source, line by line, with its line number."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            match node.body[0]:
                case ast.Expr(value=ast.Constant(value=str(docstring))) as first:
                    yield from enumerate(docstring.splitlines(), first.lineno)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.string.startswith("#!"):
            yield token.start[0], token.string


def riddles(lines: Iterator[tuple[int, str]]) -> tuple[int, list[tuple[int, str]]]:
    """Count the words of some lines, and find the riddling words.

    Returns:
        The number of words, and each riddling word with its line.
    """
    words = 0
    found = []
    for line, text in lines:
        words += len(_word.findall(text))
        found += [(line, match[0]) for match in _riddling.finditer(text)]
    return words, found


def main(folders: list[str]) -> int:
    """Check every Python file below some folders, and print the riddling words of a folder that has too many."""
    failed = False
    for folder in folders:
        words, lines = 0, []
        for path in sorted(Path(folder).rglob("*.py")):
            here, found = riddles(prose(path.read_text("utf-8")))
            words += here
            lines += [f"{path}:{line}: {word}" for line, word in found]
        rate = 1000 * len(lines) / max(words, 1)
        if rate > ALLOWED_IN_A_THOUSAND:
            failed = True
            print(*lines, sep="\n")
        print(f"{folder}: {len(lines)} hard words among {words:,}, {rate:.1f} in 1,000")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
