"""A model under load for many minutes: does it stay as fast as it began, and as small?

The recordings are recognised again and again as fast as the machine can, one stream after the
other, and once a second the machine is looked at. The protocol merges those of MELT (arXiv
2403.12844) and of the phone benchmarks; 15 minutes are worth reporting, and the machine should have
been idle for ten before.

The JSON is that of `asr.evaluation.bench.rows`, kind "sustained", with `seconds`, `complete` and
`samples`: a list of `{"t", "rtf", "rss_mb", "temp_c", "freq_mhz", "power_w"}`, one a second, null
where the machine has no such sensor.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.audio import Blocks, read_blocks
from asr.evaluation.bench.probe import growth_mb_per_h
from asr.evaluation.bench.rows import (
    Row,
    all_not_available,
    figure,
    not_available,
    result_head,
    rows_to_dict,
)
from asr.evaluation.cost.energy import MEASURED_ROWS, EnergySource, EnergyUse, energy_rows
from asr.evaluation.cost.sensors import Sensors
from asr.evaluation.envelope import Envelope
from asr.evaluation.playback import BLOCK_S, Recording
from asr.memory import resident_mb
from asr.recognizer import Recognizer

SAMPLE_S = 1.0
MINUTE_S = 60.0
SLOWED = 0.9
"""Of the clock rate of the first minute: below, the machine counts as throttled."""


@dataclass(frozen=True, slots=True)
class SustainedSample:
    """One second."""

    t: float  # seconds since it began, at the end of it
    rtf: float | None  # of that second; None: no audio was finished in it
    rss_mb: float
    temp_c: float | None
    freq_mhz: float | None
    power_w: float | None  # mean of the second
    throttle_count: int | None = None


@dataclass(frozen=True, slots=True)
class SustainedRun:
    """What it came to."""

    samples: tuple[SustainedSample, ...]
    audio_s: float
    seconds: float
    complete: bool
    energy: EnergyUse | None  # None: no source


def run_sustained(
    recognizer: Recognizer,
    recordings: Sequence[Recording],
    seconds: float,
    *,
    source: EnergySource | None = None,
    sensors: Sensors | None = None,
    clock: Callable[[], float] = time.monotonic,
    read: Callable[[Path, float], Blocks] = read_blocks,
    watch: Callable[[SustainedSample], None] = lambda sample: None,
    stopped: Callable[[], bool] = lambda: False,
) -> SustainedRun:
    """Recognise for `seconds`. `watch` is called every second, `stopped` asked every 100 ms of
    audio. Raises AudioError for a damaged recording."""
    sensors = sensors or Sensors()
    samples: list[SustainedSample] = []
    started = clock()
    joules = _total_j(source, started)
    audio_s = compute_s = seen_audio_s = seen_compute_s = 0.0
    seen_at, seen_j, due = started, joules, started + SAMPLE_S

    def look(now: float) -> None:
        nonlocal seen_audio_s, seen_compute_s, seen_at, seen_j
        reading, now_j = sensors.read(), _total_j(source, now)
        heard_s = audio_s - seen_audio_s
        sample = SustainedSample(
            t=now - started,
            rtf=(compute_s - seen_compute_s) / heard_s if heard_s else None,
            rss_mb=resident_mb(),
            temp_c=reading.temp_c,
            freq_mhz=reading.freq_mhz,
            power_w=None if now_j is None or seen_j is None else (now_j - seen_j) / (now - seen_at),
            throttle_count=reading.throttle_count,
        )
        seen_audio_s, seen_compute_s, seen_at, seen_j = audio_s, compute_s, now, now_j
        samples.append(sample)
        watch(sample)

    def done() -> bool:
        return stopped() or clock() - started >= seconds

    while not done():
        for recording in recordings:
            stream = recognizer.stream()
            before_s, before_compute_s = audio_s, compute_s
            for block, rate in read(recording.path, BLOCK_S):
                stream.accept(block, rate)
                audio_s = before_s + stream.audio_s
                compute_s = before_compute_s + stream.meter.compute_s
                if (now := clock()) >= due:
                    look(now)
                    due = max(due + SAMPLE_S, now)  # a late one takes the place of the next
                if done():
                    break
            stream.finish()
            compute_s = before_compute_s + stream.meter.compute_s
            if done():
                break
    ended = clock()
    total_j, energy = _total_j(source, ended), None
    if source is not None and total_j is not None and joules is not None:
        energy = EnergyUse(ended - started, {"all": total_j - joules}, source.volts())
    complete = ended - started >= seconds
    return SustainedRun(tuple(samples), audio_s, ended - started, complete, energy)


def sustained_rows(
    run: SustainedRun, source: EnergySource | None, idle: EnergyUse | None, no_source: str
) -> dict[str, Row]:
    """Return the rows of a run; `idle` is what the machine took before it, `no_source` why no
    energy could be measured."""
    samples = run.samples
    rtfs = [sample.rtf for sample in samples if sample.rtf is not None]
    rows: dict[str, Row] = {}
    short = f"{run.seconds:.0f} s; it takes two minutes or more"
    if run.seconds < 2 * MINUTE_S or len(rtfs) < 2:
        rows |= all_not_available([("rtf_first_min", ""), ("rtf_last_min", "")], short)
    else:
        first = [s.rtf for s in samples if s.rtf is not None and s.t <= MINUTE_S]
        last = [s.rtf for s in samples if s.rtf is not None and s.t > run.seconds - MINUTE_S]
        rows["rtf_first_min"] = figure(statistics.fmean(first), "")
        rows["rtf_last_min"] = figure(statistics.fmean(last), "")
    rows["rtf_cv"] = (
        figure(statistics.stdev(rtfs) / statistics.fmean(rtfs), "")
        if len(rtfs) > 1
        else not_available("", "fewer than two seconds")
    )
    rows["throttled_at_s"] = _throttled(samples)
    temperatures = [sample.temp_c for sample in samples if sample.temp_c is not None]
    names = [("temp_start_c", "C"), ("temp_end_c", "C"), ("temp_max_c", "C")]
    if temperatures:
        values = temperatures[0], temperatures[-1], max(temperatures)
        rows |= {name: figure(v, unit) for (name, unit), v in zip(names, values, strict=True)}
    else:
        rows |= all_not_available(names, "no temperature sensor below /sys")
    growth = growth_mb_per_h([(sample.t, sample.rss_mb) for sample in samples])
    rows["rss_growth_mb_per_h"] = (
        not_available("MB/h", short)
        if growth is None or run.seconds < 2 * MINUTE_S
        else figure(growth, "MB/h")
    )
    if source is None or idle is None or run.energy is None:
        return rows | all_not_available(MEASURED_ROWS, no_source)
    return rows | energy_rows(source, idle, run.energy, run.audio_s)


def sustained_result(
    envelope: Envelope,
    run: SustainedRun,
    rows: dict[str, Row],
    sources: Sequence[str],
    threads: int,
) -> dict[str, Any]:
    """Return what the JSON holds."""
    return {
        **result_head("sustained", envelope, sources, threads),
        "seconds": run.seconds,
        "audio_s": run.audio_s,
        "complete": run.complete,
        "rows": rows_to_dict(rows),
        "samples": [asdict(sample) for sample in run.samples],
    }


def _throttled(samples: Sequence[SustainedSample]) -> Row:
    """When the machine slowed down: its own counter says so, or its clock rate fell by a tenth."""
    counted = [s for s in samples if s.throttle_count is not None]
    for sample in counted:
        if sample.throttle_count != counted[0].throttle_count:
            return figure(sample.t, "s", "throttle counter")
    clocked = [(s.t, s.freq_mhz) for s in samples if s.freq_mhz is not None]
    first = [mhz for t, mhz in clocked if t <= MINUTE_S]
    for t, mhz in clocked:
        if mhz < SLOWED * statistics.median(first):
            return figure(t, "s", "clock rate")
    if not counted and not clocked:
        return not_available("s", "neither clock rate nor throttle counter below /sys")
    return not_available("s", "it was not throttled")


def _total_j(source: EnergySource | None, now: float) -> float | None:
    return None if source is None else sum(source.joules(now).values())
