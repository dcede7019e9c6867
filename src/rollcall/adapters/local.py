"""Files of this machine as uploads, and folders as stores of reports."""

import codecs
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import attrs

from rollcall.application.decoding import CHUNK_BYTES
from rollcall.application.errors import ObjectChangedError, ObjectNotFoundError, StoreUnavailableError
from rollcall.application.forms import FORM_PATH, Forms, form_used, pieces
from rollcall.application.ports import ObjectReader
from rollcall.application.reports import is_folder_beside
from rollcall.application.values import ListedObject, SignedForm
from rollcall.domain.upload import LOCAL_BUCKET, ObjectReference, Upload, owner_in, path_text

_OPEN_FILE = re.compile(r"/dev/(stdin|stdout|stderr|fd/\d+)|/proc/[^/]+/(task/[^/]+/)?fd/\d+")
_NO_FILE = "it is not a regular file; save the list in one and name that"

_MAX_NAME_BYTES = 255
_MAX_PATH_BYTES = os.pathconf("/", "PC_PATH_MAX") - 1  # the system counts the NUL at the end

_GZIP_MAGIC = b"\x1f\x8b"
_UTF16_LINE_ENDS = {codecs.BOM_UTF16_LE: (b"\n\0", b"\r\0"), codecs.BOM_UTF16_BE: (b"\0\n", b"\0\r")}
_LINE_ENDS = (b"\n", b"\r", *_UTF16_LINE_ENDS[codecs.BOM_UTF16_LE])  # UTF-16 may have no byte order mark


@attrs.frozen
class _LocalFile:
    """An open file. Its bytes stay readable even if another file replaces it under its name."""

    upload: Upload
    file: BinaryIO
    seen: os.stat_result

    def read(self) -> Iterator[bytes]:
        received = 0
        self.file.seek(0)
        while True:
            with _translated_errors(self.upload.key):
                data = self.file.read(CHUNK_BYTES)
            if not data:
                break
            received += len(data)
            if received > self.seen.st_size:
                raise ObjectChangedError(self.upload.key)  # a growing file would never end
            yield data
        self.verify()

    def reread(self) -> BinaryIO:
        self.file.seek(0)
        return self.file

    def verify(self) -> None:
        now = os.fstat(self.file.fileno())
        if (now.st_size, now.st_mtime_ns) != (self.seen.st_size, self.seen.st_mtime_ns):
            raise ObjectChangedError(self.upload.key)


