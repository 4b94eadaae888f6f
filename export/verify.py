"""Holds an export against the model it came from: interface, numbers, words.

Each check raises ExportError, with what was found and what was expected, unless all is well.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import onnxruntime as ort
import torch
from numpy.typing import NDArray
from onnx import ModelProto, ValueInfoProto
from torch import Tensor

from asr.bundle import Bundle, StreamingConfig
from asr.errors import ExportError
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.corpora.manifest import Manifest
from asr.evaluation.evaluate import EvaluationReport, evaluate
from asr.recognizer import load
from export.onnx import IR_VERSION, OPSETS, Graphs, interfaces
from training.model import ModelConfig, Transducer, initial_state

MAX_ERROR = 1e-4
"""Of a float graph's outputs, absolute, against the model in torch."""

CHUNKS = (4, 8, 16)
"""Encoder frames per call that are compared: 160, 320 and 640 ms."""

MAX_WER_DELTA = 0.3
"""Points of WER that a precision may lose against float, unless told otherwise."""

STREAMS = 2
"""Streams in a compared batch: sherpa-onnx decodes several at once."""


@dataclass(frozen=True)
class Parity:
    """The largest difference between the model and its float graphs, of each graph."""

    encoder: float
    predictor: float
    joiner: float


def verify_interface(graphs: Graphs, config: ModelConfig, streaming: StreamingConfig) -> None:
    """Check names, order and shapes of inputs and outputs, metadata and versions."""
    for name, interface in interfaces(config, streaming).items():
        graph: ModelProto = getattr(graphs, name)
        # Lists of pairs, because the order of inputs and outputs counts.
        expected: dict[str, object] = {
            "inputs": list(interface.inputs.items()),
            "outputs": list(interface.outputs.items()),
            "metadata": interface.metadata,
            "opsets beyond those of every runtime": {},
            "IR version": IR_VERSION,
        }
        found: dict[str, object] = {
            "inputs": [(value.name, _shape(value)) for value in graph.graph.input],
            "outputs": [(value.name, _shape(value)) for value in graph.graph.output],
            "metadata": {item.key: item.value for item in graph.metadata_props},
            "opsets beyond those of every runtime": {
                item.domain: item.version
                for item in graph.opset_import
                if OPSETS.get(item.domain) != item.version
            },
            "IR version": graph.ir_version,
        }
        for part, value in expected.items():
            if found[part] != value:
                raise ExportError(f"the {name} has {part} {found[part]}; expected {value}")


def verify_parity(model: Transducer, graphs: Graphs, streaming: StreamingConfig) -> Parity:
    """Compare float graphs with the model: streams of several chunk sizes, with their states.

    Each stream is longer than the left context and ends with a shorter chunk.
    """
    sessions = {name: _Session(graph) for name, graph in graphs.items()}
    torch.manual_seed(0)
    with torch.no_grad():
        encoder = max(
            _encoder_error(model, sessions["encoder"], streaming, chunk) for chunk in CHUNKS
        )
        contexts, predicted = _predictor_batch(model)
        frames = torch.randn_like(predicted)
        predictor = _error("predictor", sessions["predictor"].run(contexts), [predicted])
        joiner = _error(
            "joiner",
            sessions["joiner"].run(frames, predicted),
            [model.joiner(frames, predicted)],
        )
    return Parity(encoder, predictor, joiner)


def recognize_in_each(bundle: Bundle, manifest: Manifest) -> dict[str, EvaluationReport]:
    """Recognise a manifest in each variant of a bundle; return the reports by precision and, unless
    it is ONNX, engine: "int8", "int8 for ort"."""
    reports = {}
    for graphs in bundle.variants:
        engine = "" if graphs.engine == "onnx" else f" for {graphs.engine}"
        recognizer = load(bundle.path, precision=graphs.precision, engine=graphs.engine)
        reports[graphs.precision + engine] = evaluate(
            recognizer, manifest.utterances, skipped=manifest.skipped
        )
    return reports


