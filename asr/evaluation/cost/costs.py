"""What a call of each network costs in arithmetic and in bytes, from the model's dimensions.

Multiply-accumulates (MACs) of the matrix products and convolutions; what is added, normalised or
activated is left out, for it is a few percent of that. Weights are counted once a call, as read.
The layers are those of the Conformer-transducer that `training.model` trains.
"""

from dataclasses import dataclass

from asr.bundle import Bundle

COMPONENTS = ("encoder", "predictor", "joiner")

_HIDDEN = 4  # width of a feed-forward over that of the encoder
_CHANNELS = 32  # of the subsampling
_GROUP = 4  # channels of a group of the predictor's convolution
_FLOAT_BYTES = 4

WEIGHT_BYTES = {"fp32": 4.0, "int8": 1.0, "int4": 0.5}
"""A weight of a matrix, by precision; scales and biases are left out."""


@dataclass(frozen=True, slots=True)
class CallCost:
    """Of one call of a network."""

    parameters: int  # all that it has
    macs: int
    weight_bytes: float  # of the parameters, read once
    state_bytes: int  # caches read and written


def weight_bytes(precision: str) -> float:
    """Return the bytes of a weight; a precision such as "int8-fused" counts as what it begins with.

    Raises ValueError for one that isn't known.
    """
    for name, size in WEIGHT_BYTES.items():
        if precision.startswith(name):
            return size
    raise ValueError(f"precision {precision!r}; expected one of {', '.join(WEIGHT_BYTES)}")


def call_costs(bundle: Bundle, precision: str, chunk_frames: int) -> dict[str, CallCost]:
    """Return the cost of an encoder call of `chunk_frames` frames, of predicting one context, and
    of joining one frame.

    Raises ValueError for an unknown precision.
    """
    model, size = bundle.model, weight_bytes(precision)
    width = model.joiner_dim
    predictor_linear = width * width + width * _GROUP * model.context_size
    predictor = model.vocab_size * width + predictor_linear + 2 * width
    joiner = model.vocab_size * (width + 1)
    encoder = model.parameters - predictor - joiner
    return {
        "encoder": CallCost(
            encoder, _encoder_macs(bundle, chunk_frames), size * encoder, _state_bytes(bundle)
        ),
        # Of the embedding, only the rows of the context are read.
        "predictor": CallCost(
            predictor, predictor_linear, size * (predictor_linear + model.context_size * width), 0
        ),
        "joiner": CallCost(joiner, model.vocab_size * width, size * joiner, 0),
    }


def _encoder_macs(bundle: Bundle, chunk_frames: int) -> int:
    model, left = bundle.model, bundle.streaming.left_context_frames
    dim, frames = model.encoder_dim, chunk_frames
    weights = (
        2 * (2 * _HIDDEN * dim * dim)  # two feed-forwards
        + 4 * dim * dim  # query, key, value, output
        + 3 * dim * dim  # into the gates, and out of the convolution
        + model.conv_kernel * dim
    )
    attention = 2 * (left + frames) * dim  # scores, and the sum of values
    blocks = model.encoder_layers * (weights + attention) * frames
    return blocks + _subsampling_macs(bundle, frames) + frames * dim * model.joiner_dim


def _subsampling_macs(bundle: Bundle, frames: int) -> int:
    bins = bundle.features.num_mel_bins
    half, quarter = (bins - 1) // 2, ((bins - 1) // 2 - 1) // 2
    first = (2 * frames + 1) * half * _CHANNELS * 9
    second = frames * quarter * (_CHANNELS * 9 + _CHANNELS * _CHANNELS)
    return first + second + frames * quarter * _CHANNELS * bundle.model.encoder_dim


def _state_bytes(bundle: Bundle) -> int:
    """The caches: read and written by every call."""
    return 2 * stream_state_bytes(bundle)


def stream_state_bytes(bundle: Bundle) -> int:
    """Bytes of the encoder caches of one stream."""
    model = bundle.model
    rows = bundle.streaming.left_context_frames + 1 + (model.conv_kernel - 1) // 2
    return model.encoder_layers * rows * 2 * model.encoder_dim * _FLOAT_BYTES
