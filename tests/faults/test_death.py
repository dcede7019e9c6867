"""Wherever a worker dies or fails, the next delivery makes it whole, and nothing is there twice.

The lines are those of src/rollcall that an import executes once its modules are there. The long form kills at each
of them the first time that it is reached and the last, and has each fail once, in the first scene that reaches it;
and at some of them again in every other scene. What befalls system calls, strace does from outside: it ends the
worker as a call begins, or has the call fail without being made.
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

from contracts.steps import asked
from faults.oracle import Oracle
from faults.scenes import ROWS, Scene, beside, scenes
from faults.uploads import FaultyUpload, made_upload
from faults.workers import Delivery, End, Fault, Workers, workers
from rollcall.adapters.embedded_postgres import running

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from faults.campaigns import Campaign

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
EMBEDDED = "adapters/embedded_postgres.py"
SAMPLE = 4  # how many lines the short form tries in each scene
AGAIN = 40  # how many lines the long form tries again in a scene, of those that were tried in another
CALLS = 6  # how many of a kind are tried, if there are as many


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory, s3_endpoint: str) -> Iterator[Workers]:  # noqa: ARG001 - told
    """A warm process, which knows where S3 is."""
    with workers(tmp_path_factory.mktemp("said")) as warm:
        yield warm


@pytest.fixture(scope="module")
def tried() -> set[tuple[str, str, int]]:
    """What was tried already at which line, in whatever scene."""
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
    """One of the scenes, set."""
    with scenes(nursery, tmp_path, database_url, s3_client, new_bucket) as by_name:
        yield by_name[request.param]()


def _lines_of(scene: Scene) -> dict[tuple[str, int], int]:
    """Find which lines an unharmed delivery reaches, and how often."""
    delivery, uploads = scene.begin(1_000_000)
    end = scene.workers.deliver(delivery, traced=True)
    scene.require_settled(uploads)
    return dict(end.lines)


@pytest.mark.parametrize("scene", SCENES, indirect=True)
@pytest.mark.parametrize("how", [KILLED, "an error"])
def test_a_worker_that_dies_or_fails_at_any_line_loses_and_doubles_nothing(
    campaign: "Campaign",
    request: pytest.FixtureRequest,
    scene: Scene,
    tried: set[tuple[str, str, int]],
    how: str,
) -> None:
    """By kill -9, or by an error that Rollcall does not know, or takes for another."""
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
    """Choose all lines that were not tried in a scene before, and some of those that were."""
    new = [line for line in sorted(lines) if (how, *line) not in tried]
    tried.update((how, *line) for line in new)
    return sorted({*new, *chance.sample(sorted(lines), AGAIN)})


def _times(reached: int, chance: random.Random, *, both: bool) -> list[int]:
    """Choose the first time and the last, or any."""
    return sorted({1, reached}) if both else [chance.choice([1, reached])]


def _befallen(nursery: Workers, fault: Fault, delivery: Delivery) -> End:
    end = nursery.deliver(delivery, fault)
    assert (end.code == -signal.SIGKILL) == (fault.how == KILLED), (fault, end)
    return end


@pytest.mark.parametrize("there", [False, True], ids=["made", "started"])
@pytest.mark.parametrize("how", [KILLED, "an error"])
def test_a_worker_that_dies_or_fails_as_the_embedded_database_starts_or_stops_is_no_obstacle(
    campaign: "Campaign", nursery: Workers, tmp_path: Path, how: str, *, there: bool
) -> None:
    """Whatever it leaves behind, a folder half made or a server that nobody uses, the next delivery copes with."""
    chance = random.Random(campaign.seed)  # noqa: S311 - to be repeated, not to be secret

    def placed(number: int) -> tuple[Delivery, FaultyUpload]:
        upload = made_upload(f"{number}.csv", rows=ROWS)
        (tmp_path / upload.key).write_bytes(upload.content)
        data = tmp_path / "data" / ("" if there else str(number))
        return Delivery(["import", str(tmp_path / upload.key)], environment={"ROLLCALL_DATA": str(data)}), upload

    if there:
        assert nursery.deliver(placed(0)[0]).code == 3
    lines = [line for line in nursery.deliver(placed(1)[0], traced=True).lines if line[0] == EMBEDDED]
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
    """What befalls a worker at a system call.

    Attributes:
        call: Its name.
        when: The how manieth call of it, from 1.
        how: As strace has it.
    """

    call: str
    when: int
    how: str


def _followed(scene: Scene, record: Path, delivery: Delivery, *arguments: str) -> End:
    """Have a worker deliver while strace follows it, from before it does anything."""
    worker = scene.workers.held(delivery)
    command = ["strace", "-f", "-o", str(record), *arguments, "-p", str(worker)]
    with Popen(command, stderr=PIPE, text=True) as strace:  # noqa: S603 - our own
        said = strace.stderr.readline() if strace.stderr else ""
        assert "attached" in said, said
        os.kill(worker, signal.SIGCONT)
        return scene.workers.end_of(worker, delivery)


def _calls_of(scene: Scene, record: Path) -> Counter[str]:
    """Find which system calls an unharmed delivery makes, and how many of each."""
    delivery, uploads = scene.begin(1_000_000)
    _followed(scene, record, delivery)
    scene.require_settled(uploads)
    return Counter(re.findall(r"^[0-9]+ +([a-z0-9_]+)\(", record.read_text(errors="replace"), re.MULTILINE))


def _some(calls: int, chance: random.Random) -> list[int]:
    """Choose the first call, the last, and some between."""
    return sorted({1, calls, *(chance.randint(1, calls) for _ in range(CALLS - 2))})


@pytest.mark.skipif(
    not shutil.which("strace"), reason="there is no strace here; on Debian and Ubuntu: apt install strace"
)
@pytest.mark.parametrize("scene", ["a local file", "an object of S3"], indirect=True)
def test_a_system_call_that_fails_or_kills_loses_and_doubles_nothing(
    campaign: "Campaign", request: pytest.FixtureRequest, scene: Scene, tmp_path: Path
) -> None:
    """Of every kind that an import makes."""
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
    # No system does this, only strace: to fail to send and keep the connection alive, for whose end libpq then
    # waits; and to reset a file as it is read, which urllib3 takes for its connection, and waits for an answer.
    unreal = injected.call == "sendto" or (injected.call, injected.how) == ("read", "error=ECONNRESET")
    assert unreal or not end.hung
    return end
