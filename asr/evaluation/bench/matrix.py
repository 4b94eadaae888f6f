"""Variants of a model side by side, in one run.

A slice of audio, of the length of a chunk or a few, is given to every variant in turn before the
next one comes, in an order that moves on by one each time: what else the machine does meets all of
them, and the ratio of two variants of one slice is worth more than their times. Loading and memory
are those of fresh processes.

The JSON is that of `asr.evaluation.bench.rows`, kind "matrix", and in place of `rows`:

- `variants`: a list of objects with `name`, `model`, `precision`, `engine`, `threads`, `chunk_ms`;
  `file_mb` of the three graphs; `step_ms_p50` and `step_ms_p95` of an encoder step; `rtf` of the
  whole path; `load_ms` after import; `peak_rss_mb`; `wer`, and `wer_delta` against the variant
  `baseline`; `nodes` that an encoder step runs, after the engine's own optimisation; `step_ratio`
  and `rtf_ratio`, what the encoder and the whole path took for the same slice of audio against the
  baseline (or the first), as the medians over all slices;
  `energy_modelled_mj_per_audio_s`; and `reasons`, why a figure is null.
- `roofline`: `bandwidth_gb_s`, `int8_gmac_s` and `fp32_gmac_s` of one thread, and `variants`, a
  list of `name`, `mb_per_step`, `mmac_per_step`, `memory_ms`, `compute_ms`, `bound_ms`, `bound_by`,
  `achieved`; or `reason`.
"""

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import asr
from asr.audio import Blocks, read_blocks
from asr.engines import Engine
from asr.errors import AsrError
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.bench.matrix_file import BASELINE, MatrixPlan, Variant
from asr.evaluation.bench.operators import profile_operators
from asr.evaluation.bench.probe import ProbeError, ProbePlan, ProbeResult
from asr.evaluation.bench.rows import percentile, result_head
from asr.evaluation.bench.timing import Playing, TimingEngine
from asr.evaluation.cost.energy_model import model_energy
from asr.evaluation.cost.roofline import MachineRates, step_bound
from asr.evaluation.envelope import Envelope
from asr.evaluation.playback import Recording
from asr.recognizer import Recognizer
from asr.text import normalize

_PROBED_RECORDINGS = 3
_LONGEST_SLICE_MS = 10_240


@dataclass(slots=True)
class VariantRun:
    """A variant, loaded, and what was measured of it so far."""

    variant: Variant
    recognizer: Recognizer  # with the engine below
    engine: TimingEngine
    slices: list[tuple[float, float]] = field(default_factory=list)
    """Seconds of the encoder and of the whole path, for each slice."""
    steps_s: list[float] = field(default_factory=list)  # of all encoder steps
    errors: WordErrors = field(default_factory=WordErrors)
    audio_s: float = 0.0
    compute_s: float = 0.0
    tokens: int = 0


def load_variant(variant: Variant) -> VariantRun:
    """Load. Raises AsrError that names the variant, also for graphs that the bundle hasn't."""
    try:
        recognizer = asr.load(
            variant.model,
            precision=variant.precision,
            engine=variant.engine,
            chunk_ms=variant.chunk_ms,
            threads=variant.threads,
        )
    except AsrError as error:
        raise AsrError(f"the variant {variant.name!r}: {error}") from error
    timed: list[TimingEngine] = []

    def wrap(engine: Engine) -> Engine:
        timed.append(TimingEngine(engine))
        return timed[0]

    watched = recognizer.with_engine(wrap)
    return VariantRun(variant, watched, timed[0])


