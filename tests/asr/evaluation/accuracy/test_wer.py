"""Protects the word error rate of a corpus and its interval."""

import jiwer
import numpy as np
import pytest

from asr.evaluation.accuracy.alignment import align
from asr.evaluation.accuracy.wer import WordErrors, bootstrap_interval

PAIRS = [
    ("the cat sat on the mat", "the cat sat on mat"),
    ("one two three four", "one too three for"),
    ("press one", "please press one now"),
    ("hello", ""),
]


def scored(pairs: list[tuple[str, str]]) -> list[WordErrors]:
    return [WordErrors.of(align(reference.split(), other.split())) for reference, other in pairs]


def test_corpus_rate_weighs_words_not_utterances() -> None:
    total = WordErrors.total(scored(PAIRS))
    assert total == WordErrors(hits=9, substitutions=2, insertions=2, deletions=2)
    assert total.words == 13
    assert total.rate == pytest.approx(6 / 13)
    references, hypotheses = (list(side) for side in zip(*PAIRS, strict=True))
    assert total.rate == pytest.approx(jiwer.wer(references, hypotheses))


def test_no_words_have_no_rate() -> None:
    assert WordErrors.total([]) == WordErrors()
    with pytest.raises(ValueError, match="without words"):
        _ = WordErrors(insertions=3).rate


def test_interval_holds_the_rate_and_repeats() -> None:
    utterances = scored(PAIRS * 25)
    low, high = bootstrap_interval(utterances, seed=1)
    assert low < WordErrors.total(utterances).rate < high
    assert bootstrap_interval(utterances, seed=1) == (low, high)
    assert bootstrap_interval(utterances, seed=2) != (low, high)
    wider = bootstrap_interval(utterances, level=0.99, seed=1)
    assert wider[0] < low
    assert high < wider[1]


def test_interval_has_the_width_that_theory_gives() -> None:
    """400 one-word utterances with p = 0.25: 1.96 standard errors of a binomial on each side."""
    utterances = [WordErrors(hits=1)] * 300 + [WordErrors(substitutions=1)] * 100
    low, high = bootstrap_interval(utterances)
    half_width = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert (low, high) == pytest.approx((0.25 - half_width, 0.25 + half_width), abs=0.006)


def test_interval_of_equal_utterances_is_a_point() -> None:
    assert bootstrap_interval([WordErrors(hits=3, deletions=1)] * 10) == (0.25, 0.25)


@pytest.mark.parametrize(
    ("utterances", "level"),
    [([], 0.95), ([WordErrors(insertions=1)], 0.95), ([WordErrors(hits=1)], 95)],
)
def test_interval_refuses_what_has_none(utterances: list[WordErrors], level: float) -> None:
    with pytest.raises(ValueError, match=r"expected|needs"):
        bootstrap_interval(utterances, level=level)
