"""A record of another kind than the one that ships: its rules, its faults, and blanks that are allowed."""

# ruff: noqa: RUF001 - sentences of the page in Japanese

from pathlib import Path

import pytest
from playwright.sync_api import expect

from support.browsing import NewUploader, Uploader

MEMBERS = Path(__file__).parents[2] / "examples/members"
RULES = {
    "en": {
        "external_id": "text of a certain form",
        "name": "text, up to 200 characters",
        "email": "text of a certain form",
        "born": "a date, such as 2000-01-31 (optional)",
        "points": "a whole number, 0 to 1,000,000",
        "fee": "a number, with a point if needed",
        "active": "yes or no: true or false",
        "role": "one of member, guest, and staff",
        "token": "text of a certain form (optional)",
        "phone": "text, up to 30 characters (optional)",
    },
    "ja": {
        "external_id": "決まった形式の文字列",
        "born": "日付（例：2000-01-31）（任意）",
        "fee": "数値（小数も可）",
        "active": "はい／いいえ（trueまたはfalse）",
        "role": "member、guest、staffのいずれか",
        "token": "決まった形式の文字列（任意）",
    },
}

pytestmark = pytest.mark.usefixtures("record")


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(MEMBERS)


@pytest.fixture
def environment(record: None) -> dict[str, str]:  # noqa: ARG001 - the record must be found first
    return {"ROLLCALL_RECORD": "records:Member"}


def members() -> bytes:
    return (MEMBERS / "members.csv").read_bytes()


@pytest.mark.parametrize("language", RULES)
def test_the_start_says_what_each_column_is(new_uploader: NewUploader, language: str) -> None:
    page = new_uploader(locale=language).page

    for name, rule in RULES[language].items():
        column = page.locator(".columns div", has=page.get_by_text(name, exact=True))
        expect(column.locator("dd")).to_have_text(rule)


@pytest.mark.parametrize(
    ("line", "column", "title", "detail"),
    [
        (8, "born", "born has a value that is not allowed", "not a day of the calendar"),
        (9, "points", "points is not a whole number", "Write digits only, 0 to 1,000,000."),
        (10, "fee", "fee has a value that is not allowed", "6 digits before the point and 2 after it"),
        (12, "role", "role has a value that is not allowed", "give 'member', 'guest' or 'staff'"),
        (5, "external_id", "external_id has a value that is not allowed", "such as 'JP-0042'"),
    ],
)
def test_a_fault_of_any_kind_of_column_is_explained(
    uploader: Uploader, line: int, column: str, title: str, detail: str
) -> None:
    uploader.check(members())
    headings = uploader.page.locator("thead th")
    headings.nth(2).wait_for()
    uploader.cell(line, headings.all_text_contents().index(column)).click()

    expect(uploader.row(line).locator(".reason")).to_have_text(title)
    expect(uploader.page.locator(".explain")).to_contain_text(detail)


def test_many_columns_are_wide_enough_to_read(uploader: Uploader) -> None:
    uploader.check(members())
    uploader.cell(5, 1).wait_for()

    for column in uploader.page.locator("thead th").all():
        assert (column.bounding_box() or {"width": 0})["width"] > 90


def test_a_blank_optional_cell_is_not_a_wrong_cell(uploader: Uploader) -> None:
    """A row that could not be split has no cells at all."""
    header, first, *_ = members().decode().splitlines()
    uploader.check(f"{header}\n{first}\nJP-0002,Ann".encode())
    names = header.split(",")
    filled: list[str] = []
    uploader.page.get_by_role("button", name="Next wrong cell").click()
    for _ in names:
        focused = uploader.page.locator("td:focus")
        index = int(focused.get_attribute("aria-colindex") or 0) - 2
        if filled and filled[-1] == names[index]:
            break
        filled.append(names[index])
        uploader.page.keyboard.press("F2")
        uploader.page.keyboard.type(dict(zip(names, first.split(","), strict=True))[names[index]] or "x")
        uploader.page.keyboard.press("Enter")

    assert {"born", "token", "phone"}.isdisjoint(filled)
