"""The golden self-test: does this machine compute what the exporting machine computed?

A runtime that miscomputes on one chip gives wrong text, or none, and no error. So a bundle carries
the encoder's output for two chunks, and it is compared before a model is used.
"""

import zipfile
import zlib

import numpy as np

from asr.bundle import Bundle
from asr.engines import Engine
from asr.errors import BundleError


def verify_golden(bundle: Bundle, engine: Engine, precision: str) -> float:
    """Run the golden features through the encoder chunk by chunk; return the max abs error.

    Raises BundleError if it is beyond the tolerance that the bundle states for this precision.
    """
    features, expected = _read_golden(bundle, precision)
    streaming = bundle.streaming
    step = streaming.subsampling_factor * streaming.chunk_frames
    window = streaming.feature_frames(streaming.chunk_frames)
    state = engine.initial_state()
    outputs = []
    for start in range(0, len(features) - window + 1, step):
        encoder_out, state = engine.encode(features[start : start + window], state)
        outputs.append(encoder_out)
    found = np.concatenate(outputs)
    if found.shape != expected.shape:
        raise BundleError(
            f"{bundle.path}: the self-test gave encoder output of shape {found.shape}, expected "
            f"{expected.shape}; export the model again"
        )
    error = float(np.abs(found - expected).max())
    tolerance = bundle.golden.tolerance[precision]
    if not error <= tolerance:  # so written, NaN fails too
        raise BundleError(
            f"{bundle.path}: the self-test failed: on this machine the {precision} encoder is off "
            f"by {error:.3g} (tolerance {tolerance:.3g}), so its text would be wrong; try another "
            "precision or another version of onnxruntime"
        )
    return error


def _read_golden(bundle: Bundle, precision: str) -> tuple[np.ndarray, np.ndarray]:
    path = bundle.path / bundle.golden.file
    try:
        with np.load(path, allow_pickle=False) as golden:
            features, expected = golden["features"], golden[f"encoder_out.{precision}"]
    except (OSError, ValueError, TypeError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError(f"{path}: can't be used: {error}; export the model again") from error
    window = bundle.streaming.feature_frames(bundle.streaming.chunk_frames)
    if features.ndim != 2 or len(features) < window:
        raise BundleError(
            f"{path}: features of shape {features.shape}; expected ({window} or more, "
            f"{bundle.features.num_mel_bins}); export the model again"
        )
    return features, expected
