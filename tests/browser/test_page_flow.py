"""From a list to its receipt, and back."""

import re
from datetime import timedelta
from io import BytesIO

import pytest
from playwright.sync_api import expect

from support.browsing import BUTTON_NAMES, MESSY, NewUploader, Uploader, table
from support.command_line import wait_until
from support.page_server import PageServer

GOOD = table("Ann,Norway,41", "Ben,Kenya,30")
# Line and column of the wrong cells of the messy list, and what is right.
CORRECTIONS = [
    (5, 3, "30"),
    (6, 1, "Cem"),
    (7, 3, "51"),
    *((8, column, text) for column, text in enumerate(["Late Arrival", "Kenya", "38"], 1)),
]
DROP = """([data, name]) => {
    const transfer = new DataTransfer();
    transfer.items.add(new File([data], name));
    for (const type of ['dragenter', 'dragover', 'drop']) {
        const event = new DragEvent(type, { bubbles: true, cancelable: true, dataTransfer: transfer });
        document.querySelector('.drop').dispatchEvent(event);
    }
}"""

CORRECT = """body => fetch('/api/imports/1/corrections', {
    method: 'POST',
    headers: {
        'Content-Type': 'application/json',
        Authorization: `Bearer ${sessionStorage.getItem('rollcall.token')}`,
    },
    body: JSON.stringify(body),
})"""


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("way", ["drop", "button", "keyboard"])
def test_a_list_is_judged_before_it_is_registered(
    new_uploader: NewUploader, server: PageServer, language: str, way: str
) -> None:
    uploader = new_uploader(locale=language)
    page = uploader.page
    if way == "drop":
        page.evaluate(DROP, [MESSY.read_text(encoding="utf-8"), MESSY.name])
    else:
        with page.expect_file_chooser() as chooser:
            if way == "button":
                page.get_by_role("button", name=BUTTON_NAMES[language]).click()
            else:
                for _ in range(6):  # skip link, brand, two links, language, the button
                    page.keyboard.press("Tab")
                page.keyboard.press("Enter")
        chooser.value.set_files(MESSY)

    expect(uploader.heading).to_have_text(
        {"en": "4 of 8 users would be registered.", "ja": "8人のうち4人を登録できます。"}[language]
    )
    expect(page.locator(".equation dd")).to_have_text(["8", "4", "4"])
    expect(page.locator(".unchecked")).to_be_visible()
    expect(page.locator("tbody tr")).to_have_count(4)
    assert (server.names, server.imports, uploader.changes()) == ([], [], [])


def test_a_list_is_corrected_by_keyboard_alone(uploader: Uploader, server: PageServer) -> None:
    uploader.check(MESSY.read_bytes(), MESSY.name)
    page = uploader.page
    page.locator("tbody tr").first.wait_for()
    for _ in range(40):
        if page.locator(":focus").evaluate_all("found => found.some(one => one.closest('tbody'))"):
            break
        page.keyboard.press("Tab")
    for number, (line, column, text) in enumerate(CORRECTIONS):
        if number == 0:
            for key in "Home", *["ArrowRight"] * column:
                page.keyboard.press(key)
        expect(uploader.cell(line, column)).to_be_focused()
        page.keyboard.type(text)
        page.keyboard.press("Enter")  # which leads to the next wrong cell
    expect(uploader.left).to_have_text("All rows are corrected")
    expect(uploader.heading).to_have_text("All 8 users would be registered.")
    uploader.register_button.focus()
    page.keyboard.press("Enter")

    expect(uploader.heading).to_have_text("8 users are registered")
    expect(page.locator(".equation dd")).to_have_text(["8", "4", "4"])
    first, second = server.imports
    assert second.receipt.corrects == first.import_id
    assert len(server.names) == 8


def test_an_undo_says_how_many_and_removes_them(uploader: Uploader, server: PageServer) -> None:
    uploader.check(MESSY.read_bytes(), MESSY.name)
    for line, column, text in CORRECTIONS:
        uploader.correct(line, column, text)
    uploader.register()
    uploader.page.get_by_role("button", name="Undo").click()
    expect(uploader.page.get_by_role("dialog")).to_contain_text("Remove 8 users?")
    assert len(server.names) == 8
    uploader.page.get_by_role("button", name="Remove 8 users").click()

    expect(uploader.heading).to_have_text("Undone")
    expect(uploader.page.locator(".receipt")).to_contain_text("Nobody of this list is registered now.")
    assert server.names == []


def test_an_undo_that_is_not_confirmed_does_nothing(uploader: Uploader, server: PageServer) -> None:
    uploader.check(GOOD)
    uploader.register()
    uploader.page.get_by_role("button", name="Undo").focus()
    uploader.page.keyboard.press("Enter")
    expect(uploader.page.get_by_role("button", name="Cancel")).to_be_focused()
    uploader.page.keyboard.press("Enter")

    expect(uploader.page.get_by_role("dialog")).to_have_count(0)
    assert len(server.names) == 2


