"""A tiny model that emits varied tokens, exported once."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import asr
from asr.bundle import Bundle, StreamingConfig
from asr.features import compute_features
from export.bundle import BundleContents, write_bundle
from export.fused import export_graphs
from export.onnx import Graphs
from export.plain import plain_graphs
from export.quantize import quantize
from training.checkpoint import load_model, save_model
from training.model import ModelConfig, Transducer
from training.tokenizer import train_tokenizer

torch.set_num_threads(1)

STREAMING = StreamingConfig()
TEXTS = ["the rain in spain stays mainly in the plain", "a stream of words ran past the door"]


def babble(seconds: float, seed: int) -> np.ndarray:
    """Return audio `(n,)` at 16 kHz whose spectrum changes as often as that of speech."""
    rng = np.random.default_rng(seed)
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < 16_000 * seconds:
        time = np.arange(int(rng.integers(1_000, 3_500))) / 16_000
        pitch = rng.uniform(80, 250)
        tones = [rng.uniform() * np.sin(2 * np.pi * pitch * k * time) for k in range(1, 30)]
        hiss = rng.uniform(0, 2) * rng.standard_normal(len(time))
        parts.append(rng.uniform(0.005, 0.05) * (sum(tones) + hiss))
    samples = np.concatenate(parts)[: int(16_000 * seconds)]
    return samples.astype(np.float32)


@torch.no_grad()
def make_talkative(model: Transducer) -> None:
    """Scale random weights so that the model emits many different tokens.

    As they come, the encoder says nearly the same in each frame and the predictor decides alone.
    """
    features = torch.from_numpy(compute_features(babble(10, seed=0)))
    model.set_feature_statistics(features.mean(0), features.std(0))
    output = model.encoder.output
    frames = encode(model, features)
    gain = 1 / frames.std(0).mean()
    output.bias.copy_((output.bias - frames.mean(0)) * gain)
    output.weight *= gain
    model.joiner.labels.weight *= 5
    model.joiner.blank.weight *= 5
    tokens = torch.arange(model.config.vocab_size)
    predicted = model.predictor(torch.stack([tokens, tokens.roll(3)], dim=1))
    blank = model.joiner.scores(encode(model, features)[:, None], predicted.transpose(0, 1)).blank
    model.joiner.blank.bias -= blank.quantile(0.5)


def encode(model: Transducer, features: torch.Tensor) -> torch.Tensor:
    """Features `(T, 80)` to encoder frames `(C, joiner_dim)`."""
    length = torch.tensor([len(features)])
    return model.encode(
        features[None], length, STREAMING.chunk_frames, STREAMING.left_context_frames
    ).frames[0]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a trained model, as asr-train writes it."""
    folder = tmp_path_factory.mktemp("trained")
    torch.manual_seed(0)
    tokenizer = train_tokenizer(TEXTS, vocab_size=30, model_path=folder / "bpe.model")
    model = Transducer(ModelConfig(vocab_size=30, dim=64, layers=2, conv_kernel=7)).eval()
    make_talkative(model)
    save_model(folder, model, tokenizer)
    return folder


@pytest.fixture(scope="session")
def model(checkpoint: Path) -> Transducer:
    return load_model(checkpoint)[0]


@pytest.fixture(scope="session")
def exact(model: Transducer) -> Graphs:
    """The float graphs."""
    return export_graphs(model, STREAMING)


@pytest.fixture(scope="session")
def quantized(model: Transducer, exact: Graphs) -> Graphs:
    return quantize(model, exact, STREAMING, "int8")


@pytest.fixture(scope="session")
def plain(model: Transducer) -> Graphs:
    """The baseline's float graphs: torch takes seconds for them."""
    return plain_graphs(model, STREAMING)


@pytest.fixture(scope="session")
def contents(checkpoint: Path, exact: Graphs, quantized: Graphs) -> BundleContents:
    model, tokens = load_model(checkpoint)
    return BundleContents("tiny", model, tokens, {"int8": quantized, "fp32": exact})


@pytest.fixture(scope="session")
def bundle(contents: BundleContents, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return write_bundle(tmp_path_factory.mktemp("bundles") / "tiny", contents)


@pytest.fixture(scope="session")
def manifest(bundle: asr.Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, whose texts are what the float model hears."""
    folder = tmp_path_factory.mktemp("recordings")
    rows = []
    for seed in range(3):
        audio = folder / f"{seed}.wav"
        soundfile.write(audio, babble(4, seed), 16_000, subtype="FLOAT")
        text = asr.load(bundle.path, precision="fp32").transcribe(audio).text
        rows.append({"id": str(seed), "audio": audio.name, "duration": 4.0, "text": text})
    path = folder / "manifest.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path
