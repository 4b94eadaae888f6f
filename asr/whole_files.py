"""Files that appear whole or not at all, whenever the program that writes them ends."""

import errno
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file, which appears at `path` when it is complete and on the disk.

    It is made beside `path`, under a name that no other process or thread has: any number may
    write the same file, and the last one stays. If `write` fails, nothing is left behind.
    """
    partial = path.with_name(f"{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with errors_naming(path, partial):
            write(partial)
            put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def errors_naming(path: Path, partial: Path | None = None) -> Iterator[None]:
    """Let an OSError of a full disk, which names no file, or of `partial`, which nobody knows, name
    the file that is being made."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_FULL or (partial and error.filename == str(partial)):
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def put_in_place(partial: Path, path: Path) -> None:
    """Rename a complete file; its content is on the disk before, so no crash leaves half of it."""
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(partial, path)
