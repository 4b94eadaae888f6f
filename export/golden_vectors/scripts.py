"""Golden vectors without a model: segments, silence gate, governor and admission under scripts."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import asdict
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from asr.budget import CHUNKS_MS, Budget, OperatingPoint
from asr.bundle import StreamingConfig
from asr.calibration import Profile, admit
from asr.decoding.endpoint import EndpointRules
from asr.decoding.gate import SilenceGate
from asr.decoding.hypothesis import Emission, Hypothesis
from asr.engines import Floats
from asr.errors import BudgetError
from asr.governor import Governor, Measurement
from asr.results import Event
from asr.segments import Segmenter
from asr.transcript import Transcript
from export.golden_vectors.files import (
    Json,
    event_json,
    read_arrays,
    read_json,
    write_arrays,
    write_json,
)

FRAME_S = 0.04
PIECES = ("<blk>", "<unk>", "▁so", "▁me", "▁word", "s", "▁to", "ing", "▁he", "ar", "'ll", "▁")

SEGMENT_SCRIPTS, GATE_SCRIPTS, METERS, ADMISSIONS = 200, 30, 1000, 300

METER_STEP_S = 2.0
"""How long a meter stays at each of its values."""

_SHORT_S, _LONG_S = 64, 640  # meters: nine of ten are short, the others outlast every wait
_LOAD_UNIT, _QUEUE_UNIT_S = 32, 8  # a load of 32 is what was calibrated, a queue of 8 is a second


class ScriptedSearch:
    """Finds what a script says. Implements `asr.decoding.hypothesis.Search`.

    What it found in the last `lag` frames is not stable yet.
    """

    def __init__(self, script: Sequence[Emission], lag: int) -> None:
        self._script = list(script)
        self._lag = lag
        self._found: list[Emission] = []
        self._frames = 0

    @property
    def best(self) -> Hypothesis:
        limit = self._frames - self._lag
        return Hypothesis(self._found, sum(emission.frame < limit for emission in self._found))

    def accept(self, encoder_out: Floats) -> None:
        self._frames += len(encoder_out)
        while self._script and self._script[0].frame < self._frames:
            self._found.append(self._script.pop(0))

    def forget(self, count: int) -> None:
        del self._found[:count]

    def fork(self) -> "ScriptedSearch":
        return deepcopy(self)

    def skip(self, frames: int) -> None:
        self._frames += frames

    def reset(self) -> None:
        self._found.clear()


def segment_scripts() -> Iterator[Json]:
    """Yield scripts of a search: tokens at frames, sizes of chunks, rules."""
    random = Random(1)
    for number in range(SEGMENT_SCRIPTS):
        frame, emissions = 0, []
        for _ in range(random.randint(0, 40)):
            frame += random.choice([1, 2, 5, 12, 33, 70])
            token = random.randint(2, len(PIECES) - 1)
            emissions.append([frame, token, -random.randint(0, 80) / 16])
        rules = EndpointRules(
            silence_s=random.choice([None, 1.0, 2.4]),
            pause_s=random.choice([None, 0.3, 1.2]),
            length_s=random.choice([None, 0.5, 2.0, 20.0]),
        )
        yield {
            "emissions": emissions,
            "chunks": [random.randint(1, 40) for _ in range((frame + 80) // 20)],
            "lag": random.choice([0, 0, 6]),
            "rules": None if number % 8 == 0 else asdict(rules),
        }


def run_segments(script: Json) -> Json:
    """Return the events of a script, and the result."""
    rules = None if script["rules"] is None else EndpointRules(**script["rules"])
    emissions = [Emission(token, frame, log_prob) for frame, token, log_prob in script["emissions"]]
    search = ScriptedSearch(emissions, script["lag"])
    segmenter = Segmenter(search, Transcript(PIECES, FRAME_S), FRAME_S, rules)
    events: list[Event] = []
    frames = 0
    for chunk in script["chunks"]:
        frames += chunk
        events += segmenter.accept(np.zeros((chunk, 1), np.float32), frames * FRAME_S)
    tokens = [asdict(token) for token in segmenter.tokens]
    events += segmenter.finish(frames * FRAME_S)
    return {
        "events": [event_json(event) for event in events],
        "open_tokens": tokens,
        "text": segmenter.text,
        "result": asdict(segmenter.result(frames * FRAME_S)),
    }


def gate_scripts() -> Iterator[Json]:
    """Yield levels of feature frames (a sixteenth above -16, of the lower and the upper bins) and
    the encoder frames with a token."""
    random = Random(2)
    for _ in range(GATE_SCRIPTS):
        low: list[int] = []
        high: list[int] = []
        tokens = []
        while len(low) < 3_000:
            length = random.choice([9, 40, 200, 900])
            level, jitter = random.choice([(20, 3), (20, 12), (120, 60), (45, 8)])
            low += [level + random.randint(0, jitter) for _ in range(length)]
            high += [20 + random.randint(0, jitter) for _ in range(length)]
            if level > 100:
                tokens.append(len(low) // 4)
        chunk = random.choice([4, 8, 16])
        yield {"low": low, "high": high, "tokens": tokens, "chunk": chunk, "block": 7 * chunk}


def run_gate(script: Json) -> Json:
    """Return what was skipped and encoded behind each block of features."""
    low, high = np.array(script["low"], np.float32), np.array(script["high"], np.float32)
    features = np.repeat(np.stack([low, high], axis=1) / np.float32(16) - 16, 40, axis=1)
    gate = SilenceGate(StreamingConfig())
    chunk, passed, log = script["chunk"], 0, []

    def idle() -> int:
        return passed - max((token for token in script["tokens"] if token <= passed), default=0)

    for start in range(0, len(features), script["block"]):
        block = features[start : start + script["block"]]
        ended = start + script["block"] >= len(features)
        gate.accept(block)
        skipped = gate.skippable(idle(), ended)
        skipped -= skipped % chunk
        gate.pass_on(skipped)
        passed += skipped
        encoded = 0
        while not gate.is_closed(idle()) and (start + len(block)) // 4 - passed >= chunk:
            gate.pass_on(chunk)
            passed += chunk
            encoded += chunk
        log.append([skipped, encoded])
    return log


def meters() -> tuple[list[Json], NDArray[np.uint8], NDArray[np.uint8]]:
    """Return the scripts of the governor, and one behind the other their loads and queues.

    A load is how much dearer than calibrated computing is; `dearer` belies the calibration of each
    point for good. `preferred` and `start` are indices of the ladder.
    """
    random = Random(3)
    scripts: list[Json] = []
    loads: list[int] = []
    queues: list[int] = []
    for number in range(METERS):
        chunks = sorted(random.sample(CHUNKS_MS, random.randint(2, len(CHUNKS_MS))))
        costs = sorted((round(random.uniform(0.002, 0.06), 4) for _ in chunks), reverse=True)
        preferred = random.randrange(len(chunks))
        wait_ms = OperatingPoint(chunks[preferred]).wait_ms
        limits = [None, wait_ms + random.choice([-100, 20, 60, 200, 500])]
        scripts.append(
            {
                "chunks_ms": chunks,
                "costs": costs,
                "dearer": [random.choice([1.0, 1.0, 0.5, 2.0, 5.0]) for _ in chunks],
                "preferred": preferred,
                "start": random.randrange(len(chunks)),
                "rtf": random.choice([None, *(round(cost * 1.3, 4) for cost in costs)]),
                "latency_ms": random.choice(limits),
                "steps": round((_LONG_S if number % 10 == 0 else _SHORT_S) / METER_STEP_S),
            }
        )
        load, queue, rise = 32.0, 0.0, 0.0
        wildness = random.choice([0.0, 0.02, 0.2])
        for _ in range(scripts[-1]["steps"]):
            if random.random() < wildness:
                load = random.choice([4, 16, 30, 40, 60, 120, 250])
            if random.random() < wildness / 2:
                rise = random.choice([0, 0, 3, 8])
            queue = min(255.0, queue + rise) if rise else queue / 4
            loads.append(min(255, round(load * random.uniform(0.95, 1.05))))
            queues.append(round(queue))
    return scripts, np.array(loads, np.uint8), np.array(queues, np.uint8)


def run_meter(script: Json, loads: Sequence[int], queues: Sequence[int]) -> Json:
    """Return every decision of the governor under a meter."""
    ladder = [*map(OperatingPoint, script["chunks_ms"])]
    governor = Governor(
        Budget(rtf=script["rtf"], latency_ms=script["latency_ms"]),
        dict(zip(ladder, script["costs"], strict=True)),
        ladder[script["start"]],
        ladder[script["preferred"]],
    )
    time_s, number, decisions = 0.0, 0, []
    while (step := int(time_s / METER_STEP_S)) < script["steps"]:
        here = ladder.index(governor.point)
        audio_s = governor.point.chunk_ms / 1000
        jitter = 1 + (number * 7 % 5 - 2) / 20  # by up to 10 %
        dearer = loads[step] / _LOAD_UNIT * script["dearer"][here] * jitter
        time_s += audio_s
        number += 1
        decision = governor.observe(
            Measurement(
                time_s,
                governor.point,
                audio_s,
                dearer * script["costs"][here] * audio_s,
                queues[step] / _QUEUE_UNIT_S,
            )
        )
        if decision is not None:
            decisions.append(event_json(decision))
    return decisions


def run_meters(
    scripts: Sequence[Json], loads: NDArray[np.uint8], queues: NDArray[np.uint8]
) -> list[Json]:
    """Return the decisions of each script."""
    ends = np.cumsum([script["steps"] for script in scripts])
    parts = zip(np.split(loads, ends)[:-1], np.split(queues, ends)[:-1], strict=True)
    return [
        run_meter(script, load.tolist(), queue.tolist())
        for script, (load, queue) in zip(scripts, parts, strict=True)
    ]


def admission_scripts() -> Iterator[Json]:
    """Yield profiles and budgets."""
    random = Random(4)
    for _ in range(ADMISSIONS):
        chunks = sorted(random.sample(CHUNKS_MS, random.randint(1, len(CHUNKS_MS))))
        costs = sorted((random.uniform(0.002, 0.06) for _ in chunks), reverse=True)
        yield {
            "chunks_ms": chunks,
            "rtf": costs,
            "growth_mb": sorted(random.uniform(0, 20) for _ in chunks),
            "budget": {
                "rtf": random.choice([None, costs[0], costs[-1], random.uniform(0.001, 0.07)]),
                "memory_mb": random.choice([None, random.uniform(90, 130)]),
                "latency_ms": random.choice([None, random.uniform(150, 3000)]),
            },
            "wish_ms": random.choice(chunks),
            "held_mb": 100.0,
        }


def run_admission(script: Json) -> Json:
    """Return how the stream may run, or the message that refuses it."""
    points = [*map(OperatingPoint, script["chunks_ms"])]
    profile = Profile(
        dict(zip(points, script["rtf"], strict=True)),
        dict(zip(points, script["growth_mb"], strict=True)),
    )
    try:
        found = admit(
            Budget(**script["budget"]),
            profile,
            OperatingPoint(script["wish_ms"]),
            script["held_mb"],
        )
    except BudgetError as error:
        return {"refusal": str(error)}
    return {
        "start_ms": found.start.chunk_ms,
        "preferred_ms": found.preferred.chunk_ms,
        "ladder_ms": [point.chunk_ms for point in found.rtf],
        "growth_mb": found.growth_mb,
    }


_RUNS = {
    "segments": (segment_scripts, run_segments),
    "gate": (gate_scripts, run_gate),
    "admissions": (admission_scripts, run_admission),
}


def write_script_vectors(folder: Path) -> None:
    """Write the vectors that need no model to `folder`."""
    for name, (scripts, run) in _RUNS.items():
        golden = [{"script": script, "golden": run(script)} for script in scripts()]
        write_json(folder / f"{name}.json.gz", golden)
    meter_scripts, loads, queues = meters()
    write_arrays(folder / "governor.npz", {"load": loads, "queue": queues})
    golden = [
        {"script": script, "golden": decisions}
        for script, decisions in zip(
            meter_scripts, run_meters(meter_scripts, loads, queues), strict=True
        )
    ]
    write_json(folder / "governor.json.gz", golden)


def run_again(folder: Path, name: str) -> tuple[list[Json], list[Json]]:
    """Return what `folder` holds of a kind of script, and what this code makes of the scripts."""
    rows = read_json(folder / f"{name}.json.gz")
    scripts = [row["script"] for row in rows]
    if name == "governor":
        arrays = read_arrays(folder / "governor.npz")
        found = run_meters(scripts, arrays["load"], arrays["queue"])
    else:
        found = [_RUNS[name][1](script) for script in scripts]
    return [row["golden"] for row in rows], found
