"""The keys that are pressed in a terminal, without Enter and without an echo."""

import os
import select
import signal
import termios
import tty
from types import FrameType, TracebackType
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

    Ctrl-C is a signal as ever. So is Ctrl-Z, but the process stops when `suspend` is called only:
    what it shows must be gone before.
    """

    wants_suspension = False
    """Whether Ctrl-Z was pressed."""

    def __init__(self, source: TextIO) -> None:
        """`source` is a terminal."""
        self._source = source
        self._descriptor = source.fileno()

    def __enter__(self) -> "Keys":
        self._before = termios.tcgetattr(self._descriptor)
        tty.setcbreak(self._descriptor)
        self._on_ctrl_z = signal.signal(signal.SIGTSTP, self._note_ctrl_z)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        signal.signal(signal.SIGTSTP, self._on_ctrl_z)
        self._restore()

    def suspend(self) -> None:
        """Stop the process, with the terminal as it was before, until a shell lets it go on."""
        self._restore()
        self.wants_suspension = False
        os.kill(os.getpid(), signal.SIGSTOP)

    def pressed(self) -> str:
        """Return the keys since the last call, none in the background; never waits."""
        try:
            if not can_read_keys(self._source):  # a shell's `bg`
                return ""
            if termios.tcgetattr(self._descriptor)[3] & termios.ICANON:  # its `fg`
                tty.setcbreak(self._descriptor)
            if not select.select([self._descriptor], [], [], 0)[0]:
                return ""
            return os.read(self._descriptor, 64).decode("ascii", errors="ignore")
        except (OSError, termios.error):  # the terminal was closed
            return ""

    def _restore(self) -> None:
        if not can_read_keys(self._source):  # closed, or the shell's by now
            return
        try:
            termios.tcsetattr(self._descriptor, termios.TCSAFLUSH, self._before)
        except termios.error:  # closed
            return

    def _note_ctrl_z(self, number: int, frame: FrameType | None) -> None:
        self.wants_suspension = True
