"""The governor: which operating point a stream should run at, from what its chunks cost.

Pure logic. Its clock is the audio that was observed, so it needs no other and neither does a test.

Down, when the budget is threatened: the RTF over the last 10 s passes 0.9 of its limit; or, with
less than 10 s at this point to judge by, the limit itself; or a queue of more than 1 s grew for
2 s. Then to the first point below that should hold, by the cost that was calibrated for it, scaled
by how much dearer than calibrated the present point is. Latency never moves a stream down, for
every point below has more of it.

In two passes it judges by whole long chunks, when one has settled, and takes it that all audio is
previewed at the points that have previews: before an endpoint it is.

Up, one point at a time: to the preferred one, and to the quicker and dearer ones above that while
the latency of the last 10 s is over its limit. It is tried when the point above should cost no more
than 0.7 of the limit, by the last 10 s and by the last 2 s, and no queue waits: 10 s after another
try; after a move down 10 s too, but twice as long, up to 160 s, for each try that had to be taken
back within 160 s, and half as long for each that lasted. Such a failed try goes back to where it
came from.

Back from above to the preferred point, when queue and computation should need no more than 0.7 of
what waiting for its audio leaves of the latency. That is a try, too: it waits as one behind a move
down, and has failed when the latency leads up again, or the RTF further down, within 160 s.

What this guarantees, with n points, and tests/asr/test_governor.py tests:

- An overload, with every point beyond the limit, reaches the lowest one within 10 s of audio, and
  then max(2 s, 3 chunks) and a chunk for each point; in two passes, where a chunk is a long one.
- A constant load that scales the calibrated costs, by any factor and with 10 % of noise on each
  chunk, moves at most n - 1 times, ever.
- Any load at all, also one that belies the calibration or is made to provoke moves, moves at most
  (n - 1)(12 + 4 T / 160 s) times in T seconds of audio.
- When an overload is over, the preferred point is reached again after at most 160 s + 10 s n of
  audio and a chunk of each point. So it is when a latency is over that led above it.
"""

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile
from typing import Literal

from asr.budget import Budget, OperatingPoint, dearest_chunk
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
TRIAL_S = MAX_WAIT_S  # a try that is taken back within this time has failed
OVERRUN_EVERY_S = 10.0  # an overrun that goes on is told again after that

