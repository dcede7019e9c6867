"""The environment, read once: allowed values, and the messages about other values."""

import re
from datetime import timedelta
from pathlib import Path

import attrs
import pytest

from rollcall import bootstrap
from rollcall.domain.policy import OnNewVersion, OnRepeat, Policy, Tolerance
from rollcall.settings import SCHEMES, Address, DatabaseAuth, SettingError, Settings, read_settings

GIB = 1024**3
SECRETS = (
    "arn:aws:secretsmanager:eu-central-1:123456789012:secret:rds!cluster-0f-AbCdEf",
    "arn:aws-us-gov:secretsmanager:us-gov-west-1:123456789012:secret:team/database_1",
)
_NAMES = [field.name for field in attrs.fields(Settings)]


def test_every_setting_has_a_default() -> None:
    """A machine needs no setting."""
    settings = read_settings({})

    assert settings.uploads is None
    assert settings.reports is None
    assert settings.database_url is None
    assert settings.data is None
    assert settings.encodings == ("utf-8",)
    assert settings.policy == Policy()
    assert settings.max_upload_bytes == 5 * GIB
    assert settings.max_csv_bytes == 20 * GIB
    assert settings.queue is None
    assert settings.notify_topic is None
    assert settings.sweep_days == timedelta(days=7)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("UPLOADS", "s3://bucket", Address("s3", "bucket")),
        ("UPLOADS", "s3://bucket/", Address("s3", "bucket")),
        ("UPLOADS", "s3://bucket/a/b/", Address("s3", "bucket", "a/b/")),
        ("UPLOADS", "file:///in%20box", Address("file", "/in box")),
        ("UPLOADS", "s3://bucket/what?#a%20b", Address("s3", "bucket", "what?#a%20b/")),
        ("UPLOADS", "file:///what?/is#this", Address("file", "/what?/is#this")),
        ("UPLOADS", "file:///what%3F/%23%e5%b1%b1/%ff", Address("file", "/what?/#山/\udcff")),
        ("UPLOADS", "memory:", Address("memory")),
        ("REPORTS", "s3://bucket/reports", Address("s3", "bucket", "reports/")),
        ("REPORTS", "file:///reports", Address("file", "/reports")),
        ("REPORTS", "memory:", Address("memory")),
        ("DATABASE_URL", "memory:", "memory:"),
        ("DATABASE_URL", "postgresql://", "postgresql://"),
        ("DATABASE_URL", "postgresql://u:p@h:5432/d?sslmode=require", "postgresql://u:p@h:5432/d?sslmode=require"),
        ("DATABASE_URL", "postgres://h/d", "postgres://h/d"),
        *(("DATABASE_SECRET_ARN", arn, arn) for arn in SECRETS),
        ("DATABASE_AUTH", "password", DatabaseAuth.PASSWORD),
        ("DATABASE_AUTH", "iam", DatabaseAuth.IAM),
        ("DATABASE_CA", "/opt/../ca.pem", "/ca.pem"),
        ("DATA", "/data/../place", "/place"),
        ("DATA", "place", str(Path.cwd() / "place")),
        ("ENCODINGS", "utf-8", ("utf-8",)),
        ("ENCODINGS", " UTF8 , Shift_JIS,cp932,latin1", ("utf-8", "shift_jis", "cp932", "iso8859-1")),
        ("MAX_REJECTED", "all", Tolerance("all")),
        ("MAX_REJECTED", "10", Tolerance("10")),
        ("MAX_REJECTED", "2.5%", Tolerance("2.5%")),
        ("ON_REPEAT", "skip", OnRepeat.SKIP),
        ("ON_REPEAT", "import", OnRepeat.IMPORT),
        ("ON_NEW_VERSION", "refuse", OnNewVersion.REFUSE),
        ("ON_NEW_VERSION", "import", OnNewVersion.IMPORT),
        ("MAX_UPLOAD_BYTES", "1", 1),
        ("MAX_UPLOAD_BYTES", " 05 ", 5),
        ("MAX_CSV_BYTES", "1073741824", GIB),
        ("QUEUE", "arn:aws:sqs:us-east-1:123456789012:up-1_a", "arn:aws:sqs:us-east-1:123456789012:up-1_a"),
        ("QUEUE", "arn:aws-cn:sqs:cn-north-1:123456789012:q", "arn:aws-cn:sqs:cn-north-1:123456789012:q"),
        ("NOTIFY_TOPIC", "arn:aws:sns:us-east-1:123456789012:t-1_a", "arn:aws:sns:us-east-1:123456789012:t-1_a"),
        ("BUCKET_OWNER", "012345678901", "012345678901"),
        ("SWEEP_DAYS", "1", timedelta(days=1)),
        ("SWEEP_DAYS", " 036500 ", timedelta(days=36_500)),
    ],
)
def test_a_setting_is_read(name: str, text: str, value: object) -> None:
    """From the environment, by its name with the prefix."""
    settings = read_settings({f"ROLLCALL_{name}": text})

    assert getattr(settings, name.lower()) == value


