"""The package as the SAM CLI builds it, built once for all tests that run it."""

from pathlib import Path

import pytest

from support.stack import AWS_TOOLS, built


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package for this interpreter and processor."""
    if not AWS_TOOLS.exists():
        pytest.skip("the SAM CLI is not installed here: ./dev sam --version installs it in .venv-aws")
    return built(tmp_path_factory.mktemp("package"))
