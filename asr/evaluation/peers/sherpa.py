"""sherpa-onnx, as it comes from the registry, on one of our bundles: the same graphs under another
runtime, in C++ from the samples to the text."""

from importlib import metadata
from typing import Any

import numpy as np

from asr.bundle import builtin_bundle_path, open_bundle
from asr.errors import AsrError
from asr.evaluation.isolated import Heard, Loaded
from asr.features import SAMPLE_RATE, Samples

TAIL_S = 0.66
"""Silence behind a recording, as in its own examples: it decodes whole chunks only."""


def load(model: str | None = None, precision: str | None = None) -> Loaded:
    """Load the ONNX graphs of a bundle, the built-in one if none is named. Chunks are of the length
    that the graphs state.

    Raises BundleError if it has none, AsrError for a zip.
    """
    import sherpa_onnx

    bundle = open_bundle(model or builtin_bundle_path())
    graphs = bundle.graphs(precision, "onnx")
    if not bundle.path.is_dir():
        raise AsrError(f"sherpa-onnx can't read a zip; unpack {bundle.path} and name the directory")
    encoder, predictor, joiner, tokens = (
        bundle.path / name for name in (*graphs.names, bundle.tokens)
    )
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(tokens),
        encoder=str(encoder),
        decoder=str(predictor),
        joiner=str(joiner),
        model_type="conformer",
        decoding_method="greedy_search",
        num_threads=1,
    )
    return Loaded(
        open=lambda: _Stream(recognizer),
        runs_on=f"sherpa-onnx {metadata.version('sherpa-onnx')}",
        model=f"{bundle.name} {graphs.precision}, the graphs for onnx",
        model_mb=bundle.megabytes(graphs),
    )


class _Stream:
    def __init__(self, recognizer: Any) -> None:
        self._recognizer = recognizer
        self._stream = recognizer.create_stream()

    def accept(self, samples: Samples) -> None:
        self._stream.accept_waveform(SAMPLE_RATE, samples)
        self._decode()

    def finish(self) -> Heard:
        self._stream.accept_waveform(SAMPLE_RATE, np.zeros(int(TAIL_S * SAMPLE_RATE), np.float32))
        self._stream.input_finished()
        self._decode()
        return Heard(self._recognizer.get_result(self._stream))

    def _decode(self) -> None:
        """Decode what can be, and look at the text, as a program does that shows it."""
        decoded = False
        while self._recognizer.is_ready(self._stream):
            self._recognizer.decode_stream(self._stream)
            decoded = True
        if decoded:
            self._recognizer.get_result(self._stream)
