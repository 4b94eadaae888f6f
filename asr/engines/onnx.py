"""The onnxruntime engine, for graphs in `.onnx` and in its own format, `.ort`.

What loading and memory were found to depend on, with the encoder of the built-in model (460 nodes,
5.2 MB) in onnxruntime 1.31 on x86-64; `tests/test_footprint.py` holds the sum of it:

- Planning which tensors may share memory (`enable_mem_reuse`) takes time with the square of the
  nodes, for every value is held against every free one: 86 of 116 ms of loading. Without it, the
  arena does the same while the graph runs: steps are as quick, and the peak is no higher.
- The arena stays: without it, the peak is 2 MB higher. So does the memory pattern: without it, the
  peak is 0.6 MB lower (5 MB with chunks of 2.56 s), and a step takes 7 % longer.
- Prepacking stays: the weights that were packed are freed, so it costs no memory.
- Files are loaded by their path where they have one: as bytes, from a zip, they are held twice for
  a moment, 5 MB more, for onnxruntime's Python binding copies them. (`use_ort_model_bytes_directly`
  would not help: from Python, the session would go on using a copy that is gone. It crashed.)
- `.ort` opens in 24 ms instead of 30, and read whole it peaks 5 MB higher while it is opened, which
  the first call needs anyway. It gains more where a graph is not written for this runtime: an
  export in plain operators opens in 38 ms instead of 96.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TypeAlias

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from asr.bundle import SUBSAMPLING_OVERLAP, Bundle, GraphFiles
from asr.engines import Floats
from asr.errors import AsrError, BundleError

Shape: TypeAlias = tuple[int | None, ...]
"""None where any size will do."""

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

    def __init__(self, bundle: Bundle, graphs: GraphFiles, threads: int) -> None:
        """Raises BundleError for a graph that onnxruntime refuses."""
        if threads < 1:
            raise AsrError(f"{threads} threads; expected one or more")
        options, contract = session_options(threads), _contract(bundle)
        self._encoder = _Graph(
            bundle, graphs.encoder, encoder_options(threads), *contract["encoder"]
        )
        self._predictor = _Graph(bundle, graphs.predictor, options, *contract["predictor"])
        self._joiner = _Graph(bundle, graphs.joiner, options, *contract["joiner"])
        self._subsampling_factor = bundle.streaming.subsampling_factor
        self._mel_bins = bundle.features.num_mel_bins
        # Behind the graphs: they have confirmed the sizes that the bundle states.
        self._initial_state = _initial_state(bundle)
        self._predict_one = lru_cache(maxsize=_PREDICTOR_CACHE)(self._predict_bytes)

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

    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        """See `Engine`. Single contexts are remembered."""
        if len(contexts) == 1:
            return self._predict_one(contexts.tobytes())
        (out,) = self._predictor.run(contexts)
        out.flags.writeable = False
        return out

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """See `Engine`."""
        if len(predictor_out) == 1:
            predictor_out = np.repeat(predictor_out, len(encoder_out), axis=0)
        (log_probs,) = self._joiner.run(encoder_out, predictor_out)
        return log_probs

    def release_memory(self) -> None:
        """See `Engine`. onnxruntime's arena keeps what the longest call needed, 20 MB after one of
        10 s, and shrinks when a run ends that was told so; so the shortest call is run."""
        self._predict_one.cache_clear()
        state = self._initial_state
        frames = self._subsampling_factor + SUBSAMPLING_OVERLAP
        self._encoder.run(
            np.zeros((1, frames, self._mel_bins), dtype=np.float32),
            state.attention,
            state.convolution,
            np.array([state.processed_frames], dtype=np.int64),
            options=_shrinking(),
        )

    def _predict_bytes(self, context: bytes) -> Floats:
        """Predict for the bytes of one context: what an array can't be, the key of a cache."""
        (out,) = self._predictor.run(np.frombuffer(context, dtype=np.int64)[None])
        out.flags.writeable = False  # it stays in the cache
        return out


