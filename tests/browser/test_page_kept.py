"""No correction is lost when the page, the network or the server fails."""

import re

import pytest
from playwright.sync_api import Route, expect

from support.browsing import NewUploader, Uploader, table
from support.page_server import PageServer

LIST = table("Ann,Norway,41", "Ben,Kenya,old", "Cem,Chile,151")


def begin(uploader: Uploader) -> str:
    """Correct one of two rows, and return the view."""
    uploader.check(LIST)
    uploader.correct(3, 3, "30")
    expect(uploader.left).to_have_text("1 row still to correct")
    return str(uploader.page.evaluate("location.hash"))


def test_corrections_survive_a_reload(uploader: Uploader) -> None:
    begin(uploader)
    uploader.page.reload()

    expect(uploader.left).to_have_text("1 row still to correct")
    expect(uploader.cell(3, 3)).to_have_text("30")
    expect(uploader.row(3)).to_have_attribute("data-state", "good")


def test_corrections_survive_a_crash(uploader: Uploader, server: PageServer) -> None:
    view = begin(uploader)
    crashed = uploader.page
    with crashed.expect_event("crash"):
        _crash(uploader)
    uploader.watch(crashed.context.new_page())
    uploader.open()

    expect(uploader.page.locator(".draft")).to_contain_text("1 of 2 corrected")
    uploader.page.locator(".draft a").click()
    assert uploader.page.evaluate("location.hash") == view
    expect(uploader.cell(3, 3)).to_have_text("30")
    uploader.register()
    assert sorted(server.names) == ["Ann", "Ben"]


def _crash(uploader: Uploader) -> None:
    session = uploader.page.context.new_cdp_session(uploader.page)
    session.send("Page.navigate", {"url": "chrome://crash"})


def test_an_expired_token_keeps_corrections_and_says_so(uploader: Uploader, server: PageServer) -> None:
    view = begin(uploader)
    uploader.page.route("**/api/**", lambda route: _answer(route, 401, "not-signed-in"))
    uploader.cell(4, 3).click()
    uploader.page.keyboard.type("15")
    uploader.page.keyboard.press("Enter")
    expect(uploader.page.locator(".banner")).to_contain_text("Your corrections are kept in this browser.")
    uploader.page.unroute("**/api/**")
    uploader.page.goto("about:blank")
    uploader.open(view)

    expect(uploader.cell(3, 3)).to_have_text("30")
    expect(uploader.cell(4, 3)).to_have_text("15")
    expect(uploader.left).to_have_text("All rows are corrected")
    uploader.register()
    assert sorted(server.names) == ["Ann", "Ben", "Cem"]


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (0, "", "There is no connection."),
        (500, "internal-error", "Something went wrong on the server."),
        (429, "", "The server has too much to do."),
    ],
)
def test_trouble_keeps_corrections_and_says_so(uploader: Uploader, status: int, code: str, says: str) -> None:
    uploader.check(LIST)
    uploader.page.route("**/api/rows/check", lambda route: _answer(route, status, code))
    uploader.page.locator("tbody tr").first.wait_for()
    uploader.cell(3, 3).click()
    uploader.page.keyboard.type("30")
    uploader.page.keyboard.press("Enter")
    expect(uploader.page.locator(".trouble")).to_contain_text(says, timeout=20_000)
    expect(uploader.page.locator(".trouble")).to_contain_text("kept in this browser")
    expect(uploader.register_button).to_be_disabled()
    uploader.page.unroute("**/api/rows/check")

    expect(uploader.left).to_have_text("1 row still to correct", timeout=15_000)
    expect(uploader.page.locator(".trouble")).to_be_empty()


def test_a_press_of_register_that_was_cut_off_goes_on(uploader: Uploader, server: PageServer) -> None:
    """The list is imported, and the answer to the corrections is lost."""
    begin(uploader)
    uploader.page.route("**/corrections", lambda route: (route.fetch(), route.abort()))
    uploader.register_button.click()
    expect(uploader.heading).to_have_text("There is no connection.")
    uploader.page.unroute("**/corrections")
    uploader.page.get_by_role("button", name="Try again").click()
    uploader.page.locator(".receipt").wait_for()

    expect(uploader.heading).to_have_text("2 of 3 users are registered")
    assert sorted(server.names) == ["Ann", "Ben"]
    assert len(server.imports) == 2


def test_somebody_who_is_signed_out_is_told_what_to_do(new_uploader: NewUploader) -> None:
    uploader = new_uploader()
    uploader.page.evaluate("sessionStorage.clear()")
    uploader.page.reload()

    expect(uploader.heading).to_have_text("You are signed out")
    expect(uploader.page.locator("main")).to_contain_text("rollcall serve")


def test_the_token_does_not_stay_in_the_address(uploader: Uploader) -> None:
    assert re.search("#/$", uploader.page.url)


def _answer(route: Route, status: int, code: str) -> None:
    if not status:
        route.abort()
    elif code:
        problem = f'{{"type": "urn:rollcall:problem:{code}", "errors": []}}'
        route.fulfill(status=status, content_type="application/problem+json", body=problem)
    else:
        route.fulfill(status=status, headers={"Retry-After": "1"})