def test_rows_that_were_left_out_are_corrected_later(uploader: Uploader, server: PageServer) -> None:
    uploader.check(MESSY.read_bytes(), MESSY.name)
    uploader.register()
    expect(uploader.page.locator(".equation dd")).to_have_text(["8", "4", "4"])
    uploader.page.get_by_role("link", name="Correct them here").click()
    uploader.page.locator("tbody tr").first.wait_for()
    uploader.correct(5, 3, "30")
    uploader.register()

    expect(uploader.heading).to_have_text("5 of 8 users are registered")
    expect(uploader.page.locator(".equation dd")).to_have_text(["8", "4", "1", "3"])
    assert len(server.names) == 5
    uploader.page.get_by_role("link", name="Correct them here").click()
    expect(uploader.page.locator("tbody tr")).to_have_count(3)
    uploader.go("#/imports")
    entries = ["1 registered", "5 registered · 3 not registered"]
    expect(uploader.page.locator(".row-main .soft")).to_have_text(entries)
    expect(uploader.page.locator(".row-main bdi").first).to_have_text("Corrections of messy_users.csv")


def test_a_row_is_not_corrected_twice(uploader: Uploader, server: PageServer) -> None:
    """Somebody else corrects it in the meantime."""
    uploader.check(table("Ann,Norway,41", "Ben,Kenya,old"))
    uploader.register()
    uploader.go("#/imports/1/correct")
    uploader.correct(3, 3, "30")
    post = {"rows": [{"line": 3, "cells": {"name": "Ben", "country": "Kenya", "age": "31"}}]}
    uploader.page.evaluate(CORRECT, post)
    wait_until(lambda: len(server.imports) == 2)
    uploader.register()

    expect(uploader.page.locator(".receipt")).to_contain_text(
        "1 row was registered already; your new value was not used."
    )
    uploader.go("#/imports/1/correct")
    expect(uploader.heading).to_have_text("Nothing is left to correct")
    assert len(server.names) == 2


def test_rows_that_were_left_out_are_downloaded(uploader: Uploader) -> None:
    uploader.check(MESSY.read_bytes(), MESSY.name)
    uploader.register()
    with uploader.page.expect_download() as download:
        uploader.page.get_by_role("button", name="Download them").click()

    assert "[type-error] age is 'thirty'" in download.value.path().read_text("utf-8")


def test_a_list_of_the_same_name_is_asked_about(uploader: Uploader, server: PageServer) -> None:
    uploader.check(GOOD)
    uploader.register()
    uploader.check(table("Dana,Chile,30"))
    uploader.register_button.click()
    expect(uploader.heading).to_have_text("A list of this name is registered already")
    assert len(server.names) == 2
    uploader.page.get_by_role("button", name="A new list with other users").click()

    expect(uploader.heading).to_have_text("1 user is registered")
    assert len(server.names) == 3


def test_a_receipt_has_an_address_and_is_in_the_history(uploader: Uploader, server: PageServer) -> None:
    uploader.check(GOOD, "autumn.csv")
    uploader.register()
    assert uploader.page.url.endswith("#/imports/1")
    uploader.check(table("Dana,Chile,30"), "winter.csv")
    uploader.register()
    uploader.page.get_by_role("link", name="History").click()
    day = server.site.now().date()
    searches = {"Import 1": 1, "\uff11": 1, f"{day}": 2, f"{day.month}/{day.day}": 2, "nowhere": 0, "autumn": 1}
    for words, count in searches.items():
        uploader.page.get_by_role("searchbox").fill(words)
        expect(uploader.page.locator(".rows li")).to_have_count(count)
    uploader.page.locator(".rows a").click()

    expect(uploader.heading).to_have_text("2 users are registered")
    expect(uploader.page.locator(".receipt")).to_contain_text("autumn.csv")


def test_an_empty_list_is_downloaded_and_fits(uploader: Uploader) -> None:
    with uploader.page.expect_download() as download:
        uploader.page.get_by_role("button", name="Get an empty list").click()
    uploader.check(download.value.path().read_bytes() + b"Ann,Norway,41\r\n")

    expect(uploader.heading).to_have_text("1 user would be registered. All is well.")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"PK\x03\x04" + bytes(100), "The file is not a CSV"),
        (table(",X,1", ",Y,2"), "Too many rows are wrong"),
        (b"name,age\nAnn,41\n", "A column is missing"),
    ],
)
def test_a_refused_list_says_why_and_what_to_do(uploader: Uploader, data: bytes, says: str) -> None:
    uploader.check(data)

    expect(uploader.heading).to_have_text("Nothing of this list would be registered.")
    expect(uploader.page.locator(".reason-card h2")).to_have_text(says)
    expect(uploader.page.get_by_role("button", name=re.compile(r"Register \d"))).to_have_count(0)


