"""What stands over a stream: measures its chunks, has the governor decide, and keeps the books."""

from collections import deque
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

from asr.budget import Budget, OperatingPoint
from asr.evaluation.meters import peak_rss_mb
from asr.governor import OVERRUN_EVERY_S, Governor, Measurement
from asr.memory import resident_mb, trim_heap
from asr.results import Event, Moved, Overrun

RELEASE_EVERY_S = 10.0
"""Memory that is back within that much audio was not to spare: giving it back doesn't help."""

_LAST_MINUTE_S = 60.0


@dataclass(frozen=True, slots=True)
class PointTime:
    """How much of a stream ran at an operating point."""

    point: OperatingPoint
    audio_s: float


@dataclass(frozen=True, slots=True)
class BudgetReport:
    """What a stream cost, and what was decided about it. `str()` of it is lines for people."""

    budget: Budget
    ladder: tuple[OperatingPoint, ...]  # best first
    points: tuple[PointTime, ...]  # those that it ran at, as they were first used
    moves: tuple[Moved, ...]
    overruns: tuple[Overrun, ...]
    audio_s: float  # recognised
    lost_audio_s: float  # refused by a full queue, or still in it when memory ended the stream
    rtf: float  # of all
    rtf_last_min: float
    cpu_rtf: float  # CPU time over audio time: far below `rtf` where others hold the cores
    latency_p95_ms: float  # of the last 50 chunks
    max_queue_s: float
    peak_memory_mb: float  # of the process

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain lists and dictionaries, ready for `json.dumps`."""
        return asdict(self)

    def __str__(self) -> str:
        return "\n".join([*map(describe, self.events), self._summary()])

    @property
    def events(self) -> list[Moved | Overrun]:
        """Every decision, in the order of time."""
        return sorted([*self.moves, *self.overruns], key=lambda event: event.time_s)

    def _summary(self) -> str:
        points = ", ".join(f"{item.point} {item.audio_s:.1f} s" for item in self.points)
        return (
            f"rtf {self.rtf:.3f} (last minute {self.rtf_last_min:.3f}), latency "
            f"{self.latency_p95_ms:.0f} ms, queue {self.max_queue_s:.1f} s at most, "
            f"{self.lost_audio_s:.1f} s lost; chunks of {points or 'no length yet'}"
        )


def describe(event: Moved | Overrun) -> str:
    """Return an event as a line for people."""
    if isinstance(event, Moved):
        return f"{event.time_s:.1f} s: {event.from_point} -> {event.to_point} ({event.reason})"
    return (
        f"{event.time_s:.1f} s: over budget: "
        f"{event.budget} {event.found:.3g} of {event.limit:.3g}; "
        f"{event.behind_s:.1f} s behind; {event.action}"
    )


class Supervisor:
    """Watches one stream, which tells it every chunk. Without a budget, it keeps the books, and
    tells only of a queue that grows."""

    def __init__(
        self,
        governor: Governor,
        release_memory: Callable[[], None],
        resident: Callable[[], float] = resident_mb,
    ) -> None:
        """`release_memory` gives back what the engine can spare; `resident` says in MB what the
        process holds."""
        self._governor = governor
        self._release_memory = release_memory
        self._resident = resident
        self._released_s: float | None = None  # when memory was last given back
        self._points: dict[OperatingPoint, float] = {}
        self._moves: list[Moved] = []  # these two grow, but by a few a minute at most
        self._overruns: list[Overrun] = []
        self._last_minute: deque[Measurement] = deque()
        self._audio_s = self._wall_s = self._cpu_s = 0.0
        self._lost_s = self._max_queue_s = 0.0
        self.exhausted: str | None = None
        """Why the stream must end: its memory passed the budget, and none could be given back."""

    @property
    def point(self) -> OperatingPoint:
        """The operating point for the next chunk."""
        return self._governor.point

    def observe(self, chunk: Measurement, cpu_s: float) -> list[Event]:
        """Take what a chunk cost; return what was decided. `cpu_s` is its CPU time."""
        self._count(chunk, cpu_s)
        events = self.check_memory(chunk.time_s, chunk.queued_s)
        decision = self._governor.observe(chunk)
        if isinstance(decision, Moved):
            self._moves.append(decision)
        elif decision is not None:
            self._overruns.append(decision)
        return [*events, decision] if decision is not None else events

    def check_memory(self, time_s: float, queued_s: float) -> list[Event]:
        """Have memory given back where it passes the budget; return what was decided. Each chunk is
        followed by that; while none is computed, whoever holds the stream asks for it."""
        limit = self._governor.budget.memory_mb
        if limit is None or (held := self._resident()) <= limit:
            return []
        just_released = self._released_s is not None and time_s - self._released_s < RELEASE_EVERY_S
        self._release_memory()
        trim_heap()
        self._released_s = time_s
        left = self._resident()
        given_mb = max(0.0, held - left)  # others in the process may have taken more meanwhile
        action = f"gave back {given_mb:.1f} MB"
        if left > limit or just_released:
            self.exhausted = (
                f"{held:.1f} MB of memory with a budget of {limit:g} MB, and only "
                f"{given_mb:.1f} MB could be given back; give the process a larger budget, or "
                "open fewer streams in it"
            )
            action += " and ended the stream"
        overrun = Overrun(time_s, "memory", held, limit, queued_s, action)
        self._overruns.append(overrun)
        return [overrun]

    def note_rest(self, rest: Measurement, cpu_s: float) -> None:
        """Note what followed the last chunk: silence that was skipped, and the end of the last
        segment. It is no chunk to judge."""
        self._count(rest, cpu_s)

    def note_lost(self, lost_s: float) -> None:
        """Note audio that was taken and will not be recognised."""
        self._lost_s += lost_s

    def note_queue(self, queued_s: float) -> None:
        """Note how much audio waits: also between chunks, which are far apart if they are large."""
        self._max_queue_s = max(self._max_queue_s, queued_s)

    def refuse(self, time_s: float, refused_s: float, queued_s: float, limit_s: float) -> Overrun:
        """Note that a queue of `limit_s` seconds had no room for `refused_s` seconds of audio."""
        self._lost_s += refused_s
        action = f"refused {refused_s:.2f} s of audio: the queue is full"
        overrun = Overrun(time_s, "audio", queued_s, limit_s, queued_s, action, refused_s)
        last = self._overruns[-1] if self._overruns else None
        if last and last.budget == "audio" and time_s - last.time_s < OVERRUN_EVERY_S:
            lost_s = last.refused_s + refused_s  # one line of the report for many blocks
            action = f"refused {lost_s:.2f} s of audio: the queue is full"
            self._overruns[-1] = replace(last, action=action, refused_s=lost_s)
        else:
            self._overruns.append(overrun)
        return overrun

    def report(self) -> BudgetReport:
        """Return the books so far."""
        recent_s = sum(chunk.audio_s for chunk in self._last_minute)
        recent_wall_s = sum(chunk.wall_s for chunk in self._last_minute)
        return BudgetReport(
            budget=self._governor.budget,
            ladder=self._governor.ladder,
            points=tuple(PointTime(point, audio_s) for point, audio_s in self._points.items()),
            moves=tuple(self._moves),
            overruns=tuple(self._overruns),
            audio_s=self._audio_s,
            lost_audio_s=self._lost_s,
            rtf=_ratio(self._wall_s, self._audio_s),
            rtf_last_min=_ratio(recent_wall_s, recent_s),
            cpu_rtf=_ratio(self._cpu_s, self._audio_s),
            latency_p95_ms=self._governor.latency_ms,
            max_queue_s=self._max_queue_s,
            peak_memory_mb=peak_rss_mb(),
        )

    def _count(self, chunk: Measurement, cpu_s: float) -> None:
        self._points[chunk.point] = self._points.get(chunk.point, 0.0) + chunk.audio_s
        self._audio_s += chunk.audio_s
        self._wall_s += chunk.wall_s
        self._cpu_s += cpu_s
        self._last_minute.append(chunk)
        while self._last_minute[0].time_s < chunk.time_s - _LAST_MINUTE_S:
            self._last_minute.popleft()


def _ratio(seconds: float, audio_s: float) -> float:
    return seconds / audio_s if audio_s else 0.0


def ungoverned(point: OperatingPoint, release_memory: Callable[[], None]) -> Supervisor:
    """Return a supervisor for a stream without a budget."""
    return Supervisor(Governor(Budget(), {point: 1.0}), release_memory)
