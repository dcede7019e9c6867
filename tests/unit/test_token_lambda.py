"""Who gets the scope rollcall/operate in a token of Amazon Cognito."""

from typing import Any

import pytest

from rollcall.entrypoints.token_lambda import OPERATORS, handler


@pytest.mark.parametrize(
    ("configuration", "suppressed"),
    [
        ({"groupsToOverride": [OPERATORS]}, []),
        ({"groupsToOverride": ["others", OPERATORS]}, []),
        ({"groupsToOverride": ["others"]}, ["rollcall/operate"]),
        ({"groupsToOverride": []}, ["rollcall/operate"]),
        ({"groupsToOverride": None}, ["rollcall/operate"]),
        ({}, ["rollcall/operate"]),
    ],
)
def test_only_operators_get_the_scope_to_operate(configuration: dict[str, Any], suppressed: list[str]) -> None:
    event = {
        "version": "2",
        "triggerSource": "TokenGeneration_HostedAuth",
        "request": {"userAttributes": {"sub": "ann"}, "groupConfiguration": configuration, "scopes": ["openid"]},
        "response": {"claimsAndScopeOverrideDetails": None},
    }

    answer = handler(event, None)

    assert answer["request"] == event["request"]
    assert answer["response"] == {
        "claimsAndScopeOverrideDetails": {"accessTokenGeneration": {"scopesToSuppress": suppressed}}
    }
