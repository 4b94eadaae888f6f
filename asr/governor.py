"""The governor: which operating point a stream should run at, from what its chunks cost.

Pure logic. Its clock is the audio that was observed, so it needs no other and neither does a test.

Down, when the budget is threatened: the RTF over the last 10 s passes 0.9 of its limit; or, with
less than 10 s at this point to judge by, the limit itself; or a queue of more than 1 s grew for
2 s. Then to the first point below that should hold, by the cost that was calibrated for it, scaled
by how much dearer than calibrated the present point is. Latency alone never moves a stream down,
for every point below has more of it.

Up, one point at a time, when the point above should cost no more than 0.7 of the limit and no queue
waits: 10 s after a move up; after a move down 10 s too, but twice as long, up to 160 s, for each
time that a move up had to be taken back within 160 s, and half as long for each that lasted. Such a
failed try goes back to where it came from.

What this guarantees, with n points, and tests/asr/test_governor.py tests:

- An overload, with every point beyond the limit, reaches the lowest one within 10 s of audio, and
  then max(2 s, 3 chunks) and a chunk for each point.
- A constant load that scales the calibrated costs, by any factor and with 10 % of noise on each
  chunk, moves at most n - 1 times, ever.
- Any load at all, also one that belies the calibration or is made to provoke moves, moves at most
  (n - 1)(12 + 4 T / 160 s) times in T seconds of audio.
- When an overload is over, the best point is reached again after at most 160 s + 10 s n of audio
  and a chunk of each point.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from asr.budget import Budget, OperatingPoint
from asr.results import Moved, Overrun

WINDOW_S = 10.0  # of audio: what an RTF is the mean of; one late chunk is no overload
LATENCY_CHUNKS = 50  # what the latency is the 95th percentile of
DOWN_AT = 0.9  # of a limit: to act before it is broken
UP_AT = 0.7  # of a limit: after a move up, 25 % more load doesn't lead down again
SETTLE_S = 2.0  # of audio, and
SETTLE_CHUNKS = 3  # at least so many chunks, before a point is judged
QUEUE_THREAT_S = 1.0  # a queue below that is the jitter of a busy machine
QUEUE_CALM_S = 0.5
WAIT_S = 10.0  # before a move up, so that the window holds nothing of another point
MAX_WAIT_S = 160.0  # four failed tries; beyond it, a stream would stay low for too long
TRIAL_S = MAX_WAIT_S  # a move up that is taken back within this time has failed
OVERRUN_EVERY_S = 10.0  # an overrun that goes on is told again after that


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a chunk cost."""

    time_s: float  # seconds of audio that the stream had been given behind it
    point: OperatingPoint  # with which it was computed
    audio_s: float  # its length, with silence before it that was skipped
    wall_s: float  # the computation; waiting for audio doesn't count
    queued_s: float = 0.0  # audio that waited behind it

    @property
    def latency_s(self) -> float:
        """From the arrival of its first sample to its words."""
        return self.point.chunk_ms / 1000 + self.queued_s + self.wall_s


