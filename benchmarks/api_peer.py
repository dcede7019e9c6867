"""Two routes of the Web API in FastAPI and Mangum, as their manuals describe them, for benchmarks/api.py.

They do less: a row is only compared with a model, and a user is stored without ledger, receipt and uploader.
"""

import os
from typing import Annotated, Any

import psycopg
from fastapi import FastAPI, Header
from mangum import Mangum
from pydantic import BaseModel, Field, ValidationError

_Text = Annotated[str, Field(min_length=1, max_length=200)]


class User(BaseModel):
    """A user."""

    name: _Text
    country: _Text
    age: Annotated[int, Field(ge=0, le=150)]


class Rows(BaseModel):
    """Rows of text, good or bad."""

    rows: Annotated[list[dict[str, str]], Field(max_length=500)]


app = FastAPI()
_connections: list[psycopg.Connection] = []


def check_rows(body: Rows) -> dict[str, Any]:
    """Judge rows."""
    return {"rows": [{"faults": _faults(row)} for row in body.rows]}


def register_user(user: User, idempotency_key: Annotated[str, Header()]) -> dict[str, Any]:
    """Store a user once for each key."""
    if not _connections:
        _connections.append(psycopg.connect(os.environ["DATABASE_URL"], autocommit=True))
    _connections[0].execute(
        "insert into peer_users values (%s, %s, %s, %s) on conflict do nothing",
        (idempotency_key, user.name, user.country, user.age),
    )
    return user.model_dump()


def get_policy() -> dict[str, Any]:
    """Return the JSON Schema of a user."""
    return User.model_json_schema()


def _faults(row: dict[str, str]) -> list[dict[str, Any]]:
    try:
        User.model_validate(row)
    except ValidationError as error:
        return [
            {"code": fault["type"], "message": fault["msg"], "column": fault["loc"][0]} for fault in error.errors()
        ]
    return []


app.post("/api/rows/check")(check_rows)
app.post("/api/users", status_code=201)(register_user)
app.get("/api/policy")(get_policy)
handler = Mangum(app, lifespan="off")


def nothing(_event: dict[str, Any], _context: object) -> dict[str, Any]:
    """Answer without work: what remains is the time of the emulator and of HTTP."""
    return {"statusCode": 200, "body": ""}
