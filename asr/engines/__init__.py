"""Inference engines: what runs the graphs of a bundle, behind one small protocol."""

from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr import __version__
from asr.bundle import MAX_CHUNK_FRAMES, ONNXRUNTIME, Bundle
from asr.errors import BundleError

Floats: TypeAlias = NDArray[np.float32]

EncoderState: TypeAlias = Any
"""The encoder's caches after some chunk, of fixed size. Only the engine that made it looks inside;
a state is never changed in place, so keeping one and going on from it twice is allowed."""


class Engine(Protocol):
    """The three networks of a transducer, for one stream (a batch of one).

    An engine keeps no state of a stream: any number of streams may share one, in any threads. One
    whose runtime can't run two calls at once has a lock.
    """

    def initial_state(self) -> EncoderState:
        """Return the encoder's state at the start of a stream."""
        ...

    def encode(self, features: Floats, state: EncoderState) -> tuple[Floats, EncoderState]:
        """Encode the next chunk.

        `features (4C + 3, num_mel_bins)` give `encoder_out (C, joiner_dim)` and the state behind
        them. The next call's features begin 4C frames later: three frames are seen twice.
        """
        ...

    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        """Return the predictor output `(n, joiner_dim)`, read-only, for the last two tokens
        `contexts (n, 2)` of n hypotheses."""
        ...

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """Return log-probabilities `(n, vocab_size)` of the frames `encoder_out (n, joiner_dim)`,
        each joined with its row of `predictor_out (n, joiner_dim)`, or all with the one row of a
        `(1, joiner_dim)`."""
        ...

    def release_memory(self) -> None:
        """Give back what was kept to be faster. The next calls may be slower, nothing else."""
        ...


def longest_chunk_ms(bundle: Bundle, engine: str) -> int:
    """Return the audio of the longest chunk of a bundle that the engine of this name takes."""
    frames = MAX_CHUNK_FRAMES
    if engine == "executorch":
        from asr.engines.executorch import CHUNKS  # its programs have a method for each size

        frames = CHUNKS[-1]
    return round(frames * bundle.streaming.subsampling_factor * bundle.features.frame_shift_ms)


def open_engine(
    bundle: Bundle, precision: str | None = None, threads: int = 1, engine: str | None = None
) -> Engine:
    """Open the graphs of a bundle in the engine that they were made for: those of
    `Bundle.graphs(precision, engine)`.

    Raises:
        BundleError: the bundle has no such graphs, their engine is not here, or one can't be
            loaded.
        AsrError: `threads` is below one.
    """
    graphs = bundle.graphs(precision, engine)
    if graphs.engine in ONNXRUNTIME:
        from asr.engines.onnx import OnnxEngine  # here: onnxruntime costs 20 MB and 0.1 s

        return OnnxEngine(bundle, graphs, threads)
    if graphs.engine == "executorch":
        from asr.engines.executorch import ExecutorchEngine  # here: it needs torch

        return ExecutorchEngine(bundle, graphs, threads)
    raise BundleError(
        f"{bundle.path}: its {graphs.precision} graphs are for the engine {graphs.engine!r}, and "
        f"earshot-asr {__version__} has only 'onnx', 'ort' and 'executorch'; use another "
        f"precision, or a version that has it: pip install --upgrade 'earshot-asr[{graphs.engine}]'"
    )
