"""Word error rate of an utterance and of a corpus, and how far it can be trusted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from asr.evaluation.accuracy.alignment import Alignment, align


@dataclass(frozen=True, slots=True)
class WordErrors:
    """Counts of words; add them up to go from utterances to a corpus."""

    hits: int = 0
    substitutions: int = 0
    insertions: int = 0
    deletions: int = 0

    @classmethod
    def of(cls, alignment: Alignment) -> "WordErrors":
        """The counts of one alignment."""
        return cls(
            alignment.hits, alignment.substitutions, alignment.insertions, alignment.deletions
        )

    @classmethod
    def between(cls, reference: str, hypothesis: str) -> "WordErrors":
        """The counts of two texts; words are what spaces separate."""
        return cls.of(align(reference.split(), hypothesis.split()))

    @classmethod
    def total(cls, counts: Iterable["WordErrors"]) -> "WordErrors":
        """The counts of a corpus; zero for none."""
        return sum(counts, start=cls())

    @property
    def words(self) -> int:
        """Words of the reference."""
        return self.hits + self.substitutions + self.deletions

    @property
    def errors(self) -> int:
        """Substitutions, insertions and deletions together."""
        return self.substitutions + self.insertions + self.deletions

    @property
    def rate(self) -> float:
        """Word error rate as a fraction of the reference's words; it can exceed 1.

        Raises ValueError where the reference has no words: there is no rate then.
        """
        if self.words == 0:
            raise ValueError("no word error rate without words in the reference")
        return self.errors / self.words

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.hits + other.hits,
            self.substitutions + other.substitutions,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
        )


def bootstrap_interval(
    utterances: Sequence[WordErrors], level: float = 0.95, samples: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """Percentile bootstrap interval of the corpus WER, by drawing whole utterances.

    Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance evaluation"
    (ICASSP 2004). Utterances are drawn, not words, because errors within one depend on each other.
    That speakers differ too is left out, so with few speakers the true interval is wider.

    Args:
        utterances: counts per utterance, each with at least one word in the reference.
        level: probability that the interval is meant to hold, in (0, 1).
        samples: corpora drawn.
        seed: of the draw; the same seed gives the same interval.

    Returns:
        Lower and upper end of the WER, as fractions.

    Raises:
        ValueError: no utterance, one without words, or a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level {level}; expected a probability between 0 and 1, such as 0.95")
    if not utterances or any(counts.words == 0 for counts in utterances):
        raise ValueError("a bootstrap needs utterances, each with words in its reference")
    errors = np.array([counts.errors for counts in utterances])
    words = np.array([counts.words for counts in utterances])
    generator = np.random.default_rng(seed)
    rates = np.empty(samples)
    for index in range(samples):  # one draw at a time: memory stays that of one corpus
        drawn = generator.integers(len(words), size=len(words))
        rates[index] = errors[drawn].sum() / words[drawn].sum()
    low, high = np.quantile(rates, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