@pytest.mark.parametrize("environment", [{"ROLLCALL_MAX_CSV_BYTES": "1000", "ROLLCALL_MAX_UPLOAD_BYTES": "500"}])
def test_a_file_over_the_limit_is_not_sent(uploader: Uploader) -> None:
    uploader.choose(table(*["Ann,Norway,41"] * 100))

    expect(uploader.page.get_by_role("alert").filter(has_text="limit")).to_contain_text("The limit is 1,000 bytes")
    assert ("POST", "/api/uploads") not in uploader.requests


def test_a_missing_column_is_named(uploader: Uploader) -> None:
    uploader.check(b"Ann,Norway,41\n")

    expect(uploader.page.locator(".reason-card")).to_contain_text(
        "must name these columns: name, country, and age."
    )


def test_a_file_of_another_kind_is_not_to_be_tried_again(uploader: Uploader) -> None:
    uploader.choose(b"\x89PNG\r\n", "photo.png")

    expect(uploader.heading).to_have_text("The file is not a CSV")
    expect(uploader.page.locator("main")).to_contain_text("save it as CSV.")
    expect(uploader.page.get_by_role("button", name="Try again")).to_have_count(0)


@pytest.mark.parametrize("link", ["Register a list", "Register another list", "Rollcall"])
def test_a_link_leads_from_a_failure_back_to_the_start(uploader: Uploader, link: str) -> None:
    uploader.choose(b"")
    expect(uploader.heading).to_contain_text("list.csv is empty")
    uploader.page.get_by_role("link", name=link).click()

    expect(uploader.heading).to_have_text("Register a list of users")


def test_the_language_is_switched_and_kept(uploader: Uploader) -> None:
    uploader.page.get_by_role("button", name="日本語").click()
    expect(uploader.heading).to_have_text("ユーザーの名簿を登録")
    uploader.page.reload()

    expect(uploader.heading).to_have_text("ユーザーの名簿を登録")
    expect(uploader.page.locator("html")).to_have_attribute("lang", "ja")


def test_a_check_is_shown_by_its_address_after_a_day(uploader: Uploader, server: PageServer) -> None:
    uploader.check(MESSY.read_bytes(), MESSY.name)
    server.site.now.pass_by(timedelta(days=2))
    uploader.page.reload()

    expect(uploader.heading).to_have_text("4 of 8 users would be registered.")
    expect(uploader.page.locator(".lead")).to_contain_text("This upload is too old. Choose the file again.")
    expect(uploader.row(5)).to_contain_text("thirty")
    expect(uploader.register_button).to_have_count(0)


def test_a_refused_import_is_shown_by_its_address(uploader: Uploader, server: PageServer) -> None:
    """Somebody put the list into the bucket."""
    server.site.stores.uploads.put("list.csv", BytesIO(table("Ann,Norway,old", ",Kenya,3")))
    wait_until(lambda: server.imports)
    uploader.go(f"#/imports/{server.imports[0].import_id}")

    expect(uploader.heading).to_have_text("The list was refused")
    expect(uploader.page.locator(".reason-card")).to_contain_text("Too many rows are wrong")
    expect(uploader.row(2)).to_contain_text("old")
    expect(uploader.page.locator("tbody tr")).to_have_count(2)
    expect(uploader.page.locator(".filter").nth(1)).to_have_text("1 row: age is not a whole number")
    with uploader.page.expect_download() as download:
        uploader.page.get_by_role("button", name="Download them").click()
    assert b"[type-error] age is 'old'" in download.value.path().read_bytes()


@pytest.mark.parametrize("environment", [{"ROLLCALL_MAX_REJECTED": "0"}])
def test_a_refused_list_is_corrected_and_checked_again(uploader: Uploader, server: PageServer) -> None:
    """A row that is still wrong keeps what was typed."""
    uploader.check(table("Ann,Norway,41", "Ben,Kenya,old", "Cem,Chile,151"))
    check = uploader.page.get_by_role("button", name="Check the corrected list")
    expect(check).to_be_disabled()
    uploader.correct(3, 3, "30")
    uploader.correct(4, 3, "152")
    check.click()

    expect(uploader.row(4)).to_contain_text("152")
    expect(uploader.page.locator("tbody tr")).to_have_count(1)
    uploader.correct(4, 3, "51")
    check.click()
    expect(uploader.heading).to_have_text("All 3 users would be registered.")
    assert server.imports == []
    uploader.register()
    expect(uploader.heading).to_have_text("3 users are registered")
    assert server.names == ["Ann", "Ben", "Cem"]
    uploader.go("#/")
    expect(uploader.page.locator(".drop")).to_be_visible()
    expect(uploader.page.locator(".draft")).to_have_count(0)
