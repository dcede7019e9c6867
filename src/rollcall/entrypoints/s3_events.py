"""Events of S3, converted to references to the created objects.

S3's own records, events of EventBridge, and messages of SQS and SNS are understood, also inside one another.
The Amazon S3 user guide describes the first two under "Event message structure" and "EventBridge event message
structure". No error shows a part of an event, because anybody may have written it.
"""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote_plus, unquote_plus

from rollcall.application.errors import raise_without_context
from rollcall.application.values import ListedObject
from rollcall.domain.errors import RollcallError
from rollcall.domain.upload import ObjectReference, is_folder

_SEQUENCER = re.compile("[0-9A-Fa-f]{1,64}")


class UnknownEventError(RollcallError, ValueError):
    """An event has an unknown shape.

    Args:
        where: The path inside the event, such as `Records[0].body`; empty for the event itself.
        what: What is wrong there, as the end of a sentence.
    """

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"an event of unknown shape: {where or 'the whole of it'} {what}")


def created_objects(event: object) -> list[ObjectReference]:
    """Return every object that an event announces as created, in order.

    Deletions and other events of S3, its test event, and empty objects that represent folders (`x/`) are ignored.

    Args:
        event: The event, as JSON text or already parsed.

    Raises:
        UnknownEventError: A part of the event has no shape that S3, EventBridge, SQS or SNS uses.
    """
    return list(_find(event, ""))


def announcement(listed: ListedObject) -> str:
    """Return a message in JSON that announces an upload as S3 does, so that `created_objects` understands it.

    Args:
        listed: The version to announce.
    """
    reference = listed.reference
    versioned = {"versionId": reference.version} if reference.version else {}
    tagged = {"eTag": reference.etag.strip('"')} if reference.etag else {}
    described = {"key": quote_plus(listed.upload.key, safe="/"), "size": listed.upload.size, **versioned, **tagged}
    record = {
        "eventSource": "aws:s3",
        # S3 itself does not use this name, so a reader of the message sees that the sweep wrote it.
        "eventName": "ObjectCreated:Sweep",
        "s3": {"bucket": {"name": listed.upload.bucket}, "object": described},
    }
    return json.dumps({"Records": [record]})


def _find(event: object, where: str) -> Iterator[ObjectReference]:
    event = _read(event, where) if isinstance(event, str) else event
    match event:
        case {"Records": [*records]}:
            for number, record in enumerate(records):
                yield from _find_in_record(record, _join(where, f"Records[{number}]"))
        case {"source": "aws.s3", "detail-type": str(kind), "detail": detail} if kind.startswith("Object "):
            if kind == "Object Created":
                yield from _from_eventbridge(detail, _join(where, "detail"))
        case {"Type": "Notification", "Message": str(message)}:
            yield from _find(message, _join(where, "Message"))
        case {"Service": "Amazon S3", "Event": "s3:TestEvent"}:
            pass
        case _:
            raise UnknownEventError(where, "is neither records nor an event of S3, nor a notification")


def _find_in_record(record: object, where: str) -> Iterator[ObjectReference]:
    match record:
        case {"eventSource": "aws:s3", "eventName": str(name), "s3": s3}:
            if name.startswith("ObjectCreated:"):
                yield from _from_s3(s3, _join(where, "s3"))
        case {"eventSource": "aws:sqs", "body": str(body)}:
            yield from _find(body, _join(where, "body"))
        case _:
            raise UnknownEventError(where, "is neither a record of S3 nor a message of SQS")


def _from_s3(s3: object, where: str) -> Iterator[ObjectReference]:
    match s3:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **rest}} if bucket and key:
            try:
                decoded = unquote_plus(key, errors="strict")
            except UnicodeDecodeError:
                raise_without_context(UnknownEventError(_join(where, "object.key"), "is not in UTF-8"))
            yield from _reference(bucket, decoded, rest, version=rest.get("versionId"), etag=rest.get("eTag"))
        case _:
            raise UnknownEventError(where, "names no bucket and key")


def _from_eventbridge(detail: object, where: str) -> Iterator[ObjectReference]:
    match detail:
        case {"bucket": {"name": str(bucket)}, "object": {"key": str(key), **rest}} if bucket and key:
            # The key is not decoded: only S3's own records contain encoded keys.
            yield from _reference(bucket, key, rest, version=rest.get("version-id"), etag=rest.get("etag"))
        case _:
            raise UnknownEventError(where, "names no bucket and key")


def _reference(
    bucket: str, key: str, described: Mapping[Any, Any], *, version: object, etag: object
) -> Iterator[ObjectReference]:
    size = described.get("size")
    if is_folder(key, size):
        return
    if type(size) is not int or size < 0:  # a bool is an int, too
        size = None
    version = version if isinstance(version, str) and version else None
    # "null" is the version of an object from before its bucket had versioning. Later objects replace it.
    if version not in {None, "null"}:
        sequencer = described.get("sequencer")
        if not isinstance(sequencer, str) or not _SEQUENCER.fullmatch(sequencer):
            sequencer = None
        yield ObjectReference(bucket=bucket, key=key, version=version, sequencer=sequencer, size=size)
    elif isinstance(etag, str) and etag:
        # In quotes, as in HTTP; S3 leaves them out only in events.
        yield ObjectReference(bucket=bucket, key=key, version=version, etag=f'"{etag.strip(chr(34))}"', size=size)
    else:
        yield ObjectReference(bucket=bucket, key=key)


def _read(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        # Without the cause, which quotes the text.
        raise_without_context(UnknownEventError(where, "is not JSON"))


def _join(where: str, further: str) -> str:
    return f"{where}.{further}" if where else further