@pytest.mark.parametrize(
    ("name", "text", "allowed"),
    [
        *(
            (name, text, "s3://bucket[/prefix], file:///folder or memory:")
            for name in ("UPLOADS", "REPORTS")
            for text in (
                "s3://",
                "s3:bucket",
                "/folder",
                "file:folder",
                "file://host/folder",
                "file://",
                "file:///null%00",
                "s3://what?/is#this",
                "memory",
                "s3://[",
                "C:\\x",
            )
        ),
        *(
            ("DATABASE_SECRET_ARN", text, "the ARN of a secret, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME")
            for text in ("database", "arn:aws:s3:::bucket", SECRETS[0].replace("1234", "12"), f"{SECRETS[0]} ")
        ),
        *(("DATABASE_AUTH", text, "password or iam") for text in ("IAM", "none")),
        *(
            ("ENCODINGS", text, "names of text encodings such as utf-8,cp932")
            for text in (
                *("utf-9", "utf-8,", ",", "utf-8;cp932", "base64", "rot13", "utf-8 cp932", "\0"),
                *("idna", "Punycode", "undefined", "charmap", "unicode_escape", "raw_unicode_escape", "UTF7"),
                *("utf-8,utf-7", "mbcs", "oem", "UTF_32"),
            )
        ),
        *(
            ("MAX_REJECTED", text, "all, a count such as 10, or a percentage such as 2.5%")
            for text in ("none", "-1", "101%", "1.5", "ten")
        ),
        *(("ON_REPEAT", text, "skip or import") for text in ("SKIP", "refuse", "yes")),
        *(("ON_NEW_VERSION", text, "refuse or import") for text in ("skip", "Import", "1")),
        *(
            (name, text, "a number of bytes")
            for name in ("MAX_UPLOAD_BYTES", "MAX_CSV_BYTES", "MAX_REJECTED_BYTES")
            for text in (
                "0",
                "-1",
                "+5",
                "5_000",
                "\N{FULLWIDTH DIGIT FIVE}",
                "1.5",
                "5 GiB",
                "1e9",
                "all",
                "9" * 5000,
            )
        ),
        *(
            ("BUCKET_OWNER", text, "the 12 digits of an AWS account")
            for text in (
                "12345678901",
                "1234567890123",
                "123456789012\n",
                "my-account",
                "\uff11" * 12,
            )
        ),
        *(
            ("QUEUE", text, "arn:aws:sqs:region:account:name")
            for text in (
                "queue",
                "https://sqs.us-east-1.amazonaws.com/123456789012/queue",
                "arn:aws:sns:us-east-1:123456789012:topic",
                "arn:aws:sqs:us-east-1:1234:queue",
                "arn:aws:sqs:us-east-1:123456789012:",
                "arn:aws:sqs:us-east-1:123456789012:queue.fifo",
                "arn:aws:sqs:us-east-1:123456789012:queue\n",
            )
        ),
        *(
            ("NOTIFY_TOPIC", text, "arn:aws:sns:region:account:name")
            for text in (
                "topic",
                "arn:aws:sqs:us-east-1:123456789012:queue",
                "arn:aws:sns:us-east-1:123456789012:topic.fifo",
                "arn:aws:sns:us-east-1:123456789012:topic\n",
            )
        ),
        *(
            ("SWEEP_DAYS", text, "a number of days from 1 to 36500")
            for text in ("0", "-1", "1.5", "7d", "36501", "9" * 18, "9" * 5000)
        ),
    ],
)
def test_a_wrong_value_is_refused_with_the_allowed_values(name: str, text: str, allowed: str) -> None:
    """So an operator can correct it without reading the code."""
    with pytest.raises(SettingError) as error:
        read_settings({f"ROLLCALL_{name}": text})

    assert str(error.value) == f"ROLLCALL_{name} is {text!r}; give {allowed}"
    assert error.value.__cause__ is None
    assert error.value.__context__ is None


