"""Drive the uploader's page in the browser of the system."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import attrs
from playwright.sync_api import ConsoleMessage, Locator, Page, Request, expect

from support.page_server import PageServer

CHROMIUM = Path("/usr/bin/chromium")
MESSY = Path(__file__).parents[2] / "examples/messy_users.csv"
HEADER = "name,country,age"
BUTTON_NAMES = {"en": "Choose a file", "ja": "ファイルを選ぶ"}
# What Chromium says about an answer that is no success; the page shows that itself.
_ABOUT_AN_ANSWER = "Failed to load resource"


def table(*rows: str) -> bytes:
    """Return a list of these rows."""
    return "\n".join([HEADER, *rows, ""]).encode()


@attrs.define(eq=False, slots=False)
class Uploader:
    """A person at the page.

    Attributes:
        page: The page in the browser.
        server: The server.
        complaints: What the browser's console said, and each request to another host.
        requests: Method and path of each request.
    """

    page: Page
    server: PageServer
    complaints: list[str] = attrs.Factory(list)
    requests: list[tuple[str, str]] = attrs.Factory(list)

    def __attrs_post_init__(self) -> None:
        self.watch(self.page)

    def watch(self, page: Page) -> None:
        """Record what a page does."""
        self.page = page
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.complaints.append(f"error: {error}"))
        page.on("request", self._see)

    def open(self, hash_: str = "") -> None:
        """Open the page, with a token; then a view of it."""
        self.page.goto(self.server.address)
        self.page.locator(".drop").wait_for()
        if hash_:
            self.go(hash_)

    def go(self, hash_: str) -> None:
        """Follow a link inside the page."""
        self.page.evaluate("hash => { location.hash = hash }", hash_)

    def choose(self, data: bytes, name: str = "list.csv") -> None:
        """Choose a file, from any view."""
        self.go("#/")
        self.page.locator(".drop").wait_for()
        self.page.locator("#file").set_input_files({"name": name, "mimeType": "text/csv", "buffer": data})

    def check(self, data: bytes, name: str = "list.csv") -> None:
        """Choose a file, and wait for its verdict."""
        self.choose(data, name)
        self.page.locator(".verdict").wait_for()

    def correct(self, line: int, column: int, text: str) -> None:
        """Change one cell by keyboard, and wait for the server's verdict on it."""
        self.cell(line, column).click()
        self.page.keyboard.press("F2")
        self.page.keyboard.press("Control+A")
        self.page.keyboard.type(text)
        self.page.keyboard.press("Enter")
        expect(self.row(line)).not_to_have_attribute("data-state", "judging")

    def row(self, line: int) -> Locator:
        """Return the row of a line of the list."""
        return self.page.locator("tbody tr", has=self.page.locator("th", has_text=str(line)))

    def cell(self, line: int, column: int) -> Locator:
        """Return a cell; the first column is 1."""
        return self.row(line).locator("td").nth(column - 1)

    def register(self) -> None:
        """Press Register, and wait for the receipt."""
        self.page.locator(".actionbar .primary").click()
        self.page.locator(".receipt").wait_for()

    @property
    def heading(self) -> Locator:
        """The heading of the view."""
        return self.page.locator("h1")

    @property
    def register_button(self) -> Locator:
        """The button that registers."""
        return self.page.locator(".actionbar .primary")

    @property
    def left(self) -> Locator:
        """How many rows are still to correct."""
        return self.page.locator(".left")

    def changes(self) -> Iterable[tuple[str, str]]:
        """Return the requests that could register somebody."""
        return [
            (method, path) for method, path in self.requests if method == "PUT" or path.endswith("corrections")
        ]

    def _hear(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"} and not message.text.startswith(_ABOUT_AN_ANSWER):
            self.complaints.append(message.text)

    def _see(self, request: Request) -> None:
        parts = urlsplit(request.url)
        self.requests.append((request.method, parts.path))
        if f"{parts.scheme}://{parts.netloc}" != self.server.origin:
            self.complaints.append(f"another host: {request.url}")


NewUploader = Callable[..., Uploader]


def options(**more: Any) -> dict[str, Any]:  # noqa: ANN401 - the options of a context
    """Return the options of a browser's context for a test."""
    return {"viewport": {"width": 1200, "height": 860}, "locale": "en", "reduced_motion": "reduce", **more}
