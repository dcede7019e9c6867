"""Who calls the Web API, and what the caller may do."""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Self
from urllib.parse import quote

import attrs


class Scope(StrEnum):
    """What a caller may do."""

    UPLOAD = "rollcall/upload"
    OPERATE = "rollcall/operate"


@attrs.frozen
class Caller:
    """The caller of a request.

    Attributes:
        id: Identifies the caller. No two callers have the same, also if two issuers use the same name.
        scopes: What the caller may do.
        signed: Whether IAM permitted this one request, and so the scope of its route. IAM knows no scopes, so the
            caller may do no more: of the imports, for example, it sees its own.
    """

    id: str
    scopes: frozenset[Scope]
    signed: bool = False

    def at(self, scope: Scope) -> Self:
        """Return the caller as a route of this scope has to see it."""
        return attrs.evolve(self, scopes=frozenset({scope})) if self.signed else self


# The caller of a route that needs no scope; who it is does not matter.
NOBODY = Caller("", frozenset())
# The person at this machine, for `rollcall serve`.
LOCAL_CALLER = Caller("local", frozenset(Scope))


def caller_of(event: Mapping[str, Any]) -> Caller | None:
    """Return the caller that API Gateway's authorizer found, or None if there is none.

    Args:
        event: The event of an HTTP API, payload 2.0.
    """
    authorizer = event["requestContext"].get("authorizer") or {}
    claims = (authorizer.get("jwt") or {}).get("claims") or {}
    if claims.get("iss") and claims.get("sub"):
        return Caller(_joined("jwt", claims["iss"], claims["sub"]), _scopes(claims))
    # "AROAEXAMPLE:session" for a role; only the first part identifies the principal.
    principal, _, _ = ((authorizer.get("iam") or {}).get("userId") or "").partition(":")
    if principal:
        return Caller(_joined("iam", principal), frozenset(), signed=True)
    return None


def _joined(*parts: str) -> str:
    """Join parts so that no other parts give the same text: a colon in a part is encoded."""
    return ":".join(quote(part, safe="") for part in parts)


def _scopes(claims: Mapping[str, str]) -> frozenset[Scope]:
    # API Gateway writes the list `scp` of some issuers as text: "[first second]".
    named: Iterable[str] = claims.get("scope", claims.get("scp", "")).strip("[]").replace(",", " ").split()
    return frozenset(scope for scope in Scope if scope in set(named))
