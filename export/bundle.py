"""Writes a model bundle: the graphs of an export, and all that a device must know about them."""

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from asr.bundle import (
    MANIFEST_NAME,
    Bundle,
    Golden,
    GoldenErrors,
    ModelConfig,
    StreamingConfig,
    file_entry,
    open_bundle,
)
from asr.engines import Floats, open_engine
from asr.engines.golden import encode_by_chunks, verify_golden
from asr.errors import ExportError
from export.onnx import Graphs
from training.model import Transducer

LANGUAGE = "en"
TOKENS, GOLDEN = "tokens.txt", "golden.npz"

GOLDEN_CHUNKS = 2
"""The second chunk sees the caches of the first."""

FP32_TOLERANCE = 1e-3
"""Max abs error of a float output on another machine; an emulated Arm was off by 1e-6."""


@dataclass(frozen=True)
class BundleContents:
    """What goes into a bundle."""

    name: str
    model: Transducer  # for its dimensions and feature statistics
    tokens: Sequence[str]  # the piece of each id
    graphs: Mapping[str, Graphs]  # by precision
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    card: Mapping[str, Any] = field(default_factory=dict)  # the model card, free form

    def with_precisions(self, precisions: Sequence[str]) -> "BundleContents":
        """Return the same with only the graphs of these precisions."""
        kept = {name: graphs for name, graphs in self.graphs.items() if name in precisions}
        return replace(self, graphs=kept)


def write_bundle(out: Path, contents: BundleContents, overwrite: bool = False) -> Bundle:
    """Write a bundle to the new directory `out`, which appears whole or not at all.

    The finished bundle has been opened again and has passed its own self-test.

    Raises ExportError if `out` exists and `overwrite` is off, or it is not a bundle.
    """
    check_destination(out, overwrite)
    with _appearing(out) as folder:
        _write_files(folder, contents)
        bundle = open_bundle(folder)
        for precision in bundle.precisions:
            verify_golden(bundle, open_engine(bundle, precision), precision)
    return open_bundle(out)


def check_destination(out: Path, overwrite: bool) -> None:
    """Raise ExportError unless a bundle may be written to `out`: only a bundle is replaced."""
    if not out.exists():
        return
    if not overwrite:
        raise ExportError(f"{out} exists already; name a new directory, or give --overwrite")
    if not (out / MANIFEST_NAME).is_file():
        raise ExportError(f"{out} is not a model bundle, so it is not overwritten; name another")


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yield a temporary directory beside `out` that becomes `out` if all goes well."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ExportError(f"can't write to {out.parent}: {error.strerror}") from error
    try:
        new = scratch / "new"
        new.mkdir()
        yield new
        if out.exists():
            out.rename(scratch / "old")
        new.rename(out)
    finally:
        shutil.rmtree(scratch)


def _write_files(folder: Path, contents: BundleContents) -> None:
    tokens = "".join(f"{piece} {number}\n" for number, piece in enumerate(contents.tokens))
    (folder / TOKENS).write_text(tokens, encoding="utf-8")
    draft = Bundle(
        path=folder,
        name=contents.name,
        language=LANGUAGE,
        model=_dimensions(contents.model),
        precisions={
            precision: graphs.save(folder, precision)
            for precision, graphs in contents.graphs.items()
        },
        files={},
        golden=Golden(GOLDEN, tolerance={}),
        tokens=TOKENS,
        streaming=contents.streaming,
        card=contents.card,
    )
    golden = _write_golden(draft, contents.model)
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    manifest = replace(draft, golden=golden, files=files).to_dict()
    text = json.dumps(manifest, indent=2, ensure_ascii=False)
    (folder / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _dimensions(model: Transducer) -> ModelConfig:
    exported = (model.encoder, model.predictor, model.joiner)
    config = model.config
    return ModelConfig(
        encoder_layers=config.layers,
        encoder_dim=config.dim,
        conv_kernel=config.conv_kernel,
        joiner_dim=config.joiner_dim,
        context_size=config.context_size,
        vocab_size=config.vocab_size,
        parameters=sum(weight.numel() for part in exported for weight in part.parameters()),
    )


def _write_golden(draft: Bundle, model: Transducer) -> Golden:
    """Write the self-test: features like those of speech, and what the graphs make of them.

    The int8 tolerance is the error of quantization itself: a machine that stays within it loses no
    more to its arithmetic than every machine loses to int8.
    """
    features = _speech_like_features(model, draft.streaming)
    exact = _encode_offline(model, features, draft.streaming)
    contexts = _contexts(len(exact), model.config.vocab_size)
    arrays: dict[str, NDArray[Any]] = {
        "features": features,
        "contexts": contexts,
        # Always there, so that int8 can be held against it.
        "encoder_out.fp32": exact,
        "log_probs.fp32": _join_offline(model, exact, contexts),
    }
    tolerance: dict[str, GoldenErrors] = {}
    for precision in draft.precisions:
        engine = open_engine(draft, precision)
        encoder_out = encode_by_chunks(engine, features, draft.streaming)
        log_probs = engine.join(encoder_out, engine.predict(contexts))
        arrays[f"encoder_out.{precision}"] = encoder_out
        arrays[f"log_probs.{precision}"] = log_probs
        tolerance[precision] = GoldenErrors(
            _tolerance(precision, encoder_out, exact),
            _tolerance(precision, log_probs, _join_offline(model, encoder_out, contexts)),
        )
    np.savez(draft.path / GOLDEN, allow_pickle=False, **arrays)
    return Golden(GOLDEN, tolerance)


def _tolerance(precision: str, output: Floats, exact: Floats) -> float:
    if precision == "fp32":
        return FP32_TOLERANCE
    return max(FP32_TOLERANCE, float(np.abs(output - exact).max()))


def _contexts(rows: int, vocab_size: int) -> NDArray[np.int64]:
    """Return contexts `(rows, 2)`: the start of a stream, then a pair of tokens after the other."""
    tokens = np.arange(rows, dtype=np.int64)
    contexts = np.stack([tokens - 1, tokens], axis=1)
    contexts[1:] %= vocab_size
    return contexts


def _speech_like_features(model: Transducer, streaming: StreamingConfig) -> Floats:
    """Return noise `(T, num_mel_bins)` with the mean and deviation of the training speech."""
    frames = streaming.feature_frames(GOLDEN_CHUNKS * streaming.chunk_frames)
    encoder = model.encoder
    noise = np.random.default_rng(0).standard_normal((frames, model.config.num_mel_bins))
    std = 1 / encoder.feature_inverse_std.numpy()
    features: Floats = (encoder.feature_mean.numpy() + std * noise).astype(np.float32)
    return features


def _encode_offline(model: Transducer, features: Floats, streaming: StreamingConfig) -> Floats:
    """Return the encoder output `(2C, joiner_dim)` of the model itself, computed at once."""
    with torch.no_grad():
        encoded = model.encode(
            torch.from_numpy(features)[None],
            torch.tensor([len(features)]),
            streaming.chunk_frames,
            streaming.left_context_frames,
        )
    frames: Floats = encoded.frames[0].numpy()
    return frames


def _join_offline(model: Transducer, encoder_out: Floats, contexts: NDArray[np.int64]) -> Floats:
    """Return the model's log-probabilities of frames, each joined with a context of its own."""
    with torch.no_grad():
        predicted = model.predictor(torch.from_numpy(contexts)).squeeze(1)
        log_probs: Floats = model.joiner(torch.from_numpy(encoder_out), predicted).numpy()
    return log_probs
