"""The shipped model on the shipped recordings: what a newcomer gets must be what is claimed."""

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import asr
from asr.bundle import Bundle, StreamingConfig, builtin_bundle_path, open_bundle
from asr.engines import EncoderState, Engine, Floats, open_engine
from asr.evaluation.alignment import align
from asr.evaluation.wer import WordErrors
from asr.features import compute_features
from export.bundle import BundleContents, write_bundle
from export.onnx import export_graphs
from export.release.curve import picture, read_curve
from export.release.documents import (
    PARTS_OF_DOCUMENTS,
    card_parts,
    read_documents,
    read_part,
)
from tests.export.sherpa import recognize_with_sherpa
from tests.samples import SAMPLES, read_samples
from training.checkpoint import TrainedModel, load_model
from training.decoding import greedy_search
from training.feature_cache import utterance_features
from training.model import Transducer

CHECKPOINT = Path("data/model")
BUNDLE_LIMIT_BYTES = 12_000_000
FRAME_S = 0.04


@pytest.fixture(scope="module")
def trained() -> tuple[Transducer, list[str]]:
    return load_model(CHECKPOINT)


@pytest.fixture(scope="module")
def exact(
    trained: tuple[Transducer, list[str]], tmp_path_factory: pytest.TempPathFactory
) -> Bundle:
    """The shipped weights, exported in float32."""
    model, tokens = trained
    graphs = {"fp32": export_graphs(model, StreamingConfig())}
    return write_bundle(
        tmp_path_factory.mktemp("exact") / "en", BundleContents("en", model, tokens, graphs)
    )


def errors(hypotheses: dict[str, str]) -> WordErrors:
    return WordErrors.total(
        WordErrors.of(align(sample.text.split(), hypotheses[sample.name].split()))
        for sample in SAMPLES
    )


@pytest.mark.parametrize("chunk_frames", [4, 8, 16])
@torch.no_grad()
def test_a_float_stream_gives_the_tokens_of_the_whole_utterance(
    trained: tuple[Transducer, list[str]], exact: Bundle, chunk_frames: int
) -> None:
    model, tokens = trained
    recognizer = asr.load(exact.path, precision="fp32", chunk_ms=40 * chunk_frames)
    for sample in SAMPLES:
        features = torch.from_numpy(utterance_features(sample.path))[None]
        out = model.encode(
            features,
            torch.tensor([features.size(1)]),
            chunk_frames,
            StreamingConfig().left_context_frames,
        )
        offline = [tokens[i] for i in greedy_search(model, out.frames, out.lengths)[0]]
        streamed = [token.piece for token in recognizer.transcribe(sample.path).tokens]
        assert streamed == offline
        assert streamed, "the model hears nothing"


def test_training_and_device_compute_the_same_features() -> None:
    streaming = StreamingConfig()
    for sample in SAMPLES:
        samples = read_samples(sample)
        tail = np.zeros(streaming.tail_samples, np.float32)
        expected = compute_features(np.concatenate([samples, tail]))
        np.testing.assert_array_equal(utterance_features(sample.path), expected)


def test_sherpa_hears_the_same_text_at_the_same_times(exact: Bundle) -> None:
    recognizer = asr.load(exact.path, precision="fp32")
    for sample in SAMPLES:
        samples = np.concatenate([read_samples(sample), np.zeros(16_000, np.float32)])
        stream = recognizer.stream()
        stream.accept(samples)
        ours = [(token.piece, round(token.time_s, 3)) for token in stream.finish().result.tokens]
        # It stops within the silence, a chunk earlier than we do.
        theirs = recognize_with_sherpa(exact, "fp32", samples)
        assert [t for t in theirs if t[1] < len(samples) / 16_000 - 0.32] == [
            t for t in ours if t[1] < len(samples) / 16_000 - 0.32
        ]
        assert "".join(piece for piece, _ in theirs) == "".join(piece for piece, _ in ours)


def test_int8_loses_no_words_against_sherpa(exact: Bundle) -> None:
    built_in = open_bundle(builtin_bundle_path())
    recognizer = asr.load()
    ours, theirs = {}, {}
    for sample in SAMPLES:
        samples = np.concatenate([read_samples(sample), np.zeros(16_000, np.float32)])
        stream = recognizer.stream()
        stream.accept(samples)
        ours[sample.name] = stream.finish().text
        pieces = (piece for piece, _ in recognize_with_sherpa(built_in, "int8", samples))
        theirs[sample.name] = "".join(pieces).replace("▁", " ").strip()
    assert abs(errors(ours).rate - errors(theirs).rate) <= 0.003


def test_the_bundle_is_small_and_says_what_it_is() -> None:
    bundle = open_bundle(builtin_bundle_path())
    assert sum(entry.bytes for entry in bundle.files.values()) <= BUNDLE_LIMIT_BYTES
    assert "int8" in bundle.precisions
    assert {"training_data", "wer", "limits"} <= set(bundle.card)


