"""The shipped model on the shipped recordings: what a newcomer gets must be what is claimed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import asr
from asr.bundle import Bundle, StreamingConfig, builtin_bundle_path, open_bundle
from asr.evaluation.alignment import align
from asr.evaluation.wer import WordErrors
from asr.features import compute_features
from export.bundle import BundleContents, write_bundle
from export.onnx import export_graphs
from tests.export.sherpa import recognize_with_sherpa
from tests.samples import SAMPLES, read_samples
from training.checkpoint import load_model
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
    text = Path("data/MODEL_CARD.md").read_text(encoding="utf-8")
    readme = Path("README.md").read_text(encoding="utf-8")
    for name, row in card["wer"].items():
        assert name in text
        assert f"{row['wer']:.1%}".replace("%", " %") in text, name
        assert f"{row['wer']:.1%}".replace("%", " %") in readme, name


def test_the_command_prints_what_the_library_hears() -> None:
    sample = SAMPLES[0]
    command = [sys.executable, "-m", "asr", "transcribe", "--json", str(sample.path)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)["text"] == asr.load().transcribe(sample.path).text
