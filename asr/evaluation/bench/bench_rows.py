"""Everything that a plain `asr bench` measures, in the order of its table."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError
from asr.evaluation.bench import untimed_rows
from asr.evaluation.bench.benchmark import (
    Bench,
    BenchPlan,
    elsewhere_rows,
    speed_rows,
    stability_rows,
)
from asr.evaluation.bench.emission import scratch, timed_speech
from asr.evaluation.bench.probe import ProbePlan, ProbeResult, measure
from asr.evaluation.bench.rows import INTERRUPTED, Row, all_not_available, figure
from asr.evaluation.cost.energy import (
    MEASURED_ROWS,
    EnergyMeter,
    EnergySource,
    EnergyUse,
    energy_rows,
    find_source,
)

TIMED_ROWS = tuple(
    (f"{name}_latency_ms_{p}", "ms")
    for name in ("emission", "display", "endpoint")
    for p in ("p50", "p90")
)


@dataclass(frozen=True, slots=True)
class BenchSettings:
    """What a plain run measures beside its passes."""

    threads: int = 1
    growth_s: float = 300.0  # audio of the long stream whose memory is watched
    idle_s: float = 10.0  # for which the idle machine's power is measured, where it can be

    def __post_init__(self) -> None:
        """Raises AsrError for what can't be measured."""
        if not (0 <= self.growth_s < math.inf and 0 < self.idle_s < math.inf):
            raise AsrError(f"{self}; expected growth_s >= 0 and idle_s > 0")


def collect_rows(
    bench: Bench,
    plan: BenchPlan,
    settings: BenchSettings,
    sources: Sequence[Path],
    *,
    watch: Callable[[str], None] = lambda text: None,
    probe: Callable[[ProbePlan], ProbeResult] = measure,
    source: EnergySource | None = None,
    no_source: str = "no energy source was looked for",
) -> dict[str, Row]:
    """Measure all rows. `source` tells energy, or `no_source` why there is none; see
    `energy_source`. An interrupt ends the passes early, and what needs them is then of those done;
    a later one costs the rows that are being measured. Loading is then measured once.

    Raises KeyboardInterrupt where none was done, AudioError for a damaged recording.
    """
    recognizer = bench.recognizer
    bundle = recognizer.bundle
    idle = measure_idle(source, settings.idle_s, watch) if source else None
    meter = EnergyMeter(source) if source else None
    bench.warm_up(plan, watch)
    interrupted = _measure(bench, plan, meter, watch)
    passes = bench.passes
    audio_s = sum(one.audio_s for one in passes)
    texts = [played.final.text for played in passes[0].played]
    frame_ms = bundle.streaming.subsampling_factor * bundle.features.frame_shift_ms
    point = recognizer.stream().point
    timed = _timed_rows(bench, sources, 0 if interrupted else plan.repeat, watch)
    interrupted = any(row.reason == INTERRUPTED for row in timed.values())
    rows = {
        **untimed_rows.accuracy_rows(bench.recordings, texts),
        **untimed_rows.size_rows(bundle, recognizer.graphs),
        **untimed_rows.installation_rows(),
        **speed_rows(passes, recognizer.chunk_ms, point.wait_ms),
        **timed,
        **stability_rows(passes[0]),
        **_probe_rows(bench, plan, settings, interrupted, watch, probe),
        "state_bytes": figure(untimed_rows.state_bytes(recognizer.stream().encoder_state), "bytes"),
    }
    if source and meter and idle:
        rows |= energy_rows(source, idle, meter.use, audio_s)
    else:
        rows |= all_not_available(MEASURED_ROWS, no_source)
    rows |= untimed_rows.energy_model_rows(
        bundle,
        recognizer.graphs.precision,
        round(recognizer.chunk_ms / frame_ms),
        sum(one.tokens for one in passes) / audio_s,
    )
    return rows | elsewhere_rows()


def energy_source() -> tuple[EnergySource | None, str]:
    """Return this machine's source of energy, or None and why there is none."""
    try:
        return find_source(), ""
    except LookupError as reason:
        return None, str(reason)


def measure_idle(
    source: EnergySource,
    seconds: float,
    watch: Callable[[str], None],
    sleep: Callable[[float], object] = time.sleep,
) -> EnergyUse:
    """Return what the machine takes while this process does nothing."""
    watch(f"power of the idle machine, {seconds:g} s")
    with EnergyMeter(source) as meter:
        sleep(seconds)
    return meter.use


def _measure(
    bench: Bench, plan: BenchPlan, meter: EnergyMeter | None, watch: Callable[[str], None]
) -> bool:
    """Run the passes; return whether an interrupt ended them."""
    try:
        if meter is None:
            bench.measure(plan, watch)
        else:
            with meter:
                bench.measure(plan, watch)
    except KeyboardInterrupt:
        if not bench.passes:
            raise
        return True
    return False


def _timed_rows(
    bench: Bench, sources: Sequence[Path], repeat: int, watch: Callable[[str], None]
) -> dict[str, Row]:
    if not repeat:
        return all_not_available(TIMED_ROWS, INTERRUPTED)
    watch("latency of words with known times")
    try:
        with scratch() as folder:
            played = {recording.path for recording in bench.recordings}
            speech, where = timed_speech(sources, played, Path(folder))
            return bench.timed_rows(speech, where, repeat)
    except AsrError as error:
        return all_not_available(TIMED_ROWS, str(error))
    except KeyboardInterrupt:
        return all_not_available(TIMED_ROWS, INTERRUPTED)


def _probe_rows(
    bench: Bench,
    plan: BenchPlan,
    settings: BenchSettings,
    interrupted: bool,
    watch: Callable[[str], None],
    probe: Callable[[ProbePlan], ProbeResult],
) -> dict[str, Row]:
    recognizer = bench.recognizer
    probe_plan = ProbePlan(
        model=str(recognizer.bundle.path),
        engine=recognizer.graphs.engine,
        precision=recognizer.graphs.precision,
        threads=settings.threads,
        chunk_ms=recognizer.chunk_ms,
        recordings=tuple(str(recording.path) for recording in bench.recordings),
        growth_s=0.0 if interrupted else settings.growth_s,
    )
    watch("loading and memory in fresh processes")
    try:
        return untimed_rows.probe_rows(probe_plan, 1 if interrupted else plan.repeat, probe)
    except KeyboardInterrupt:
        return all_not_available(untimed_rows.PROBED_ROWS, INTERRUPTED)
