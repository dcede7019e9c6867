"""The receipt as a page for people: readable in both languages, self-contained, and safe."""

import io
import json
import re
from functools import partial
from html.parser import HTMLParser
from typing import BinaryIO

import attrs
import pytest
from hypothesis import given

from rollcall.adapters.memory import MemoryObjectStore
from rollcall.application.errors import ReportNotStoredError, StoreUnavailableError
from rollcall.application.receipt_page import LANGUAGES
from rollcall.application.reports import Reports
from rollcall.bootstrap import PAGE_FOLDER, receipt_page
from rollcall.domain.fields import Date, Rule, Text, WholeNumber
from rollcall.domain.policy import Policy, Tolerance
from rollcall.domain.receipt import Action, FaultTotal, Receipt, Remedy
from rollcall.domain.record import RecordType, field
from rollcall.domain.rejection import Code, Fault, Rejection
from rollcall.domain.upload import web_key
from rollcall.domain.user import USERS
from support.fakes import Desk
from support.receipts import receipts

MIXED = b"name,country,age\nAnn,Norway,41\nBen,Kenya,old\n,Kenya,3\n"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\"'&amp;" + "x" * 200
VOID = {"meta", "br"}


class Read(HTMLParser):
    """What a browser reads.

    Attributes:
        tags: Each element with its attributes.
        texts: The text of each section, by language; the text of a part ends with a bar.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts = dict.fromkeys(LANGUAGES, "")
        self._open: list[str] = []
        self._section = ""

    @classmethod
    def of(cls, receipt: Receipt) -> "Read":
        """Read the page of a receipt, in which each element must end where it has to."""
        read = cls()
        read.feed(receipt_page(USERS, receipt))
        read.close()
        assert read._open == []
        return read

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Open an element."""
        self.tags.append((tag, dict(attrs)))
        if tag == "section":
            self._section = dict(attrs)["lang"] or ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """Close an element."""
        assert self._open.pop() == tag
        if self._section and tag in {"td", "th", "li", "h1"}:
            self.texts[self._section] += "|"
        if tag == "section":
            self._section = ""

    def handle_data(self, data: str) -> None:
        """Take text."""
        if self._section:
            self.texts[self._section] += data


def mixed(policy: Policy = Policy()) -> Receipt:
    """Return the receipt of a list with a good and two bad rows."""
    desk = Desk()
    return desk.load(desk.drop(MIXED), policy)


@given(receipt=receipts)
def test_any_receipt_is_a_page_that_asks_for_nothing(receipt: Receipt) -> None:
    read = Read.of(receipt)

    assert {tag for tag, _ in read.tags} <= {
        *("html", "head", "meta", "title", "style", "body", "nav", "a", "main", "section"),
        *("h1", "h2", "p", "bdi", "strong", "small", "code", "br", "ul", "li", "div", "dl", "dt", "dd"),
        *("table", "thead", "tbody", "tr", "th", "td"),
    }
    assert {attribute for _, attributes in read.tags for attribute in attributes} <= {
        *("lang", "id", "class", "scope", "href", "charset", "name", "content", "http-equiv")
    }
    assert [attributes["href"] for _, attributes in read.tags if "href" in attributes] == ["#en", "#ja"]
    assert all(text.strip() for text in read.texts.values())


def test_both_languages_have_the_same_sentences() -> None:
    own = json.loads((PAGE_FOLDER.parent / "application/receipt_page.json").read_text(encoding="utf-8"))

    assert list(own) == list(LANGUAGES)
    assert own["en"].keys() == own["ja"].keys()


def test_a_page_says_what_is_wrong_and_what_to_do() -> None:
    receipt = mixed()
    name = (receipt.rejected_rows or "").rpartition("/")[2]
    texts = Read.of(receipt).texts

    assert f"Correct the cells in {name}, which lies beside this receipt" in texts["en"]
    assert f"{name}のセルを修正し" in texts["ja"]
    assert "registered|1|not registered|2|rows in the list|3|" in texts["en"]
    assert "登録済み|1|未登録|2|名簿の行|3|" in texts["ja"]
    assert "age is 'old', not a whole number; give digits only, 0 to 150" in texts["en"]
    assert "ageが整数ではありません · 0〜150の半角数字だけで入力してください。" in texts["ja"]
    assert all("[type-error]" in text and "[blank-cell]" in text for text in texts.values())


