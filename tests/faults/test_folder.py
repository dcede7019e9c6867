"""Files change in a folder: only the judged bytes are registered, and nothing outside the folder is touched."""

import io
import random
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rollcall.adapters.local import LocalObjectStore
from rollcall.adapters.postgres.repository import PostgresUserRepository
from rollcall.application.errors import ObjectChangedError, ObjectNotFoundError, StoreUnavailableError
from rollcall.application.import_users import Progress
from rollcall.application.reports import Reports, folders_beside
from rollcall.domain.receipt import Source
from rollcall.domain.rejection import Code
from rollcall.domain.upload import ObjectReference
from rollcall.domain.user import USERS
from support.builders import add_user, asked
from support.campaigns import Campaign
from support.oracle import Oracle, foreign_users
from support.privacy import require_quiet
from support.receipts import CheckedImport
from support.uploads import made_upload

parts = st.sampled_from(
    (
        "..",
        ".",
        "",
        "a",
        "link out",
        "link in",
        "file",
        "\0",
        "é",
        "\udcff",
        "\ud800",
        "x" * 255,
        "x" * 1024,
        "~",
        "$HOME",
    )
)
keys = st.lists(parts, min_size=1, max_size=5).map("/".join) | st.text(st.characters(), max_size=40)


def _tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() and not path.is_symlink() else None
        for path in folder.rglob("*")
    }


def test_no_key_leads_out_of_the_folder(campaign: Campaign) -> None:
    """Reading and writing leave the whole tree around it unchanged."""
    with campaign.line("folder: hostile keys, links that lead out") as line:

        @settings(max_examples=campaign.choose(150, 20_000), deadline=None)
        @given(key=keys)
        def stays_inside(key: str) -> None:
            with tempfile.TemporaryDirectory() as made:
                outside, root = Path(made, "outside"), Path(made, "outside", "root")
                root.mkdir(parents=True)
                (outside / "secret").write_bytes(b"secret")
                (root / "file").write_bytes(b"inside")
                (root / "link out").symlink_to(outside)
                (root / "link in").symlink_to(root)
                before = {path: data for path, data in _tree(outside).items() if not path.startswith("root")}
                store = LocalObjectStore(root)
                for name in (key, f"{key}/secret", f"{key}/../secret"):
                    with (
                        suppress(ObjectNotFoundError, StoreUnavailableError),
                        store.open(ObjectReference(key=name)) as found,
                    ):
                        assert b"".join(found.read()) != b"secret"
                    with suppress(StoreUnavailableError):
                        store.put(name, io.BytesIO(b"report"))
                    line.repetitions += 1
                after = {path: data for path, data in _tree(outside).items() if not path.startswith("root")}
                assert after == before
                assert not list(outside.rglob("*.unfinished"))
            line.points += 1

        stays_inside()


def _grow(file: Path) -> None:
    with file.open("ab") as opened:
        opened.write(b"Somebody,Else,1\n")


def _shrink(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.truncate(file.stat().st_size // 2)


def _overwrite(file: Path) -> None:
    with file.open("r+b") as opened:
        opened.write(b"age,country,name")


CHANGES: dict[str, Callable[[Path], None]] = {"growing": _grow, "shrinking": _shrink, "overwritten": _overwrite}


@pytest.mark.parametrize("change", CHANGES)
def test_a_file_that_changes_at_any_moment_registers_nobody(
    campaign: Campaign, database_url: str, tmp_path: Path, change: str
) -> None:
    """It changes between any two blocks while it is checked or imported. Unchanged again, it is imported whole."""
    add_user(database_url)
    upload = made_upload("list.csv", rows=25_000, seed=campaign.seed)
    file = tmp_path / upload.key
    reference = ObjectReference(key=str(file).lstrip("/"))
    store = LocalObjectStore(Path("/"))
    users = PostgresUserRepository(database_url, USERS)
    case = CheckedImport(
        uploads=store,
        reports=Reports(store=store, folders=folders_beside),
        users=users,
        now=lambda: datetime.now(UTC),
        spool=tempfile.TemporaryFile,
    )
    oracle = Oracle(
        database_url=database_url,
        read_report=lambda address: Path(address).read_bytes(),
        receipt_address=lambda receipt: f"/{next(folders_beside(Source(**_identity(receipt))))}/receipt.json",
        foreign=foreign_users(database_url),
    )
    file.write_bytes(upload.content)
    seen: list[Progress] = []
    with campaign.line(f"folder: a file {change} while it is read") as line:
        chance = random.Random(campaign.seed)  # noqa: S311 - repeatable, not secret
        for at in [0, 1, *(chance.randrange(12) for _ in range(campaign.choose(1, 20)))]:
            file.write_bytes(upload.content)
            seen.clear()

            def meanwhile(progress: Progress, at: int = at) -> None:
                seen.append(progress)
                if len(seen) - 1 == at:
                    CHANGES[change](file)

            try:
                case(reference, progress=meanwhile)
            except ObjectChangedError as error:
                require_quiet(error)
            else:
                assert len(seen) <= at  # the import had ended before
                asked(database_url, "delete from users where import_id is not null; delete from imports")
            line.points += 1
            line.add(oracle.found([upload]))
            oracle.require_nothing_broken([upload])
        file.write_bytes(upload.content)
        case(reference)
        assert case(reference).code is Code.REDELIVERY
        oracle.require_all_settled([upload])
    users.close()


def _identity(receipt: Mapping[str, Any]) -> dict[str, Any]:
    return {name: receipt["source"][name] for name in ("bucket", "key", "version")}
