"""The inputs that are kept, one a line; run as a program, it keeps some more: `kept.py ABOUT FILE…`."""

import json
import sys
from pathlib import Path

PATH = Path(__file__).with_name("kept.jsonl")
# So many bytes at the beginning of an input choose its circumstances.
CHOICES = 8


def read(line: str) -> bytes:
    """Read an input; every character of the upload stands for the byte of the same number."""
    kept = json.loads(line)
    return bytes(kept["choices"]) + str(kept["upload"]).encode("latin-1")


def written(data: bytes, about: str) -> str:
    """Write an input as a line."""
    choices = list(data[:CHOICES].ljust(CHOICES, b"\0"))
    return json.dumps({"about": about, "choices": choices, "upload": data[CHOICES:].decode("latin-1")}) + "\n"


if __name__ == "__main__":
    with PATH.open("a", encoding="ascii") as kept:
        kept.writelines(written(Path(path).read_bytes(), sys.argv[1]) for path in sys.argv[2:])
