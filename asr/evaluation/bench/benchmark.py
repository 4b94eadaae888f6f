"""`asr bench`: every figure of a model on this machine that one command can have.

Recordings are given to streams as fast as these take them, in blocks of 100 ms, on one thread; when
something would have been seen in real time is computed (`asr.evaluation.bench.timing.Playing`). All
passes over the recordings make the same calls, so the figures of a pass differ by what the machine
does; a row has the median over the passes and its quartiles. Loading and memory are those of fresh
processes.

The JSON is that of `rows.py`, kind "bench", and beside `rows`: `sources`, `repeat`, `warmup`,
`cooldown_s`, `audio_s` of a pass, and `chunk_ms_histogram` with `edges_ms` and `counts` of the
computing time of all chunks. `--per-op` adds `operators`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio import Blocks, read_blocks
from asr.decoding.endpoint import EndpointRules
from asr.engines import Engine
from asr.errors import AsrError
from asr.evaluation.bench.emission import TimedSpeech
from asr.evaluation.bench.latency import (
    Stability,
    endpoint_latency_s,
    first_partial_s,
    stability,
    word_latencies,
)
from asr.evaluation.bench.rows import (
    INTERRUPTED,
    Row,
    all_not_available,
    figure,
    not_available,
    percentile,
    result_head,
    rows_to_dict,
)
from asr.evaluation.bench.timing import (
    STAGES,
    Chunk,
    Played,
    Playing,
    StageTimes,
    TimingEngine,
    play,
)
from asr.evaluation.envelope import Envelope
from asr.evaluation.playback import BLOCK_S, Recording
from asr.recognizer import Recognizer

TAIL_S = 3.0
"""Silence behind speech, for an endpoint to come."""

_BINS = 40


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """How often, and with what rest."""

    repeat: int = 3  # measured passes over the recordings
    warmup: int = 1  # passes before them that don't count
    cooldown_s: float = 0.0  # rest before each measured pass

    def __post_init__(self) -> None:
        """Raises AsrError for what can't be done."""
        if self.repeat < 1 or self.warmup < 0 or not 0 <= self.cooldown_s < float("inf"):
            raise AsrError(f"{self}; expected repeat >= 1, warmup >= 0, cooldown_s >= 0")


@dataclass(frozen=True, slots=True)
class Pass:
    """All recordings, once."""

    played: tuple[Played, ...]  # in their order
    times: StageTimes

    @property
    def audio_s(self) -> float:
        """Of all recordings."""
        return sum(played.audio_s for played in self.played)

    @property
    def rtf(self) -> float:
        """Computing time over audio time."""
        return self.times.total_s / self.audio_s

    @property
    def chunks(self) -> list[Chunk]:
        """Of all recordings."""
        return [chunk for played in self.played for chunk in played.chunks]

    @property
    def tokens(self) -> int:
        """Emitted, of all recordings."""
        return sum(len(played.final.result.tokens) for played in self.played)


class Bench:
    """Runs passes; `passes` are the measured ones so far."""

    def __init__(
        self,
        recognizer: Recognizer,
        recordings: Sequence[Recording],
        *,
        clock: Callable[[], float] = time.perf_counter,
        sleep: Callable[[float], object] = time.sleep,
        read: Callable[[Path, float], Blocks] = read_blocks,
    ) -> None:
        """Take a model and at least one recording; `clock` tells seconds from any origin."""
        self.recognizer = recognizer
        self.recordings = recordings
        self.passes: list[Pass] = []
        self._clock, self._sleep, self._read = clock, sleep, read

    def warm_up(self, plan: BenchPlan, watch: Callable[[str], None] = lambda text: None) -> None:
        """Run the passes that don't count; `watch` is told before each.

        Raises AudioError for a damaged recording.
        """
        for number in range(plan.warmup):
            watch(f"warm-up {number + 1} of {plan.warmup}")
            self.once()

    def measure(self, plan: BenchPlan, watch: Callable[[str], None] = lambda text: None) -> None:
        """Run the passes that count. An interrupt leaves those that were done."""
        for number in range(plan.repeat):
            if plan.cooldown_s:
                watch(f"cooling down for {plan.cooldown_s:g} s")
                self._sleep(plan.cooldown_s)
            watch(f"pass {number + 1} of {plan.repeat}")
            self.passes.append(self.once())

    def once(self) -> Pass:
        """Run one pass, of an engine that has kept nothing of the pass before: what it remembers of
        the same words would make it faster than speech that is new to it."""
        engine, recognizer = self._timed()
        engine.release_memory()
        played = [
            play(
                Playing(recognizer.stream(), engine, self._clock),
                self._read(recording.path, BLOCK_S),
            )
            for recording in self.recordings
        ]
        return Pass(tuple(played), engine.times)

    def timed_rows(self, speech: Sequence[TimedSpeech], source: str, repeat: int) -> dict[str, Row]:
        """Return the rows that need speech whose word times are known, from `repeat` passes."""
        latencies = [self._timed_pass(speech) for _ in range(repeat)]
        where = f"{len(speech)} recordings: {source}"
        rows: dict[str, Row] = {}
        for name, reason in [
            ("emission", f"no word was recognised in {where}"),
            ("display", f"no word was recognised in {where}"),
            ("endpoint", f"no endpoint came behind {where}"),
        ]:
            for percent in (50, 90):
                values = [1000 * percentile(one[name], percent) for one in latencies if one[name]]
                rows[f"{name}_latency_ms_p{percent}"] = (
                    figure(values, "ms", source) if values else not_available("ms", reason)
                )
        return rows

    def _timed_pass(self, speech: Sequence[TimedSpeech]) -> dict[str, list[float]]:
        """Return seconds of emission, display and endpoint latency."""
        engine, recognizer = self._timed()
        words, endpoints_s = [], []
        for item in speech:
            blocks = self._read(item.audio, BLOCK_S)
            playing = Playing(recognizer.stream(), engine, self._clock)
            words += word_latencies(play(playing, blocks), item.words)
            stream = recognizer.stream(endpoints=EndpointRules())
            blocks = _with_tail(self._read(item.audio, BLOCK_S))
            played = play(Playing(stream, engine, self._clock), blocks)
            if (latency_s := endpoint_latency_s(played, item.words)) is not None:
                endpoints_s.append(latency_s)
        return {
            "emission": [word.emission_s for word in words],
            "display": [word.display_s for word in words],
            "endpoint": endpoints_s,
        }

    def _timed(self) -> tuple[TimingEngine, Recognizer]:
        engines: list[TimingEngine] = []

        def wrap(engine: Engine) -> Engine:
            engines.append(TimingEngine(engine, self._clock))
            return engines[0]

        recognizer = self.recognizer.with_engine(wrap)
        return engines[0], recognizer


