"""Writes a model bundle: the graphs of an export, and all that a device must know about them.

It is a directory or, where its name ends with `.zip`, one file. The same export gives the same
bytes.
"""

import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from asr.arrays import read_arrays
from asr.bundle import (
    MANIFEST_NAME,
    Bundle,
    Golden,
    GoldenErrors,
    GraphFiles,
    LanguageModelFile,
    ModelConfig,
    StreamingConfig,
    file_entry,
    open_bundle,
)
from asr.decoding.fusion import Fusion
from asr.engines import Floats, open_engine
from asr.engines.golden import encode_by_chunks, verify_golden
from asr.errors import ExportError
from asr.whole_files import errors_naming
from export.onnx import Graphs
from export.ort_format import SUFFIX as ORT_SUFFIX
from export.ort_format import to_ort_format
from training.model import Transducer

ENGINES = ("onnx", "ort", "executorch")
"""Formats of the graphs: ONNX, which sherpa-onnx and others run, onnxruntime's own, and PyTorch's
for devices."""

_NOT_IN_ORT = ("int4",)
"""Precisions that are written as ONNX alone: onnxruntime 1.31 writes an attribute of their operator
into `.ort` files that 1.23 does not know, so it would refuse to load them."""

LANGUAGE = "en"
TOKENS, GOLDEN, LANGUAGE_MODEL = "tokens.txt", "golden.npz", "language_model.npz"

_WEIGHTS = (0.65, 0.15, 0.15)
"""Of a language model, of the transducer's own, and of the transcripts that it learned from: see
`asr.decoding.fusion`."""

_WEIGHTS_OF_WORDS = (0.65, 0.4, 0.0)
"""The same without transcripts."""
ZIP_SUFFIX = ".zip"

GOLDEN_CHUNKS = 2
"""The second chunk sees the caches of the first."""

FP32_TOLERANCE = 1e-3
"""Max abs error of a float output on another machine; an emulated Arm was off by 1e-6."""

MAX_ROUNDING = {"int8": 0.15, "int4": 0.5}
"""Mean error that quantization may have, as a share of the deviation of the outputs. The built-in
model has 0.03 and 0.14. What has more was quantized wrongly: with a scale that is off, for one."""

Judge: TypeAlias = Callable[[Bundle], Mapping[str, Any]]
"""Tries a bundle that is written, and returns what its card says of that; raises ExportError if it
shall not appear."""


@dataclass(frozen=True)
class BundleContents:
    """What goes into a bundle."""

    name: str
    model: Transducer  # for its dimensions and feature statistics
    tokens: Sequence[str]  # the piece of each id
    graphs: Mapping[str, Graphs]  # by precision, the preferred one first
    engines: Sequence[str] = ("onnx",)  # of ENGINES: each precision for each
    streaming: StreamingConfig = field(default_factory=StreamingConfig)
    card: Mapping[str, Any] = field(default_factory=dict)  # the model card, free form
    language_model: Path | None = None  # what `asr-train language-model` wrote for these tokens

    def with_precisions(self, precisions: Sequence[str]) -> "BundleContents":
        """Return the same with only the graphs of these precisions, in this order."""
        return replace(self, graphs={name: self.graphs[name] for name in precisions})


def write_bundle(
    out: Path,
    contents: BundleContents,
    overwrite: bool = False,
    judge: Judge | None = None,
    report: Callable[[str], None] = lambda message: None,
) -> Bundle:
    """Write a bundle to `out`, a new directory or `.zip`, which appears whole or not at all.

    `report` is told of what takes minutes. The finished bundle has been opened again, and each
    variant has passed the self-test, and `judge` all of them.

    Raises ExportError if `out` exists and `overwrite` is off, or it is not a bundle, or a
    precision is far from float.
    """
    check_destination(out, overwrite)
    check_engines(contents.engines, list(contents.graphs))
    with _appearing(out) as new:
        folder = new.with_name("files") if out.suffix == ZIP_SUFFIX else new
        folder.mkdir()
        _write_files(folder, contents, report)
        if judge is not None:
            draft = open_bundle(folder)
            write_manifest(replace(draft, card={**draft.card, **judge(draft)}))
        if folder != new:
            _pack(folder, new)
        bundle = open_bundle(new)
        for graphs in bundle.variants:
            engine = open_engine(bundle, graphs.precision, engine=graphs.engine)
            verify_golden(bundle, engine, graphs.precision)
        Fusion.of_bundle(bundle, engine)  # raises for what no search could use
    return open_bundle(out)


