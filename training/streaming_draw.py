"""Dynamic chunk training: one set of weights for every chunk size (arXiv 2012.05481)."""

import numpy as np
import torch
from torch import Tensor

from training.recipe import StreamingTrainingConfig

WHOLE = 1 << 20
"""Frames of a chunk that holds any utterance whole: it is seen as an offline recogniser would."""


def draw_streaming(
    config: StreamingTrainingConfig, generator: np.random.Generator, count: int
) -> tuple[Tensor, Tensor]:
    """Draw chunk and left context `(count,)` of each utterance of a batch, in encoder frames.

    Two views of an utterance seldom have the same: with a loss that compares them, what streams
    learns from what has heard more.
    """
    whole = generator.random(count) < config.full_probability
    chunks = np.where(whole, WHOLE, generator.choice(config.chunk_frames, count))
    return torch.from_numpy(chunks), torch.from_numpy(generator.choice(config.left_frames, count))
