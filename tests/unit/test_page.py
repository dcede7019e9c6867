"""The files of the uploader's page: served as they are, small, and with every sentence in both catalogues."""

import json
import re
from typing import Any

import pytest

from rollcall.bootstrap import PAGE_FOLDER
from rollcall.domain.fields import Text
from rollcall.domain.rejection import Code
from rollcall.entrypoints.api.page import MEDIA_TYPES
from rollcall.entrypoints.api.problems import RequestCode
from rollcall.settings import SettingError
from support.api_events import Answered, an_api, ask

MAX_BYTES = 150 * 1024
LANGUAGES = ("en", "ja")
CATALOGUES: dict[str, Any] = {
    language: json.loads((PAGE_FOLDER / f"{language}.json").read_text(encoding="utf-8")) for language in LANGUAGES
}
# Where the name of a sentence is made from a value: the group, and the names.
MADE = {
    "steps": ("check", "correct", "register"),
    "grid": ("state_bad", "state_good", "state_judging"),
    "home": (
        *("phase_packing", "phase_sending"),
        *("boolean", "choice", "date", "integer", "number", "form", "text"),
    ),
    "receipt": ("partly", "refused", "registered", "skipped", "undone"),
    "choices": ("correct", "correct_more", "look", "look_more"),
}


def asked(path: str) -> Answered:
    """Ask without a token."""
    return ask(an_api(), "GET", path, authorizer={})


def sentences(language: str) -> dict[str, Any]:
    """Return the sentences of a catalogue by their path."""

    def walked(members: dict[str, Any], path: str) -> dict[str, Any]:
        if "other" in members:
            return {path: members}
        found: dict[str, Any] = {}
        for name, value in members.items():
            below = f"{path}.{name}" if path else name
            found |= walked(value, below) if isinstance(value, dict) else {below: value}
        return found

    return walked(CATALOGUES[language], "")


def script() -> str:
    """Return all scripts of the page."""
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(PAGE_FOLDER.glob("*.js")))


def test_the_page_may_load_and_ask_only_its_own_host() -> None:
    answer = asked("/")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-cache"
    assert answer.headers["Content-Security-Policy"] == (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"
    )


def test_the_page_may_ask_the_hosts_of_the_settings() -> None:
    api = an_api(environment={"ROLLCALL_PAGE_HOSTS": "https://inbox.example https://issuer.example:444"})
    policy = ask(api, "GET", "/", authorizer={}).headers["Content-Security-Policy"]

    assert "; connect-src 'self' https://inbox.example https://issuer.example:444; " in policy


@pytest.mark.parametrize(
    "hosts", ["inbox.example", "https://*", "https://a;script-src", "https://a/path", "http://a"]
)
def test_no_other_source_gets_into_the_policy(hosts: str) -> None:
    with pytest.raises(SettingError, match="ROLLCALL_PAGE_HOSTS"):
        an_api(environment={"ROLLCALL_PAGE_HOSTS": hosts})


def test_a_sign_in_may_come_back_with_anything() -> None:
    assert ask(an_api(), "GET", "/", query={"code": "c", "session_state": "s"}, authorizer={}).status == 200


def test_the_page_learns_where_people_sign_in() -> None:
    api = an_api(environment={"ROLLCALL_SIGN_IN": "https://issuer.example/tenant page"})

    assert ask(api, "GET", "/assets/site.json", authorizer={}).json == {
        "sign_in": {"issuer": "https://issuer.example/tenant", "client": "page"}
    }
    assert asked("/assets/site.json").json == {"sign_in": None}


@pytest.mark.parametrize("path", sorted(PAGE_FOLDER.iterdir()), ids=lambda path: path.name)
def test_each_file_is_served_as_it_is(path: Any) -> None:  # noqa: ANN401 - as `parametrize` passes it
    answer = asked(f"/assets/{path.name}")

    assert answer.status == 200
    assert answer.headers["Content-Type"] == MEDIA_TYPES[path.suffix]
    assert answer.text == path.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fpy.typed", "%2e%2e", "main.js%0A", "index.html%00"])
def test_no_other_file_is_served(name: str) -> None:
    assert asked(f"/assets/{name}").status == 404


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in PAGE_FOLDER.iterdir()) < MAX_BYTES


def test_the_catalogues_have_the_same_sentences() -> None:
    assert sentences("en").keys() == sentences("ja").keys()


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_catalogues_know_every_code(language: str) -> None:
    assert CATALOGUES[language]["codes"].keys() == set(Code)
    assert CATALOGUES[language]["problems"].keys() == set(RequestCode)


@pytest.mark.parametrize("path", sentences("en"))
def test_a_translation_has_the_same_values(path: str) -> None:
    def values(language: str) -> set[str]:
        sentence = sentences(language)[path]
        return set(re.findall(r"\{\w+\}", sentence["other"] if isinstance(sentence, dict) else sentence))

    assert values("ja") - {"{n}"} == values("en") - {"{n}"}


def test_each_sentence_is_used_and_each_used_one_exists() -> None:
    used = set(re.findall(r"""\bt\(\s*['"`]([a-z_]+\.[a-z_.-]+)['"`]""", script()))
    used |= set(re.findall(r"""\? '([a-z]+\.[a-z_]+)' : '""", script()))
    used |= set(re.findall(r""" : '([a-z]+\.[a-z_]+)'""", script()))
    made = {f"{group}.{name}" for group, names in MADE.items() for name in names}
    known = {path for path in sentences("en") if path.split(".")[0] not in {"codes", "problems", "network"}}

    assert known - used - made == set()
    assert {path for path in used if path.split(".")[0] in CATALOGUES["en"]} | made <= set(sentences("en"))


def test_the_page_knows_the_pattern_of_plain_text() -> None:
    assert f"String.raw`{Text(max_length=1).schema()['pattern']}`" in script()


def test_no_sentence_is_outside_the_catalogues() -> None:
    """Two words in a row, or a letter of Japanese, in a string of a script or in the page."""
    text = re.sub(r"/\*.*?\*/|^\s*//.*$|\s//\s.*$", "", script(), flags=re.DOTALL | re.MULTILINE)
    strings = re.findall(r"'([^'\n]*)'|\"([^\"\n]*)\"", text)
    found = {one for pair in strings for one in pair if re.search(r"[A-Z][a-z]+ [a-z]+ [a-z]|[぀-ヿ一-鿿]", one)}
    page = re.sub(r"<[^>]*>", "", (PAGE_FOLDER / "index.html").read_text(encoding="utf-8"))

    assert found == set()
    assert page.split() == ["Rollcall"]


def test_no_script_makes_markup_from_text() -> None:
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|\.style\.|DOMParser", script()
    )