def test_the_bundle_was_made_of_the_shipped_weights(trained: tuple[Transducer, list[str]]) -> None:
    model, tokens = trained
    bundle = open_bundle(builtin_bundle_path())
    assert list(bundle.read_tokens()) == tokens
    golden = np.load(bundle.path / bundle.golden.file, allow_pickle=False)
    features = torch.from_numpy(golden["features"])[None]
    streaming = bundle.streaming
    with torch.no_grad():
        out = model.encode(
            features,
            torch.tensor([features.size(1)]),
            streaming.chunk_frames,
            streaming.left_context_frames,
        ).frames[0]
    np.testing.assert_allclose(out.numpy(), golden["encoder_out.fp32"], atol=1e-3)


def test_the_figures_of_the_cards_agree() -> None:
    card = open_bundle(builtin_bundle_path()).card
    curve = read_curve(Path("data/learning_curve.jsonl"))
    expected = card_parts(card, curve)
    for name, text in read_documents(Path()).items():
        for part in expected.keys() & set(PARTS_OF_DOCUMENTS[name]):
            assert read_part(text, part) == expected[part], f"{name}: {part}"
    svg = Path("data/learning_curve.svg").read_text(encoding="utf-8")
    assert svg == picture(curve, list(card["wer"]))
    assert round(TrainedModel.load(CHECKPOINT).heard_hours, 1) == card["training_hours_seen"]


def test_the_command_prints_what_the_library_hears() -> None:
    sample = SAMPLES[0]
    command = [sys.executable, "-m", "asr", "transcribe", "--json", str(sample.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["text"] == asr.load().transcribe(sample.path).text


class RememberingEngine:
    """Computes each encoder call once: another split of the same audio makes the same calls, or
    pays for those that differ."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[bytes, int], tuple[Floats, EncoderState]] = {}
        self._state = engine.initial_state()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def initial_state(self) -> EncoderState:
        return self._state

    def encode(self, features: Floats, state: EncoderState) -> tuple[Floats, EncoderState]:
        key = features.tobytes(), id(state)  # all states are kept, so an id is never used again
        if key not in self._known:
            self.calls += 1
            self._known[key] = self._engine.encode(features, state)
        return self._known[key]


def random_blocks(samples: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Split a recording into blocks of 1 sample to 10 s, as many short ones as long ones."""
    start = 0
    while start < len(samples):
        length = int(160_000 ** rng.random())
        yield samples[start : start + length]
        start += length


@pytest.mark.parametrize("splits", [20, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_split_into_blocks_gives_the_text_of_one_block(exact: Bundle, splits: int) -> None:
    engine = RememberingEngine(open_engine(exact, "fp32"))
    recognizer = asr.Recognizer(exact, engine, "fp32")
    rng = np.random.default_rng(10)
    names = [sample.name for sample in SAMPLES]
    spoken = [read_samples(sample) for sample in SAMPLES]
    audio = [np.concatenate([one, two]) for one, two in pairwise([*spoken, spoken[0]])]
    expected = []
    for samples in audio:
        stream = recognizer.stream()
        stream.accept(samples)
        expected.append(stream.finish().result)
    calls = engine.calls
    for number in range(splits):
        index = number % len(audio)
        stream = recognizer.stream()
        for block in random_blocks(audio[index], rng):
            stream.accept(block)
        assert stream.finish().result == expected[index], f"split {number}, from {names[index]}"
    assert engine.calls == calls, "the encoder was given something else"


def words_between(gaps_s: Sequence[float], noise: float, *, gate: bool) -> tuple[list[str], float]:
    """Return what is recognised of the recordings with silence before each, and how much of it
    (in seconds) was not encoded."""
    parts = []
    for sample, gap_s in zip(SAMPLES, gaps_s, strict=True):
        parts += [np.zeros(int(gap_s * 16_000)), read_samples(sample)]
    samples = np.concatenate(parts)
    samples += noise * np.random.default_rng(1).standard_normal(len(samples))
    stream = asr.load().stream(endpoints=asr.EndpointRules(), gate=gate)
    stream.accept(samples)
    return stream.finish().text.split(), stream.skipped_s


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_the_gate_changes_no_word_behind_a_short_silence(noise: float) -> None:
    gaps_s = (0.2, 0.5, 1.0, 2.0)
    words, skipped_s = words_between(gaps_s, noise, gate=True)
    assert words == words_between(gaps_s, noise, gate=False)[0]
    assert skipped_s == 0.0


@pytest.mark.parametrize("noise", [0.0, 1e-3])
def test_the_gate_loses_no_words_behind_a_long_silence(noise: float) -> None:
    """They may differ a little, for the model remembers a shorter silence; as many come out."""
    gaps_s = (5.0, 5.0, 12.0, 5.0)
    words, skipped_s = words_between(gaps_s, noise, gate=True)
    plain, _ = words_between(gaps_s, noise, gate=False)
    changed = WordErrors.of(align(plain, words))
    assert changed.insertions + changed.deletions + changed.substitutions <= 0.15 * len(plain)
    assert skipped_s > sum(gaps_s) - len(gaps_s) * (4.5 + 0.32)
