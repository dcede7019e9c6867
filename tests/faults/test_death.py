"""A worker dies or fails at any place; the next delivery completes the import, and registers nothing twice.

The lines are those of src/rollcall that an import executes after its modules are loaded. The long form takes the
first scene that reaches a line: it kills there the first and the last time, and lets the line fail once.
In every other scene it does that for some of the lines. strace injects the faults of system calls: it kills the
worker when a call begins, or lets the call fail without making it.
"""

import os
import random
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from subprocess import PIPE, Popen
from typing import TYPE_CHECKING

import attrs
import pytest

from rollcall.adapters.embedded_postgres import running
from support.builders import asked
from support.oracle import Oracle
from support.scenarios import ROWS, Scene, beside, scenes
from support.uploads import FaultyUpload, made_upload
from support.workers import Delivery, End, Fault, Workers, workers

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from support.campaigns import Campaign

SCENES = (
    "a local file",
    "a local file, compared with who is there",
    "a local file that updates",
    "corrected rows",
    "a file that is refused",
    "a second delivery",
    "an object of S3",
    "an object of S3, by the Lambda",
)
ERRORS = ("unforeseen", "out of memory", "system", "interrupted")
REFUSALS = ("signal=KILL", "error=ECONNRESET", "error=ETIMEDOUT", "error=ENOSPC", "error=EMFILE")
KILLED = "killed"
EMBEDDED = "adapters/embedded_postgres/"
SAMPLE = 4  # lines that the short form tries in each scene
AGAIN = 40  # lines that the long form tries again in a scene after another scene
CALLS = 6  # calls of each kind that are tried, if there are so many


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Workers]:  # noqa: ARG001 - sets S3's address
    """A warm process that knows the address of S3."""
    with workers(tmp_path_factory.mktemp("said")) as warm:
        yield warm


@pytest.fixture(scope="module")
def tried() -> set[tuple[str, str, int]]:
    """The faults that were tried at each line, in any scene."""
    return set()


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    nursery: Workers,
    tmp_path: Path,
    database_url: str,
    s3_client: "S3Client",
    new_bucket: Callable[[bool], str],
) -> Iterator[Scene]:
    """One scene, set up."""
    with scenes(nursery, tmp_path, database_url, s3_client, new_bucket) as by_name:
        yield by_name[request.param]()


def _lines_of(scene: Scene) -> dict[tuple[str, int], int]:
    """Find the lines that an undisturbed delivery reaches, and how often."""
    delivery, uploads = scene.begin(1_000_000)
    end = scene.workers.deliver(delivery, traced=True)
    scene.require_settled(uploads)
    return dict(end.lines)


@pytest.mark.parametrize("scene", SCENES, indirect=True)
@pytest.mark.parametrize("how", [KILLED, "an error"])
def test_a_fault_at_any_line_loses_and_doubles_nothing(
    campaign: "Campaign",
    request: pytest.FixtureRequest,
    scene: Scene,
    tried: set[tuple[str, str, int]],
    how: str,
) -> None:
    """The faults: kill -9, an unknown error, and an error that Rollcall takes for another."""
    chance = random.Random(campaign.seed)  # noqa: S311 - to be repeated, not to be secret
    lines = _lines_of(scene)
    chosen = _chosen(lines, tried, how, chance) if campaign.long else sorted(chance.sample(sorted(lines), SAMPLE))
    faults = [
        Fault(file, where, time, how if how == KILLED else chance.choice(ERRORS))
        for file, where in chosen
        for time in _times(lines[file, where], chance, both=campaign.long and how == KILLED)
    ]
    with campaign.line(f"{how} at a line: {request.node.callspec.params['scene']}") as line:
        line.points = len(chosen)
        for number, fault in enumerate(faults, 1):
            try:
                line.add(scene.break_off(number, partial(_befallen, scene.workers, fault)))
            except AssertionError as error:
                error.add_note(f"at {fault}")
                raise


def _chosen(
    lines: Mapping[tuple[str, int], int], tried: set[tuple[str, str, int]], how: str, chance: random.Random
) -> list[tuple[str, int]]:
    """Choose all lines that no scene has tried before, and some of the others."""
    new = [line for line in sorted(lines) if (how, *line) not in tried]
    tried.update((how, *line) for line in new)
    return sorted({*new, *chance.sample(sorted(lines), AGAIN)})


def _times(reached: int, chance: random.Random, *, both: bool) -> list[int]:
    """Choose the first time and the last, or any time."""
    return sorted({1, reached}) if both else [chance.choice([1, reached])]


def _befallen(nursery: Workers, fault: Fault, delivery: Delivery) -> End:
    end = nursery.deliver(delivery, fault)
    assert (end.code == -signal.SIGKILL) == (fault.how == KILLED), (fault, end)
    return end


