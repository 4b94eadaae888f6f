"""A stream under a budget on a busy machine: does it keep what it promises?

CPU hogs run all the time, and all audio comes at the speed of speech. First each operating point
runs for some seconds without a governor; the lowest one last, because it may give the budget, and
loads drift. Then one stream runs with the budget. Promised is that no audio is lost and that the
last minute is within the budget.

How to choose the load: the wall time of a chunk is its CPU time times about 1 + the hogs per CPU,
at any point. A budget between the lowest and the best point under the load should also have room
for the best point without it, for the stream to come back; the points being within a factor of 3,
that takes two or three hogs per CPU.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from asr.budget import Budget, OperatingPoint
from asr.errors import AsrError, BudgetError
from asr.evaluation.envelope import Envelope
from asr.evaluation.playback import BLOCK_S, GAP_S, Recording
from asr.evaluation.under_load.hogs import Hogs
from asr.evaluation.under_load.live_run import LiveRun, Sample, run_live
from asr.results import Moved, Overrun
from asr.stream import Stream

REPORT_SCHEMA_VERSION = 1
BUDGET_FACTOR = 1.3


@dataclass(frozen=True, slots=True)
class StressPlan:
    """What is measured, and under which load."""

    seconds: float  # of the run with the budget
    probe_s: float  # how long each operating point runs before it
    hogs: int
    budget_rtf: float | None  # None: the lowest point's RTF under the load, times ...
    budget_factor: float = BUDGET_FACTOR

    def __post_init__(self) -> None:
        """Raises AsrError for what can't be measured."""
        for name in ("seconds", "probe_s", "budget_rtf", "budget_factor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise AsrError(f"{name}={value}; expected a positive number")

    def budget(self, lowest_rtf: float) -> float:
        """Return the budget, if the lowest point has this RTF under the load: to three digits, as
        one would type it again."""
        return self.budget_rtf or float(f"{self.budget_factor * lowest_rtf:.3g}")


@dataclass(frozen=True, slots=True)
class StressReport:
    """What came out."""

    plan: StressPlan
    calibrated: Mapping[OperatingPoint, float]  # RTF on the idle machine, best point first
    measured: Mapping[OperatingPoint, float]  # RTF under the load; of all, unless interrupted
    budget_rtf: float | None  # None: interrupted before there was one ...
    governed: LiveRun | None  # ... or before the run with it
    hogs_alive: int  # at the end
    refused: str | None = None  # why no stream with this budget could be opened

    @property
    def complete(self) -> bool:
        """Nothing was interrupted or refused."""
        return self.governed is not None and self.governed.complete

    @property
    def best(self) -> OperatingPoint:
        """The best operating point, where a stream with room in its budget runs."""
        return next(iter(self.calibrated))

    @property
    def lowest(self) -> OperatingPoint:
        """The cheapest operating point."""
        return list(self.calibrated)[-1]

    @property
    def ungoverned_rtf(self) -> float | None:
        """The best point's RTF under the load, without a governor."""
        return self.measured.get(self.best)

    @property
    def lowest_rtf(self) -> float | None:
        """The lowest point's RTF under the load, without a governor."""
        return self.measured.get(self.lowest)

    @property
    def broken(self) -> tuple[str, ...]:
        """What was not as promised, as far as it ran."""
        if self.governed is None or self.budget_rtf is None:
            return ()
        report, broken = self.governed.report, []
        if report.lost_audio_s > 0:
            broken.append(f"{report.lost_audio_s:.2f} s of audio were lost")
        if report.rtf_last_min > self.budget_rtf:
            broken.append(
                f"the last minute ran at an RTF of {report.rtf_last_min:.4g}, "
                f"over the budget of {self.budget_rtf:.4g}"
            )
        if self.hogs_alive < self.plan.hogs:
            broken.append(
                f"only {self.hogs_alive} of {self.plan.hogs} CPU hogs lived to the end, so the "
                "load was less than asked for"
            )
        return tuple(broken)

    def to_dict(self, envelope: Envelope, sources: Sequence[str]) -> dict[str, Any]:
        """The report as plain data, of recordings in `sources`.

        Times are in seconds, memory is in MB of 10^6 bytes. What an interrupt or a refusal
        prevented is null. First come the envelope and the plan, then what the run with the budget
        came to:

        - `lost_audio_s`: audio that a full queue refused. Promised is 0.
        - `rtf_last_min`: compute wall time over audio time, over its last 60 s of audio, or all if
          it is shorter. Promised is at most `budget_rtf`.
        - `budget_rtf`: what it was held to.
        - `moves`, `overruns`: how many. `events` has each with its reason, in the order of time.
        - `max_queue_s`: the most audio that waited.
        - `ungoverned_rtf`, `lowest_rtf`: what the best and the lowest point needed under the same
          load without a governor, over `probe_s` each; `ladder` has all of them.
        - `ended_at`, `best_point`: where it ran at its end, and where it runs when it has room.
        - `broken`: what was not as promised, in words; `refused`: why the budget was not admitted.
        - `series`: how it stood, every second; its `rtf` is over the last 10 s of audio.
        """
        governed = self.governed
        facts = asdict(governed.report) if governed else {}
        audio_s = {item.point: item.audio_s for item in governed.report.points} if governed else {}
        ended_at = governed.ended_at if governed else None
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            **asdict(envelope),
            "recordings": list(sources),
            "block_s": BLOCK_S,
            "gap_s": GAP_S,
            **asdict(self.plan),
            "complete": self.complete,
            "broken": list(self.broken),
            "refused": self.refused,
            "budget_rtf": self.budget_rtf,
            "budget_factor": None if self.plan.budget_rtf else self.plan.budget_factor,
            "ungoverned_rtf": self.ungoverned_rtf,
            "lowest_rtf": self.lowest_rtf,
            **{key: facts.get(key) for key in _FACTS},
            "moves": len(governed.report.moves) if governed else None,
            "overruns": len(governed.report.overruns) if governed else None,
            "best_point": asdict(self.best),
            "ended_at": asdict(ended_at) if ended_at else None,
            "late_s": governed.late_s if governed else None,
            **_word_errors(governed),
            "ladder": [
                asdict(point)
                | {
                    "calibrated_rtf": rtf,
                    "measured_rtf": self.measured.get(point),
                    "audio_s": audio_s.get(point, 0.0),
                }
                for point, rtf in self.calibrated.items()
            ],
            "events": [_event(event) for event in governed.report.events] if governed else [],
            "series": [asdict(sample) for sample in governed.samples] if governed else [],
        }


