"""The rules for uploads, so that a page need not repeat them."""

from http import HTTPStatus
from typing import TYPE_CHECKING

from rollcall.application.check_rows import MAX_ROWS
from rollcall.entrypoints.api.routes import Answer, Request, Route, closed_object
from rollcall.entrypoints.callers import Scope

if TYPE_CHECKING:
    from rollcall.entrypoints.api import Api


def _get_policy(api: "Api", _request: Request) -> Answer:
    settings = api.settings
    return Answer(
        body={
            "columns": [
                {
                    "name": field.name,
                    "labels": list(field.labels),
                    "optional": field.optional,
                    "schema": field.rule.schema(),
                }
                for field in settings.record.fields
            ],
            "encodings": list(settings.encodings),
            "limits": {
                "max_upload_bytes": settings.max_upload_bytes,
                "max_csv_bytes": settings.max_csv_bytes,
                "max_checked_rows": MAX_ROWS,
            },
            "policy": settings.policy.as_dict(),
        }
    )


_POSITIVE = {"type": "integer", "minimum": 1}

ROUTES = (
    Route(
        method="GET",
        path="/api/policy",
        scope=Scope.UPLOAD,
        name="get_policy",
        summary="The columns and their rules, the encodings and limits of an upload, and the settings for imports",
        answer=_get_policy,
        answers={
            HTTPStatus.OK: closed_object(
                {
                    "columns": {
                        "type": "array",
                        "items": closed_object(
                            {
                                "name": {"type": "string"},
                                "labels": {
                                    "type": "array",
                                    "items": {"type": "string"},
                                    "description": "Further labels of the column in a file",
                                },
                                "optional": {"type": "boolean", "description": "Whether a cell may be blank"},
                                "schema": {"type": "object", "description": "JSON Schema of the values"},
                            }
                        ),
                    },
                    "encodings": {"type": "array", "items": {"type": "string"}},
                    "limits": closed_object(
                        dict.fromkeys(("max_upload_bytes", "max_csv_bytes", "max_checked_rows"), _POSITIVE)
                    ),
                    "policy": {"$ref": "#/components/schemas/Policy"},
                }
            )
        },
        revalidates=True,
    ),
)