@pytest.mark.parametrize("there", [False, True], ids=["made", "started"])
@pytest.mark.parametrize("how", [KILLED, "an error"])
def test_the_next_import_survives_a_fault_at_database_start(
    campaign: "Campaign", nursery: Workers, tmp_path: Path, how: str, *, there: bool
) -> None:
    """The next delivery copes with a half-made folder or with a server that is still running."""
    chance = random.Random(campaign.seed)  # noqa: S311 - to be repeated, not to be secret

    def placed(number: int) -> tuple[Delivery, FaultyUpload]:
        upload = made_upload(f"{number}.csv", rows=ROWS)
        (tmp_path / upload.key).write_bytes(upload.content)
        data = tmp_path / "data" / ("" if there else str(number))
        return Delivery(["import", str(tmp_path / upload.key)], environment={"ROLLCALL_DATA": str(data)}), upload

    if there:
        assert nursery.deliver(placed(0)[0]).code == 3
    lines = [line for line in nursery.deliver(placed(1)[0], traced=True).lines if line[0].startswith(EMBEDDED)]
    chosen = lines if campaign.long else sorted(chance.sample(lines, 2 if there else 1))
    with campaign.line(f"{how} at a line: the embedded database is {'started' if there else 'made'}") as line:
        line.points = len(chosen)
        for number, (file, where) in enumerate(chosen, 2):
            delivery, upload = placed(number)
            _befallen(nursery, Fault(file, where, 1, how if how == KILLED else chance.choice(ERRORS)), delivery)
            again = nursery.deliver(delivery)
            assert again.code in {0, 3}, (where, again.said)
            data = Path(delivery.environment["ROLLCALL_DATA"])
            with running(data) as url:
                asked(
                    url,
                    "delete from users where import_id in (select id from imports where object_key not like %s)",
                    f"%/{upload.key}",
                )
                asked(url, "delete from imports where object_key not like %s", f"%/{upload.key}")
                oracle = Oracle(database_url=url, read_report=_read, receipt_address=beside)
                oracle.require_all_settled([upload])
                line.add(oracle.found([upload]))
            assert not (data / "postgres" / "postmaster.pid").exists()  # nothing is left running
            if not there:
                shutil.rmtree(data)


def _read(address: str) -> bytes:
    return Path(address).read_bytes()


@attrs.frozen
class Injected:
    """A fault of a worker at a system call.

    Attributes:
        call: Its name.
        when: Which call of that name, from 1.
        how: The fault, in strace's words.
    """

    call: str
    when: int
    how: str


def _followed(scene: Scene, record: Path, delivery: Delivery, *arguments: str) -> End:
    """Let a worker deliver while strace follows it from the beginning."""
    worker = scene.workers.held(delivery)
    command = ["strace", "-f", "-o", str(record), *arguments, "-p", str(worker)]
    with Popen(command, stderr=PIPE, text=True) as strace:  # noqa: S603 - our own
        said = strace.stderr.readline() if strace.stderr else ""
        assert "attached" in said, said
        os.kill(worker, signal.SIGCONT)
        return scene.workers.end_of(worker, delivery)


def _calls_of(scene: Scene, record: Path) -> Counter[str]:
    """Find the system calls of an undisturbed delivery, and the number of each."""
    delivery, uploads = scene.begin(1_000_000)
    _followed(scene, record, delivery)
    scene.require_settled(uploads)
    return Counter(re.findall(r"^[0-9]+ +([a-z0-9_]+)\(", record.read_text(errors="replace"), re.MULTILINE))


def _some(calls: int, chance: random.Random) -> list[int]:
    """Choose the first call, the last one, and some between."""
    return sorted({1, calls, *(chance.randint(1, calls) for _ in range(CALLS - 2))})


@pytest.mark.skipif(
    not shutil.which("strace"), reason="there is no strace here; on Debian and Ubuntu: apt install strace"
)
@pytest.mark.parametrize("scene", ["a local file", "an object of S3"], indirect=True)
def test_a_fault_at_a_system_call_loses_and_doubles_nothing(
    campaign: "Campaign", request: pytest.FixtureRequest, scene: Scene, tmp_path: Path
) -> None:
    """Every kind of call that an import makes."""
    chance = random.Random(campaign.seed)  # noqa: S311 - to be repeated, not to be secret
    calls = _calls_of(scene, tmp_path / "calls")
    everything = [
        Injected(call, when, how)
        for call in sorted(calls)
        for when in _some(calls[call], chance)
        for how in REFUSALS
    ]
    chosen = everything if campaign.long else chance.sample(everything, 10)
    with campaign.line(f"system call that fails or kills: {request.node.callspec.params['scene']}") as line:
        line.points = len({(injected.call, injected.how) for injected in chosen})
        for number, injected in enumerate(chosen, 1):
            try:
                line.add(scene.break_off(number, partial(_refused, scene, tmp_path / "calls", injected)))
            except AssertionError as error:
                error.add_note(f"at {injected}")
                raise


def _refused(scene: Scene, record: Path, injected: Injected, delivery: Delivery) -> End:
    inject = f"inject={injected.call}:{injected.how}:when={injected.when}"
    end = _followed(scene, record, delivery, "-e", f"trace={injected.call}", "-e", inject)
    # Only strace does this, no system. A send fails but the connection stays open, and libpq waits for its end;
    # or reading a file gives ECONNRESET, which urllib3 takes for its connection, and waits for an answer.
    unreal = injected.call == "sendto" or (injected.call, injected.how) == ("read", "error=ECONNRESET")
    assert unreal or not end.hung
    return end
