"""Dynamic chunk training: one set of weights for every chunk size (arXiv 2012.05481)."""

import numpy as np

from training.recipe import StreamingTrainingConfig


def draw_streaming(
    config: StreamingTrainingConfig, generator: np.random.Generator
) -> tuple[int | None, int | None]:
    """Draw chunk and left context in encoder frames; None, None: the whole utterance is seen."""
    if generator.random() < config.full_probability:
        return None, None
    return int(generator.choice(config.chunk_frames)), int(generator.choice(config.left_frames))
