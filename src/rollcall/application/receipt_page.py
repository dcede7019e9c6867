"""A receipt as a page for people: one HTML file that needs nothing else, in English and Japanese."""

import base64
import hashlib
import re
from collections.abc import Mapping
from html import escape
from typing import Any

import attrs

from rollcall.domain.fields import Rule, Text, WholeNumber
from rollcall.domain.receipt import Action, Receipt, Remedy
from rollcall.domain.record import RecordType
from rollcall.domain.rejection import Code, Fault

LANGUAGES = {"en": "English", "ja": "日本語"}

_STYLE = """
:root { color-scheme: light dark; font: 1rem/1.6 system-ui, sans-serif; overflow-wrap: anywhere }
body { max-width: 48rem; margin: 0 auto; padding: 1rem }
nav { text-align: end }
section + section { border-top: 1px solid; margin-top: 3rem }
main:has(:target) section:not(:target) { display: none }
main:has(:target) section { border: 0; margin: 0 }
h1 { font-size: 1.75rem; line-height: 1.25; margin: 1.5rem 0 .5rem }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem }
table { border-collapse: collapse; width: 100% }
th, td { text-align: start; vertical-align: top; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #8886 }
.number { text-align: end; white-space: nowrap; width: 1% }
.total { font-weight: bold }
small, code { font-size: .85rem }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 0 1rem; margin-top: 2rem }
dd { margin: 0 }
"""
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
_SECURITY_POLICY = f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'"

_value = re.compile(r"\{(\w+)\}")


class _Html(str):
    """Markup. Any other text is escaped when it becomes a part of markup."""

    __slots__ = ()


def _element(tag: str, *children: str | None, **attributes: str) -> _Html:
    """Return an element; a child that is None is left out."""
    marks = "".join(f' {name.rstrip("_")}="{escape(value)}"' for name, value in attributes.items())
    content = "".join(
        child if isinstance(child, _Html) else escape(child) for child in children if child is not None
    )
    return _Html(f"<{tag}{marks}>{content}</{tag}>")


def _isolated(text: str) -> _Html:
    """Return a text of the uploader, whose direction marks do not change the text around it."""
    return _element("bdi", text)


@attrs.frozen
class ReceiptPage:
    """Writes receipts as pages.

    Attributes:
        catalogues: The sentences of the uploader's page in each of `LANGUAGES`, and as the group "file" those of
            this page.
        record_type: What a user consists of.
    """

    catalogues: Mapping[str, Mapping[str, Any]]
    record_type: RecordType

    def __call__(self, receipt: Receipt) -> str:
        """Return a receipt as HTML. Equal receipts give the same text."""
        sections = [
            _Words(language, self.catalogues[language], self.record_type).section(receipt)
            for language in LANGUAGES
        ]
        links = [
            item
            for language, name in LANGUAGES.items()
            for item in (_element("a", name, href=f"#{language}", lang=language), " ")
        ]
        head = (
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
            f'<meta http-equiv="Content-Security-Policy" content="{_SECURITY_POLICY}">\n'
            '<meta name="referrer" content="no-referrer">\n'
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        )
        title = _element("title", f"Rollcall · {_file_name(receipt)}")
        body = f"{_element('nav', *links)}\n{_element('main', *sections)}"
        return f"{head}{title}\n<style>{_STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"


