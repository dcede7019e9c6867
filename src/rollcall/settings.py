"""The settings, read once from the environment into one frozen object."""

import codecs
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from enum import StrEnum
from importlib import import_module
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from traceback import walk_tb
from types import ModuleType
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import attrs

from rollcall.domain.errors import DeclarationError, RollcallError
from rollcall.domain.policy import (
    MAX_CSV_BYTES,
    MAX_REJECTED_BYTES,
    MAX_UPLOAD_BYTES,
    OnDuplicate,
    OnNewVersion,
    OnRepeat,
    Policy,
    Tolerance,
)
from rollcall.domain.record import RecordType

PREFIX = "ROLLCALL_"

_DAYS_AT_MOST = 36_500  # `datetime` reaches that far back

_bucket = re.compile(r"[A-Za-z0-9._-]+")
_issuer = re.compile(r"https://[A-Za-z0-9.:-]+(/[^\s?#;,]*)?")
_host = re.compile(r"https://[A-Za-z0-9.-]+(:[0-9]+)?")
_count = re.compile("[0-9]{1,18}")
_class = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.\w+)*):(?P<name>[A-Za-z_]\w*)", re.ASCII)
_secret_arn = re.compile(r"arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:[0-9]{12}:secret:[\w/+=.@!-]+", re.ASCII)
_account = re.compile("[0-9]{12}")
# S3 sends no notifications to a queue whose name ends in .fifo.
_queue_arn = re.compile("arn:aws[a-z-]*:sqs:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,80}")
_topic_arn = re.compile("arn:aws[a-z-]*:sns:[a-z0-9-]+:[0-9]{12}:[A-Za-z0-9_-]{1,256}")

# Python knows these encodings too, but an upload cannot be judged reliably in them.
_UNFIT_ENCODINGS = frozenset(
    {
        *("idna", "punycode", "undefined", "charmap"),  # not made for files
        *("unicode-escape", "raw-unicode-escape", "utf-7"),  # their escapes can contain line ends and quotes
        *("mbcs", "oem"),  # depend on the machine
        "utf-32",  # its byte order mark begins with UTF-16's, so rejected rows could not be read again
    }
)


class SettingError(RollcallError, ValueError):
    """A setting has a wrong value; the message gives its name, its value and what is allowed."""

    def __init__(self, name: str, value: str, allowed: str) -> None:
        super().__init__(f"{name} is {value!r}; give {allowed}")


class WrongRecordError(SettingError):
    """The class of the record cannot be used; the message says why."""

    def __init__(self, record: str, reason: str) -> None:
        RollcallError.__init__(self, f"the record {record} cannot be used: {reason}")


@attrs.frozen
class Address:
    """The address of a store.

    Attributes:
        scheme: One of `SCHEMES`.
        place: The bucket, or the folder's path; empty for memory.
        prefix: The beginning of every key in the bucket; empty, or ending with a slash.
    """

    scheme: str
    place: str = ""
    prefix: str = ""

    @classmethod
    def parse(cls, text: str) -> "Address":
        """Parse an address that has the form of one of `SCHEMES`.

        Raises:
            ValueError: The text has none of these forms.
        """
        scheme, colon, rest = text.partition(":")
        if scheme not in SCHEMES or not colon:
            raise ValueError
        place, prefix = SCHEMES[scheme].read(rest)
        return cls(scheme, place, prefix)


def _read_bucket(rest: str) -> tuple[str, str]:
    # Not by urlsplit, because it ends the path at a ? or #.
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    prefix = prefix.strip("/")
    if not rest.startswith("//") or not _bucket.fullmatch(bucket):
        raise ValueError
    return bucket, f"{prefix}/" if prefix else ""


def _read_folder(rest: str) -> tuple[str, str]:
    folder = os.fsdecode(
        unquote_to_bytes(os.fsencode(rest.removeprefix("//")))
    )  # in every locale, a path is bytes
    if not rest.startswith("///") or "\0" in folder:
        raise ValueError
    return folder, ""


@attrs.frozen
class SignIn:
    """Where people sign in to the uploader's page.

    Attributes:
        issuer: The address of an OpenID provider.
        client: The id of the page there.
    """

    issuer: str
    client: str

    @classmethod
    def parse(cls, text: str) -> "SignIn":
        """Parse an issuer and a client with a space between them.

        Raises:
            ValueError: The text has another form.
        """
        issuer, client = text.split()
        if not _issuer.fullmatch(issuer):
            raise ValueError
        return cls(issuer, client)


