"""What a stream carries from one encoder call to the next; its size never changes."""

from typing import NamedTuple

import torch
from torch import Tensor

from training.model.config import ModelConfig


class EncoderState(NamedTuple):
    """Caches of all layers, in the layout of the exported graph.

    attention: `(L, left, N, 2D)`, keys and values of the last `left` frames, before rotation.
    conv: `(L, 1 + (k-1)/2, N, 2D)`. Row 0 holds the number of valid frames in `attention`; the
        others hold the last k-1 inputs of the depthwise convolution, two frames a row. The count
        lives here because a decoder that resets at an endpoint may zero `processed_frames` and
        keep the caches.
    processed_frames: `(N,)` int64, feature frames consumed so far.
    """

    attention: Tensor
    conv: Tensor
    processed_frames: Tensor


def initial_state(
    config: ModelConfig, batch: int, left_frames: int, like: Tensor | None = None
) -> EncoderState:
    """Return the state before the first frame; `left_frames` is the room for left context.

    Training starts each utterance with no room at all: its whole past is in the same call.
    """
    like = torch.zeros(()) if like is None else like
    width = 2 * config.dim
    return EncoderState(
        attention=like.new_zeros(config.layers, left_frames, batch, width),
        conv=like.new_zeros(config.layers, config.conv_rows, batch, width),
        processed_frames=torch.zeros(batch, dtype=torch.int64, device=like.device),
    )
