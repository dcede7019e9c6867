"""The kept inputs, one a line. To add some, run `kept.py ABOUT FILE…`."""

import json
import sys
from pathlib import Path

PATH = Path(__file__).parents[1] / "fuzz" / "kept.jsonl"
# The number of bytes at the beginning of an input that choose its circumstances.
CHOICES = 8


def read(line: str) -> bytes:
    """Decode a line. Each character of its upload stands for the byte of the same number."""
    kept = json.loads(line)
    return bytes(kept["choices"]) + str(kept["upload"]).encode("latin-1")


def written(data: bytes, about: str) -> str:
    """Encode an input as a line."""
    choices = list(data[:CHOICES].ljust(CHOICES, b"\0"))
    return json.dumps({"about": about, "choices": choices, "upload": data[CHOICES:].decode("latin-1")}) + "\n"


if __name__ == "__main__":
    with PATH.open("a", encoding="ascii") as kept:
        kept.writelines(written(Path(path).read_bytes(), sys.argv[1]) for path in sys.argv[2:])
