"""Loading and memory of a model in a process that does nothing else.

`measure` starts `python -m asr.evaluation.bench.probe`, which imports nothing of the runtime before
its clock runs. Memory is that of the whole process: Python, numpy and the engine are in it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

GROWTH_SAMPLE_S = 5.0
"""Of audio, from one look at the memory to the next."""

_SETTLED = 1 / 3
"""The first third of a long stream is left out: buffers and caches fill once."""

_BLOCK_S = 0.1  # of audio, so that no block holds two chunks
_MODULES = {"ort": "onnx"}
"""Of `asr.engines`, where it isn't called like the engine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """What to load, and what to do with it."""

    model: str | None = None  # directory; None: the built-in one
    precision: str
    engine: str
    threads: int = 1
    chunk_ms: int | None = None
    recordings: tuple[str, ...] = ()  # audio files
    growth_s: float = 0.0  # seconds of audio of one long stream, after each recording was heard


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What a process of its own came to."""

    import_ms: float  # of the runtime, its engine included
    load_ms: float  # of the model, behind that
    first_chunk_ms: float | None  # computing time of the first chunk; None without recordings
    rss_import_mb: float
    rss_load_mb: float
    rss_peak_mb: float  # after all recordings were heard, each in a stream
    memory_mb: tuple[tuple[float, float], ...]  # (seconds of audio, MB) of the long stream

    @property
    def growth_mb_per_h(self) -> float | None:
        """Slope of the memory of the long stream; None where it was too short for one."""
        return growth_mb_per_h(self.memory_mb)


class ProbeError(Exception):
    """The process failed; the message is its last line."""


def measure(plan: ProbePlan, timeout_s: float = 3600) -> ProbeResult:
    """Measure in a fresh process. Raises ProbeError."""
    root = Path(__file__).parents[3]
    paths = [str(root), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "asr.evaluation.bench.probe", json.dumps(asdict(plan))],
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired as error:
        raise ProbeError(f"no answer of a fresh process after {timeout_s:g} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise ProbeError(f"a fresh process failed: {lines[-1]}")
    answer = json.loads(done.stdout.splitlines()[-1])
    return ProbeResult(**answer | {"memory_mb": tuple(map(tuple, answer["memory_mb"]))})


def growth_mb_per_h(samples: Sequence[tuple[float, float]]) -> float | None:
    """Return the slope of memory in MB an hour by least squares, without the first third; `samples`
    are (seconds, MB). None for fewer than three that are left."""
    if not samples:
        return None
    settled = [item for item in samples if item[0] >= _SETTLED * samples[-1][0]]
    if len(settled) < 3:
        return None
    mean_s = sum(s for s, _ in settled) / len(settled)
    mean_mb = sum(mb for _, mb in settled) / len(settled)
    spread = sum((s - mean_s) ** 2 for s, _ in settled)
    return 3600 * sum((s - mean_s) * (mb - mean_mb) for s, mb in settled) / spread


def run(plan: ProbePlan, clock: Any = time.perf_counter) -> ProbeResult:
    """Measure in this process, which should have imported nothing yet."""
    started = clock()
    import asr
    from asr.recognizer import load

    import_module(f"asr.engines.{_MODULES.get(plan.engine, plan.engine)}")
    import_ms = 1000 * (clock() - started)
    from asr.evaluation.meters import peak_rss_mb
    from asr.memory import resident_mb

    rss_import_mb = resident_mb()
    started = clock()
    recognizer = load(
        plan.model,
        precision=plan.precision,
        engine=plan.engine,
        chunk_ms=plan.chunk_ms,
        threads=plan.threads,
    )
    load_ms = 1000 * (clock() - started)
    rss_load_mb = resident_mb()
    first_chunk_ms = None
    for recording in plan.recordings:
        stream = recognizer.stream()
        for samples, rate in asr.read_blocks(recording, _BLOCK_S):
            stream.accept(samples, rate)
            if first_chunk_ms is None and stream.report().points:
                first_chunk_ms = 1000 * stream.meter.compute_s
        stream.finish()
    peak_mb = peak_rss_mb()
    memory_mb = _long_stream(recognizer, plan) if plan.growth_s and plan.recordings else ()
    return ProbeResult(
        import_ms, load_ms, first_chunk_ms, rss_import_mb, rss_load_mb, peak_mb, memory_mb
    )


def _long_stream(recognizer: Any, plan: ProbePlan) -> tuple[tuple[float, float], ...]:
    import asr
    from asr.memory import resident_mb

    stream = recognizer.stream()
    samples_mb = []
    due_s = 0.0
    while stream.audio_s < plan.growth_s:
        for recording in plan.recordings:
            for samples, rate in asr.read_blocks(recording):
                stream.accept(samples, rate)
            if stream.audio_s >= due_s:
                samples_mb.append((stream.audio_s, resident_mb()))
                due_s = stream.audio_s + GROWTH_SAMPLE_S
    return tuple(samples_mb)


if __name__ == "__main__":
    asked = json.loads(sys.argv[1])
    print(json.dumps(asdict(run(ProbePlan(**asked | {"recordings": tuple(asked["recordings"])})))))
