"""The onnxruntime engine."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnxruntime as ort

from asr.bundle import Bundle
from asr.engines import Floats
from asr.errors import AsrError, BundleError

_PREDICTOR_CACHE = 512
"""Contexts whose predictor output is kept, 1 kB each: the frequent word parts repeat them."""


@dataclass(frozen=True, slots=True)
class OnnxState:
    """The encoder's caches."""

    attention: Floats  # (L, left, 1, 2d)
    convolution: Floats  # (L, 1 + (k - 1) / 2, 1, 2d)
    processed_frames: int  # feature frames


class OnnxEngine:
    """Runs a bundle's ONNX graphs on the CPU. Implements `asr.engines.Engine`.

    The graphs' inputs are taken by position, as sherpa-onnx takes them.
    """

    def __init__(self, bundle: Bundle, precision: str, threads: int) -> None:
        """Raises BundleError for a missing precision or a graph that onnxruntime refuses."""
        if threads < 1:
            raise AsrError(f"{threads} threads; expected one or more")
        graphs = bundle.graphs(precision)
        options = _session_options(threads)
        self._encoder = _Graph(bundle.path / graphs.encoder, options, inputs=4, outputs=3)
        self._predictor = _Graph(bundle.path / graphs.predictor, options, inputs=1, outputs=1)
        self._joiner = _Graph(bundle.path / graphs.joiner, options, inputs=2, outputs=1)
        self._subsampling_factor = bundle.streaming.subsampling_factor
        self._initial_state = _initial_state(bundle)
        self.predict = lru_cache(maxsize=_PREDICTOR_CACHE)(self._predict)

    def initial_state(self) -> OnnxState:
        """See `Engine`."""
        return self._initial_state

    def encode(self, features: Floats, state: OnnxState) -> tuple[Floats, OnnxState]:
        """See `Engine`."""
        encoder_out, attention, convolution = self._encoder.run(
            features[None],
            state.attention,
            state.convolution,
            np.array([state.processed_frames], dtype=np.int64),
        )
        processed = state.processed_frames + self._subsampling_factor * encoder_out.shape[1]
        return encoder_out[0], OnnxState(attention, convolution, processed)

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """See `Engine`."""
        rows = np.repeat(predictor_out[None], len(encoder_out), axis=0)
        (log_probs,) = self._joiner.run(encoder_out, rows)
        return log_probs

    def _predict(self, context: tuple[int, int]) -> Floats:
        (out,) = self._predictor.run(np.array([context], dtype=np.int64))
        out.flags.writeable = False  # it stays in the cache
        row: Floats = out[0]
        return row


class _Graph:
    """One ONNX file; arrays in and out by position.

    Plain `run` is the fastest way in: onnxruntime reads the arrays in place, and copying the caches
    out costs less than the wrappers of `run_with_ort_values` (34 against 100 us for a joiner call);
    I/O binding was no faster.
    """

    def __init__(self, path: Path, options: ort.SessionOptions, inputs: int, outputs: int) -> None:
        try:
            self._session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but this
            raise BundleError(
                f"{path}: onnxruntime {ort.__version__} can't load it: {error}; "
                "export the model again, or install the version that pyproject.toml names"
            ) from error
        self._names = [node.name for node in self._session.get_inputs()]
        found = len(self._names), len(self._session.get_outputs())
        if found != (inputs, outputs):
            raise BundleError(
                f"{path}: {found[0]} inputs and {found[1]} outputs; expected {inputs} and "
                f"{outputs}; export the model again"
            )

    def run(self, *arrays: np.ndarray) -> list[Floats]:
        feed = dict(zip(self._names, arrays, strict=True))
        outputs: list[Floats] = self._session.run(None, feed)
        return outputs


def _session_options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn a core between chunks and slow down whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: warnings are the exporter's business
    return options


def _initial_state(bundle: Bundle) -> OnnxState:
    model, left = bundle.model, bundle.streaming.left_context_frames
    width = 2 * model.encoder_dim
    conv_rows = 1 + (model.conv_kernel - 1) // 2
    return OnnxState(
        attention=np.zeros((model.encoder_layers, left, 1, width), np.float32),
        convolution=np.zeros((model.encoder_layers, conv_rows, 1, width), np.float32),
        processed_frames=0,
    )