_FACTS = (
    "audio_s",
    "lost_audio_s",
    "rtf",
    "rtf_last_min",
    "cpu_rtf",
    "latency_p95_ms",
    "max_queue_s",
    "peak_memory_mb",
)
"""What is taken from the stream's own report, by the names that it has there."""


class BudgetRecognizer(Protocol):
    """What is measured; `asr.recognizer.Recognizer` is one."""

    @property
    def chunk_ms(self) -> int: ...

    def stream(self, budget: Budget | None = None) -> Stream: ...

    def calibrate(self) -> dict[OperatingPoint, float]: ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a measurement stands."""

    section: str  # what runs, in words
    seconds: float  # how long that takes
    sample: Sample
    budget_rtf: float | None  # of this section


def run_stress(
    recognizer: BudgetRecognizer,
    recordings: Sequence[Recording],
    plan: StressPlan,
    *,
    watch: Callable[[Progress], None] = lambda progress: None,
    stopped: Callable[[], bool] = lambda: False,
) -> StressReport:
    """Measure. `watch` is called every second; `stopped` ends it early, as in `run_live`. The hogs
    are gone when this returns or raises.

    A budget that can't be held on the idle machine is refused, as for any stream: before anything
    else runs, where the plan states it.

    Raises AudioError for a recording that turns out to be damaged.
    """
    calibrated = recognizer.calibrate()  # before the hogs, who would be in it
    measured: dict[OperatingPoint, float] = {}
    if plan.budget_rtf is not None:
        try:
            recognizer.stream(Budget(rtf=plan.budget_rtf))
        except BudgetError as error:
            return StressReport(plan, calibrated, {}, plan.budget_rtf, None, 0, str(error))

    def run(section: str, stream: Stream, seconds: float, budget_rtf: float | None) -> LiveRun:
        def tell(sample: Sample) -> None:
            watch(Progress(section, seconds, sample, budget_rtf))

        return run_live(stream, recordings, seconds, watch=tell, stopped=stopped)

    budget_rtf, governed, refused = plan.budget_rtf, None, None
    with Hogs(plan.hogs) as hogs:
        for point in calibrated:
            stream = _stream_at(recognizer, point)
            probe = run(f"{point}, no budget", stream, plan.probe_s, None)
            if not probe.complete:
                break
            measured[point] = probe.report.rtf
        else:
            budget_rtf = plan.budget(lowest_rtf=measured[point])  # that of the last one
            try:
                stream = recognizer.stream(Budget(rtf=budget_rtf))
            except BudgetError as error:
                refused = str(error)
            else:
                governed = run(f"budget {budget_rtf:.4g}", stream, plan.seconds, budget_rtf)
        hogs_alive = len(hogs.pids)
    return StressReport(plan, calibrated, measured, budget_rtf, governed, hogs_alive, refused)


def _stream_at(recognizer: BudgetRecognizer, point: OperatingPoint) -> Stream:
    """Return a stream without a governor that stays at `point`."""
    stream = recognizer.stream()
    stream.chunk_frames = stream.chunk_frames * point.chunk_ms // recognizer.chunk_ms
    return stream


def _event(event: Moved | Overrun) -> dict[str, Any]:
    return {"kind": type(event).__name__.lower(), **asdict(event)}


def _word_errors(run: LiveRun | None) -> dict[str, Any]:
    errors = run.word_errors() if run else None
    if errors is None:
        return {"wer": None}
    return {
        "wer": errors.rate,
        "words": errors.words,
        "ins": errors.insertions,
        "del": errors.deletions,
        "sub": errors.substitutions,
    }