def _hosts(text: str) -> tuple[str, ...]:
    if not all(_host.fullmatch(host) for host in text.split()):
        raise ValueError
    return tuple(text.split())


def _read_nothing(rest: str) -> tuple[str, str]:
    if rest:
        raise ValueError
    return "", ""


@attrs.frozen
class Scheme:
    """A kind of store.

    Attributes:
        form: The form of its addresses, for people.
        read: Returns place and prefix from what follows the scheme and its colon; raises `ValueError`.
    """

    form: str
    read: Callable[[str], tuple[str, str]]


SCHEMES: dict[str, Scheme] = {
    "s3": Scheme("s3://bucket[/prefix]", _read_bucket),
    "file": Scheme("file:///folder", _read_folder),
    "memory": Scheme("memory:", _read_nothing),
}
*_first, _last = (scheme.form for scheme in SCHEMES.values())
STORE_ADDRESSES = f"{', '.join(_first)} or {_last}"


class DatabaseAuth(StrEnum):
    """How to authenticate to the database."""

    PASSWORD = "password"  # noqa: S105 - the word, and no password
    IAM = "iam"


def _database(text: str) -> str:
    parts = urlsplit(text)
    # If the password contains an @, its end would be taken for the host, and shown when no such host is found.
    if text == "memory:" or (text.startswith(("postgresql://", "postgres://")) and parts.netloc.count("@") <= 1):
        return text
    raise ValueError


def _secret(text: str) -> str:
    if not _secret_arn.fullmatch(text):
        raise ValueError
    return text


def _encodings(text: str) -> tuple[str, ...]:
    found = [codecs.lookup(name.strip()) for name in text.split(",")]
    for codec in found:
        if codec._is_text_encoding is False or codec.name in _UNFIT_ENCODINGS:  # noqa: SLF001 - there is no public attribute (bpo-19619)
            raise ValueError
    return tuple(codec.name for codec in found)


def _record(text: str) -> RecordType:
    found = _class.fullmatch(text)
    if not found:
        raise ValueError
    try:
        return RecordType.of(getattr(_module(found["module"]), found["name"]))
    except DeclarationError as error:
        reason = f"{error}{_line_of(error)}"
    except ModuleNotFoundError as error:
        reason = f"{error}; it is looked for in {Path.cwd()}, too"
    except (Exception, SystemExit) as error:  # noqa: BLE001 - the module may raise anything
        reason = f"{type(error).__name__}: {error}{_line_of(error)}"
    raise WrongRecordError(text, reason)


def _module(name: str) -> ModuleType:
    """Return a module of this Python, or else that of one file in the current folder.

    The folder does not become a place of modules: a file that somebody puts there must not replace another module.
    """
    with suppress(ModuleNotFoundError):  # of the package around it
        if find_spec(name):
            return import_module(name)
    path = Path.cwd().joinpath(*name.split(".")).with_suffix(".py")
    spec = spec_from_file_location(name, path) if path.is_file() else None
    if not spec or not spec.loader:
        raise ModuleNotFoundError(f"No module named {name!r}")
    module = module_from_spec(spec)
    sys.modules[name] = module  # where attrs looks for it
    spec.loader.exec_module(module)
    return module


def _line_of(error: BaseException) -> str:
    """Return where in the file of a record an error was raised; "" if it was not raised there."""
    found = [
        (frame.f_code.co_filename, frame.f_code.co_name, line) for frame, line in walk_tb(error.__traceback__)
    ]
    modules = [file for file, name, _ in found if name == "<module>" and not file.startswith("<")]
    lines = [line for file, _, line in found if modules and file == modules[-1]]
    return f" ({os.path.basename(modules[-1])}, line {lines[-1]})" if lines else ""  # noqa: PTH119 - of text


def _columns(text: str) -> frozenset[str]:
    return frozenset(name.strip().lower() for name in text.split(",")) - {""}


def _arn(text: str) -> str:
    if not _queue_arn.fullmatch(text):
        raise ValueError
    return text


def _topic(text: str) -> str:
    if not _topic_arn.fullmatch(text):
        raise ValueError
    return text


def _account_id(text: str) -> str:
    if not _account.fullmatch(text):
        raise ValueError
    return text


def _days(text: str) -> timedelta:
    days = _positive(text)
    if days > _DAYS_AT_MOST:
        raise ValueError
    return timedelta(days=days)


