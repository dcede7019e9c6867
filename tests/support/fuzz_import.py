"""Look for an upload that breaks a check: `./dev fuzz [SECONDS [ARG…]]`, with arguments for libFuzzer.

It keeps its corpus in `.fuzz/corpus` and its findings in `.fuzz/found`. With the path of a finding instead of
seconds, it replays that finding.
"""

import hashlib
import re
import sys
import traceback
from pathlib import Path
from random import Random

import atheris

with atheris.instrument_imports(include=["rollcall.application", "rollcall.domain"]):
    from support.fuzz_checks import OPENINGS, OTHER_WAYS, check
    from support.kept import CHOICES, PATH, read

HERE = Path(__file__).parent
WORK = HERE.parents[1] / ".fuzz"
CORPUS, FOUND = WORK / "corpus", WORK / "found"


def seeds() -> list[bytes]:
    """Initial corpus: the awkward files of the tests after each opening, and the kept inputs."""
    cases = [path.read_bytes() for path in sorted((HERE.parent / "cases").glob("*.csv"))]
    return [
        bytes([0, 0, opening, 0, 0, number % len(OTHER_WAYS), 0, opening // 4]) + case
        for number, case in enumerate(cases)
        for opening in range(len(OPENINGS))
    ] + [read(line) for line in PATH.read_text("ascii").splitlines()]


def look(data: bytes) -> None:
    """Check one input and continue after a failure. Keep the shortest input for each place that fails."""
    try:
        check(data)
    except Exception as error:  # noqa: BLE001 - any error is a finding
        frames = traceback.extract_tb(error.__traceback__)
        place = (
            FOUND
            / f"{type(error).__name__}-{Path(frames[-1].filename).stem}-{frames[-1].lineno}-{frames[1].lineno}"
        )
        if not place.exists() or len(data) < place.stat().st_size:
            place.write_bytes(data)
            sys.stderr.write(f"\nFOUND {place}\n{''.join(traceback.format_exception(error)[-4:])}")


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Every other time, move, double or remove whole cells and lines, which libFuzzer rarely does."""
    random = Random(seed)  # noqa: S311 - nothing is secret here
    pieces = re.split(rb'([,;\t|\r\n"]+)', data[CHOICES:])
    one, other = random.randrange(len(pieces)), random.randrange(len(pieces))
    match random.randrange(6):
        case 0:
            pieces[one], pieces[other] = pieces[other], pieces[one]
        case 1:
            pieces[one:one] = pieces[other : other + random.randrange(8)]
        case 2:
            del pieces[one : one + random.randrange(8)]
        case _:
            return bytes(atheris.Mutate(data, max_size))
    return (data[:CHOICES] + b"".join(pieces))[:max_size]


def main() -> None:
    """Run libFuzzer, or replay one input."""
    seconds, *others = sys.argv[1:] or ["60"]
    if not seconds.isdigit():
        check(Path(seconds).read_bytes())
        return
    for folder in (CORPUS, FOUND):
        folder.mkdir(parents=True, exist_ok=True)
    for seed in seeds():
        (CORPUS / hashlib.sha256(seed).hexdigest()).write_bytes(seed)
    atheris.Setup(
        [
            sys.argv[0],
            f"-max_total_time={seconds}",
            "-timeout=20",
            "-rss_limit_mb=2048",
            "-max_len=600",
            "-print_final_stats=1",
            f"-dict={HERE.parent / 'fuzz/csv.dict'}",
            f"-artifact_prefix={FOUND}/",
            *others,
            str(CORPUS),
        ],
        look,
        custom_mutator=mutated,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
