"""The token Lambda: of those who sign in to a user pool of Amazon Cognito, only operators get rollcall/operate.

Cognito grants scopes to an app client, and so to everybody who signs in there. It invokes this function before it
makes a token ("Pre token generation Lambda trigger", version 2).
"""

from typing import Any

from rollcall.entrypoints.callers import Scope

OPERATORS = "operators"  # the group, as the template names it


def handler(event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Return the event with the scopes that the token must not have. Amazon Cognito calls this function."""
    groups = event["request"]["groupConfiguration"].get("groupsToOverride") or []
    suppressed = [] if OPERATORS in groups else [Scope.OPERATE.value]
    event["response"] = {
        "claimsAndScopeOverrideDetails": {"accessTokenGeneration": {"scopesToSuppress": suppressed}}
    }
    return event
