"""Signing in at an issuer, by a code and with PKCE."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Browser, Route, expect

from support.browsing import Uploader, options
from support.page_server import TOKEN, PageServer

ISSUER = "https://issuer.example"
TOKENS = "https://tokens.example"  # as that of Amazon Cognito and Google, another host


class Issuer:
    """An issuer that signs everybody in at once."""

    def __init__(self, *, state: str | None = None) -> None:
        self.state = state
        self.challenge = ""
        self.exchanged: dict[str, list[str]] = {}

    def answer(self, route: Route) -> None:
        parts = urlsplit(route.request.url)
        query = parse_qs(parts.query)
        if parts.path == "/.well-known/openid-configuration":
            found = {"authorization_endpoint": f"{ISSUER}/authorize", "token_endpoint": f"{TOKENS}/token"}
            self._send(route, found)
        elif parts.path == "/authorize":
            [self.challenge] = query["code_challenge"]
            assert query["code_challenge_method"] == ["S256"]
            assert query["client_id"] == ["page"]
            state = self.state or query["state"][0]
            route.fulfill(status=302, headers={"Location": f"{query['redirect_uri'][0]}?code=c1&state={state}"})
        else:
            self.exchanged = parse_qs(route.request.post_data or "")
            self._send(route, {"access_token": TOKEN})

    def _send(self, route: Route, body: object) -> None:
        headers = {"Access-Control-Allow-Origin": "*", "Content-Type": "application/json"}
        route.fulfill(headers=headers, body=json.dumps(body))


@pytest.fixture
def environment() -> dict[str, str]:
    return {"ROLLCALL_SIGN_IN": f"{ISSUER} page", "ROLLCALL_PAGE_HOSTS": f"{ISSUER} {TOKENS}"}


def signed_in_at(issuer: Issuer, browser: Browser, server: PageServer) -> Uploader:
    context = browser.new_context(**options())
    for host in ISSUER, TOKENS:
        context.route(f"{host}/**", issuer.answer)
    uploader = Uploader(context.new_page(), server)
    uploader.page.goto(f"{server.origin}/#/imports")
    uploader.page.get_by_role("button", name="Sign in").click()
    uploader.page.wait_for_url(f"{server.origin}/#/imports")
    return uploader


def test_a_sign_in_leads_back_to_the_view(browser: Browser, server: PageServer) -> None:
    issuer = Issuer()
    uploader = signed_in_at(issuer, browser, server)

    expect(uploader.heading).to_have_text("No list yet")
    [verifier] = issuer.exchanged["code_verifier"]
    digest = hashlib.sha256(verifier.encode()).digest()
    assert base64.urlsafe_b64encode(digest).rstrip(b"=").decode() == issuer.challenge
    assert issuer.exchanged["grant_type"] == ["authorization_code"]
    kept = uploader.page.evaluate("JSON.stringify([{ ...localStorage }, { ...sessionStorage }])")
    assert TOKEN not in kept
    assert [
        one
        for one in uploader.complaints
        if not one.startswith((f"another host: {ISSUER}", f"another host: {TOKENS}"))
    ] == []
    uploader.page.context.close()


def test_a_code_that_was_not_asked_for_is_not_used(browser: Browser, server: PageServer) -> None:
    issuer = Issuer(state="of-somebody-else")
    uploader = signed_in_at(issuer, browser, server)

    expect(uploader.heading).to_have_text("You are signed out")
    assert issuer.exchanged == {}
    uploader.page.context.close()
