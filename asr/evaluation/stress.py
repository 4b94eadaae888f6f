"""A stream under a budget on a busy machine: does it keep what it promises?

CPU hogs run all the time, and all audio comes at the speed of speech. First each operating point
runs for some seconds without a governor, the lowest one first; then one stream runs with the
budget. Promised is that no audio is lost and that the last minute is within the budget.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

from asr.budget import Budget, OperatingPoint
from asr.errors import AsrError
from asr.evaluation.envelope import Envelope
from asr.evaluation.hogs import Hogs
from asr.evaluation.live_run import LiveRun, Sample, run_live
from asr.evaluation.playback import BLOCK_S, GAP_S, Recording
from asr.stream import Stream

REPORT_SCHEMA_VERSION = 1


@dataclass(frozen=True, slots=True)
class StressPlan:
    """What is measured, and under which load."""

    seconds: float  # of the run with the budget
    probe_s: float  # how long each operating point runs before it
    hogs: int
    budget_rtf: float | None  # None: the lowest point's RTF under the load, times ...
    budget_factor: float = 1.3

    def __post_init__(self) -> None:
        """Raises AsrError for what can't be measured."""
        for name in ("seconds", "probe_s", "budget_rtf", "budget_factor"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise AsrError(f"{name}={value}; expected a positive number")

    def budget(self, lowest_rtf: float) -> float:
        """Return the budget, if the lowest point has this RTF under the load."""
        return self.budget_rtf or self.budget_factor * lowest_rtf


@dataclass(frozen=True, slots=True)
class StressReport:
    """What came out."""

    plan: StressPlan
    calibrated: Mapping[OperatingPoint, float]  # RTF on the idle machine, best point first
    measured: Mapping[OperatingPoint, float]  # RTF under the load; of all, unless interrupted
    budget_rtf: float | None  # None: interrupted before there was one ...
    governed: LiveRun | None  # ... or before the run with it
    hogs_alive: int  # at the end

    @property
    def complete(self) -> bool:
        """Nothing was interrupted."""
        return self.governed is not None and self.governed.complete

    @property
    def ungoverned_rtf(self) -> float | None:
        """The best point's RTF under the load, without a governor."""
        return self.measured.get(next(iter(self.calibrated)))

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
        """The report as plain data, of recordings in `sources`. Times are in seconds, memory is in
        MB of 10^6 bytes, `series` has an entry a second. What an interrupt prevented is null."""
        governed = self.governed
        facts = governed.report.to_dict() if governed else {}
        audio_s = {item.point: item.audio_s for item in governed.report.points} if governed else {}
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            **asdict(envelope),
            "recordings": list(sources),
            "block_s": BLOCK_S,
            "gap_s": GAP_S,
            **asdict(self.plan),
            "complete": self.complete,
            "broken": list(self.broken),
            "budget_rtf": self.budget_rtf,
            "budget_factor": None if self.plan.budget_rtf else self.plan.budget_factor,
            "ungoverned_rtf": self.ungoverned_rtf,
            **{key: facts.get(key) for key in _FACTS},
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
    "moves",
    "overruns",
)
"""What is taken from the stream's own report, by the names that it has there."""


class BudgetRecognizer(Protocol):
    """What is measured; `asr.recognizer.Recognizer` is one."""

    @property
    def chunk_ms(self) -> int: ...

    def stream(self, budget: Budget | None = None) -> Stream: ...

    def calibrated_rtf(self) -> dict[OperatingPoint, float]: ...


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

    Raises:
        BudgetError: a budget that can't be held on the idle machine; nothing has run then.
        AudioError: a recording that turns out to be damaged.
    """
    calibrated = recognizer.calibrated_rtf()  # before the hogs, who would be in it
    if plan.budget_rtf is not None:
        recognizer.stream(Budget(rtf=plan.budget_rtf))
    measured: dict[OperatingPoint, float] = {}

    def run(section: str, stream: Stream, seconds: float, budget_rtf: float | None) -> LiveRun:
        def tell(sample: Sample) -> None:
            watch(Progress(section, seconds, sample, budget_rtf))

        return run_live(stream, recordings, seconds, watch=tell, stopped=stopped)

    budget_rtf, governed = plan.budget_rtf, None
    with Hogs(plan.hogs) as hogs:
        for point in reversed(calibrated):
            stream = _stream_at(recognizer, point)
            probe = run(f"{point}, no budget", stream, plan.probe_s, None)
            if not probe.complete:
                break
            measured[point] = probe.report.rtf
        else:
            budget_rtf = plan.budget(lowest_rtf=next(iter(measured.values())))
            stream = recognizer.stream(Budget(rtf=budget_rtf))
            governed = run(f"budget {budget_rtf:.4g}", stream, plan.seconds, budget_rtf)
        hogs_alive = len(hogs.pids)
    return StressReport(plan, calibrated, measured, budget_rtf, governed, hogs_alive)


def _stream_at(recognizer: BudgetRecognizer, point: OperatingPoint) -> Stream:
    """Return a stream without a governor that stays at `point`."""
    stream = recognizer.stream()
    stream.chunk_frames = stream.chunk_frames * point.chunk_ms // recognizer.chunk_ms
    return stream


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
