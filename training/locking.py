"""Files of the work folder that several runs may add to: one at a time."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold the file `lock`, made if need be; wait, and say so, while another process holds it.

    The lock ends with its process, however that ends. It is a POSIX record lock because flock()
    would be inherited by forked helpers, and outlive a killed run in them.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):  # POSIX leaves open which of them
            message = f"waiting for another run, which is adding to {lock.parent}"
            Console(stderr=True).print(message, markup=False, soft_wrap=True)
            fcntl.lockf(file, fcntl.LOCK_EX)
        yield