@pytest.mark.parametrize(
    ("rule", "code", "says"),
    [
        (Date(), Code.TYPE_ERROR, "ageに使えない値があります"),
        (Text(max_length=9, pattern="[a-z]+", example="a"), Code.CONSTRAINT_ERROR, "ageに使えない値があります"),
        (Text(max_length=9), Code.CONSTRAINT_ERROR, "ageが長すぎます · 9文字以内で入力してください。"),
        (WholeNumber(minimum=0, maximum=9), Code.TYPE_ERROR, "ageが整数ではありません · 0〜9の半角数字だけで"),
    ],
)
def test_a_page_says_what_is_wrong_in_a_column_of_any_kind(rule: Rule, code: Code, says: str) -> None:
    record = RecordType.of(attrs.make_class("Made", {"age": field(rule)}, kw_only=True))
    fault = Fault(code, "age is 'x'; give another value", "age")
    totals = (FaultTotal(code, "age", count=1, first_line=2),)
    receipt = attrs.evolve(mixed(), rejections=(Rejection(2, 2, (fault,)),), totals=totals)
    page = receipt_page(record, receipt)

    assert says in page
    assert "give another value" in page
    assert ("整数" in page, "長すぎます" in page) == ("整数" in says, "長すぎます" in says)


def test_a_page_of_a_refused_list_says_why() -> None:
    texts = Read.of(mixed(Policy(max_rejected=Tolerance("0")))).texts

    assert "The list was refused|" in texts["en"]
    assert "Too many rows are wrong" in texts["en"]
    assert "Correct the rows in your file, and upload it again." in texts["en"]
    assert "not registered|2|good, but held back|1|rows in the list|3|" in texts["en"]
    assert "誤りのある行が多すぎます" in texts["ja"]


def test_text_of_an_upload_never_becomes_markup() -> None:
    receipt = mixed()
    hostile = attrs.evolve(
        receipt,
        source=attrs.evolve(receipt.source, key=f"folder/{HOSTILE}"),
        rejections=(Rejection(2, 3, (Fault(Code.TYPE_ERROR, HOSTILE, "age"),)),),
        rejected_rows=HOSTILE,
    )
    page = receipt_page(USERS, hostile)

    assert "<img" not in page
    assert all(text.count(HOSTILE) >= 3 for text in Read.of(hostile).texts.values())
    assert re.findall("(<[^>]*>)[^<>]*\u202e", page).count("<bdi>") >= 6


@pytest.mark.parametrize(
    "step",
    [
        *(Remedy(action) for action in Action if action is not Action.UNDO),
        *(Remedy(action, 777) for action in Action if action is not Action.IMPORT_AS_NEW),
    ],
    ids=str,
)
def test_each_step_has_words_for_each_code(step: Remedy) -> None:
    receipt = mixed()
    for code in Code:
        for text in Read.of(attrs.evolve(receipt, code=code, remedies=(step,))).texts.values():
            assert "{" not in text
            assert ("777" in text) == (step.import_id == 777 and step.action is not Action.CORRECT_ORIGINAL)


@attrs.define
class _LosingStore(MemoryObjectStore):
    """A store that fails once where a receipt should be stored."""

    failing: bool = True

    def __attrs_pre_init__(self) -> None:
        super().__init__("reports")

    def put(self, key: str, content: BinaryIO) -> str:
        """Store an object, or fail."""
        if key.endswith("receipt.json") and self.failing:
            self.failing = False
            raise StoreUnavailableError(key, "it is full")
        return super().put(key, content)


def test_a_crash_before_the_receipt_is_made_good() -> None:
    """The page alone is no receipt, so a redelivery writes both."""
    store = _LosingStore()
    desk = Desk()
    reference = desk.drop(MIXED)
    importer = attrs.evolve(desk.importer(), reports=Reports(store=store, page=partial(receipt_page, USERS)))
    with pytest.raises(ReportNotStoredError):
        importer(reference)
    store.put("users.csv/1/receipt.html", io.BytesIO(b"of an earlier verdict"))

    receipt = importer(reference).first_receipt

    assert receipt
    assert importer.reports.has(receipt)
    assert store.read("users.csv/1/receipt.html", 0, 10**6).decode() == receipt_page(USERS, receipt)


def test_an_upload_of_the_page_has_no_second_page() -> None:
    """Its uploader reads the receipt on the page itself."""
    desk = Desk()
    importer = attrs.evolve(
        desk.importer(), reports=Reports(store=desk.reports, page=partial(receipt_page, USERS))
    )
    for key in "users.csv", web_key("0" * 64, "1" * 40, "users.csv"):
        importer(desk.drop(MIXED + f"{key[:3]},X,1\n".encode(), key))

    assert [key for key in desk.stored() if key.endswith(".html")] == ["users.csv/1/receipt.html"]
