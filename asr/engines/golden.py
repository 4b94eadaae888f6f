"""The golden self-test: does this machine compute what the exporting machine computed?

A runtime that miscomputes on one chip gives wrong text, or none, and no error. So a bundle carries
what its graphs gave where it was made, and both are compared before a model is used. `golden.npz`:

    features                  (T, num_mel_bins)    two chunks, so that the encoder's caches count
    encoder_out.PRECISION     (2C, joiner_dim)     what the encoder gave for them
    contexts                  (2C, context_size)   tokens for the predictor, a row a frame
    log_probs.PRECISION       (2C, vocab_size)     those frames joined with those predictions

The joiner is given the golden encoder frames, not those just computed, so each graph is to blame
for its own errors only.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.arrays import read_arrays
from asr.bundle import Bundle, GoldenErrors, StreamingConfig
from asr.engines import Engine, Floats
from asr.errors import BundleError


@dataclass(frozen=True)
class _Golden:
    """The arrays of one precision."""

    features: Floats
    encoder_out: Floats
    contexts: NDArray[np.int64]
    log_probs: Floats


def verify_golden(bundle: Bundle, engine: Engine, precision: str) -> GoldenErrors:
    """Run the golden input through the graphs; return how far the outputs are off.

    Raises BundleError if that is beyond what the bundle tolerates for this precision.
    """
    golden = _read_golden(bundle, precision)
    encoder_out = encode_by_chunks(engine, golden.features, bundle.streaming)
    log_probs = engine.join(golden.encoder_out, engine.predict(golden.contexts))
    return GoldenErrors(
        _check(bundle, precision, "encoder_out", encoder_out, golden.encoder_out),
        _check(bundle, precision, "log_probs", log_probs, golden.log_probs),
    )


def encode_by_chunks(engine: Engine, features: Floats, streaming: StreamingConfig) -> Floats:
    """Return the encoder output of all whole chunks of `features (T, num_mel_bins)`."""
    window = streaming.feature_frames(streaming.chunk_frames)
    step = streaming.subsampling_factor * streaming.chunk_frames
    state, outputs = engine.initial_state(), []
    for start in range(0, len(features) - window + 1, step):
        encoder_out, state = engine.encode(features[start : start + window], state)
        outputs.append(encoder_out)
    return np.concatenate(outputs)


def _check(bundle: Bundle, precision: str, output: str, found: Floats, expected: Floats) -> float:
    if found.shape != expected.shape:
        raise BundleError(
            f"{bundle.path}: the self-test gave {output} of shape {found.shape}, expected "
            f"{expected.shape}; export the model again"
        )
    error = float(np.abs(found - expected).max())
    tolerance: float = getattr(bundle.golden.tolerance[precision], output)
    if not error <= tolerance:  # so written, NaN fails too
        raise BundleError(
            f"{bundle.path}: the self-test failed: on this machine {output} of the {precision} "
            f"graphs is off by {error:.3g} (tolerance {tolerance:.3g}), so its text would be "
            "wrong; try another precision or another version of the inference engine"
        )
    return error


def _read_golden(bundle: Bundle, precision: str) -> _Golden:
    path = bundle.path / bundle.golden.file
    arrays = read_arrays(path, bundle.read(bundle.golden.file))
    try:
        golden = _Golden(
            arrays["features"],
            arrays[f"encoder_out.{precision}"],
            arrays["contexts"],
            arrays[f"log_probs.{precision}"],
        )
    except KeyError as error:
        raise BundleError(f"{path}: can't be used: no {error}; export the model again") from error
    window = bundle.streaming.feature_frames(bundle.streaming.chunk_frames)
    if golden.features.ndim != 2 or len(golden.features) < window:
        raise BundleError(
            f"{path}: features of shape {golden.features.shape}; expected ({window} or more, "
            f"{bundle.features.num_mel_bins}); export the model again"
        )
    contexts = (len(golden.encoder_out), bundle.model.context_size)
    if golden.contexts.shape != contexts or golden.contexts.dtype != np.int64:
        raise BundleError(
            f"{path}: contexts of shape {golden.contexts.shape}, {golden.contexts.dtype}; expected "
            f"{contexts}, int64; export the model again"
        )
    return golden