def check_destination(out: Path, overwrite: bool) -> None:
    """Raise ExportError unless a bundle can and may be written to `out`: only a bundle is
    replaced, and a directory only if nothing else is in it."""
    if out.name in ("", ".."):
        raise ExportError(f"{out} is no name of a bundle; name it from the directory that it is in")
    parent = next(folder for folder in out.absolute().parents if folder.exists())
    if not parent.is_dir():
        raise ExportError(f"can't write {out}: {parent} is no directory")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise ExportError(f"can't write {out}: no permission to write to {parent}")
    if not out.exists():
        return
    if not overwrite:
        raise ExportError(f"{out} exists already; name a new bundle, or give --overwrite")
    files = _bundle_files(out)
    if files is None:
        raise ExportError(f"{out} is not a model bundle, so it is not overwritten; name another")
    others = {path.name for path in out.iterdir()} - files if out.is_dir() else set()
    if others:
        raise ExportError(
            f"{out} has more in it than a model bundle ({min(others)}), so it is not overwritten; "
            "move that elsewhere, or name another"
        )


def check_engines(engines: Sequence[str], precisions: Sequence[str]) -> None:
    """Raise ExportError if a precision would be written for none of the engines."""
    left_out = [name for name in precisions if name in _NOT_IN_ORT]
    if set(engines) == {"ort"} and left_out:
        raise ExportError(
            f"{', '.join(left_out)} graphs are not written for the engine 'ort'; add another "
            "(--engine onnx), or leave them out"
        )


def write_manifest(bundle: Bundle) -> None:
    """Write `bundle.json` into the directory of a bundle."""
    text = json.dumps(bundle.to_dict(), indent=2, ensure_ascii=False)
    (bundle.path / MANIFEST_NAME).write_text(text + "\n", encoding="utf-8")


