"""The pictures of docs/uploading.md, taken of the page as it is now.

`PICTURES=1 ./dev test tests/browser/test_page_pictures.py` writes them.
"""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from support.browsing import MESSY, NewUploader, table

DOCS = Path(__file__).parents[2] / "docs"
PICTURES = DOCS / "images/uploading"
WRITES = bool(os.environ.get("PICTURES"))
NAMES = [
    "start",
    "checking",
    "verdict",
    "correcting",
    "corrected",
    "receipt",
    "undo",
    "undone",
    "refused",
    "history",
]
NAMES += ["good", "offline", "signed-out", "choices", "dark"]


def taken(page: Page, language: str, name: str) -> None:
    """Take a picture, or see that there is one."""
    page.evaluate("document.activeElement.tagName === 'H1' && document.activeElement.blur()")
    kept = PICTURES / f"{name}.{language}.png"
    picture = page.screenshot(path=kept if WRITES else None, animations="disabled", caret="hide")
    assert picture
    assert kept.exists()


@pytest.mark.parametrize("language", ["en", "ja"])
def test_each_state_has_a_picture(new_uploader: NewUploader, language: str) -> None:  # noqa: PLR0915 - a walk
    uploader = new_uploader(locale=language, viewport={"width": 1080, "height": 760})
    page = uploader.page

    def take(name: str) -> None:
        taken(page, language, name)

    take("start")
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
    uploader.register()
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


@pytest.mark.parametrize(("document", "language"), [("uploading.md", "en"), ("uploading.ja.md", "ja")])
def test_the_pages_show_each_picture(document: str, language: str) -> None:
    text = (DOCS / document).read_text(encoding="utf-8")

    assert sorted(re.findall(rf"\(images/uploading/([a-z-]+)\.{language}\.png\)", text)) == sorted(NAMES)