def _positive(text: str) -> int:
    digits = text.strip()
    if not _count.fullmatch(digits) or not int(digits):
        raise ValueError
    return int(digits)


def _setting(
    read: Callable[[str], object],
    *,
    default: str | None,
    allowed: str,
    what: str,
    secret: bool = False,
) -> Any:  # noqa: ANN401 - attrs.field() itself is typed as Any
    """Declare a setting. Its environment variable is `PREFIX` and the attribute's name in capital letters.

    Args:
        read: Converts the text to the value; raises `ValueError` or `LookupError` if the text is not allowed.
        default: The text to use if the setting is not set; None for no value.
        allowed: The allowed values, as the end of a sentence.
        what: The description of the setting.
        secret: Whether an error must not show the value.
    """

    def convert(text: str | None, field: "attrs.Attribute[Any]") -> object:
        if text is None:
            return None
        try:
            return read(text)
        except SettingError:
            raise  # it says more
        except (ValueError, LookupError):
            pass
        # Raised here: in the `except`, the error's context would contain the value.
        raise SettingError(PREFIX + field.name.upper(), "(hidden)" if secret else text, allowed)

    return attrs.field(
        default=default,
        converter=attrs.Converter(convert, takes_field=True),
        metadata={"what": what, "allowed": allowed},
    )


