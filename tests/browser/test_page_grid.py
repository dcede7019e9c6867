"""The grid: its keys, its offers, and its size."""

import random
import time

import pytest
from playwright.sync_api import expect

from support.browsing import Uploader, table
from support.campaigns import LONG

ROWS = 100_000 if LONG else 5_000
JUMPS = 200 if LONG else 30
MANY = table("Ann,Norway,41", *[f"User {number},Norway,old" for number in range(ROWS)])
FEW = table("Ann,Norway,41", "Ben,Kenya,\uff13\uff10", "Cem,,old", "Dana,Chile,30歳", "Eve,Chile,-1")


@pytest.fixture
def few(uploader: Uploader) -> Uploader:
    uploader.check(FEW)
    uploader.page.locator("tbody tr").first.wait_for()
    return uploader


def test_a_likely_correction_is_offered_and_never_applied(few: Uploader) -> None:
    offer = few.row(3).locator(".offer")
    expect(offer).to_have_text("Use 30")
    expect(few.row(3).locator(".reason")).to_have_text("age has full-width digits: use 30")
    expect(few.row(5).locator(".offer")).to_have_text("Use 30")
    expect(few.row(4).locator(".offer")).to_have_count(0)
    expect(few.row(6).locator(".offer")).to_have_count(0)
    expect(few.left).to_have_text("4 rows still to correct")
    offer.click()

    expect(few.cell(3, 3)).to_have_text("30")
    expect(few.left).to_have_text("3 rows still to correct")


def test_the_reason_covers_no_filter(uploader: Uploader) -> None:
    """A refused list says first why, so that its grid begins below the view."""
    uploader.page.set_viewport_size({"width": 1200, "height": 800})
    uploader.check(table(*[f"User {number},,old" for number in range(9)]))
    uploader.row(2).locator(".reason").first.wait_for()
    filters = uploader.page.locator(".tools").bounding_box()
    reason = uploader.page.locator(".explain").bounding_box()

    assert filters
    assert reason
    assert reason["y"] >= filters["y"] + filters["height"]


def test_the_keys_are_those_of_a_grid(few: Uploader) -> None:
    page = few.page
    few.cell(3, 1).click()
    for keys, line, column in [
        ("ArrowDown", 4, 1),
        ("ArrowRight", 4, 2),
        ("End", 4, 4),
        ("Control+Home", 3, 0),
        ("Control+End", 6, 4),
        ("ArrowDown", 6, 4),
        ("ArrowUp", 5, 4),
        ("PageUp", 3, 4),
        ("PageDown", 6, 4),
        ("Home", 6, 0),
    ]:
        page.keyboard.press(keys)
        row = few.row(line)
        expect(few.cell(line, column) if column else row.locator("th")).to_be_focused()
    expect(page.locator("tbody [tabindex='0']")).to_have_count(1)


def test_escape_leaves_a_cell_as_it_was(few: Uploader) -> None:
    few.cell(4, 3).click()
    few.page.keyboard.type("77")
    few.page.keyboard.press("Escape")

    expect(few.cell(4, 3)).to_have_text("old")
    expect(few.cell(4, 3)).to_be_focused()


def test_a_change_is_taken_back(few: Uploader) -> None:
    few.correct(6, 3, "5")
    expect(few.left).to_have_text("3 rows still to correct")
    few.page.keyboard.press("Control+z")

    expect(few.cell(6, 3)).to_have_text("-1")
    expect(few.cell(6, 3)).to_be_focused()
    expect(few.left).to_have_text("4 rows still to correct")


def test_enter_while_composing_does_not_commit(few: Uploader) -> None:
    page = few.page
    few.cell(4, 2).click()
    page.keyboard.press("F2")
    session = page.context.new_cdp_session(page)
    session.send("Input.imeSetComposition", {"text": "にほん", "selectionStart": 3, "selectionEnd": 3})
    field = page.locator("input.cell")
    field.evaluate(
        "field => field.dispatchEvent("
        "new KeyboardEvent('keydown', { key: 'Enter', isComposing: true, bubbles: true }))"
    )
    expect(field).to_be_focused()
    session.send("Input.insertText", {"text": "日本"})
    expect(field).to_have_value("日本")
    page.keyboard.press("Enter")

    expect(few.cell(4, 2)).to_have_text("日本")


def test_faults_are_filters(few: Uploader) -> None:
    few.page.get_by_role("button", name="1 row: country is blank").click()
    expect(few.page.locator("tbody tr")).to_have_count(1)
    expect(few.page.get_by_role("grid")).to_have_attribute("aria-rowcount", "2")
    few.page.get_by_role("button", name="All wrong rows (4)").click()
    expect(few.page.locator("tbody tr")).to_have_count(4)
    few.correct(4, 2, "Chile")

    expect(few.page.get_by_role("button", name="1 row: country is blank")).to_have_count(0)


def test_a_screen_reader_is_told_what_is_wrong(few: Uploader) -> None:
    cell = few.cell(4, 3)

    expect(cell).to_have_attribute("aria-invalid", "true")
    expect(cell).to_have_accessible_description("age is not a whole number")
    expect(few.page.locator("main")).to_match_aria_snapshot(
        """
        - grid "Rows that are wrong":
          - rowgroup:
            - row "Line name country age What is wrong"
          - rowgroup:
            - row /Wrong 3/:
              - rowheader /Wrong 3/
              - gridcell "Ben"
              - gridcell "Kenya"
              - gridcell "\uff13\uff10"
        """
    )


def test_many_rows_are_shown_at_once_and_scrolled_fast(uploader: Uploader) -> None:
    uploader.check(MANY)
    began = time.monotonic()
    uploader.page.locator("tbody tr").first.wait_for()
    first = time.monotonic() - began
    expect(uploader.page.get_by_role("grid")).to_have_attribute("aria-rowcount", str(ROWS + 1))
    deadline = time.monotonic() + 120
    while uploader.page.evaluate("document.querySelector('tbody').innerText.includes('…')"):
        assert time.monotonic() < deadline
    choice = random.Random(1)  # noqa: S311 - the same jumps each time
    slowest = uploader.page.evaluate(
        """async rows => {
            const grid = document.querySelector('.grid');
            const height = grid.scrollHeight / (rows.total + 1);
            let slowest = 0;
            for (const row of rows.jumps) {
                const began = performance.now();
                grid.scrollTop = row * height;
                await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
                slowest = Math.max(slowest, performance.now() - began);
                if (grid.querySelectorAll('*').length > 500) throw new Error('too many elements');
                if (!grid.querySelector('tbody tr')) throw new Error('nothing is shown');
            }
            return slowest;
        }""",
        {"total": ROWS, "jumps": [choice.randrange(ROWS) for _ in range(JUMPS)]},
    )
    # The aims are 2 s and 250 ms on an idle machine; a machine of CI is busy.
    print(f"first rows after {first:.2f} s, slowest jump {slowest:.0f} ms")  # noqa: T201 - figures
    assert first < 20
    assert slowest < 2500


def test_the_focus_is_kept_when_its_row_is_scrolled_away(uploader: Uploader) -> None:
    uploader.check(MANY)
    uploader.cell(3, 1).click()
    grid = uploader.page.locator(".grid")
    grid.evaluate("grid => { grid.scrollTop = 20000 }")
    expect(grid).to_be_focused()
    uploader.page.keyboard.press("ArrowDown")

    expect(uploader.page.locator("tbody tr[data-index='1'] td").first).to_be_focused()
