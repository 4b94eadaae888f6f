"""sherpa-onnx as it comes from the registry, on one of our bundles.

It decodes whole chunks only, and only while further frames are there. Our streams end with 0.19 s
of silence and one shorter chunk. So the two are compared on recordings that fill their last chunk,
and what sherpa-onnx hears in the silence after that is left out.
"""

import numpy as np
import sherpa_onnx

from asr.bundle import Bundle, StreamingConfig

STREAMING = StreamingConfig()
CHUNK_SHIFT = STREAMING.subsampling_factor * STREAMING.chunk_frames


def recognize_with_sherpa(
    bundle: Bundle, precision: str, samples: np.ndarray, engine: str = "onnx"
) -> list[tuple[str, float]]:
    """Return the tokens that sherpa-onnx hears, a second of silence after the end included."""
    graphs = bundle.graphs(precision, engine)
    recognizer = sherpa_onnx.OnlineRecognizer.from_transducer(
        tokens=str(bundle.path / bundle.tokens),
        encoder=str(bundle.path / graphs.encoder),
        decoder=str(bundle.path / graphs.predictor),
        joiner=str(bundle.path / graphs.joiner),
        model_type="conformer",
        decoding_method="greedy_search",
        num_threads=1,
    )
    stream = recognizer.create_stream()
    stream.accept_waveform(16_000, samples)
    stream.accept_waveform(16_000, np.zeros(16_000, np.float32))
    stream.input_finished()
    while recognizer.is_ready(stream):
        recognizer.decode_stream(stream)
    pieces = [token.replace(" ", "▁") for token in recognizer.tokens(stream)]
    times = [round(time, 3) for time in recognizer.timestamps(stream)]
    return list(zip(pieces, times, strict=True))


def fill_chunks(samples: np.ndarray) -> np.ndarray:
    """Append silence until the frames and their tail padding are whole chunks."""
    samples = samples[: len(samples) // 160 * 160]
    missing = -(_frames(samples) - 3) % CHUNK_SHIFT
    return np.concatenate([samples, np.zeros(160 * missing, np.float32)])


def last_token_time(samples: np.ndarray) -> float:
    """Return the time in seconds of the last encoder frame that our stream decodes."""
    return ((_frames(samples) - 3) // 4 - 0.5) * 0.04


def _frames(samples: np.ndarray) -> int:
    return len(samples) // 160 + STREAMING.tail_padding_frames