class LocalObjectStore:
    """A folder as a bucket without versions.

    A key is the bytes of the path decoded as UTF-8, with surrogates for bytes that are not UTF-8. The encoding
    that this machine uses for file names does not matter.

    Args:
        root: The folder. Nothing outside it is read or written, with any key.
        skip: Called for each entry that a listing leaves out because it cannot be read. Without it, the listing
            fails.
        now: Returns the current time, for the end of signed forms.
    """

    def __init__(
        self,
        root: Path,
        *,
        skip: Callable[[StoreUnavailableError], object] | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._skip = skip
        self._now = now
        # A form ends with the process that signed it.
        self._forms = Forms(FORM_PATH, secrets.token_bytes(32))
        self._root = Path(os.path.abspath(root))  # noqa: PTH100 - resolve() would follow links

    @contextmanager
    def open(self, reference: ObjectReference) -> Iterator[_LocalFile]:
        """Open a file by its key, the path below the root."""
        if not _is_legal(reference.key):
            raise ObjectNotFoundError(ascii(reference.key))
        path = self._root / _name(reference.key)
        address = printable(path)
        with _translated_errors(address):
            try:
                self._stay_inside(path)
                # Without O_NONBLOCK, opening a named pipe would wait for a writer without end.
                descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ObjectNotFoundError(address) from error
        seen = os.fstat(descriptor)
        if not stat.S_ISREG(seen.st_mode):
            os.close(descriptor)  # os.fdopen fails for a folder, so it would not close it
            raise StoreUnavailableError(address, "it is a folder" if stat.S_ISDIR(seen.st_mode) else _NO_FILE)
        with os.fdopen(descriptor, "rb", buffering=0) as file:
            upload = attrs.evolve(_upload(path, reference.key, seen), sequencer=reference.sequencer)
            yield _LocalFile(upload, file, seen)

    def fits(self, key: str) -> bool:
        """Return whether a key, and its temporary file, can be a path here."""
        if not _is_legal(key):
            return False
        path = self._root / _name(key)
        return max(len(os.fsencode(file)) for file in (path, _unfinished(path))) <= _MAX_PATH_BYTES

    def require_writable(self, key: str) -> None:
        """Check the permissions of the folder, or of the nearest existing folder above it."""
        path = self._path(key)
        with _translated_errors(printable(path)):
            self._stay_inside(path.parent)
            folder = next(folder for folder in path.parents if os.path.lexists(folder))
            if not folder.is_dir():
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
            effective = os.access in os.supports_effective_ids
            if not os.access(folder, os.W_OK | os.X_OK, effective_ids=effective):
                raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    def put(self, key: str, content: BinaryIO) -> str:
        """Write a temporary file beside the file and rename it, so that the file exists whole or not at all."""
        path = self._path(key)
        self._write(path, lambda file: shutil.copyfileobj(content, file, CHUNK_BYTES), Path.replace)
        return printable(path)

    def place(self, key: str) -> ObjectReference:
        return ObjectReference(bucket=LOCAL_BUCKET, key=printable(self._root / _name(key)))

    def create(self, key: str, content: BinaryIO) -> None:
        """Write a temporary file and link it to its name, which fails if there is a file of that name."""
        self._write(
            self._path(key), lambda file: shutil.copyfileobj(content, file, CHUNK_BYTES), _link_unless_existing
        )

    def copy(self, source: ObjectReader, version: ListedObject, key: str) -> None:
        """Copy a file that has the size and the time of the listing, before and after it was read."""

        def fill(file: BinaryIO) -> None:
            with source.open(version.reference) as stored:
                if stored.upload != version.upload:
                    raise ObjectChangedError(version.upload.key)
                file.writelines(stored.read())
                stored.verify()

        self._write(self._path(key), fill, _link_unless_existing)

    def sign(self, key: str, *, max_bytes: int, expires: datetime) -> SignedForm:
        """Sign a form that `receive` takes."""
        return self._forms.sign(key, max_bytes, expires)

    def receive(self, fields: Mapping[str, str], content: BinaryIO) -> str:
        """Write the file like a new object. A form of another process is refused."""
        key, max_bytes = self._forms.read(fields, self._now())
        path = self._path(key)
        if os.path.lexists(path):
            raise form_used()

        def fill(file: BinaryIO) -> None:
            file.writelines(pieces(content, max_bytes))

        def link(unfinished: Path, path: Path) -> None:
            try:
                os.link(unfinished, path)
            except FileExistsError:
                raise form_used() from None

        self._write(path, fill, link)
        return key

    def link(self, key: str, *, seconds: int) -> str:  # noqa: ARG002 - a file's address does not expire
        """Return the file: address."""
        return self._path(key).as_uri()

    def read(self, key: str, start: int, length: int) -> bytes:
        with self.open(ObjectReference(key=key)) as stored, _translated_errors(printable(self._root / _name(key))):
            stored.file.seek(min(start, stored.upload.size))  # no system seeks to every position
            data = b""
            while more := stored.file.read(length - len(data)):
                data += more
            return data

    def _write(self, path: Path, fill: Callable[[BinaryIO], object], name: Callable[[Path, Path], object]) -> None:
        """Write a file under a temporary name in its folder, and give it its own name when it is on the disk.

        Args:
            path: The path of the file.
            fill: Writes the content.
            name: Gives the file its name; its arguments are the temporary path and the path.
        """
        with _translated_errors(printable(path)):
            self._stay_inside(path.parent)
            path.parent.mkdir(parents=True, exist_ok=True)
            unfinished = _unfinished(path)
            try:
                with unfinished.open("xb") as file:
                    fill(file)
                    file.flush()
                    os.fsync(file.fileno())
                name(unfinished, path)
            finally:
                unfinished.unlink(missing_ok=True)
            _sync_folder(path.parent)

    def list(self, prefix: str = "", *, after: ObjectReference | None = None) -> Iterator[ListedObject]:
        """Yield the files below the root, except hidden files, reports and links.

        Only the names in the current folder and in the folders above it are in memory.
        """
        with _translated_errors(printable(self._root)):
            if not self._root.is_dir():
                raise StoreUnavailableError(printable(self._root), "there is no such folder")
            waiting = _entries(self._root)  # in reverse order: the next entry is the last
        while waiting:
            entry = waiting.pop()
            path = Path(entry)
            key = key_of(path.relative_to(self._root))
            with self._skipping(path):
                if entry.is_dir(follow_symlinks=False):
                    if _may_hold(f"{key}/", prefix, after):
                        waiting += _entries(path)
                elif key.startswith(prefix) and (not after or _place(key) > _place(after.key)):
                    upload = _upload(path, key, entry.stat(follow_symlinks=False))
                    yield ListedObject(ObjectReference(key=key), upload)

    def last_line_has_end(self, reference: ObjectReference) -> bool:
        """Return whether the last line of a file has an end, from its first and last bytes.

        True also for a gzip file, because gzip itself shows whether it is complete, and for a file that cannot be
        read, because the import reports why.
        """
        try:
            # Without O_NONBLOCK, opening a named pipe would wait for a writer without end.
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
        """Leave out an entry that was removed after its folder was read, or that cannot be read."""
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
            StoreUnavailableError: The key cannot be a path here.
        """
        if not self.fits(key):
            raise StoreUnavailableError(
                ascii(key), "it cannot be a path here: too long, or with parts that are no names"
            )
        return self._root / _name(key)

    def _stay_inside(self, path: Path) -> None:
        """Check that no link in a path leads out of the root.

        Raises:
            PermissionError: A link leads out of the root.
        """
        if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(self._root)):
            raise PermissionError(errno.EACCES, "a link leads out of the folder")


def path_of(path: Path) -> Path:
    """Return the absolute path of a file; for an open file such as /dev/stdin, the path of that file.

    Raises:
        StoreUnavailableError: The open file has no path: it is a pipe or a terminal, or was removed.
    """
    absolute = Path(os.path.abspath(path))  # noqa: PTH100 - Path.absolute() keeps "..", and resolve() follows links
    if not _OPEN_FILE.fullmatch(str(absolute)):
        return absolute
    own = Path(os.path.realpath(absolute))
    with _translated_errors(printable(absolute)):
        if _OPEN_FILE.fullmatch(str(own)) or not own.is_file() or not own.samefile(absolute):
            raise StoreUnavailableError(printable(absolute), _NO_FILE)
    return own


def printable(path: Path) -> str:
    """Return any path as text that can be shown and stored."""
    return path_text(os.fsencode(path))


def key_of(path: Path) -> str:
    """Return the key of a path below a root; see `LocalObjectStore`."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def _name(key: str) -> str:
    """Return the path below a root from its key."""
    return os.fsdecode(_bytes_of(key))


def _bytes_of(key: str) -> bytes:
    return key.encode("utf-8", "surrogateescape")


def _upload(path: Path, key: str, seen: os.stat_result) -> Upload:
    return Upload(
        bucket=LOCAL_BUCKET,
        key=printable(path),
        version=None,
        size=seen.st_size,
        last_modified=datetime.fromtimestamp(seen.st_mtime, UTC),
        owned_by=owner_in(LOCAL_BUCKET, key),
    )


def _entries(folder: Path) -> "list[os.DirEntry[str]]":
    """Return the entries of a folder that a listing contains, in reverse order of their keys."""

    def place(entry: "os.DirEntry[str]") -> bytes:
        return _place(entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name)

    with os.scandir(folder) as found:
        return sorted(filter(_is_listed, found), key=place, reverse=True)


def _is_listed(entry: "os.DirEntry[str]") -> bool:
    reports = entry.is_dir(follow_symlinks=False) and is_folder_beside(entry.name)
    return not (reports or entry.name.startswith(".") or entry.is_symlink())


def _may_hold(folder: str, prefix: str, after: ObjectReference | None) -> bool:
    """Return whether a listing may contain entries below a folder, whose key ends with a slash."""
    if not (folder.startswith(prefix) or prefix.startswith(folder)):
        return False
    return not after or after.key.startswith(folder) or _place(folder) > _place(after.key)


def _place(key: str) -> bytes:
    """Return the value by which a listing sorts a key: its bytes in UTF-8."""
    return key.encode("utf-8", "surrogatepass")


def _is_legal(key: str) -> bool:
    """Return whether a key can be a path below a root: each part is a plain name of legal length."""
    try:
        return "\0" not in key and all(
            part not in {"", ".", ".."} and len(_bytes_of(part)) <= _MAX_NAME_BYTES for part in key.split("/")
        )
    except UnicodeEncodeError:  # a lone surrogate
        return False


def _unfinished(path: Path) -> Path:
    """Return the path of the temporary file that is renamed to a file when it is complete."""
    return path.with_name(f".{secrets.token_hex(8)}.unfinished")


def _link_unless_existing(unfinished: Path, path: Path) -> None:
    with suppress(FileExistsError):
        os.link(unfinished, path)


def _sync_folder(folder: Path) -> None:
    """Flush a folder to the disk, so that a rename in it survives a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reason_of(error: OSError) -> str:
    """Return the operating system's description of an error, as the end of a sentence."""
    return (error.strerror or type(error).__name__).lower()


@contextmanager
def _translated_errors(address: str) -> Iterator[None]:
    """Translate the operating system's errors into the port's."""
    try:
        yield
    except OSError as error:
        raise StoreUnavailableError(address, reason_of(error)) from error
