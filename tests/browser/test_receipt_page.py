"""The receipt as a file, opened by a person who has only the folder."""

from pathlib import Path

from playwright.sync_api import Browser, Page, expect

from rollcall import bootstrap
from rollcall.adapters.memory import MemoryUserRepository
from rollcall.settings import read_settings
from support.browsing import MESSY, options

PLANTED = b"<img src=http://other.example onerror=alert(1)>,Kenya,\xe2\x80\xaeold" + b"x" * 200 + b",\n"


def opened(page: Page, folder: Path) -> None:
    """Import a messy list, and open its receipt in the folder beside it."""
    path = folder / "list.csv"
    path.write_bytes(MESSY.read_bytes() + PLANTED)
    settings = read_settings({})
    bootstrap.import_users(settings, MemoryUserRepository())(bootstrap.file_reference(path))
    [receipt] = folder.glob("list.csv.rollcall/*/receipt.html")
    page.goto(receipt.as_uri())


def test_a_receipt_in_a_folder_can_be_read_in_both_languages(browser: Browser, tmp_path: Path) -> None:
    with browser.new_context(**options(viewport={"width": 320, "height": 600})) as context:
        page = context.new_page()
        complaints: list[str] = []
        page.on("console", lambda message: complaints.append(message.text))
        page.on("request", lambda request: complaints.append(request.url))
        opened(page, tmp_path)

        expect(page.locator("#en h1")).to_have_text("4 users are registered")
        expect(page.locator("#en")).to_contain_text("age is 'thirty', not a whole number")
        assert page.evaluate("document.documentElement.scrollWidth") <= 320
        page.get_by_role("link", name="日本語").click()
        expect(page.locator("#en")).to_be_hidden()
        expect(page.locator("#ja h1")).to_have_text("4人を登録しました")
        expect(page.locator("img")).to_have_count(0)
        assert complaints == [page.url.partition("#")[0]]