_ROUNDING_S = 1e-6  # of sums of chunk lengths


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a chunk cost."""

    time_s: float  # seconds of audio that the stream had been given behind it
    point: OperatingPoint  # with which it was computed
    audio_s: float  # that nothing before it had heard, with silence before it that was skipped
    wall_s: float  # the computation; waiting for audio doesn't count
    queued_s: float = 0.0  # audio that waited behind it
    previewed_s: float = 0.0  # of that audio, in two passes
    settled_s: float | None = None  # audio up to it that is heard no more; None: this, in one pass

    @property
    def settles(self) -> bool:
        """Whether it is no mere preview."""
        return self.settled_s is None or self.settled_s > 0

    @property
    def latency_s(self) -> float:
        """From the arrival of its first sample to its words."""
        return self.point.wait_ms / 1000 + self.queued_s + self.wall_s


class Governor:
    """Holds one stream to its budget."""

    def __init__(
        self,
        budget: Budget,
        costs: Mapping[OperatingPoint, float],
        start: OperatingPoint | None = None,
        preferred: OperatingPoint | None = None,
        settling: OperatingPoint | None = None,
    ) -> None:
        """Take the ladder, best first, with the calibrated RTF of each point; only their ratios
        count. Without need it goes no higher than `preferred`, which is one of them; None: the
        best. `start` is another; None: the preferred. `settling` is the one of a second pass."""
        self.budget = budget
        self.ladder = tuple(costs)
        self._costs = dict(costs)
        self._settling = settling
        long_s = settling.chunk_ms / 1000 - _ROUNDING_S if settling else 0.0
        self._settle_s = max(SETTLE_S, long_s)
        self._limit = budget.rtf or 1.0  # what takes longer than its audio never catches up
        self._latency_limit_ms = budget.latency_ms or math.inf
        self._preferred = self.ladder.index(preferred) if preferred else 0
        self._index = self.ladder.index(start) if start else self._preferred
        self._window: deque[Measurement] = deque()  # since the last move, of 10 s
        self._window_audio_s = self._window_nominal_s = self._window_wall_s = 0.0
        self._latencies: deque[float] = deque(maxlen=LATENCY_CHUNKS)
        self._now_s = 0.0  # audio observed
        self._moved_s = 0.0  # when that was, at the last move
        self._chunks = 0  # since the last move
        self._tried: tuple[float, int] | None = None  # the try that led here: when, from where
        self._wait_s = WAIT_S  # from the last move to the next one up
        self._backoff_s = WAIT_S  # that wait behind a move down, or from above to the preferred
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
        return 1000 * ranked[-1 - len(ranked) // 20] if ranked else 0.0

    def observe(self, chunk: Measurement) -> Moved | Overrun | None:
        """Take what a chunk cost; return what was decided, if anything was."""
        self._latencies.append(chunk.latency_s)
        self._now_s += chunk.audio_s
        if chunk.point != self.point:  # computed before the last move: it says nothing of this one
            return None
        self._add(chunk)
        if not chunk.settles:
            return None
        queue_grew = self._queue_grew(chunk.queued_s)
        held_s = self._now_s - self._moved_s
        if self._chunks < SETTLE_CHUNKS or held_s < self._settle_s:
            return None
        rtf = self._window_wall_s / self._window_audio_s
        down_at = DOWN_AT if held_s >= WINDOW_S else 1.0  # a few seconds may be bad by chance
        decision = None
        if self.budget.rtf is not None and rtf > down_at * self.budget.rtf:
            decision = self._go_down(chunk, "rtf", rtf, self.budget.rtf)
        elif queue_grew:
            decision = self._go_down(chunk, "queue", chunk.queued_s, QUEUE_THREAT_S)
        return decision or self._improve(chunk, held_s)

    def _add(self, chunk: Measurement) -> None:
        self._chunks += 1
        self._window.append(chunk)
        self._window_audio_s += chunk.audio_s
        self._window_nominal_s += self._nominal_s(chunk)
        self._window_wall_s += chunk.wall_s
        while self._window_audio_s > WINDOW_S:
            oldest = self._first_long_chunk()
            if oldest >= len(self._window):
                break
            for _ in range(oldest):
                old = self._window.popleft()
                self._window_audio_s -= old.audio_s
                self._window_nominal_s -= self._nominal_s(old)
                self._window_wall_s -= old.wall_s

    def _first_long_chunk(self) -> int:
        """Return how many of the oldest chunks are a long one with its previews."""
        previews = takewhile(lambda chunk: not chunk.settles, self._window)
        return sum(1 for _ in previews) + 1

    def _queue_grew(self, queued_s: float) -> bool:
        """Judge every 2 s of audio whether the queue is long and has grown."""
        judged_s, before_s = self._queue_mark
        if self._now_s - judged_s < SETTLE_S:
            return False
        self._queue_mark = self._now_s, queued_s
        return queued_s > max(QUEUE_THREAT_S, before_s)

    def _nominal_s(self, chunk: Measurement) -> float:
        """The audio for which it would have cost as much as calibrated, with all of that previewed:
        in one pass its own."""
        settling = self._costs[dearest_chunk(chunk.point, self._settling)]
        share = settling / self._costs[chunk.point]
        settled_s = chunk.audio_s if chunk.settled_s is None else chunk.settled_s
        return settled_s * share + chunk.previewed_s * (1 - share)

    def _nominal_rtf(self) -> float:
        """The RTF here if all audio were previewed, over the window or the last 2 s, whole long
        chunks and at least 3: what is worse."""
        audio_s = nominal_s = wall_s = 0.0
        for number, chunk in enumerate(reversed(self._window)):
            is_enough = number >= SETTLE_CHUNKS and audio_s >= self._settle_s
            if is_enough and chunk.settles:  # it belongs to the long chunk before
                break
            audio_s += chunk.audio_s
            nominal_s += self._nominal_s(chunk)
            wall_s += chunk.wall_s
        return max(self._window_wall_s / self._window_nominal_s, wall_s / nominal_s)

    def _predicted(self, index: int, nominal_rtf: float) -> float:
        """The RTF to expect at a point."""
        return nominal_rtf * self._costs[self.ladder[index]] / self._costs[self.point]

    def _predicted_latency_ms(self, index: int) -> float:
        """The latency to expect at a point, by the chunks since the last move, of the last 10 s:
        their p95, and of few chunks the second highest, for a late one may be chance."""
        point = self.ladder[index]
        dearer = self._chunk_cost(point) / self._chunk_cost(self.point)
        behind_s = sorted(chunk.queued_s + dearer * chunk.wall_s for chunk in self._window)
        worse = min(max(1, len(behind_s) // 20), len(behind_s) - 1)
        return point.wait_ms + 1000 * behind_s[-1 - worse]

    def _chunk_cost(self, point: OperatingPoint) -> float:
        """The calibrated cost of the longest encoder call at a point."""
        dearest = dearest_chunk(point, self._settling)
        return self._costs[dearest] * dearest.chunk_ms

    def _go_down(
        self, chunk: Measurement, budget: Literal["rtf", "queue"], found: float, limit: float
    ) -> Moved | Overrun | None:
        below = range(self._index + 1, len(self.ladder))
        if not below:
            if found <= limit:  # threatened only
                return None
            action = f"stays at the lowest point, {self.point}"
            return self._overrun(chunk, budget, found, limit, action)
        failed_from = self._judge_try()
        if failed_from is not None and failed_from > self._index:
            target = failed_from
        elif budget == "queue":
            target = below[0]
        else:
            nominal_rtf = self._window_wall_s / self._window_nominal_s
            holds = (i for i in below if self._predicted(i, nominal_rtf) <= DOWN_AT * limit)
            target = next(holds, below[-1])
        self._wait_s = self._backoff_s
        return self._move(chunk, target, f"{budget} {found:.3g} of {limit:g}")

    def _improve(self, chunk: Measurement, held_s: float) -> Moved | Overrun | None:
        """Go where the stream does better, if it can; tell where a broken latency has to stay."""
        limit = self.budget.latency_ms
        is_late = limit is not None and self._predicted_latency_ms(self._index) > limit
        if is_late or self._index > self._preferred:
            rtf = self._nominal_rtf()  # words are late before an overload is in the mean
            obstacle = self._obstacle(chunk, rtf)
            if obstacle is None and held_s >= self._wait_s:
                return self._go_up(chunk, rtf, is_late)
            if is_late and (obstacle or held_s >= WAIT_S):
                return self._late(chunk, obstacle or "a quicker one failed lately")
        elif self._index < self._preferred and held_s >= self._backoff_s:
            return self._go_back(chunk)
        return None

    def _obstacle(self, chunk: Measurement, rtf: float) -> str | None:
        """What is in the way of the point above; None if nothing is but time."""
        if self._index == 0:
            return "it is the quickest of this stream"
        if self._predicted(self._index - 1, rtf) > UP_AT * self._limit:
            return "a quicker one would break the rtf"
        if chunk.queued_s > QUEUE_CALM_S:
            return "a quicker one would be slower to catch up"
        return None

    def _go_up(self, chunk: Measurement, rtf: float, is_late: bool) -> Moved:
        above = self._predicted(self._index - 1, rtf)
        reason = f"rtf {rtf:.3g}; {above:.3g} expected there, of {self._limit:g}"
        if is_late:
            latency_ms = self._predicted_latency_ms(self._index)
            reason = f"latency {latency_ms:.0f} ms of {self._latency_limit_ms:g}; {reason}"
            if self._tried is not None and self._tried[1] < self._index:  # the way back
                self._judge_try()
        return self._try(chunk, self._index - 1, reason)

    def _go_back(self, chunk: Measurement) -> Moved | None:
        """From above to the preferred point, where that leaves the latency some room."""
        there_ms = self._predicted_latency_ms(self._preferred)
        wait_ms = self.ladder[self._preferred].wait_ms
        if there_ms > wait_ms + UP_AT * (self._latency_limit_ms - wait_ms):
            return None
        reason = f"latency {there_ms:.0f} ms expected there, of {self._latency_limit_ms:g}"
        return self._try(chunk, self._preferred, reason)

    def _try(self, chunk: Measurement, index: int, reason: str) -> Moved:
        """Move without need."""
        origin, self._wait_s = self._index, WAIT_S
        move = self._move(chunk, index, reason)
        self._tried = self._now_s, origin
        return move

    def _judge_try(self) -> int | None:
        """End the last try, if one led here. Return where it came from if that is too soon."""
        if self._tried is None:
            return None
        (tried_s, origin), self._tried = self._tried, None
        if self._now_s - tried_s < TRIAL_S:
            self._backoff_s = min(2 * self._backoff_s, MAX_WAIT_S)
            return origin
        self._backoff_s = max(self._backoff_s / 2, WAIT_S)
        return None

    def _move(self, chunk: Measurement, index: int, reason: str) -> Moved:
        before = self.point
        self._index = index
        self._moved_s = self._now_s
        self._queue_mark = self._now_s, chunk.queued_s
        self._chunks = 0
        self._window.clear()
        self._window_audio_s = self._window_nominal_s = self._window_wall_s = 0.0
        return Moved(chunk.time_s, before, self.point, reason)

    def _late(self, chunk: Measurement, why: str) -> Overrun | None:
        found_ms = self._predicted_latency_ms(self._index)
        action = f"stays at {self.point}: {why}"
        return self._overrun(chunk, "latency", found_ms, self._latency_limit_ms, action)

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