def run_matrix(
    runs: Sequence[VariantRun],
    recordings: Sequence[Recording],
    repeat: int,
    *,
    clock: Callable[[], float] = time.perf_counter,
    read: Callable[[Path, float], Blocks] = read_blocks,
    watch: Callable[[str], None] = lambda text: None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Play every recording `repeat` times to all variants, once without measuring before, so that
    caches and clock rates are as they stay. `stopped` ends it early, behind the first recording at
    the soonest. Return whether it came to its end.

    Raises AudioError, and AsrError for recordings that are too short for a chunk.
    """
    slice_s = slice_ms([run.recognizer.chunk_ms for run in runs]) / 1000
    watch("warm-up")
    _play_all(runs, read(recordings[0].path, slice_s), clock, turn=0, measure=False)
    complete = True
    for turn, (number, (index, recording)) in enumerate(
        product(range(repeat), enumerate(recordings))
    ):
        if turn and stopped():
            complete = False
            break
        watch(f"pass {number + 1} of {repeat}, recording {index + 1} of {len(recordings)}")
        if index == 0:  # what an engine remembers of the same words would make it faster
            for run in runs:
                run.engine.release_memory()
        texts = _play_all(runs, read(recording.path, slice_s), clock, turn, measure=True)
        if number == 0 and recording.text is not None:
            for run, text in zip(runs, texts, strict=True):
                reference = normalize(recording.text)
                run.errors += WordErrors.between(reference, normalize(text))
    if not all(run.steps_s for run in runs):
        raise AsrError("the recordings are shorter than a chunk; name longer ones")
    return complete


def slice_ms(chunks_ms: Sequence[int]) -> int:
    """Return the least audio in which variants with these chunks make whole chunks, or the longest
    chunk where that would be more than 10 s."""
    common = math.lcm(*chunks_ms)
    return common if common <= _LONGEST_SLICE_MS else max(chunks_ms)


def variant_result(
    run: VariantRun,
    baseline: VariantRun,
    recordings: Sequence[Recording],
    measure: Callable[[ProbePlan], ProbeResult],
) -> dict[str, Any]:
    """Return what the JSON has of a variant."""
    variant, bundle = run.variant, run.recognizer.bundle
    reasons: dict[str, str] = {}
    graphs = run.recognizer.graphs
    plan = ProbePlan(
        model=str(bundle.path),
        engine=graphs.engine,
        precision=graphs.precision,
        threads=variant.threads,
        chunk_ms=run.recognizer.chunk_ms,
        recordings=tuple(str(recording.path) for recording in recordings[:_PROBED_RECORDINGS]),
    )
    load_ms = peak_mb = nodes = energy_mj = wer = wer_delta = None
    try:
        probe = measure(plan)
        load_ms, peak_mb = probe.load_ms, probe.rss_peak_mb
    except ProbeError as error:
        reasons |= dict.fromkeys(("load_ms", "peak_rss_mb"), str(error))
    frames = _chunk_frames(run.recognizer)
    try:
        nodes = profile_operators(
            bundle, graphs, variant.threads, frames, names=["encoder"], calls=2
        ).count("encoder")
    except AsrError as error:
        reasons["nodes"] = str(error)
    try:
        energy = model_energy(bundle, graphs.precision, frames, run.tokens / run.audio_s)
        energy_mj = sum(part.millijoules for part in energy.values())
    except ValueError as error:
        reasons["energy_modelled_mj_per_audio_s"] = str(error)
    if run.errors.words:
        wer = run.errors.rate
        if baseline.variant.name == BASELINE:
            wer_delta = wer - baseline.errors.rate
        else:
            reasons["wer_delta"] = f"no variant is named {BASELINE}"
    else:
        reasons |= dict.fromkeys(("wer", "wer_delta"), "the recordings have no texts")
    ratios = {"step_ratio": _paired(run, baseline, 0), "rtf_ratio": _paired(run, baseline, 1)}
    for name, ratio in ratios.items():
        if ratio is None:
            reasons[name] = "no recording is as long as the chunks of both"
    return {
        "name": variant.name,
        "model": str(bundle.path),
        "precision": graphs.precision,
        "engine": graphs.engine,
        "threads": variant.threads,
        "chunk_ms": run.recognizer.chunk_ms,
        "file_mb": bundle.megabytes(graphs),
        "step_ms_p50": 1000 * percentile(run.steps_s, 50),
        "step_ms_p95": 1000 * percentile(run.steps_s, 95),
        "rtf": run.compute_s / run.audio_s,
        "load_ms": load_ms,
        "peak_rss_mb": peak_mb,
        "wer": wer,
        "wer_delta": wer_delta,
        "nodes": nodes,
        **ratios,
        "energy_modelled_mj_per_audio_s": energy_mj,
        "reasons": reasons,
    }


def roofline_result(
    runs: Sequence[VariantRun], measure: Callable[[], MachineRates]
) -> dict[str, Any]:
    """Return what the JSON has of the roofline."""
    try:
        rates = measure()
    except AsrError as error:
        return {"reason": str(error)}
    variants = []
    for run in runs:
        try:
            frames = _chunk_frames(run.recognizer)
            bound = step_bound(
                run.recognizer.bundle, run.recognizer.graphs.precision, frames, rates
            )
        except ValueError as error:
            variants.append({"name": run.variant.name, "reason": str(error)})
        else:
            step_ms = 1000 * percentile(run.steps_s, 50)
            variants.append({"name": run.variant.name, **bound.to_dict(step_ms)})
    return {**asdict(rates), "variants": variants}


def matrix_result(
    envelope: Envelope,
    plan: MatrixPlan,
    variants: Sequence[dict[str, Any]],
    roofline: dict[str, Any],
    sources: Sequence[str],
    audio_s: float,
    complete: bool,
) -> dict[str, Any]:
    """Return what the JSON holds; the envelope is that of the baseline."""
    return {
        **result_head("matrix", envelope, sources, plan.variants[plan.baseline].threads),
        "repeat": plan.repeat,
        "complete": complete,
        "audio_s": audio_s,
        "variants": list(variants),
        "roofline": roofline,
    }


def _play_all(
    runs: Sequence[VariantRun],
    slices: Blocks,
    clock: Callable[[], float],
    turn: int,
    measure: bool,
) -> list[str]:
    """Play slices to all variants, each to all before the next; return their texts."""
    playing = [Playing(run.recognizer.stream(), run.engine, clock) for run in runs]
    spent = [(run.engine.times.total_s, len(run.engine.encoder_s)) for run in runs]
    for number, (samples, rate) in enumerate(slices):
        for place in range(len(runs)):
            index = (turn + number + place) % len(runs)
            engine, before_s = runs[index].engine, runs[index].engine.times.total_s
            steps = len(engine.encoder_s)
            playing[index].accept(samples, rate)
            if measure:
                encoder_s = sum(engine.encoder_s[steps:])
                runs[index].slices.append((encoder_s, engine.times.total_s - before_s))
    played = [one.finish() for one in playing]
    if measure:
        for run, one, (before_s, steps) in zip(runs, played, spent, strict=True):
            run.steps_s += run.engine.encoder_s[steps:]
            run.compute_s += run.engine.times.total_s - before_s
            run.audio_s += one.audio_s
            run.tokens += len(one.final.result.tokens)
    return [one.final.text for one in played]


def _paired(run: VariantRun, baseline: VariantRun, part: int) -> float | None:
    """Return the median ratio over the slices in which both encoded something; None without any."""
    pairs = zip(run.slices, baseline.slices, strict=True)
    ratios = [own[part] / other[part] for own, other in pairs if own[0] and other[0]]
    return statistics.median(ratios) if ratios else None


def _chunk_frames(recognizer: Recognizer) -> int:
    bundle = recognizer.bundle
    frame_ms = bundle.streaming.subsampling_factor * bundle.features.frame_shift_ms
    return round(recognizer.chunk_ms / frame_ms)
