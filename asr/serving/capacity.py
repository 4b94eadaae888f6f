"""Whether one more stream can be taken without breaking the budgets of the others."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from asr.budget import Budget, OperatingPoint
from asr.errors import AsrError
from asr.governor import DOWN_AT

FULL_AT = 0.7
"""Share of the CPUs that all streams together may need. Chunks come when they come, so a fuller
machine lets them wait for each other, and the rest of the server needs its time, too."""

STREAM_MB = 3.0
"""What a stream holds while others compute: 2.1 MB in two passes, for the encoder's state behind
the last long chunk and that behind the last preview, and what waits for it."""

_WINDOW_S = 10.0
_TELLING_S = 0.1  # of computation: less of it says nothing about the machine


class Refused(AsrError):
    """A stream that can't be taken now."""

    def __init__(self, reason: str, message: str) -> None:
        """`reason` is a word for programs: `full`, `load` or `memory`."""
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory of the process that serves, in MB."""

    idle_mb: float  # with the model, without a stream
    growth_mb: float  # by one stream, most of it while that computes

    def with_streams(self, streams: int, cpus: int) -> float:
        """Return what is needed for so many, of which no more than `cpus` compute at a time."""
        computing = min(streams, cpus)
        return self.idle_mb + computing * self.growth_mb + (streams - computing) * STREAM_MB


class Capacity:
    """Keeps the books of what the open streams need.

    A stream at real time needs as much of a CPU as the calibrated RTF of its operating point says,
    times what the machine is slower than calibrated: what the streams cost in the last 10 s over
    what they should have cost. So a machine that is busy with something else takes fewer.

    Memory is reckoned and not looked at: a stream grows into its own when it is open, and if many
    come at once, there would seem to be room for all of them.
    """

    def __init__(
        self,
        rtf: Mapping[OperatingPoint, float],
        cpus: int,
        max_streams: int,
        budget: Budget | None = None,
        footprint: Footprint | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`rtf` is that of `Recognizer.calibrated_rtf` with the `budget` that every stream has;
        `footprint` is needed where that has a limit of memory."""
        self._rtf = rtf
        self._cpus = cpus
        self._max_streams = max_streams
        self._rtf_limit = budget.rtf if budget else None
        self._memory_limit = budget.memory_mb if budget else None
        self._footprint = footprint or Footprint(0.0, 0.0)
        self._clock = clock
        self._points: list[OperatingPoint] = []  # of the open streams, as they began
        self._recent: deque[tuple[float, float, float]] = deque()  # time, expected, found
        self._expected_s = self._found_s = 0.0  # their sums

    @property
    def streams(self) -> int:
        """How many are open."""
        return len(self._points)

    @property
    def load_cpus(self) -> float:
        """CPUs that the open streams need, at real time."""
        return self._slowness() * sum(self._rtf[point] for point in self._points)

    def admit(self, point: OperatingPoint) -> None:
        """Count a stream that begins at `point`; `release` gives its place back.

        Raises Refused.
        """
        if len(self._points) >= self._max_streams:
            raise Refused("full", f"all {self._max_streams} streams are taken; try again later")
        self._check_memory()
        rtf = self._slowness() * self._rtf[point]
        limit = FULL_AT * self._cpus
        if self._points and self.load_cpus + rtf > limit:
            raise Refused(
                "load",
                f"{len(self._points)} streams need {self.load_cpus:.2f} of {self._cpus} CPUs, and "
                f"one more, which needs {rtf:.3f}, would pass the {limit:.2f} up to which their "
                "budgets hold; try again later",
            )
        if self._points and self._rtf_limit is not None and rtf > DOWN_AT * self._rtf_limit:
            raise Refused(
                "load",
                f"a stream has an RTF of {rtf:.3f} here now, too near to the budget of "
                f"{self._rtf_limit:g} of those that are open; try again later",
            )
        self._points.append(point)

    def _check_memory(self) -> None:
        needed_mb = self._footprint.with_streams(len(self._points) + 1, self._cpus)
        # The first one's is for the recognizer to refuse: it can give back some.
        if self._points and self._memory_limit is not None and needed_mb > self._memory_limit:
            raise Refused(
                "memory",
                f"{len(self._points) + 1} streams may need {needed_mb:.0f} MB of memory, and the "
                f"budget is {self._memory_limit:g} MB; try again later",
            )

    def release(self, point: OperatingPoint) -> None:
        """Take note that a stream which began at `point` has ended."""
        self._points.remove(point)

    def observe(self, point: OperatingPoint, audio_s: float, compute_s: float) -> None:
        """Take note of what a step of a stream cost."""
        step = self._clock(), self._rtf[point] * audio_s, compute_s
        self._recent.append(step)
        self._count(*step)
        self._forget()

    def _slowness(self) -> float:
        """How many times as much as calibrated the streams cost, 1 where it is less: in a pause a
        stream costs little, as it does before its first long chunk, and that ends."""
        self._forget()
        return max(1.0, self._found_s / self._expected_s) if self._expected_s > _TELLING_S else 1.0

    def _forget(self) -> None:
        start_s = self._clock() - _WINDOW_S
        while self._recent and self._recent[0][0] < start_s:
            time_s, expected_s, found_s = self._recent.popleft()
            self._count(time_s, -expected_s, -found_s)

    def _count(self, _: float, expected_s: float, found_s: float) -> None:
        self._expected_s += expected_s
        self._found_s += found_s
