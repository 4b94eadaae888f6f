"""The numbers of linear layers and embeddings: float, int8 or int4.

int8: weights with a scale for each output, ahead of time; activations with one scale for each call,
as they come. They use 7 of the 8 bits, because an x86 processor without VNNI adds pairs of products
in 16 bits and saturates. Mean error of a half-trained encoder of size `s` against float, its
outputs having a deviation of 0.68 (`qemu-x86_64-static -cpu Haswell` for the one without VNNI):

    weights   with VNNI   without
    8 bits      0.0061    0.0128
    7 bits      0.0076    0.0076, the same to the last bit

int4: weights with a scale for each output and each 32 inputs; the activations are quantized to int8
by the same blocks (`accuracy_level` 4). It gives the smallest file, not the fastest step.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.errors import ExportError

Floats: TypeAlias = NDArray[np.float32]

Arithmetic: TypeAlias = Callable[[str], str]
"""The precision, one of `PRECISIONS`, of the layer of a name."""

PRECISIONS = ("fp32", "int8", "int4")

INT8_LIMIT = 64
"""The largest int8 weight: 7 bits."""

INT4_BLOCK = 32
"""Inputs that share a scale."""

_INT4_LIMIT = 8  # -8 to 7, stored as 0 to 15
_INT4_SHRINK = np.linspace(0.7, 1.0, 13, dtype=np.float32)  # candidates for the range of a block


def uniform(precision: str) -> Arithmetic:
    """Return the arithmetic that has one precision for all layers."""
    if precision not in PRECISIONS:
        raise ExportError(f"precision {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return lambda name: precision


def quantize_int8(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return `(in, out)` int8 and its scales `(out,)`: `weight` is about their product."""
    scale = (np.abs(weight).max(axis=0) / INT8_LIMIT).astype(np.float32)
    scale[scale == 0] = 1.0
    return np.rint(weight / scale).astype(np.int8), scale


def quantize_int4(weight: Floats) -> tuple[NDArray[np.int8], Floats]:
    """Return `(out, blocks, 32)` from -8 to 7 and scales `(out, blocks)`.

    Each block takes, of several ranges, the one that gives the least squared error: a range that
    cuts off an outlier leaves finer steps to the other 31.

    Raises ExportError if the inputs don't fall into whole blocks.
    """
    inputs, outputs = weight.shape
    if inputs % INT4_BLOCK:
        raise ExportError(
            f"a layer of {inputs} inputs can't be int4: expected a multiple of {INT4_BLOCK}"
        )
    blocks = weight.T.reshape(outputs, inputs // INT4_BLOCK, INT4_BLOCK)
    # The number of the largest magnitude becomes -8: there is one step more below zero than above.
    peak = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2, keepdims=True), axis=2)
    best_error = np.full(blocks.shape[:2], np.inf, dtype=np.float32)
    best = np.zeros(blocks.shape, dtype=np.int8)
    best_scale = np.ones(blocks.shape[:2], dtype=np.float32)
    for shrink in _INT4_SHRINK:
        scale = peak * shrink / -_INT4_LIMIT
        scale[scale == 0] = 1.0
        numbers = np.clip(np.rint(blocks / scale), -_INT4_LIMIT, _INT4_LIMIT - 1)
        error = np.square(numbers * scale - blocks).sum(axis=2)
        better = error < best_error
        best_error[better] = error[better]
        best[better] = numbers[better].astype(np.int8)
        best_scale[better] = scale[better, 0]
    return best, best_scale


def pack_int4(numbers: NDArray[np.int8]) -> NDArray[np.uint8]:
    """`(out, blocks, 32)` from -8 to 7 -> `(out, blocks, 16)`, two a byte, the first one low."""
    unsigned: NDArray[Any] = (numbers + _INT4_LIMIT).astype(np.uint8)
    packed: NDArray[np.uint8] = unsigned[..., 0::2] | (unsigned[..., 1::2] << 4)
    return packed