class _Graph:
    """One graph; arrays in and out by position.

    Plain `run` is the fastest way in: onnxruntime reads the arrays in place, and copying the caches
    out costs less than the wrappers of `run_with_ort_values` (34 against 100 us for a joiner call);
    I/O binding was no faster.
    """

    def __init__(
        self,
        bundle: Bundle,
        name: str,
        options: ort.SessionOptions,
        inputs: tuple[Shape, ...],
        outputs: tuple[Shape, ...],
    ) -> None:
        """Raises BundleError for a graph that can't be loaded or has other inputs or outputs."""
        path = self._path = bundle.path / name
        model = bundle.file(name) or bundle.read(name)
        try:
            self._session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no common base but this
            raise BundleError(
                f"{path}: onnxruntime {ort.__version__} can't load it: {error}; "
                "export the model again, or install the version that pyproject.toml names"
            ) from error
        self._names = [node.name for node in self._session.get_inputs()]
        found = len(self._names), len(self._session.get_outputs())
        if found != (len(inputs), len(outputs)):
            raise BundleError(
                f"{path}: {found[0]} inputs and {found[1]} outputs; expected {len(inputs)} and "
                f"{len(outputs)}; export the model again"
            )
        nodes = [*self._session.get_inputs(), *self._session.get_outputs()]
        for node, shape in zip(nodes, (*inputs, *outputs), strict=True):
            if not _fits(node.shape, shape):
                raise BundleError(
                    f"{path}: {node.name} is {node.shape}, but bundle.json says {list(shape)}; "
                    "export the model again"
                )

    def run(self, *arrays: np.ndarray, options: ort.RunOptions | None = None) -> list[Floats]:
        """Raises BundleError for what only shows when the graph runs."""
        feed = dict(zip(self._names, arrays, strict=True))
        try:
            outputs: list[Floats] = self._session.run(None, feed, options)
        except Exception as error:  # as above
            raise BundleError(
                f"{self._path}: onnxruntime {ort.__version__} can't run it: {error}; "
                "export the model again"
            ) from error
        return outputs


def _fits(declared: list[int | str | None], expected: Shape) -> bool:
    """Whether a graph's shape is the expected one, as far as both say; a name is any size."""
    return len(declared) == len(expected) and all(
        found == wanted
        for found, wanted in zip(declared, expected, strict=True)
        if isinstance(found, int) and wanted is not None
    )


def _contract(bundle: Bundle) -> dict[str, tuple[tuple[Shape, ...], tuple[Shape, ...]]]:
    """Shapes of the inputs and of the outputs of each graph, for a batch of one."""
    model = bundle.model
    caches = _cache_shapes(bundle)
    features: Shape = (None, None, bundle.features.num_mel_bins)
    encoder_out: Shape = (None, None, model.joiner_dim)
    frame: Shape = (None, model.joiner_dim)
    return {
        "encoder": ((features, *caches, (None,)), (encoder_out, *caches)),
        "predictor": (((None, model.context_size),), (frame,)),
        "joiner": ((frame, frame), ((None, model.vocab_size),)),
    }


def session_options(threads: int) -> ort.SessionOptions:
    """Return how sessions run here; the module says why."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.enable_mem_reuse = False
    # Spinning threads burn a core between chunks and slow down whatever else runs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3  # errors only: warnings are the exporter's business
    return options


def encoder_options(threads: int) -> ort.SessionOptions:
    """Return how the encoder's session runs: for one stream a call, which saves 3 % of a step."""
    options = session_options(threads)
    options.add_free_dimension_override_by_name("N", 1)
    return options


def _shrinking() -> ort.RunOptions:
    options = ort.RunOptions()
    options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return options


def _cache_shapes(bundle: Bundle) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Shapes of the attention and of the convolution cache of one stream."""
    model, left = bundle.model, bundle.streaming.left_context_frames
    width = 2 * model.encoder_dim
    conv_rows = 1 + (model.conv_kernel - 1) // 2
    return (model.encoder_layers, left, 1, width), (model.encoder_layers, conv_rows, 1, width)


def _initial_state(bundle: Bundle) -> OnnxState:
    attention, convolution = _cache_shapes(bundle)
    return OnnxState(np.zeros(attention, np.float32), np.zeros(convolution, np.float32), 0)