class Governor:
    """Holds one stream to its budget."""

    def __init__(
        self,
        budget: Budget,
        costs: Mapping[OperatingPoint, float],
        start: OperatingPoint | None = None,
    ) -> None:
        """Take the ladder, best first, with the calibrated RTF of each point; only their ratios
        count. `start` is one of them; None: the best."""
        self.budget = budget
        self.ladder = tuple(costs)
        self._costs = dict(costs)
        self._limit = budget.rtf or 1.0  # what takes longer than its audio never catches up
        self._index = self.ladder.index(start) if start else 0
        self._window: deque[Measurement] = deque()  # since the last move, at most WINDOW_S
        self._window_audio_s = self._window_wall_s = 0.0
        self._latencies: deque[float] = deque(maxlen=LATENCY_CHUNKS)
        self._now_s = 0.0  # audio observed
        self._moved_s = 0.0  # when that was, at the last move
        self._chunks = 0  # since the last move
        self._tried: tuple[float, int] | None = None  # the move up that led here: when, from where
        self._wait_s = WAIT_S  # from the last move to the next one up
        self._backoff_s = WAIT_S
        self._queue_mark = (0.0, 0.0)  # time and length of the queue when it was last judged
        self._told_s: dict[str, float] = {}  # when an overrun of each budget was last told

    @property
    def point(self) -> OperatingPoint:
        """The operating point for the next chunk."""
        return self.ladder[self._index]

    @property
    def latency_ms(self) -> float:
        """The p95 of the last 50 chunks; 0 before any."""
        ranked = sorted(self._latencies)
        return 1000 * ranked[-(-95 * len(ranked) // 100) - 1] if ranked else 0.0

    def observe(self, chunk: Measurement) -> Moved | Overrun | None:
        """Take what a chunk cost; return what was decided, if anything was."""
        self._latencies.append(chunk.latency_s)
        self._now_s += chunk.audio_s
        if chunk.point != self.point:  # computed before the last move: it says nothing of this one
            return None
        self._add(chunk)
        queue_grew = self._queue_grew(chunk.queued_s)
        held_s = self._now_s - self._moved_s
        if self._chunks < SETTLE_CHUNKS or held_s < SETTLE_S:
            return None
        rtf = self._window_wall_s / self._window_audio_s
        down_at = DOWN_AT if held_s >= WINDOW_S else 1.0  # a few seconds may be bad by chance
        if self.budget.rtf is not None and rtf > down_at * self.budget.rtf:
            return self._go_down(chunk, "rtf", rtf, self.budget.rtf)
        if queue_grew:
            return self._go_down(chunk, "queue", chunk.queued_s, QUEUE_THREAT_S)
        if self._index and held_s >= self._wait_s and chunk.queued_s <= QUEUE_CALM_S:
            above = self._predicted(self._index - 1, rtf)
            if above <= UP_AT * self._limit:
                reason = f"rtf {rtf:.3g}; {above:.3g} expected there, of {self._limit:g}"
                return self._move(chunk, self._index - 1, reason)
        return self._late(chunk)

    def _add(self, chunk: Measurement) -> None:
        self._chunks += 1
        self._window.append(chunk)
        self._window_audio_s += chunk.audio_s
        self._window_wall_s += chunk.wall_s
        while self._window_audio_s > WINDOW_S and len(self._window) > 1:
            old = self._window.popleft()
            self._window_audio_s -= old.audio_s
            self._window_wall_s -= old.wall_s

    def _queue_grew(self, queued_s: float) -> bool:
        """Judge every 2 s of audio whether the queue is long and has grown."""
        judged_s, before_s = self._queue_mark
        if self._now_s - judged_s < SETTLE_S:
            return False
        self._queue_mark = self._now_s, queued_s
        return queued_s > max(QUEUE_THREAT_S, before_s)

    def _predicted(self, index: int, rtf: float) -> float:
        """The RTF to expect at a point, when it is `rtf` at the present one."""
        return rtf * self._costs[self.ladder[index]] / self._costs[self.point]

    def _go_down(
        self, chunk: Measurement, budget: Literal["rtf", "queue"], found: float, limit: float
    ) -> Moved | Overrun | None:
        below = range(self._index + 1, len(self.ladder))
        if not below:
            if found <= limit:  # threatened only
                return self._late(chunk)
            action = f"stays at the lowest point, {self.point}"
            return self._overrun(chunk, budget, found, limit, action)
        failed_from = None
        if self._tried is not None:
            tried_s, origin = self._tried
            if self._now_s - tried_s < TRIAL_S:
                failed_from, self._backoff_s = origin, min(2 * self._backoff_s, MAX_WAIT_S)
            else:
                self._backoff_s = max(self._backoff_s / 2, WAIT_S)
        if failed_from is not None:
            target = failed_from
        elif budget == "queue":
            target = below[0]
        else:
            holds = (i for i in below if self._predicted(i, found) <= DOWN_AT * limit)
            target = next(holds, below[-1])
        return self._move(chunk, target, f"{budget} {found:.3g} of {limit:g}")

    def _move(self, chunk: Measurement, index: int, reason: str) -> Moved:
        before, up = self.point, index < self._index
        self._tried = (self._now_s, self._index) if up else None
        self._wait_s = WAIT_S if up else self._backoff_s
        self._index = index
        self._moved_s = self._now_s
        self._queue_mark = self._now_s, chunk.queued_s
        self._chunks = 0
        self._window.clear()
        self._window_audio_s = self._window_wall_s = 0.0
        return Moved(chunk.time_s, before, self.point, reason)

    def _late(self, chunk: Measurement) -> Overrun | None:
        limit = self.budget.latency_ms
        if limit is None or self.latency_ms <= limit:
            return None
        action = f"stays at {self.point}: " + (
            "it is the best of this stream"
            if self._index == 0
            else "a better one would break the rtf"
        )
        return self._overrun(chunk, "latency", self.latency_ms, limit, action)

    def _overrun(
        self,
        chunk: Measurement,
        budget: Literal["rtf", "queue", "latency"],
        found: float,
        limit: float,
        action: str,
    ) -> Overrun | None:
        if self._now_s - self._told_s.get(budget, -OVERRUN_EVERY_S) < OVERRUN_EVERY_S:
            return None
        self._told_s[budget] = self._now_s
        return Overrun(chunk.time_s, budget, found, limit, chunk.queued_s, action)
