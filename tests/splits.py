"""Random splits of recordings into blocks: whatever they are, the text is that of one block."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

import asr
from asr.bundle import Bundle
from asr.engines import open_engine
from tests.samples import SAMPLES, read_samples
from tests.watched_engines import RememberingEngine

LONGEST = 160_000
"""Samples of a block: 10 s."""


def random_blocks(samples: np.ndarray, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Split a recording into blocks of 1 sample to 10 s, as many short ones as long ones."""
    start = 0
    while start < len(samples):
        length = int(LONGEST ** rng.random())
        yield samples[start : start + length]
        start += length


def check_splits(exact: Bundle, seeds: Iterable[int]) -> Iterator[int]:
    """Check a split for each seed, of recordings of about 10 s, in fp32; yield those that held.

    The encoder must be called with the same features, to the bit, as for one block. So it computes
    each recording once, and a thousand splits cost the features and the search of each.
    """
    engine = RememberingEngine(open_engine(exact, "fp32"))
    recognizer = asr.Recognizer(exact, engine, exact.graphs("fp32"))
    spoken = [read_samples(sample) for sample in SAMPLES]
    audio = [np.concatenate([one, two]) for one, two in pairwise([*spoken, spoken[0]])]
    expected = []
    for samples in audio:
        stream = recognizer.stream()
        stream.accept(samples)
        expected.append(stream.finish().result)
    calls = engine.calls
    assert all(len(result.words) >= 2 for result in expected), "the model hears nothing"
    for seed in seeds:
        rng = np.random.default_rng(seed)
        index = int(rng.integers(len(audio)))
        stream = recognizer.stream()
        for block in random_blocks(audio[index], rng):
            stream.accept(block)
        where = f"seed {seed}, from {SAMPLES[index].name}"
        assert stream.finish().result == expected[index], where
        assert engine.calls == calls, f"{where}: the encoder was given something else"
        yield seed
