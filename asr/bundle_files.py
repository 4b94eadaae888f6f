"""The files of a model bundle, in a directory or in one `.zip`.

A zip is read in place and never unpacked to disk. Nothing in it is trusted: each entry must be the
plain name of a file, once; no link, no path, no other compression than none or deflate, and none
that unpacks to a hundred times its size; and no more of it is decompressed than `bundle.json` says
that the file has.
"""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from asr.errors import BundleError

if TYPE_CHECKING:
    from zipfile import ZipFile, ZipInfo

ADVICE = "copy the bundle again, or export the model again"

_MAX_ENTRIES = 1000
_ENCRYPTED = 0x1
_STORED, _DEFLATED = 0, 8

_MAX_RATIO = 100
"""Of deflate, which leaves 0.8 of int8 weights, 0.4 of the description, 0.001 of zeros: 2 MB of a
hostile bundle would keep a device busy with 2 GB."""

_SMALL_BYTES = 100_000


class BundleFiles(Protocol):
    """Where the files of a bundle are. Messages name them as `path / name`, also in a zip."""

    path: Path

    def size(self, name: str) -> int:
        """Return a file's bytes. Raises BundleError if there is no such file."""
        ...

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        """Open a file to read. Raises BundleError, also for what fails while it is read."""
        ...


@contextmanager
def bundle_files(path: Path) -> Iterator[BundleFiles]:
    """Open the directory or the zip at `path`. Raises BundleError if it is neither."""
    try:
        if path.is_dir():
            yield _Directory(path)
            return
        if not path.exists():
            raise BundleError(f"{path}: no such directory or zip; expected a model bundle")
        with _open_zip(path) as archive:
            yield _Zip(path, archive)
    except OSError as error:
        raise BundleError(f"{path}: can't be read: {error.strerror or error}") from error


def is_plain_name(name: str) -> bool:
    """Whether `name` is that of a file in the bundle itself."""
    return name not in ("", ".", "..") and not any(char in name for char in "/\\\0")


class _Directory:
    def __init__(self, path: Path) -> None:
        self.path = path

    def size(self, name: str) -> int:
        path = self.path / name
        try:
            found = path.lstat()
        except FileNotFoundError as error:
            raise BundleError(f"{path}: missing from the bundle; {ADVICE}") from error
        if stat.S_ISLNK(found.st_mode):
            raise BundleError(
                f"{path}: a symbolic link, which may lead out of the bundle; copy the file itself "
                "there (cp --dereference)"
            )
        if not stat.S_ISREG(found.st_mode):
            raise BundleError(f"{path}: missing from the bundle: this is no plain file; {ADVICE}")
        return found.st_size

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        self.size(name)
        path = self.path / name
        try:
            with path.open("rb") as file:
                yield file
        except OSError as error:
            raise BundleError(f"{path}: can't be read: {error.strerror}") from error


class _Zip:
    def __init__(self, path: Path, archive: "ZipFile") -> None:
        self.path = path
        self._archive = archive
        self._entries = _checked_entries(path, archive)

    def size(self, name: str) -> int:
        return self._entry(name).file_size

    @contextmanager
    def open(self, name: str) -> Iterator[BinaryIO]:
        entry = self._entry(name)
        with _zip_errors(self.path / name), self._archive.open(entry) as file:
            yield file  # type: ignore[misc]  # IO[bytes] is one

    def _entry(self, name: str) -> "ZipInfo":
        if name not in self._entries:
            raise BundleError(f"{self.path / name}: missing from the bundle; {ADVICE}")
        return self._entries[name]


@contextmanager
def _open_zip(path: Path) -> Iterator["ZipFile"]:
    from zipfile import BadZipFile, ZipFile  # here: most bundles are directories

    if not path.is_file():
        raise BundleError(f"{path}: neither a directory nor a zip; expected a model bundle")
    try:
        archive = ZipFile(path)
    except (BadZipFile, ValueError, NotImplementedError) as error:
        raise BundleError(
            f"{path}: neither the directory nor the whole zip of a model bundle ({error}); {ADVICE}"
        ) from error
    with archive:
        yield archive


def _checked_entries(path: Path, archive: "ZipFile") -> "dict[str, ZipInfo]":
    """Return the entries of a zip by name. Raises BundleError for any that no exporter writes."""
    listed = archive.infolist()
    if len(listed) > _MAX_ENTRIES:
        raise BundleError(f"{path}: {len(listed)} entries; expected a model bundle; {ADVICE}")
    entries: dict[str, ZipInfo] = {}
    for entry in listed:
        name = entry.filename
        if not is_plain_name(name):
            raise BundleError(
                f"{path}: {name!r} in it is not the name of a file; a bundle's zip has its files "
                "at the top, in no folder: zip them from within (cd BUNDLE && zip -0 ../NAME.zip *)"
            )
        if name in entries:
            raise BundleError(f"{path}: {name!r} is in it twice; don't use this bundle")
        if stat.S_ISLNK(entry.external_attr >> 16):
            raise BundleError(f"{path}: {name!r} in it is a symbolic link; don't use this bundle")
        if entry.flag_bits & _ENCRYPTED or entry.compress_type not in (_STORED, _DEFLATED):
            raise BundleError(
                f"{path}: {name!r} in it is encrypted, or compressed by another method than "
                "deflate; zip the files again"
            )
        if entry.file_size > max(_SMALL_BYTES, _MAX_RATIO * entry.compress_size):
            raise BundleError(
                f"{path}: {name!r} in it unpacks from {entry.compress_size} to {entry.file_size} "
                "bytes, which no model does; don't use this bundle"
            )
        entries[name] = entry
    return entries


@contextmanager
def _zip_errors(where: Path) -> Iterator[None]:
    import zlib
    from zipfile import BadZipFile

    try:
        yield
    except (BadZipFile, zlib.error, EOFError, ValueError, OSError, NotImplementedError) as error:
        raise BundleError(f"{where}: can't be read: {error}; {ADVICE}") from error
