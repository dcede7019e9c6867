"""The pictures of docs/uploading.md, taken of the page as it is now.

`PICTURES=1 ./dev test tests/browser/test_page_pictures.py` writes them. Beside them lies a checksum of what each
one shows: its elements, its sentences and the style sheet. No font of a machine changes that.
"""

import json
import os
import re
import time
import zlib
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from rollcall.bootstrap import PAGE_FOLDER
from support.browsing import MESSY, NewUploader, table

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "images/uploading"
WRITES = bool(os.environ.get("PICTURES"))
NAMES = [
    "start",
    "uploading",
    "checking",
    "verdict",
    "correcting",
    "corrected",
    "registering",
    "receipt",
    "undo",
    "undone",
    "refused",
    "history",
]
NAMES += ["good", "offline", "signed-out", "choices", "dark"]


PATIENCE_SECONDS = 5
# Times and shares differ from run to run.
SHOWN = """() => {
    const kept = ['class', 'd', 'data-state', 'aria-invalid', 'aria-current', 'aria-pressed', 'disabled', 'open'];
    const markup = (one) => {
        if (one.nodeType === Node.TEXT_NODE) return one.data.replace(/[\\d.,]+\\s*%/, '%');
        if (one.matches('time, .days h2, .status, [hidden]')) return '';
        const attributes = kept.map((name) => one.getAttribute(name) ?? '');
        return `<${[one.localName, ...attributes].join(' ')}>${[...one.childNodes].map(markup).join('')}`;
    };
    return markup(document.body);
}"""


class Album:
    """The pictures of one language.

    Attributes:
        stale: The pictures that show something else than the page does now.
    """

    def __init__(self, page: Page, language: str) -> None:
        self.page = page
        self.language = language
        self.stale: list[str] = []
        self._file = PICTURES / f"shown.{language}.json"
        self._kept: dict[str, int] = {} if WRITES else json.loads(self._file.read_text("utf-8"))

    def take(self, name: str) -> None:
        """Take a picture, or see that the kept one shows the same."""
        self.page.evaluate("document.activeElement.tagName === 'H1' && document.activeElement.blur()")
        if WRITES:
            self.page.wait_for_timeout(500)
            self._kept[name] = self._shown()
            kept = PICTURES / f"{name}.{self.language}.png"
            self.page.screenshot(path=kept, animations="disabled", caret="hide")
            return
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._shown() != self._kept.get(name):
            if time.monotonic() > deadline:
                self.stale.append(name)
                return
            time.sleep(0.1)

    def close(self) -> None:
        """Keep what the pictures show."""
        if WRITES:
            self._file.write_text(json.dumps(self._kept, indent=1) + "\n", "utf-8")

    def _shown(self) -> int:
        return zlib.crc32((_style() + self.page.evaluate(SHOWN)).encode())


def _style() -> str:
    """Return the style sheet without its comments and white space."""
    text = (PAGE_FOLDER / "style.css").read_text(encoding="utf-8")
    return re.sub(r"/\*.*?\*/|\s+", "", text, flags=re.DOTALL)


@pytest.mark.parametrize("language", ["en", "ja"])
def test_each_picture_shows_the_page_as_it_is(new_uploader: NewUploader, language: str) -> None:  # noqa: PLR0915 - a walk
    uploader = new_uploader(locale=language, viewport={"width": 1080, "height": 760})
    page = uploader.page
    album = Album(page, language)
    take = album.take
    take("start")
    page.route("**/inbox", lambda _: None)  # it never answers
    uploader.choose(MESSY.read_bytes(), MESSY.name)
    page.locator("progress").wait_for()
    take("uploading")
    page.unroute("**/inbox")
    uploader.go("#/imports")
    page.locator(".state").wait_for()
    uploader.server.works.clear()
    uploader.choose(MESSY.read_bytes(), MESSY.name)
    page.locator(".spinner").wait_for()
    take("checking")
    uploader.server.works.set()
    page.locator("tbody tr").first.wait_for()
    take("verdict")
    uploader.correct(5, 3, "30")
    page.locator(".workbench").evaluate("bench => bench.scrollIntoView({ block: 'start' })")
    uploader.cell(7, 3).click()
    take("correcting")
    uploader.correct(6, 1, "Inés Rojas")
    uploader.correct(7, 3, "51")
    for column, text in enumerate(["Late Arrival", "Kenya", "38"], 1):
        uploader.correct(8, column, text)
    expect(uploader.left).to_have_class("left fine")
    page.locator(".workbench").evaluate("bench => bench.scrollIntoView({ block: 'start' })")
    take("corrected")
    page.emulate_media(color_scheme="dark")
    page.evaluate("scrollTo(0, 0)")
    take("dark")
    page.emulate_media(color_scheme="light")
    uploader.server.works.clear()
    uploader.register_button.click()
    page.locator(".spinner").wait_for()
    take("registering")
    uploader.server.works.set()
    page.locator(".receipt").wait_for()
    take("receipt")
    page.locator(".receipt .actions .plain").last.click()
    take("undo")
    page.locator("dialog .danger").click()
    page.locator(".receipt.rest").wait_for()
    take("undone")
    uploader.check(table(",Norway,41", "Ben,,old"), "winter.csv")
    page.locator("tbody tr").first.wait_for()
    take("refused")
    uploader.check(table("Ann,Norway,41", "Ben,Kenya,30"), "autumn.csv")
    take("good")
    uploader.register()
    uploader.check(table("Dana,Chile,30"), "autumn.csv")
    uploader.register_button.click()
    page.locator(".choices").wait_for()
    take("choices")
    uploader.go("#/imports")
    page.locator(".rows").first.wait_for()
    take("history")
    page.context.set_offline(offline=True)
    page.locator(".banner p").wait_for()
    take("offline")
    page.context.set_offline(offline=False)
    page.evaluate("sessionStorage.clear()")
    page.reload()
    page.locator(".state").wait_for()
    take("signed-out")
    album.close()

    assert album.stale == [], "take the pictures again: PICTURES=1 ./dev test tests/browser/test_page_pictures.py"


@pytest.mark.parametrize(("document", "language"), [("uploading.md", "en"), ("uploading.ja.md", "ja")])
def test_the_pages_show_each_picture(document: str, language: str) -> None:
    text = (DOCS / document).read_text(encoding="utf-8")

    assert sorted(re.findall(rf"\(images/uploading/([a-z-]+)\.{language}\.png\)", text)) == sorted(NAMES)
    assert [name for name in NAMES if not (PICTURES / f"{name}.{language}.png").exists()] == []