def speed_rows(passes: Sequence[Pass], chunk_ms: int, algorithmic_ms: float) -> dict[str, Row]:
    """Return the rows of time and latency of one or more passes."""

    def chunks_ms(one: Pass, percent: float) -> float:
        return percentile([1000 * chunk.compute_s for chunk in one.chunks], percent)

    def over(value: Callable[[Pass], float], unit: str = "") -> Row:
        return figure([value(one) for one in passes], unit)

    if not all(one.chunks for one in passes):
        raise AsrError("the recordings are shorter than a chunk; name longer ones")
    rows = {
        "rtf": over(lambda one: one.rtf),
        "rtfx": over(lambda one: 1 / one.rtf),
        "rtf_p95_chunk": over(lambda one: chunks_ms(one, 95) / chunk_ms),
    }
    for percent in (50, 95, 99):
        rows[f"chunk_ms_p{percent}"] = over(partial(chunks_ms, percent=percent), "ms")
    rows |= {
        "chunks_per_s": over(lambda one: len(one.chunks) / one.times.total_s, "chunks/s"),
        "tokens_per_s": over(lambda one: one.tokens / one.times.total_s, "tokens/s"),
        "deadline_miss_percent": over(
            lambda one: 100 * sum(chunk.late for chunk in one.chunks) / len(one.chunks), "%"
        ),
    }
    for stage in STAGES:
        rows[f"share_{stage}"] = over(lambda one, stage=stage: one.times.shares()[stage])  # type: ignore[misc]
    rows["algorithmic_latency_ms"] = figure(algorithmic_ms, "ms")
    firsts_ms = [_first_partials_ms(one) for one in passes]
    rows["first_partial_ms"] = (
        figure([percentile(values, 50) for values in firsts_ms], "ms")
        if all(firsts_ms)
        else not_available("ms", "no text was shown before the end of a recording")
    )
    for percent in (50, 90):
        rows[f"response_latency_ms_p{percent}"] = figure(
            [percentile([1000 * p.response_s for p in one.played], percent) for one in passes], "ms"
        )
    return rows


def stability_rows(one: Pass) -> dict[str, Row]:
    """Return how partials changed; every pass has the same."""
    total = sum((stability(played) for played in one.played), start=Stability())
    reason = "no text was shown"
    values = {
        "partial_revisions_per_word": total.revisions_per_word,
        "unstable_partial_wer": total.unstable_wer,
    }
    return {
        name: not_available("", reason) if value is None else figure(value, "")
        for name, value in values.items()
    }


def elsewhere_rows() -> dict[str, Row]:
    """Return the rows that another kind of run has."""
    sustained = [
        ("temp_max_c", "C"),
        ("throttled_at_s", "s"),
        ("rtf_first_min", ""),
        ("rtf_last_min", ""),
    ]
    budget = [("rtf_budget", ""), ("mem_budget_mb", "MB"), ("actions", ""), ("violations", "")]
    return {
        **all_not_available(sustained, "measured by --sustained MIN"),
        **all_not_available(budget, "this run has no budget; --stress has"),
    }


def chunk_histogram(passes: Sequence[Pass]) -> dict[str, Any]:
    """Return how the computing time of chunks is distributed, over all passes."""
    times_ms = [1000 * chunk.compute_s for one in passes for chunk in one.chunks]
    counts, edges = np.histogram(times_ms, bins=_BINS)
    return {"edges_ms": edges.tolist(), "counts": counts.tolist()}


def bench_result(
    envelope: Envelope,
    bench: Bench,
    plan: BenchPlan,
    rows: dict[str, Row],
    sources: Sequence[str],
    threads: int,
) -> dict[str, Any]:
    """Return what the JSON of a plain run holds."""
    return {
        **result_head("bench", envelope, sources, threads),
        **asdict(plan),
        "complete": len(bench.passes) == plan.repeat
        and not any(row.reason == INTERRUPTED for row in rows.values()),
        "audio_s": bench.passes[0].audio_s,
        "rows": rows_to_dict(rows),
        "chunk_ms_histogram": chunk_histogram(bench.passes),
    }


def _first_partials_ms(one: Pass) -> list[float]:
    firsts = [first_partial_s(played) for played in one.played]
    return [1000 * first for first in firsts if first is not None]


def _with_tail(blocks: Blocks) -> Blocks:
    """Yield blocks, and silence behind them."""
    rate = 0
    for samples, rate in blocks:
        yield samples, rate
    for _ in range(round(TAIL_S / BLOCK_S)):
        yield np.zeros(round(BLOCK_S * rate), dtype=np.float32), rate