@pytest.mark.parametrize("text", ["mysql://u:S3CRET@h/d", "S3CRET", "host=h password=S3CRET", "postgresql:S3CRET"])
def test_a_wrong_database_url_is_refused_and_not_shown(text: str) -> None:
    """It may contain a password."""
    with pytest.raises(SettingError, match=r"^ROLLCALL_DATABASE_URL is .*; give postgresql://\.\.\. .*") as error:
        read_settings({"ROLLCALL_DATABASE_URL": text})

    assert "S3CRET" not in str(error.value)
    assert error.value.__context__ is None


@pytest.mark.parametrize("name", ["ROLLCALL_MAX_REJECT", "ROLLCALL_", "ROLLCALL_POLICY", "ROLLCALL_uploads"])
def test_an_unknown_setting_is_refused(name: str) -> None:
    """A misspelt setting must not count as unset."""
    with pytest.raises(SettingError, match=re.escape(name)) as error:
        read_settings({name: "10"})

    assert "ROLLCALL_MAX_REJECTED" in str(error.value)
    assert "ROLLCALL_DATABASE_URL" in str(error.value)


def test_the_value_of_an_unknown_name_is_not_shown() -> None:
    """It may be a secret under a misspelt name."""
    with pytest.raises(SettingError, match="ROLLCALL_DATABASE_URI") as error:
        read_settings({"ROLLCALL_DATABASE_URI": "postgresql://u:S3CRET@h/d"})

    assert "S3CRET" not in str(error.value)


@pytest.mark.parametrize("name", _NAMES)
def test_an_empty_value_counts_as_not_set(name: str) -> None:
    """As in the shell."""
    assert read_settings({f"ROLLCALL_{name.upper()}": ""}) == read_settings({})


def test_names_without_the_prefix_are_ignored() -> None:
    """The environment has many other variables."""
    assert read_settings({"UPLOADS": "x", "rollcall_uploads": "x", "MY_ROLLCALL_UPLOADS": "x"}) == read_settings(
        {}
    )


def test_the_policy_is_read_from_the_settings() -> None:
    settings = read_settings(
        {
            "ROLLCALL_MAX_REJECTED": "5%",
            "ROLLCALL_ON_REPEAT": "import",
            "ROLLCALL_ON_NEW_VERSION": "import",
        }
    )

    assert settings.policy == Policy(
        max_rejected=Tolerance("5%"), on_repeat=OnRepeat.IMPORT, on_new_version=OnNewVersion.IMPORT
    )


def test_every_field_of_the_policy_has_a_setting() -> None:
    """A field of the policy without a setting would silently keep its default."""
    values = {"max_rejected": "1", "unique_by": "name", "on_duplicate": "update", "on_repeat": "import"}
    values |= {"on_new_version": "import"}
    policy = read_settings({f"ROLLCALL_{name.upper()}": value for name, value in values.items()}).policy

    assert policy.as_dict() == values
    assert all(getattr(policy, field.name) != field.default for field in attrs.fields(Policy))


def test_settings_are_frozen() -> None:
    settings = read_settings({})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.max_csv_bytes = 1  # type: ignore[misc]  # freezing is what this tests


def test_every_allowed_scheme_names_a_store() -> None:
    assert bootstrap.stores.STORES.keys() == SCHEMES.keys()
