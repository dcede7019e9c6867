"""Files of this machine as uploads, and folders as stores of reports."""

import codecs
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import attrs

from rollcall.application.decoding import CHUNK_BYTES
from rollcall.application.ports import Listed, ObjectChangedError, ObjectNotFoundError, StoreUnavailableError
from rollcall.application.reports import digest, report_keys
from rollcall.domain.receipt import Source
from rollcall.domain.upload import LOCAL_BUCKET, ObjectReference, Upload

REPORTS_SUFFIX = ".rollcall"

_OPEN_FILE = re.compile(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/[^/]+/(task/[^/]+/)?fd/\d+")
_NO_FILE = "it is not a regular file; save the list in one and name that"

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = os.pathconf("/", "PC_PATH_MAX") - 1  # the system counts the NUL at the end

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_LINE_ENDS = {codecs.BOM_UTF16_LE: (b"\n\0", b"\r\0"), codecs.BOM_UTF16_BE: (b"\0\n", b"\0\r")}
_LINE_ENDS = (b"\n", b"\r", *_UTF16_LINE_ENDS[codecs.BOM_UTF16_LE])  # UTF-16 may have no byte order mark

# In text, a byte that is not UTF-8 is written `\xe9`, and the backslash of a name that looks so `\x5c`.
_escaped = re.compile(rb"\\x([89a-f][0-9a-f]|5c)")
_looks_escaped = re.compile(rb"\\(?=x(?:[89a-f][0-9a-f]|5c))")


@attrs.frozen
class _LocalFile:
    """A file held open: whatever replaces it under its name, these bytes stay within reach."""

    upload: Upload
    file: BinaryIO
    seen: os.stat_result

    def fetch(self, watch: Callable[[bytes], None]) -> BinaryIO:
        received = 0
        with _told_by(self.upload.key):
            while data := self.file.read(CHUNK_BYTES):
                received += len(data)
                if received > self.seen.st_size:
                    raise ObjectChangedError(self.upload.key)  # else it could go on growing for ever
                watch(data)
            self.verify()
            self.file.seek(0)
        return self.file

    def verify(self) -> None:
        now = os.fstat(self.file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.seen.st_size, self.seen.st_mtime_ns):
            raise ObjectChangedError(self.upload.key)


class LocalObjectStore:
    """A folder as a bucket without versions.

    A key is text, whatever encoding this machine uses for the names of files: the bytes of the path as UTF-8, with
    surrogates for bytes that are not UTF-8.

    Args:
        root: The folder; nothing outside it is read or written, whatever the key.
        skip: Is called for each entry that a listing leaves out because it cannot be read; without it, the listing
            fails.
    """

    def __init__(self, root: Path, *, skip: Callable[[StoreUnavailableError], object] | None = None) -> None:
        self._skip = skip
        self._root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[_LocalFile]:
        """Hold a file open by its key, the path below the root."""
        if not _is_legal(reference.key):
            raise ObjectNotFoundError(ascii(reference.key))
        path = self._root / _name(reference.key)
        address = printable(path)
        with _told_by(address):
            try:
                self._stay_inside(path)
                # Without O_NONBLOCK a named pipe would wait for a writer for ever.
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ObjectNotFoundError(address) from error
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            os.close(descriptor)  # Python makes no file of a folder
            raise StoreUnavailableError(address, "it is a folder" if stat.S_ISDIR(seen.st_mode) else _NO_FILE)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            yield _LocalFile(_upload(path, seen), file, seen)

    def fits(self, key: str) -> bool:
        """Return whether a key can be a path here, its temporary file included."""
        if not _is_legal(key):
            return False
        path = self._root / _name(key)
        return max(len(os.fsencode(file)) for file in (path, _unfinished(path))) <= _MAX_PATH_BYTES

    def require_writable(self, key: str) -> None:
        """Look at the folder, or at the nearest one in which it would be made."""
        path = self._path(key)
        with _told_by(printable(path)):
            self._stay_inside(path.parent)
            folder = next(folder for folder in path.parents if os.path.lexists(folder))
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            effective = os.access in os.supports_effective_ids
            if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def put(self, key: str, content: BinaryIO) -> str:
        """Write a file by way of a temporary one beside it, so that it is there whole or not at all."""
        path = self._path(key)
        address = printable(path)
        with _told_by(address):
            self._stay_inside(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = _unfinished(path)
            try:
                with unfinished.open("xb") as file:
                    shutil.copyfileobj(content, file, CHUNK_BYTES)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(path)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            _sync_folder(path.parent)
        return address

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[Listed]:
        """Yield the files below the root, but for hidden ones, reports and what a link leads to.

        Of each folder on the way no more is held in memory than its names.
        """
        with _told_by(printable(self._root)):
            if not self._root.is_dir():
                raise StoreUnavailableError(printable(self._root), "there is no such folder")
            waiting = _entries(self._root)  # the next is the last
        while waiting:
            entry = waiting.pop()
            path = Path(entry)
            key = key_of(path.relative_to(self._root))
            with self._skipping(path):
                if entry.is_dir(follow_symlinks=False):
                    if _may_hold(f"{key}/", prefix, after):
                        waiting += _entries(path)
                elif key.startswith(prefix) and (not after or _place(key) > _place(after.key)):
                    upload = _upload(path, entry.stat(follow_symlinks=False))
                    yield Listed(ObjectReference(key=key), upload)

    def last_line_has_end(self, reference: ObjectReference) -> bool:
        """Tell whether the last line of a file has an end, from its first and last bytes.

        A gzip file counts as one that has: its own end tells an import whether it is complete. So does a file that
        cannot be read: the import says why.
        """
        try:
            # Without O_NONBLOCK a named pipe would wait for a writer for ever.
            descriptor = os.open(self._root / _name(reference.key), os.O_RDONLY | os.O_NONBLOCK)
            with os.fdopen(descriptor, "rb", buffering=0) as file:
                head = file.read(2)
                file.seek(-len(head), os.SEEK_END)
                tail = file.read()
        except OSError:
            return True
        if line_ends := _UTF16_LINE_ENDS.get(head):
            return tail in line_ends
        return not tail or head == _GZIP_MAGIC or tail.endswith(_LINE_ENDS)

    @contextmanager
    def _skipping(self, path: Path) -> Iterator[None]:
        """Leave out an entry that was removed since its folder was read, or that may not be read."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            unreadable = StoreUnavailableError(printable(path), reason_of(error))
            if not self._skip:
                raise unreadable from error
            self._skip(unreadable)

    def _path(self, key: str) -> Path:
        """Return the path of a key.

        Raises:
            StoreUnavailableError: It cannot be a path.
        """
        if not self.fits(key):
            raise StoreUnavailableError(
                ascii(key), "it cannot be a path here: too long, or with parts that are no names"
            )
        return self._root / _name(key)

    def _stay_inside(self, path: Path) -> None:
        """Refuse a path that a link leads out of the root.

        Raises:
            PermissionError: It does.
        """
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root)):
            raise PermissionError(errno.EACCES, "a link leads out of the folder")


def path_of(path: Path) -> Path:
    """Return the absolute path by which a file is known; for an open file such as /dev/stdin, its own path.

    Raises:
        StoreUnavailableError: The open file has no path of its own: it is a pipe or a terminal, or was removed.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute() keeps "..", and resolve() follows links
    if not _OPEN_FILE.fullmatch(str(absolute)):
        return absolute
    own = Path(os.path.realpath(absolute))
    with _told_by(printable(absolute)):
        if _OPEN_FILE.fullmatch(str(own)) or not own.is_file() or not own.samefile(absolute):
            raise StoreUnavailableError(printable(absolute), _NO_FILE)
    return own


def beside(source: Source) -> Iterator[str]:
    """Yield the folders beside a local file in which its reports may lie, as keys below the file system's root."""
    for key in report_keys(_key_from(source.key)):
        yield f"{key.lstrip('/')}{REPORTS_SUFFIX}/{_short_version(source)}"


def below(source: Source) -> Iterator[str]:
    """Yield the folders in a store of reports in which those on a local file may lie."""
    key = _key_from(source.key)
    for folder in (*report_keys(key), digest(key)):
        yield f"{folder.lstrip('/')}/{_short_version(source)}"


def _short_version(source: Source) -> str:
    # A SHA-256 has more digits than a person wants in a path; 16 tell the versions of one file apart.
    return source.version[:16]


def is_report(folder: str) -> bool:
    """Tell whether a folder's name says that reports lie in it."""
    return folder.endswith(REPORTS_SUFFIX)


def printable(path: Path) -> str:
    """Give a path as text that can be shown and stored, whatever bytes it is made of; see `_key_from`."""
    return _looks_escaped.sub(rb"\\x5c", os.fsencode(path)).decode("utf-8", "backslashreplace")


def _key_from(text: str) -> str:
    """Give the key of a path from its printable text."""
    path = _escaped.sub(lambda found: bytes.fromhex(found[1].decode()), text.encode("utf-8", "surrogatepass"))
    return path.decode("utf-8", "surrogateescape")


def key_of(path: Path) -> str:
    """Give the key of a path below a root; see `LocalObjectStore`."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _name(key: str) -> str:
    """Give the path below a root from its key."""
    return os.fsdecode(_bytes_of(key))


def _bytes_of(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _upload(path: Path, seen: os.stat_result) -> Upload:
    return Upload(
        bucket=LOCAL_BUCKET,
        key=printable(path),
        version=None,
        size=seen.st_size,
        last_modified=datetime.fromtimestamp(seen.st_mtime, UTC),
    )


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    """Give what there is to list in a folder, in the reverse of the order of keys."""

    def place(entry: "os.DirEntry[str]") -> bytes:
        return _place(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)

    with os.scandir(folder) as found:
        return sorted(filter(_is_listed, found), key=place, reverse=True)


def _is_listed(entry: "os.DirEntry[str]") -> bool:
    reports = entry.is_dir(follow_symlinks=False) and is_report(entry.name)
    return not (reports or entry.name.startswith(".") or entry.is_symlink())


def _may_hold(folder: str, prefix: str, after: ObjectReference | None) -> bool:
    """Tell whether there may be something to list below a folder, whose key ends with a slash."""
    if not (folder.startswith(prefix) or prefix.startswith(folder)):
        return False
    return not after or after.key.startswith(folder) or _place(folder) > _place(after.key)


def _place(key: str) -> bytes:
    """Tell where a key stands in a listing."""
    return key.encode("utf-8", "surrogatepass")


def _is_legal(key: str) -> bool:
    """Tell whether a key can be a path below a root: every part of it a plain name that fits."""
    try:
        return "\0" not in key and all(
            part not in {"", ".", ".."} and len(_bytes_of(part)) <= _MAX_NAME_BYTES for part in key.split("/")
        )
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _unfinished(path: Path) -> Path:
    """Name the temporary file that becomes a file when it is whole."""
    return path.with_name(f".{secrets.token_hex(8)}.unfinished")


def _sync_folder(folder: Path) -> None:
    """Make a rename in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Say in a few words what the operating system refused."""
    return (error.strerror or type(error).__name__).lower()


@contextmanager
def _told_by(address: str) -> Iterator[None]:
    """Turn the operating system's errors into the port's."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(address, reason_of(error)) from error
