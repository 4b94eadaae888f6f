"""Memory and time, measured one way. MB are 10^6 bytes."""

import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_STATUS = Path("/proc/self/status")


def peak_rss_mb() -> float:
    """Highest resident memory of this process so far, in MB.

    VmHWM of /proc/self/status on Linux. Elsewhere `getrusage`, which is the same figure on macOS;
    on Linux it is not used because a child inherits the peak of the process that forked it.
    """
    if _STATUS.exists():
        return _status_mb("VmHWM")
    unit = 1 if sys.platform == "darwin" else 1024  # macOS counts bytes, the BSDs KiB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def rss_mb() -> float:
    """Resident memory of this process now, in MB; Linux only (VmRSS).

    Raises OSError where there is no /proc.
    """
    return _status_mb("VmRSS")


def _status_mb(key: str) -> float:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024 / 1e6  # the kernel's "kB" are KiB
    raise OSError(f"{_STATUS} has no {key}")


class RtfMeter:
    """Real-time factor: wall time spent computing over the length of the audio.

    Every stream has one; nothing else computes an RTF.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` gives seconds from any origin."""
        self._clock = clock
        self.compute_s = 0.0
        self.cpu_s = 0.0
        self.audio_s = 0.0

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Count the wall time of the block, and the CPU time of this thread in it (what the engine
        does on threads of its own is not in that), also when it raises. Blocks must not nest."""
        started, cpu_started = self._clock(), time.thread_time()
        try:
            yield
        finally:
            self.compute_s += self._clock() - started
            self.cpu_s += time.thread_time() - cpu_started

    def add_audio(self, seconds: float) -> None:
        """Count audio that was given to the computation."""
        self.audio_s += seconds

    def add(self, other: "RtfMeter") -> None:
        """Count what another meter has counted, such as that of one stream of many."""
        self.compute_s += other.compute_s
        self.cpu_s += other.cpu_s
        self.audio_s += other.audio_s

    @property
    def rtf(self) -> float:
        """Compute time over audio time; 0 before any audio."""
        return self.compute_s / self.audio_s if self.audio_s else 0.0
