"""CPU hogs: processes that compute without end, to measure beside them."""

import os
import subprocess
import sys
from types import TracebackType
from typing import Self

from asr.errors import AsrError

# It asks a thousand times a second whether its parent is still there: so it ends with it, however
# that ended, on any POSIX system. Ctrl-C in a terminal reaches it too, but is its parent's affair.
_SPIN = """
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
parent = int(sys.argv[1])
while os.getppid() == parent:
    for _ in range(50_000):
        pass
"""


class Hogs:
    """Keeps `count` CPUs busy inside a `with` block, at the niceness of this process.

    The hogs stay in the session of this process: Linux gives each session its share of the CPU, so
    hogs in one of their own would share one share.
    """

    def __init__(self, count: int) -> None:
        """Raises AsrError if `count` is negative."""
        if count < 0:
            raise AsrError(f"{count} CPU hogs; expected 0 or more")
        self._count = count
        self._processes: list[subprocess.Popen[bytes]] = []

    @property
    def pids(self) -> tuple[int, ...]:
        """Of the hogs that run."""
        return tuple(hog.pid for hog in self._processes if hog.poll() is None)

    def __enter__(self) -> Self:
        command = [sys.executable, "-I", "-S", "-c", _SPIN, str(os.getpid())]
        nothing = subprocess.DEVNULL
        try:
            for _ in range(self._count):
                hog = subprocess.Popen(command, stdin=nothing, stdout=nothing, stderr=nothing)
                self._processes.append(hog)
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._kill()

    def _kill(self) -> None:
        for hog in self._processes:
            hog.kill()
        for hog in self._processes:
            hog.wait()
        self._processes.clear()
