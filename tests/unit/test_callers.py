"""The caller of a request, as API Gateway's authorizer found it."""

from typing import Any

import pytest

from rollcall.entrypoints.callers import LOCAL_CALLER, Caller, Scope, caller_of
from support.api_events import http_event, signed, token


def _caller(authorizer: dict[str, Any]) -> Caller | None:
    return caller_of(http_event("GET", "/", authorizer=authorizer))


def test_the_bearer_of_a_token_is_issuer_and_subject() -> None:
    assert _caller(token("ann", "rollcall/upload")) == Caller(
        "jwt:https%3A%2F%2Fissuer.example:ann", frozenset({Scope.UPLOAD})
    )


def test_no_two_callers_have_the_same_id() -> None:
    parts = ["a", "a:b", "b", "a%3Ab", "", "%", "AROA:x"]
    authorizers = [token(subject, issuer=issuer) for issuer in parts for subject in parts]
    callers = [_caller(authorizer) for authorizer in [*authorizers, signed("AROA:x"), signed("AIDA")]]
    ids = [caller.id for caller in callers if caller] + [LOCAL_CALLER.id]

    assert len(set(ids)) == len(ids) == 36 + 3


def test_a_role_is_one_caller_in_every_session() -> None:
    assert _caller(signed("AROA1:monday")) == _caller(signed("AROA1:tuesday")) == _caller(signed("AROA1"))
    assert _caller(signed("AROA1:monday")) != _caller(signed("AROA2:monday"))


def test_iam_permits_a_request_and_nothing_else() -> None:
    """IAM permits routes, and knows no scopes. A token's scopes are the same at every route."""
    program, person = _caller(signed("AIDA")), _caller(token("ann", "rollcall/upload"))

    assert program
    assert person
    assert program.scopes == set()
    assert [program.at(scope).scopes for scope in Scope] == [{scope} for scope in Scope]
    assert [person.at(scope).scopes for scope in Scope] == [{Scope.UPLOAD}] * len(Scope)


@pytest.mark.parametrize("authorizer", [{}, {"jwt": None}, {"jwt": {"claims": {"sub": "ann"}}}, {"iam": {}}])
def test_without_an_identity_there_is_no_caller(authorizer: dict[str, Any]) -> None:
    assert _caller(authorizer) is None


@pytest.mark.parametrize(
    ("claims", "scopes"),
    [
        ({"scope": "openid rollcall/operate"}, {Scope.OPERATE}),
        ({"scope": "rollcall/upload rollcall/operate"}, set(Scope)),
        ({"scp": "[rollcall/upload rollcall/operate]"}, set(Scope)),
        ({"scope": "rollcall/uploads xrollcall/upload ROLLCALL/UPLOAD"}, set()),
        ({"scope": ""}, set()),
        ({}, set()),
    ],
)
def test_the_scopes_are_those_of_the_token(claims: dict[str, str], scopes: set[Scope]) -> None:
    """An ID token has none."""
    caller = _caller({"jwt": {"claims": {"iss": "i", "sub": "s", **claims}}})

    assert caller
    assert caller.scopes == scopes
