"""A terminal with a program in it: what is on its screen, and keys for it."""

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Sequence
from types import TracebackType

import pyte

WAIT_S = 30.0  # of a machine that is busy; a screen that shows what is expected ends the wait


class Terminal:
    """Runs `command` in a pseudo-terminal of its own, as a shell in a window would."""

    def __init__(self, command: Sequence[str], columns: int = 80, rows: int = 24) -> None:
        self.screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        self.output = b""
        process, self._master = pty.fork()
        if process == 0:
            try:
                os.environ["TERM"] = "xterm-256color"
                for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR"):
                    os.environ.pop(name, None)
                time.sleep(0.05)  # until the terminal has its size
                os.execvp(command[0], command)
            finally:
                os._exit(127)
        self.process = process
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, size)
        self._exit_code: int | None = None

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without the empty lines at its end."""
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip().split("\n")

    @property
    def text(self) -> str:
        """The screen as one string."""
        return "\n".join(self.lines)

    @property
    def modes(self) -> list:
        """Whether keys are echoed, wait for Enter, and so on."""
        return termios.tcgetattr(self._master)[:4]

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def wait_for(self, condition: Callable[[str], bool] | str) -> None:
        """Wait until the screen shows something; fail with what it shows instead."""
        met = condition if callable(condition) else lambda text: condition in text
        deadline = time.monotonic() + WAIT_S
        while not met(self.text):
            assert self._read(deadline), f"not shown: {condition}\n{self.text}"

    def wait_for_end(self) -> int:
        """Wait until the program ends; return its exit code."""
        deadline = time.monotonic() + WAIT_S
        while self._read(deadline):
            pass
        return self._wait(deadline)

    def hang_up(self) -> int:
        """Close the terminal, as somebody closes a window; return the exit code."""
        os.close(self._master)
        self._master = -1
        return self._wait(time.monotonic() + WAIT_S)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._exit_code is None:
            os.kill(self.process, signal.SIGKILL)
            os.waitpid(self.process, 0)
        if self._master >= 0:
            os.close(self._master)

    def _read(self, deadline: float) -> bool:
        """Take what the program writes; False when it ends, or the time is over."""
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not select.select([self._master], [], [], left_s)[0]:
            return False
        try:
            data = os.read(self._master, 65536)
        except OSError:  # Linux says so of a terminal that nobody has open any more
            return False
        self.output += data
        self._stream.feed(data)
        return bool(data)

    def _wait(self, deadline: float) -> int:
        while time.monotonic() < deadline:
            process, status = os.waitpid(self.process, os.WNOHANG)
            if process:
                self._exit_code = os.waitstatus_to_exitcode(status)
                return self._exit_code
            time.sleep(0.01)
        raise AssertionError(f"the program does not end; it shows:\n{self.text}")
