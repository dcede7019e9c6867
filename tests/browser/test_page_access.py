"""Every state for everybody: in all colours, on small screens, read aloud; and what a hostile list shows."""

import base64
from collections.abc import Callable
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from support.browsing import MESSY, NewUploader, Uploader, table

TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22a", "wcag22aa"]
GOOD = table("Ann,Norway,41")
MARKUP = "<img src=x onerror=alert(1)>"
HOSTILE = [MARKUP, "=cmd|' /C calc'!A0", "A\u202egnp.exe", "W" * 200]

State = Callable[[Uploader], object]


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


def registered(uploader: Uploader) -> None:
    partly(uploader)
    uploader.correct(5, 3, "30")
    uploader.register()


def asked_to_undo(uploader: Uploader) -> None:
    registered(uploader)
    uploader.page.get_by_role("button", name="Undo").click()


def undone(uploader: Uploader) -> None:
    asked_to_undo(uploader)
    uploader.page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(uploader.heading).to_have_text("Undone")


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
    "checking": checking,
    "good": lambda uploader: uploader.check(GOOD),
    "partly": partly,
    "refused": lambda uploader: uploader.check(table(",X,1", ",Y,2")),
    "correcting": correcting,
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
LOOKS: dict[str, dict[str, Any]] = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "forced": {"forced_colors": "active"},
}


@pytest.mark.parametrize("state", STATES)
def test_axe_finds_nothing(new_uploader: NewUploader, state: str) -> None:
    uploader = new_uploader(bypass_csp=True)
    STATES[state](uploader)
    uploader.page.wait_for_timeout(150)
    found = []
    for look, media in LOOKS.items():
        uploader.page.emulate_media(**{"color_scheme": "light", "forced_colors": "none", **media})
        answer = Axe().run(uploader.page, options={"runOnly": TAGS})
        found += [
            (look, violation["id"], [node["html"][:150] for node in violation["nodes"][:3]])
            for violation in answer.response["violations"]
        ]

    assert found == []


@pytest.mark.parametrize("state", ["empty", "partly", "correcting", "registered", "history"])
def test_nothing_is_cut_off_at_320_pixels(new_uploader: NewUploader, state: str) -> None:
    """Which is also 200 % and more on a screen of 640 pixels."""
    uploader = new_uploader(viewport={"width": 320, "height": 640})
    STATES[state](uploader)

    assert uploader.page.evaluate("document.documentElement.scrollWidth") <= 320


def test_large_text_is_not_cut_off(new_uploader: NewUploader) -> None:
    uploader = new_uploader()
    partly(uploader)
    uploader.page.evaluate(
        "() => { const sheet = new CSSStyleSheet(); sheet.replaceSync(':root { font-size: 200% }');"
        " document.adoptedStyleSheets.push(sheet) }"
    )

    assert uploader.page.evaluate("document.documentElement.scrollWidth") <= 1200
    heights = uploader.page.locator("tbody tr").evaluate_all("rows => rows.map((row) => row.offsetHeight)")
    assert min(heights) > 80


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


def test_the_page_is_read_in_order(uploader: Uploader) -> None:
    expect(uploader.page.locator("body")).to_match_aria_snapshot(
        """
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
        """
    )


def test_a_violation_of_the_policy_would_be_seen(new_uploader: NewUploader) -> None:
    """So that the silence of all other tests means something."""
    uploader = new_uploader()
    image = "data:image/gif;base64," + base64.b64encode(b"GIF89a").decode()
    uploader.page.evaluate("source => { new Image().src = source }", image)
    uploader.page.wait_for_timeout(200)

    assert any("Content Security Policy" in complaint for complaint in uploader.complaints)
    uploader.complaints.clear()
