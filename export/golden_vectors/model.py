"""Golden vectors of a model: features, encoder output, and the events of streams."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from asr.audio import read_blocks, resample_blocks, to_float
from asr.bundle import Bundle
from asr.decoding.endpoint import EndpointRules
from asr.engines import Floats, open_engine
from asr.engines.golden import encode_by_chunks
from asr.evaluation.corpora.manifest import Manifest
from asr.features import SAMPLE_RATE, Samples, compute_features
from asr.recognizer import Recognizer, load
from asr.results import Final
from asr.text import normalize
from export.golden_vectors.files import Json, event_json, write_arrays, write_json

Recordings = Mapping[str, NDArray[np.int16]]

PRECISIONS = ("int8", "fp32")


@dataclass(frozen=True)
class Scenario:
    """A stream of recordings and silence."""

    name: str
    parts: Sequence[str | float]  # names of recordings, and seconds of silence
    chunk_frames: Sequence[int]  # of the first block, the second, ...; then from the first again
    block: int  # samples in a block
    endpoints: EndpointRules | None = None
    gate: bool = False

    @classmethod
    def from_json(cls, content: Json) -> "Scenario":
        """Return the scenario of a member of `streams.json`."""
        rules = content["endpoints"]
        endpoints = None if rules is None else EndpointRules(**rules)
        return cls(**{**content, "endpoints": endpoints})

    def samples(self, recordings: Recordings) -> NDArray[np.int16]:
        """Return the audio `(n,)`."""
        parts = [
            recordings[part] if isinstance(part, str) else np.zeros(round(part * SAMPLE_RATE))
            for part in self.parts
        ]
        return np.concatenate(parts).astype(np.int16)


@dataclass(frozen=True)
class StreamGolden:
    """What came of a scenario."""

    events: Sequence[Json]  # the last one is the `Final`
    skipped_s: float
    segment_tokens: Sequence[Json] = field(default_factory=list)  # behind the last block


def scenarios(names: Sequence[str]) -> list[Scenario]:
    """Return the scenarios: each recording, and all of them in one stream in several ways."""
    short = EndpointRules(silence_s=1.0, pause_s=0.4, length_s=2.0)
    first, second, third, last = (names[number % len(names)] for number in (0, 1, -2, -1))
    gaps: list[str | float] = [0.3, first, 0.9, second, 6.0, third, 2.7, last, 5.0]
    return [
        *(Scenario(name, [name], [8], 1_600) for name in names),
        Scenario("quick", [names[0]], [4], 480),
        Scenario("switching", [*names], [8, 4, 16, 8, 32, 64], 16_000),
        Scenario("segments", gaps, [8], 1_600, EndpointRules()),
        Scenario("short-segments", gaps, [16], 5_000, short),
        Scenario("gated", gaps, [8], 1_600, EndpointRules(), gate=True),
    ]


def run_stream(recognizer: Recognizer, scenario: Scenario, recordings: Recordings) -> StreamGolden:
    """Recognise a scenario."""
    samples = scenario.samples(recordings)
    stream = recognizer.stream(endpoints=scenario.endpoints, gate=scenario.gate)
    events: list[Json] = []
    for number, start in enumerate(range(0, len(samples), scenario.block)):
        stream.chunk_frames = scenario.chunk_frames[number % len(scenario.chunk_frames)]
        block = samples[start : start + scenario.block]
        events += map(event_json, stream.accept(block))
    open_tokens = [asdict(token) for token in stream.segment_tokens]
    final: Final = stream.finish()
    return StreamGolden([*events, event_json(final)], stream.skipped_s, open_tokens)


def signals(recordings: Recordings) -> dict[str, Samples]:
    """Return what the filter bank is tested with: speech, and what is hard to compute."""
    rng = np.random.default_rng(5)
    time = np.arange(4_000) / SAMPLE_RATE
    return {
        "speech": to_float(next(iter(recordings.values()))[8_000:32_123]),
        # A wide range: a loud tone, and nearly nothing an octave above it.
        "tone": (0.9 * np.sin(2 * np.pi * 220 * time) + 0.05).astype(np.float32),
        "noise": rng.normal(0, 0.1, 1_681).astype(np.float32),
        "clipped": np.clip(rng.normal(0, 2, 1_599), -1, 1).astype(np.float32),
        "silence": np.zeros(900, np.float32),
        "shortest": rng.normal(0, 0.1, 80).astype(np.float32),  # one frame, mirrored many times
    }


def write_model_vectors(
    folder: Path, bundle: Bundle, exact: Bundle, recordings: Recordings, references: Json
) -> None:
    """Write the vectors of a model to the new directory `folder`.

    `bundle` has it in int8, `exact` in fp32; `references` is what is said in each recording.
    """
    write_arrays(folder / "recordings.npz", recordings)
    frames: dict[str, NDArray[np.float32]] = {}
    for name, samples in signals(recordings).items():
        frames |= {f"{name}.samples": samples, f"{name}.frames": compute_features(samples)}
    write_arrays(folder / "features.npz", frames)
    bundles = {"int8": bundle, "fp32": exact}
    features = encoder_input(recordings)
    encoded = {name: encoder_output(bundles[name], name, features) for name in PRECISIONS}
    write_arrays(folder / "encoder.npz", {"features": features, **encoded})
    streams = []
    for scenario in scenarios([*recordings]):
        golden = {
            name: asdict(
                run_stream(
                    load(bundles[name].path, precision=name, search="greedy"),
                    scenario,
                    recordings,
                )
            )
            for name in PRECISIONS
        }
        streams.append({"scenario": asdict(scenario), "golden": golden})
    write_json(
        folder / "streams.json",
        {
            "made_of": made_of(bundle),
            "onnxruntime": onnxruntime.__version__,
            "references": references,
            **{stream["scenario"]["name"]: stream for stream in streams},
        },
    )


def encoder_input(recordings: Recordings) -> Floats:
    """Return the features `(T, 80)` that the encoder is tested with."""
    return compute_features(to_float(next(iter(recordings.values()))[:40_000]))


def encoder_output(bundle: Bundle, precision: str, features: Floats) -> Floats:
    """Return what the encoder makes of the whole chunks of features."""
    return encode_by_chunks(open_engine(bundle, precision), features, bundle.streaming)


def made_of(bundle: Bundle) -> dict[str, str]:
    """Return what the vectors of a model depend on: the digests of its files."""
    names = sorted([*bundle.graphs("int8").names, bundle.tokens])
    return {name: bundle.files[name].sha256 for name in names}


def read_recordings(manifest: Manifest) -> tuple[dict[str, NDArray[np.int16]], dict[str, str]]:
    """Return the recordings of a manifest at 16 kHz, and what is said in them, normalised.

    Raises AudioError where one can't be read.
    """
    recordings, references = {}, {}
    for utterance in manifest.utterances:
        samples = np.concatenate(list(resample_blocks(read_blocks(utterance.audio))))
        recordings[utterance.id] = np.round(32768 * samples).clip(-32768, 32767).astype(np.int16)
        references[utterance.id] = normalize(utterance.text)
    return recordings, references


def write_texts(folder: Path, bundle: Bundle, manifest: Manifest) -> None:
    """Write recordings of your own and what is heard in them, to compare word error rates with."""
    recordings, references = read_recordings(manifest)
    write_arrays(folder / "recordings.npz", recordings)
    recognizer = load(bundle.path, precision="int8", search="greedy")
    texts: dict[str, Any] = {}
    for name, samples in recordings.items():
        stream = recognizer.stream()
        stream.accept(samples)
        texts[name] = {"reference": references[name], "text": stream.finish().text}
    write_json(folder / "texts.json", texts)