def verify_words(errors: Mapping[str, WordErrors], max_wer_delta: float) -> None:
    """Check what each variant, of which "fp32" is one, costs in words; see the next function."""
    exact = errors["fp32"]
    for variant, found in errors.items():
        if costs_too_many_words(exact, found, max_wer_delta):
            raise ExportError(
                f"{variant} costs too many words: {describe_words(found)}; in float "
                f"{describe_words(exact)}; at most {max_wer_delta:g} points more were allowed "
                "(--max-wer-delta)"
            )


def costs_too_many_words(exact: WordErrors, found: WordErrors, max_wer_delta: float) -> bool:
    """Whether `found` has more errors than `exact` and so many points of WER, or one where that is
    less than a word: it proves nothing."""
    return found.errors - exact.errors > max(1.0, max_wer_delta / 100 * exact.words)


def describe_words(errors: WordErrors) -> str:
    """Return the rate and what it is made of: deletions are how quantization usually fails."""
    return (
        f"WER {errors.rate:.2%} of {errors.words} words ({errors.insertions} inserted, "
        f"{errors.deletions} deleted, {errors.substitutions} substituted)"
    )


class _Session:
    """A graph in onnxruntime; tensors in and out by position."""

    def __init__(self, graph: ModelProto) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        self._session = ort.InferenceSession(graph.SerializeToString(), options)
        self._names = [node.name for node in self._session.get_inputs()]

    def run(self, *inputs: Tensor) -> list[Tensor]:
        feeds = dict(zip(self._names, (value.numpy() for value in inputs), strict=True))
        outputs: list[NDArray[Any]] = self._session.run(None, feeds)
        return [torch.from_numpy(np.asarray(output)) for output in outputs]


def _encoder_error(
    model: Transducer, session: _Session, streaming: StreamingConfig, chunk: int
) -> float:
    left = streaming.left_context_frames
    state = initial_state(model.config, STREAMS, left)
    attention, convolution = state.attention, state.conv
    worst = 0.0
    for frames in _calls(left, chunk):
        features = _features(model, streaming.feature_frames(frames))
        found = session.run(features, attention, convolution, state.processed_frames)
        out = model.encoder(features, state)
        state = out.state
        expected = [out.frames, state.attention, state.conv]
        worst = max(worst, _error(f"encoder, called with {frames} frames,", found, expected))
        _, attention, convolution = found
    return worst


def _calls(left: int, chunk: int) -> Iterator[int]:
    """Yield the encoder frames of each call of a stream, the last ones ragged."""
    return chain(repeat(chunk, left // chunk + 2), [chunk // 2 + 1, 1])


def _features(model: Transducer, frames: int) -> Tensor:
    """Return noise `(STREAMS, frames, num_mel_bins)` in the range of the model's features."""
    noise = torch.randn(STREAMS, frames, model.config.num_mel_bins)
    return model.encoder.feature_mean + noise / model.encoder.feature_inverse_std


def _predictor_batch(model: Transducer) -> tuple[Tensor, Tensor]:
    """Return contexts `(V + 1, 2)` with the start and every token, and what the model predicts."""
    tokens = torch.arange(model.config.vocab_size)
    contexts = torch.stack([tokens.roll(1), tokens], dim=1)
    contexts = torch.cat([torch.tensor([[-1, 0]]), contexts])
    return contexts, model.predictor(contexts).squeeze(1)


def _error(name: str, found: list[Tensor], expected: list[Tensor]) -> float:
    error = max(float((f - e).abs().max()) for f, e in zip(found, expected, strict=True))
    if not error <= MAX_ERROR:  # so written, NaN fails too
        raise ExportError(
            f"the graph of the {name} differs from the model by {error:.3g}; "
            f"at most {MAX_ERROR:g} was expected"
        )
    return error


def _shape(value: ValueInfoProto) -> tuple[int | str, ...]:
    return tuple(item.dim_param or item.dim_value for item in value.type.tensor_type.shape.dim)
