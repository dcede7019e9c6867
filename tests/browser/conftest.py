"""A browser for the session, a server and a person at the page for each test."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from support.browsing import CHROMIUM, NewUploader, Uploader, options
from support.page_server import PageServer, page_server

# A machine of CI is busy.
PATIENCE_MS = 30_000
expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.exists():
        pytest.skip(f"there is no browser at {CHROMIUM}: apt-get install chromium fonts-noto-cjk")
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield found
        found.close()


@pytest.fixture
def environment() -> dict[str, str]:
    return {}


@pytest.fixture
def server(tmp_path: Path, environment: dict[str, str]) -> Iterator[PageServer]:
    with page_server(tmp_path, environment) as running:
        yield running


@pytest.fixture
def new_uploader(browser: Browser, server: PageServer) -> Iterator[NewUploader]:
    """Open the page in a new context. At the end, nothing may have complained, and no other host was asked."""
    with ExitStack() as opened:
        made = []

        def new(**more: Any) -> Uploader:  # noqa: ANN401 - the options of a context
            context = browser.new_context(**options(**more))
            opened.callback(context.close)
            context.set_default_timeout(PATIENCE_MS)
            uploader = Uploader(context.new_page(), server)
            made.append(uploader)
            uploader.open()
            return uploader

        yield new
        assert [complaint for uploader in made for complaint in uploader.complaints] == []


@pytest.fixture
def uploader(new_uploader: NewUploader) -> Uploader:
    return new_uploader()
