"""The keys that are pressed in a terminal, without Enter and without an echo."""

import os
import select
import termios
import tty
from types import TracebackType
from typing import TextIO


def can_read_keys(source: TextIO | None) -> bool:
    """Return whether `source` is the terminal of this process, which is in the foreground there: a
    process in the background would be stopped for reading."""
    try:
        return source is not None and os.tcgetpgrp(source.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # no terminal, or not this process's; closed
        return False


class Keys:
    """Reads keys as long as it is entered; then the terminal is as it was before.

    Ctrl-C and Ctrl-Z are signals as ever.
    """

    def __init__(self, source: TextIO) -> None:
        """`source` is a terminal."""
        self._descriptor = source.fileno()

    def __enter__(self) -> "Keys":
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        except termios.error:  # the terminal was closed
            return

    def pressed(self) -> str:
        """Return the keys since the last call; never waits."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            return ""
        try:
            return os.read(self._descriptor, 64).decode("ascii", errors="ignore")
        except OSError:  # the same
            return ""