@attrs.frozen
class _Words:
    """A receipt in the words of one language."""

    language: str
    catalogue: Mapping[str, Any]
    record_type: RecordType

    def section(self, receipt: Receipt) -> _Html:
        counts = receipt.counts
        registers = receipt.status.registers
        title = (
            self._say("receipt.registered", n=counts.registered + counts.updated)
            if registers
            else self._say(f"receipt.{receipt.status}")
        )
        return _element(
            "section",
            _element("h1", title),
            _element("p", _isolated(_file_name(receipt))),
            None if registers else self._reason(receipt),
            self._steps(receipt),
            self._sum(receipt) if counts.read else None,
            *(self._faults(receipt) if receipt.rejections else ()),
            self._facts(receipt),
            id=self.language,
            lang=self.language,
        )

    def _reason(self, receipt: Receipt) -> _Html | None:
        if not receipt.code:
            return None
        # The message is in English, and shows the label or the character at fault.
        title = _element("strong", self._about(receipt.code, "title"))
        message = _element("small", _isolated(receipt.message or ""), lang="en")
        return _element("p", title, " ", _code(receipt.code), _Html("<br>"), message)

    def _steps(self, receipt: Receipt) -> _Html | None:
        steps = [self._step(remedy, receipt) for remedy in receipt.remedies]
        if not steps and receipt.code and not receipt.status.registers:
            steps = [self._about(receipt.code, "help")]
        if not steps:
            return None
        items = [_element("li", step) for step in steps]
        return _Html(_element("h2", self._say("file.do")) + _element("ul", *items))

    def _step(self, remedy: Remedy, receipt: Receipt) -> str:
        if remedy.action is Action.CORRECT_ORIGINAL and receipt.code:
            return self._about(receipt.code, "help")
        path = f"file.{remedy.action}{'_of' if remedy.import_id else ''}"
        return self._say(path, id=str(remedy.import_id), file=_rejected_name(receipt))

    def _sum(self, receipt: Receipt) -> _Html:
        counts = receipt.counts
        parts = (
            ("registered", counts.registered),
            ("updated", counts.updated),
            ("unchanged", counts.unchanged),
            ("rejected_done", counts.rejected),
            ("withheld", counts.withheld),
        )
        rows = [self._count(self._say(f"counts.{name}"), number) for name, number in parts if number]
        total = self._count(self._say("counts.read", n=counts.read), counts.read, class_="total")
        return _element("table", *rows, total)

    def _count(self, name: str, number: int, **attributes: str) -> _Html:
        head = _element("th", name, scope="row")
        return _element("tr", head, _element("td", f"{number:,}", class_="number"), **attributes)

    def _faults(self, receipt: Receipt) -> list[_Html]:
        """Return the faults by kind, the first rejected rows, and where all of them are."""
        rejected, shown = receipt.counts.rejected, len(receipt.rejections)
        kinds = [
            _element(
                "tr",
                _element("td", f"{total.count:,}", class_="number"),
                _element("td", f"{total.first_line:,}", class_="number"),
                _element("td", *self._fault(Fault(total.code, "", total.column))),
            )
            for total in receipt.totals
        ]
        rows = [
            _element(
                "tr",
                _element("td", _lines(rejection.line, rejection.last_line), class_="number"),
                _element("td", *(_element("div", *self._fault(fault)) for fault in rejection.faults)),
            )
            for rejection in receipt.rejections
        ]
        more = rejected > shown
        return [
            _element("h2", self._say("file.wrong", n=rejected)),
            _table((self._say("file.rows"), self._say("file.first_line"), self._say("file.fault")), kinds),
            *self._location(receipt),
            _element("h2", self._say("file.first_of" if more else "file.first", n=shown, of=f"{rejected:,}")),
            _table((self._say("grid.line"), self._say("file.fault")), rows),
        ]

    def _fault(self, fault: Fault) -> list[str]:
        if fault.message and self.language == "en":
            return [_isolated(fault.message), " ", _code(fault.code)]
        sentences = (self._about(fault.code, part, fault.column) for part in ("title", "help"))
        message = [_Html("<br>"), _element("small", _isolated(fault.message), lang="en")] if fault.message else []
        return [" · ".join(filter(None, sentences)), " ", _code(fault.code), *message]

    def _location(self, receipt: Receipt) -> list[_Html]:
        if not receipt.rejected_rows:
            return []
        return [_element("p", self._say("file.where"), " ", _element("code", _isolated(receipt.rejected_rows)))]

    def _facts(self, receipt: Receipt) -> _Html:
        source = receipt.source
        facts = {
            "receipt.import": receipt.import_id and str(receipt.import_id),
            "receipt.when": f"{receipt.started:%Y-%m-%d %H:%M %Z}",
            "receipt.encoding": source.encoding and source.encoding.upper(),
        }
        shown = [
            item
            for name, fact in facts.items()
            if fact
            for item in (_element("dt", self._say(name)), _element("dd", fact))
        ]
        return _element("dl", *shown)

    def _about(self, code: Code, part: str, column: str | None = None) -> str:
        """Return what is wrong ("title") or would be right ("help"), as the uploader's page says it."""
        rule = self.record_type[column].rule if column in self.record_type.columns else None
        schema = rule.schema() if rule else {}
        texts = self.catalogue["codes"][code]
        # What is right is in the message alone if the rule is of another kind.
        text: str = texts.get(f"{part}_{_kind(rule)}") or texts.get(part, "")
        values = {
            "column": column or self._say("grid.row"),
            "minimum": schema.get("minimum"),
            "maximum": schema.get("maximum"),
            "length": schema.get("maxLength"),
            "columns": ", ".join(self.record_type.required),
        }
        return _filled(text, values)

    def _say(self, path: str, **values: object) -> str:
        group, name = path.split(".")
        sentence = self.catalogue[group][name]
        if not isinstance(sentence, str):
            sentence = sentence["one"] if values["n"] == 1 and "one" in sentence else sentence["other"]
        return _filled(sentence, values)


def _kind(rule: Rule | None) -> str:
    """Return the kind of a rule whose faults have sentences of their own; an empty text for other rules."""
    if isinstance(rule, WholeNumber):
        return "integer"
    return "text" if isinstance(rule, Text) and not rule.pattern else ""


def _filled(sentence: str, values: Mapping[str, object]) -> str:
    def shown(found: re.Match[str]) -> str:
        value = values[found[1]]
        return f"{value:,}" if isinstance(value, int) else str(value)

    return _value.sub(shown, sentence)


def _table(labels: tuple[str, ...], rows: list[_Html]) -> _Html:
    *numbers, last = labels
    head = [_element("th", label, scope="col", class_="number") for label in numbers]
    head.append(_element("th", last, scope="col"))
    return _element("table", _element("thead", _element("tr", *head)), _element("tbody", *rows))


def _code(code: Code) -> _Html:
    return _element("code", f"[{code}]")


def _lines(first: int, last: int) -> str:
    return f"{first:,}" if first == last else f"{first:,}-{last:,}"


def _file_name(receipt: Receipt) -> str:
    return receipt.source.key.rpartition("/")[2] or receipt.source.key


def _rejected_name(receipt: Receipt) -> str:
    return (receipt.rejected_rows or "").rpartition("/")[2]