def _bundle_files(path: Path) -> set[str] | None:
    """Return what a bundle of any version says is in it, None if it is no bundle: other programs
    have a `bundle.json`, too."""
    try:
        if path.is_dir():
            text = (path / MANIFEST_NAME).read_bytes()
        else:
            with zipfile.ZipFile(path) as archive:
                text = archive.read(MANIFEST_NAME)
        content = json.loads(text)
    # RuntimeError: of a zip that is encrypted, or JSON without an end.
    except (OSError, KeyError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return None
    if not isinstance(content, dict) or "schema_version" not in content:
        return None
    files = content.get("files")
    return {MANIFEST_NAME, *files} if isinstance(files, dict) else None


def _pack(folder: Path, out: Path) -> None:
    """Zip the files of a folder: stored, for weights hardly shrink and a device reads them at each
    start; with no time in it."""
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path in sorted(folder.iterdir()):
            archive.writestr(zipfile.ZipInfo(path.name), path.read_bytes())


@contextmanager
def _appearing(out: Path) -> Iterator[Path]:
    """Yield the path of what becomes `out` if all goes well, in a temporary folder beside it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ExportError(f"can't write to {out.parent}: {error.strerror}") from error
    new, old = scratch / "new", scratch / "old"
    try:
        with errors_naming(out):
            yield new
        if out.exists():
            out.rename(old)
        new.rename(out)
    finally:
        if old.exists() and not out.exists():  # it went wrong in between
            old.rename(out)
        shutil.rmtree(scratch)


def _weighted(language_model: Path) -> LanguageModelFile:
    """Return how much the parts of a language model count in a bundle. Raises BundleError for a
    file that is none."""
    arrays = read_arrays(language_model, language_model.read_bytes())
    known = any(name.startswith("transcripts.") for name in arrays)
    return LanguageModelFile(LANGUAGE_MODEL, *(_WEIGHTS if known else _WEIGHTS_OF_WORDS))


def _write_files(folder: Path, contents: BundleContents, report: Callable[[str], None]) -> None:
    tokens = "".join(f"{piece} {number}\n" for number, piece in enumerate(contents.tokens))
    (folder / TOKENS).write_text(tokens, encoding="utf-8")
    saved = [
        _save(folder, contents, precision, engine, report)
        for precision in contents.graphs
        for engine in dict.fromkeys(contents.engines)
        if engine != "ort" or precision not in _NOT_IN_ORT
    ]
    if contents.language_model:
        shutil.copyfile(contents.language_model, folder / LANGUAGE_MODEL)
    card = dict(contents.card)
    if lowered := {graphs.precision: facts for graphs, facts in saved if facts}:
        card["executorch"] = lowered
    draft = Bundle(
        path=folder,
        name=contents.name,
        language=LANGUAGE,
        model=_dimensions(contents.model),
        variants=tuple(graphs for graphs, _ in saved),
        files={},
        golden=Golden(GOLDEN, tolerance={}),
        language_model=_weighted(contents.language_model) if contents.language_model else None,
        tokens=TOKENS,
        streaming=contents.streaming,
        card=card,
    )
    golden = _write_golden(draft, contents.model)
    files = {path.name: file_entry(path) for path in sorted(folder.iterdir())}
    write_manifest(replace(draft, golden=golden, files=files))


def _save(
    folder: Path,
    contents: BundleContents,
    precision: str,
    engine: str,
    report: Callable[[str], None],
) -> tuple[GraphFiles, dict[str, Any]]:
    """Write the graphs of a variant; return what the card says of them as well."""
    graphs = contents.graphs[precision]
    if engine == "executorch":
        from export.executorch import save_program  # ExecuTorch is an extra

        return save_program(folder, contents.model, contents.streaming, precision, report)
    if engine == "onnx":
        return graphs.save(folder, precision), {}
    names = {name: f"{name}.{precision}{ORT_SUFFIX}" for name, _ in graphs.items()}
    for name, graph in graphs.items():
        (folder / names[name]).write_bytes(to_ort_format(graph))
    return GraphFiles(engine=engine, precision=precision, **names), {}


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
    for graphs in draft.variants:
        precision = graphs.precision
        engine = open_engine(draft, precision, engine=graphs.engine)
        found = encode_by_chunks(engine, features, draft.streaming)
        # The first engine of a precision is the reference of those that follow.
        encoder_out = arrays.setdefault(f"encoder_out.{precision}", found)
        joined = engine.join(encoder_out, engine.predict(contexts))
        log_probs = arrays.setdefault(f"log_probs.{precision}", joined)
        exactly_joined = _join_offline(model, encoder_out, contexts)
        _check_rounding(graphs, "encoder", found, exact)
        _check_rounding(graphs, "joiner", joined, exactly_joined)
        before = tolerance.get(precision, GoldenErrors(FP32_TOLERANCE, FP32_TOLERANCE))
        tolerance[precision] = GoldenErrors(
            _tolerance(precision, found, (exact, encoder_out), before.encoder_out),
            _tolerance(precision, joined, (exactly_joined, log_probs), before.log_probs),
        )
    np.savez(draft.path / GOLDEN, allow_pickle=False, **arrays)
    return Golden(GOLDEN, tolerance)


def _check_rounding(graphs: GraphFiles, name: str, found: Floats, exact: Floats) -> None:
    """Raise ExportError if a quantized output is far from that of the model. The self-test, whose
    tolerance is what quantization does, would take it for right."""
    error = float(np.abs(found - exact).mean() / exact.std())
    limit = MAX_ROUNDING.get(graphs.precision, np.inf)
    if not error <= limit:  # so written, NaN fails too
        raise ExportError(
            f"the {name} in {graphs.precision} for {graphs.engine} is off by {error:.0%} of what "
            f"its outputs vary by; at most {limit:.0%} was expected, so it was quantized wrongly"
        )


def _tolerance(
    precision: str, output: Floats, expected: tuple[Floats, ...], before: float
) -> float:
    """Return how far an engine's output may be off: as far as it is here, and as the others are."""
    if precision == "fp32":
        return FP32_TOLERANCE
    return max(before, *(float(np.abs(output - each).max()) for each in expected))


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
