"""Language models of random texts."""

import numpy as np

from asr.decoding.hypothesis import UNK
from asr.decoding.language_model import START, NgramModel
from training.language_model import count_ngrams


def random_text(vocab_size: int, seed: int, tokens: int = 200) -> np.ndarray:
    """Return sentences of tokens, each behind START; some tokens are more frequent than others."""
    generator = np.random.default_rng(seed)
    text = UNK + generator.geometric(0.5, tokens).clip(1, vocab_size - 1 - UNK)
    text[generator.random(tokens) < 0.1] = START
    text[0] = START
    return text


def random_model(vocab_size: int, seed: int) -> NgramModel:
    """Return a model of order three."""
    return NgramModel.from_arrays(
        count_ngrams(random_text(vocab_size, seed), vocab_size, (1, 1, 1))
    )
