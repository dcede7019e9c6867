"""Every state for everybody: in all colours, on small screens, read aloud; and what a hostile list shows."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from support.browsing import MESSY, NewUploader, Uploader, table

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
COLOURS = {"type": "rule", "values": ["color-contrast"]}
LARGE_LETTERS = """() => {
    const sheet = new CSSStyleSheet();
    sheet.replaceSync(':root { font-size: 200% }');
    document.adoptedStyleSheets.push(sheet);
}"""
GOOD = table("Ann,Norway,41")
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = [MARKUP, "=cmd|' /C calc'!A0", "A\u202egnp.exe", "W" * 200]

# Elements that reach out of the window, or whose text reaches out of them.
CUT_OFF = """() => {
    const wide = document.documentElement.clientWidth;
    const hidden = (one) => one.matches('.status, .hidden, .skip') || !one.checkVisibility();
    return [...document.querySelectorAll('body *')]
        .filter((one) => !hidden(one) && !one.closest('.grid'))
        .filter((one) => one.getBoundingClientRect().right > wide + 1
            || (getComputedStyle(one).overflowX !== 'visible' && one.scrollWidth > one.clientWidth + 1)
            || (one.matches('button, .button, li, dd, dt, p, h1, h2') && one.scrollWidth > one.clientWidth + 1))
        .map((one) => one.outerHTML.slice(0, 120));
}"""

State = Callable[[Uploader], object]


def uploading(uploader: Uploader) -> None:
    uploader.page.route("**/inbox", lambda _: None)  # it never answers
    uploader.choose(GOOD)
    uploader.page.locator("progress").wait_for()


def checking(uploader: Uploader) -> None:
    uploader.server.works.clear()
    uploader.choose(GOOD)
    uploader.page.locator(".spinner").wait_for()


def partly(uploader: Uploader) -> None:
    uploader.check(MESSY.read_bytes(), MESSY.name)
    uploader.page.locator("tbody tr").first.wait_for()


def correcting(uploader: Uploader) -> None:
    partly(uploader)
    uploader.correct(5, 3, "30")
    uploader.cell(7, 3).click()
    uploader.page.keyboard.press("F2")


def registering(uploader: Uploader) -> None:
    partly(uploader)
    uploader.server.works.clear()
    uploader.register_button.click()
    uploader.page.locator(".spinner").wait_for()


def registered(uploader: Uploader) -> None:
    partly(uploader)
    uploader.correct(5, 3, "30")
    uploader.register()


def asked_to_undo(uploader: Uploader) -> None:
    registered(uploader)
    uploader.page.locator(".receipt .actions .plain").last.click()


def undone(uploader: Uploader) -> None:
    asked_to_undo(uploader)
    uploader.page.locator("dialog .danger").click()
    uploader.page.locator(".receipt.rest").wait_for()


def history(uploader: Uploader) -> None:
    undone(uploader)
    uploader.go("#/imports")
    uploader.page.locator(".rows").wait_for()


def choices(uploader: Uploader) -> None:
    for person in "Ann", "Ben":
        uploader.check(table(f"{person},Norway,41"))
        uploader.register_button.click()
        uploader.page.locator(".receipt, .choices").wait_for()


def offline(uploader: Uploader) -> None:
    partly(uploader)
    uploader.page.context.set_offline(True)
    uploader.page.locator(".banner p").wait_for()


def signed_out(uploader: Uploader) -> None:
    uploader.page.evaluate("sessionStorage.clear()")
    uploader.page.reload()
    uploader.page.locator(".state").wait_for()


STATES: dict[str, State] = {
    "empty": lambda _: None,
    "uploading": uploading,
    "checking": checking,
    "good": lambda uploader: uploader.check(GOOD),
    "partly": partly,
    "refused": lambda uploader: uploader.check(table(",X,1", ",Y,2")),
    "correcting": correcting,
    "registering": registering,
    "registered": registered,
    "asked to undo": asked_to_undo,
    "undone": undone,
    "history": history,
    "no history": lambda uploader: uploader.go("#/imports"),
    "choices": choices,
    "offline": offline,
    "signed out": signed_out,
    "unknown": lambda uploader: uploader.go("#/imports/99"),
}
# What to emulate, and which of axe's rules depend on that.
LOOKS: dict[str, tuple[dict[str, Any], Any]] = {
    "light": ({"color_scheme": "light"}, TAGS),
    "dark": ({"color_scheme": "dark"}, COLOURS),
    "forced": ({"forced_colors": "active"}, COLOURS),
}


@pytest.mark.parametrize("language", ["en", "ja"])
@pytest.mark.parametrize("state", STATES)
def test_a_state_is_for_everybody(new_uploader: NewUploader, state: str, language: str) -> None:
    """Axe finds nothing in any colours; nothing is cut off on 320 pixels, nor with letters of twice the size."""
    uploader = new_uploader(bypass_csp=True, locale=language)
    page = uploader.page
    STATES[state](uploader)
    page.wait_for_timeout(150)
    found: dict[str, list[object]] = {}
    for look, (media, rules) in LOOKS.items():
        page.emulate_media(**{"color_scheme": "light", "forced_colors": "none", **media})
        answer = Axe().run(page, options={"runOnly": rules})
        found[look] = [
            (violation["id"], [node["html"][:150] for node in violation["nodes"][:3]])
            for violation in answer.response["violations"]
        ]
    page.set_viewport_size({"width": 320, "height": 640})
    found["320 pixels"] = page.evaluate(CUT_OFF)
    page.set_viewport_size({"width": 1200, "height": 860})
    page.evaluate(LARGE_LETTERS)
    found["200 %"] = page.evaluate(CUT_OFF)

    assert {look: complaints for look, complaints in found.items() if complaints} == {}


def test_the_focus_is_never_under_the_bar(new_uploader: NewUploader) -> None:
    uploader = new_uploader(viewport={"width": 900, "height": 620})
    partly(uploader)
    uploader.cell(5, 1).click()
    for key in "ArrowDown", "ArrowDown", "ArrowDown":
        uploader.page.keyboard.press(key)
    cell = uploader.page.locator("tbody :focus").bounding_box()
    bar = uploader.page.locator(".actionbar").bounding_box()

    assert cell
    assert bar
    assert cell["y"] + cell["height"] <= bar["y"]


@pytest.mark.parametrize("text", HOSTILE, ids=["markup", "formula", "bidi", "long"])
def test_a_hostile_list_is_only_text(uploader: Uploader, text: str) -> None:
    quoted = f'"{text}"'
    data = f"name,country,age,{quoted}\nAnn,Norway,41,\n{quoted},X,{quoted},\n".encode()
    uploader.check(data, f"{text[:100].replace('/', '-')}.csv")
    expect(uploader.cell(3, 3)).to_have_text(text, use_inner_text=False)
    uploader.cell(3, 3).click()
    expect(uploader.page.locator(".explain")).to_contain_text(text)
    uploader.register()

    expect(uploader.page.locator("img")).to_have_count(1)  # the mark of the page
    assert not [path for _, path in uploader.requests if path.endswith("/x")]


READ = {
    "empty": """
        - link "Skip to the content"
        - banner:
          - link "Rollcall"
          - navigation "Main":
            - link "Register a list"
            - link "History"
          - button "日本語"
        - main:
          - heading "Register a list of users" [level=1]
          - button "Choose a file"
          - region "The list needs these columns":
            - heading "The list needs these columns" [level=2]
        """,
    "partly": """
        - main:
          - list "Steps"
          - heading "4 of 8 users would be registered." [level=1]
          - paragraph: messy_users.csv · Nothing is registered yet.
          - region "Correct the rows":
            - heading "Correct the rows" [level=2]
            - status: 4 rows still to correct
            - progressbar "Corrected rows"
            - group "Show":
              - button "All wrong rows (4)" [pressed]
            - button "Next wrong cell"
            - grid "Rows that are wrong"
          - complementary "What is only known when you register"
          - button "Register 4 users"
        """,
    "registered": """
        - main:
          - article:
            - heading "5 of 8 users are registered" [level=1]
            - list "Corrections":
              - listitem:
                - link "1 corrected row is registered, as import 2"
            - region "3 rows are not registered":
              - link "Correct them here"
              - button "Download them"
            - link "Register another list"
            - button "Copy the link"
            - button "Undo"
        """,
}


@pytest.mark.parametrize("state", READ)
def test_a_state_is_read_in_order(uploader: Uploader, state: str) -> None:
    STATES[state](uploader)

    expect(uploader.page.locator("body")).to_match_aria_snapshot(READ[state])


def test_a_violation_of_the_policy_would_be_seen(new_uploader: NewUploader) -> None:
    """So that the silence of all other tests means something."""
    uploader = new_uploader()
    image = "data:image/gif;base64," + base64.b64encode(b"GIF89a").decode()
    uploader.page.evaluate("source => { new Image().src = source }", image)
    uploader.page.wait_for_timeout(200)

    assert any("Content Security Policy" in complaint for complaint in uploader.complaints)
    uploader.complaints.clear()
