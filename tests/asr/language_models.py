"""Language models of random texts."""

from collections.abc import Iterator

import numpy as np

from asr.decoding.hypothesis import UNK
from asr.decoding.language_model import LanguageModel
from asr.decoding.ngrams import START, NgramModel
from training.language_model import model_arrays, transcript_arrays


def random_text(vocab_size: int, seed: int, symbols: int = 200) -> np.ndarray:
    """Return sentences, each behind START; some symbols are more frequent than others."""
    generator = np.random.default_rng(seed)
    text = UNK + generator.geometric(0.5, symbols).clip(1, vocab_size - 1 - UNK)
    text[generator.random(symbols) < 0.1] = START
    text[0] = START
    return text


def begins(vocab_size: int) -> np.ndarray:
    """Say of each token whether it begins a word: those of even number do."""
    return np.arange(vocab_size) % 2 == 0


def spell(word: str) -> list[int]:
    """Return the tokens of a word, which is written as their numbers."""
    return [int(token) for token in word.split()]


def random_sentences(vocab_size: int, seed: int) -> Iterator[list[str]]:
    """Return the words of sentences."""
    text = random_text(vocab_size, seed)
    for sentence in np.split(text, *np.where(text == START)):
        words: list[str] = []
        for token in sentence[sentence != START].tolist():
            if begins(vocab_size)[token]:
                words.append(str(token))
            elif words:
                words[-1] += f" {token}"
        yield words


def random_arrays(
    vocab_size: int, seed: int, cutoffs: tuple[int, ...] = (2, 2, 2)
) -> dict[str, np.ndarray]:
    """Return the arrays of a model; rare words are not known."""
    return model_arrays(random_sentences(vocab_size, seed), spell, vocab_size, cutoffs)


def random_pairs(vocab_size: int, seed: int) -> NgramModel:
    """Return which token follows which in random transcripts."""
    transcripts = np.split(random_text(vocab_size, seed), 10)
    said = [[token for token in tokens.tolist() if token != START] for tokens in transcripts]
    return NgramModel.from_arrays(transcript_arrays(said, vocab_size), "transcripts.")


def random_model(vocab_size: int, seed: int) -> LanguageModel:
    """Return the model of these arrays."""
    return LanguageModel.from_arrays(random_arrays(vocab_size, seed), begins(vocab_size))