@attrs.frozen(kw_only=True)
class Settings:
    """All settings. A test keeps the table in docs/configuration.md equal to these declarations."""

    uploads: Address | None = _setting(
        Address.parse,
        default=None,
        allowed=STORE_ADDRESSES,
        what="Upload store for `watch` and the sweep; other entry points get an address.",
    )
    inbox: Address | None = _setting(
        Address.parse,
        default=None,
        allowed=STORE_ADDRESSES,
        what="Store for the page's uploads until they are registered; of the same kind as the upload store.",
    )
    page_hosts: tuple[str, ...] = _setting(
        _hosts,
        default="",
        allowed="https://host, with spaces between several",
        what="Hosts that the uploader's page may ask besides its own: the inbox's, and those of the sign-in.",
    )
    sign_in: SignIn | None = _setting(
        SignIn.parse,
        default=None,
        allowed="https://issuer and a client id, with a space between them",
        what="OpenID provider at which people sign in to the uploader's page, and the id of the page there.",
    )
    reports: Address | None = _setting(
        Address.parse,
        default=None,
        allowed=STORE_ADDRESSES,
        what="Store for receipts and rejected rows. Unset: a folder beside each local file.",
    )
    bucket_owner: str | None = _setting(
        _account_id,
        default=None,
        allowed="the 12 digits of an AWS account",
        what="The account that owns the buckets of the Lambda functions; S3 refuses their requests to buckets of "
        "other accounts. Unset: any account.",
    )
    database_url: str | None = _setting(
        _database,
        default=None,
        allowed="postgresql://... (with %40 for an @ in the password) or memory:",
        what="Database of users and ledger; libpq's PG* variables supply missing parts. "
        "If neither this nor the secret is set: the embedded PostgreSQL.",
        secret=True,
    )
    database_secret_arn: str | None = _setting(
        _secret,
        default=None,
        allowed="the ARN of a secret, arn:aws:secretsmanager:REGION:ACCOUNT:secret:NAME",
        what="AWS Secrets Manager secret with the parts that the database address does not contain, usually user "
        "and password. Fetched at the first connection, and again after a rotation of the password.",
    )
    database_auth: DatabaseAuth = _setting(
        DatabaseAuth,
        default="password",
        allowed="password or iam",
        what="How to authenticate: `password`, or `iam` for a short-lived token, signed for the user and host of "
        "ROLLCALL_DATABASE_URL.",
    )
    database_ca: str | None = _setting(
        os.path.abspath,
        default=None,
        allowed="the path of an existing PEM file",
        what="CA bundle that the database's certificate is verified against. With this, with a secret or IAM, and "
        "always on Lambda, `sslmode` is `verify-full` unless the address contains another.",
    )
    data: str | None = _setting(
        os.path.abspath,
        default=None,
        allowed="a folder's path",
        what="Folder for the files of the embedded PostgreSQL. Unset: in the user's data folder.",
    )
    encodings: tuple[str, ...] = _setting(
        _encodings,
        default="utf-8",
        allowed="names of text encodings such as utf-8,cp932",
        what="Encodings to try, in order, on uploads without a byte order mark.",
    )
    max_rejected: Tolerance = _setting(
        Tolerance.parse,
        default="all",
        allowed="all, a count such as 10, or a percentage such as 2.5%",
        what="How many rejected rows an upload may have before it is refused as a whole.",
    )
    record: RecordType = _setting(
        _record,
        default="rollcall.domain.user:User",
        allowed="module:Class",
        what="Class of the record: the columns of a file and of the table, and their rules. "
        "Its module is also looked for in the current folder.",
    )
    unique_by: frozenset[str] = _setting(
        _columns,
        default="",
        allowed="columns of the record that are required, with commas between them",
        what="Columns that identify a user; after a change, run rollcall migrate. Unset: every row is a new user.",
    )
    on_duplicate: OnDuplicate = _setting(
        OnDuplicate,
        default="skip",
        allowed="skip, update or reject",
        what="What to do with a row whose user already exists, in the table or earlier in the file.",
    )
    on_repeat: OnRepeat = _setting(
        OnRepeat,
        default="skip",
        allowed="skip or import",
        what="What to do with an upload whose content is already loaded.",
    )
    on_new_version: OnNewVersion = _setting(
        OnNewVersion,
        default="refuse",
        allowed="refuse or import",
        what="What to do with a new version of a key when another version is already loaded.",
    )
    max_upload_bytes: int = _setting(
        _positive,
        default=str(MAX_UPLOAD_BYTES),
        allowed="a number of bytes",
        what="Largest size of an upload as it is stored.",
    )
    max_csv_bytes: int = _setting(
        _positive,
        default=str(MAX_CSV_BYTES),
        allowed="a number of bytes",
        what="Largest size of an upload after decompression.",
    )
    max_rejected_bytes: int = _setting(
        _positive,
        default=str(MAX_REJECTED_BYTES),
        allowed="a number of bytes",
        what="Largest disk space for the rejected rows of an upload.",
    )
    queue: str | None = _setting(
        _arn,
        default=None,
        allowed="arn:aws:sqs:region:account:name",
        what="Queue to which the sweep Lambda announces uploads whose notification was lost.",
    )
    notify_topic: str | None = _setting(
        _topic,
        default=None,
        allowed="arn:aws:sns:region:account:name",
        what="Topic to which the Lambda functions publish the outcome of each upload; they also put it on the "
        "default event bus of EventBridge. Unset: no outcome is published.",
    )
    tries: int = _setting(
        _positive,
        default="5",
        allowed="a number of tries",
        what="How often the queue delivers a message in all. "
        "An upload that takes too long is refused in its last try.",
    )
    sweep_days: timedelta = _setting(
        _days,
        default="7",
        allowed=f"a number of days from 1 to {_DAYS_AT_MOST}",
        what="Largest age of the uploads that the sweep Lambda checks.",
    )

    def __attrs_post_init__(self) -> None:
        """Check the settings that depend on others.

        Raises:
            SettingError: A column of `unique_by` cannot identify users.
        """
        if not self.unique_by <= set(self.record.identifying):
            allowed = f"some of {', '.join(self.record.identifying)}, with commas between them"
            raise SettingError(f"{PREFIX}UNIQUE_BY", ",".join(sorted(self.unique_by)), allowed)

    @property
    def names_database(self) -> bool:
        """Whether the settings name a database; otherwise the embedded one is used."""
        return self.database_url is not None or self.database_secret_arn is not None

    @property
    def uploads_prefix(self) -> str:
        """The prefix of the store of uploads in its bucket; "" if the settings name no such store."""
        return self.uploads.prefix if self.uploads else ""

    @property
    def policy(self) -> Policy:
        """The settings that decide about imports."""
        return Policy(
            max_rejected=self.max_rejected,
            unique_by=tuple(column for column in self.record.columns if column in self.unique_by),
            on_duplicate=self.on_duplicate,
            on_repeat=self.on_repeat,
            on_new_version=self.on_new_version,
        )


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Args:
        environment: Names and values. Names without the prefix are ignored; an empty value counts as not set.

    Raises:
        SettingError: A setting has a value that is not allowed, or a name with the prefix is no setting.
    """
    ours = {name: value for name, value in environment.items() if name.startswith(PREFIX) and value}
    known = {PREFIX + field.name.upper(): field.name for field in attrs.fields(Settings)}
    for name in ours:
        if name not in known:
            # The value may be a secret under a misspelt name.
            raise SettingError(name, "(hidden)", f"one of the existing settings: {', '.join(sorted(known))}")
    texts: dict[str, Any] = {known[name]: text for name, text in ours.items()}
    return Settings(**texts)
