"""Every envelope of an event gives the same objects, and no others."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rollcall.application.values import ListedObject
from rollcall.domain.upload import ObjectReference, Upload
from rollcall.entrypoints.s3_events import UnknownEventError, announcement, created_objects
from support.aws_events import (
    Event,
    by_eventbridge,
    by_s3,
    by_s3_with_percent_signs_only,
    in_sns,
    in_sqs,
    s3_record,
)

EVENTS = Path(__file__).parents[1] / "events"

keys = st.text(
    st.sampled_from("ab/ +%25BF&=?#é山👩\u200d\u202e\n\0\"\\'<") | st.characters(codec="utf-8"), min_size=1
).filter(lambda key: not key.endswith("/"))


ENVELOPES: list[Callable[[str], Event]] = [
    by_s3,
    by_s3_with_percent_signs_only,
    by_eventbridge,
    lambda key: in_sqs(by_s3(key)),
    lambda key: in_sqs(by_eventbridge(key)),
    lambda key: in_sqs(in_sns(by_s3(key))),
    lambda key: in_sqs(in_sns(by_eventbridge(key))),
]


@given(key=keys, wrap=st.sampled_from(ENVELOPES))
def test_every_key_is_read_from_every_envelope(key: str, wrap: Callable[[str], Event]) -> None:
    """Decoded once if it was encoded, otherwise not at all."""
    assert created_objects(wrap(key)) == [ObjectReference(bucket="inbox", key=key, etag='"e1"')]


@pytest.mark.parametrize("wrap", ENVELOPES)
@pytest.mark.parametrize("key", ["a+b.csv", "a%2Bb.csv", "a b.csv", "100%.csv", "%252F.csv", "é/山田 太郎.csv"])
def test_keys_are_not_decoded_twice(wrap: Callable[[str], Event], key: str) -> None:
    """Decoded twice, as other programs did, each of these names another object, or none."""
    [reference] = created_objects(wrap(key))

    assert reference.key == key


@given(keys=st.lists(st.lists(keys, max_size=3), max_size=3))
def test_every_record_of_every_message_is_read(keys: list[list[str]]) -> None:
    """In their order."""
    event = in_sqs(*({"Records": [s3_record(quote_plus(key)) for key in message]} for message in keys))

    assert [found.key for found in created_objects(event)] == [key for message in keys for key in message]


def test_text_is_read_as_json() -> None:
    """A caller may have only the body of a message."""
    assert created_objects(json.dumps(by_s3("a b"))) == created_objects(by_s3("a b"))


@pytest.mark.parametrize(
    ("described", "version", "etag"),
    [
        ({"versionId": "v1"}, "v1", None),
        ({"versionId": "null"}, "null", '"e1"'),
        ({"versionId": "null", "eTag": ""}, None, None),
        ({"versionId": ""}, None, '"e1"'),
        ({"versionId": None}, None, '"e1"'),
        ({}, None, '"e1"'),
        ({"eTag": '"e1"'}, None, '"e1"'),
        ({"eTag": ""}, None, None),
        ({"eTag": None}, None, None),
    ],
)
def test_a_reference_names_the_announced_state(described: Event, version: str | None, etag: str | None) -> None:
    """By its version, or else by its ETag, in the quotes that the event omits."""
    event = {"Records": [s3_record("a", **described)]}

    assert created_objects(event) == [ObjectReference(bucket="inbox", key="a", version=version, etag=etag)]


def test_eventbridge_has_another_name_for_the_version() -> None:
    """With a hyphen."""
    assert created_objects(by_eventbridge("a", **{"version-id": "v1"})) == [
        ObjectReference(bucket="inbox", key="a", version="v1")
    ]


@pytest.mark.parametrize(
    ("sequencer", "understood"),
    [("0C0F6F405D6ED209E1", "0C0F6F405D6ED209E1"), ("Happy Sequencer", None), ("", None), (None, None), (1, None)],
)
def test_a_valid_sequencer_is_read(sequencer: object, understood: str | None) -> None:
    """If it is a hexadecimal number."""
    by_s3_itself = {"Records": [s3_record("a", versionId="v1", sequencer=sequencer)]}

    for event in (by_s3_itself, by_eventbridge("a", **{"version-id": "v1"}, sequencer=sequencer)):
        assert [found.sequencer for found in created_objects(event)] == [understood]


@pytest.mark.parametrize(
    ("size", "understood"),
    [
        (0, 0),
        (10, 10),
        (5 * 1024**4, 5 * 1024**4),
        (-1, None),
        ("10", None),
        (1.5, None),
        (True, None),
        (None, None),
    ],
)
@pytest.mark.parametrize("state", ["v1", "null"])
def test_the_size_of_the_announced_state_is_announced(state: str, size: object, understood: int | None) -> None:
    """Where it is a number of bytes; a store that gives another size is wrong."""
    by_s3_itself = {"Records": [s3_record("a", versionId=state, size=size)]}

    for event in (by_s3_itself, by_eventbridge("a", **{"version-id": state}, size=size)):
        assert [found.size for found in created_objects(event)] == [understood]


def test_no_size_is_announced_where_no_state_is() -> None:
    """By the time that the key is read, another state may be the newest."""
    [found] = created_objects({"Records": [s3_record("a", eTag=None, size=10)]})

    assert found.size is None


@pytest.mark.parametrize("described", [{}, {"versionId": "null"}, {"eTag": None}])
def test_a_state_that_may_be_replaced_has_no_sequencer(described: Event) -> None:
    """The object that is read may be a later one with the same content."""
    [found] = created_objects({"Records": [s3_record("a", sequencer="0A", **described)]})

    assert found.sequencer is None


@given(
    key=keys,
    state=st.sampled_from([("v1", None), (None, '"e1"'), ("null", '"e1"')]),
    wrap=st.sampled_from([json.loads, lambda text: in_sqs(json.loads(text))]),
)
def test_rollcalls_own_events_are_read_like_those_of_s3(
    key: str, state: tuple[str | None, str | None], wrap: Callable[[str], Event]
) -> None:
    """The announced version, for any key."""
    reference = ObjectReference(bucket="inbox", key=key, version=state[0], etag=state[1])
    upload = Upload(bucket="inbox", key=key, version="1", size=1, last_modified=datetime(2026, 1, 1, tzinfo=UTC))

    [found] = created_objects(wrap(announcement(ListedObject(reference, upload))))
    assert (found, found.size) == (reference, upload.size)


@pytest.mark.parametrize(
    ("file", "reference"),
    [
        (
            "s3Event.json",
            ObjectReference(
                bucket="lambda-artifacts-deafc19498e3f2df",
                key="b21b84d653bb07b05b1e6b33684dc11b",
                etag='"b21b84d653bb07b05b1e6b33684dc11b"',
            ),
        ),
        (
            "s3EventDecodedKey.json",
            ObjectReference(bucket="sourcebucket", key="Happy Face.jpg", version="version"),
        ),
        (
            "s3EventBridgeNotificationObjectCreatedEvent.json",
            ObjectReference(
                bucket="example-bucket", key="IMG_m7fzo3.jpg", etag='"4e68adba0abe2dc8653dc3354e14c01d"'
            ),
        ),
        (
            "s3SqsEvent.json",
            ObjectReference(bucket="xxx", key="test.pdf", version="yd3d4HaWOT2zguDLvIQLU6ptDTwKBnQV"),
        ),
    ],
)
def test_events_from_the_documentation_of_aws_are_read(file: str, reference: ObjectReference) -> None:
    """With all the other fields that AWS includes."""
    assert created_objects(json.loads((EVENTS / file).read_text())) == [reference]


LEFT_ALONE: list[Event] = [
    {"Service": "Amazon S3", "Event": "s3:TestEvent", "Time": "2026-11-23T00:00:00Z", "Bucket": "inbox"},
    *(
        {"Records": [s3_record("a", name=name)]}
        for name in (
            "ObjectRemoved:Delete",
            "ObjectRemoved:DeleteMarkerCreated",
            "ObjectRestore:Post",
            "ObjectRestore:Completed",
            "Replication:OperationFailedReplication",
            "LifecycleExpiration:Delete",
            "ObjectTagging:Put",
            "ObjectAcl:Put",
            "ReducedRedundancyLostObject",
        )
    ),
    *(
        by_eventbridge("a", kind=kind)
        for kind in ("Object Deleted", "Object Restore Completed", "Object Tags Added", "Object ACL Updated")
    ),
    {"Records": [s3_record("folder/", size=0)]},
    {"Records": [s3_record("folder%2F", size=0)]},
    by_eventbridge("folder/", size=0),
    {"Records": []},
]


@pytest.mark.parametrize("event", LEFT_ALONE)
@pytest.mark.parametrize("wrap", [dict, in_sqs, lambda event: in_sqs(in_sns(event))])
def test_an_event_that_creates_no_object_is_ignored(event: Event, wrap: Callable[[Event], Event]) -> None:
    """In any envelope, and without an error."""
    assert created_objects(wrap(event)) == []


def test_ignored_events_do_not_hide_created_objects() -> None:
    event = in_sqs(
        *LEFT_ALONE, by_s3("a"), {"Records": [s3_record("x", name="ObjectRemoved:Delete"), s3_record("b")]}
    )

    assert [found.key for found in created_objects(event)] == ["a", "b"]


def test_an_object_named_like_a_folder_with_content_is_an_upload() -> None:
    """Only an empty object stands for a folder."""
    [reference] = created_objects({"Records": [s3_record("folder/", size=1)]})

    assert reference.key == "folder/"


CANARY = "Taro Canary"


@pytest.mark.parametrize(
    ("event", "where"),
    [
        ({}, "the whole of it is neither"),
        ([], "the whole of it is neither"),
        (None, "the whole of it is neither"),
        ({CANARY: CANARY}, "the whole of it is neither"),
        (CANARY, "the whole of it is not JSON"),
        ("[" * 100_000, "the whole of it is not JSON"),
        ("9" * 5000, "the whole of it is not JSON"),
        ({"Records": CANARY}, "the whole of it is neither"),
        ({"Records": [CANARY]}, "Records[0] is neither"),
        ({"Records": [{"eventSource": "aws:kinesis", "kinesis": CANARY}]}, "Records[0] is neither"),
        ({"Records": [s3_record("a"), {"eventSource": "aws:s3"}]}, "Records[1] is neither"),
        ({"Records": [s3_record(CANARY, bucket="")]}, "Records[0].s3 names no bucket and key"),
        ({"Records": [s3_record("")]}, "Records[0].s3 names no bucket and key"),
        ({"Records": [{**s3_record("a"), "s3": {"bucket": CANARY}}]}, "Records[0].s3 names no bucket and key"),
        ({"Records": [s3_record("%FF" + CANARY)]}, "Records[0].s3.object.key is not in UTF-8"),
        ({**by_eventbridge("a"), "detail": {"object": CANARY}}, "detail names no bucket and key"),
        ({**by_eventbridge("a"), "detail-type": "AWS API Call via CloudTrail"}, "the whole of it is neither"),
        ({**by_eventbridge("a"), "source": "aws.ec2"}, "the whole of it is neither"),
        (in_sqs({}, {"message": CANARY}), "Records[0].body is neither"),
        ({"Records": [{"eventSource": "aws:sqs", "body": CANARY}]}, "Records[0].body is not JSON"),
        (in_sqs(in_sns({"message": CANARY})), "Records[0].body.Message is neither"),
        ({"Records": [s3_record("Canary%FF")]}, "Records[0].s3.object.key is not in UTF-8"),
    ],
)
def test_another_event_is_refused_by_place_and_not_shown(event: object, where: str) -> None:
    """It may contain a person's data."""
    with pytest.raises(UnknownEventError) as error:
        created_objects(event)

    assert str(error.value).startswith(f"an event of unknown shape: {where}")
    assert "Canary" not in str(error.value)
    assert (error.value.__cause__, error.value.__context__) == (None, None)


def test_a_notification_of_another_service_is_refused() -> None:
    """In the envelope of AWS."""
    with pytest.raises(UnknownEventError, match=r"Records\[0\]\.body\.Message is neither"):
        created_objects(json.loads((EVENTS / "snsSqsEvent.json").read_text()))
