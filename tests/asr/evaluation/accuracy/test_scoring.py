"""Protects the figures of a set: jiwer's where both count the same."""

import sys

import jiwer
import pytest

from asr.evaluation.accuracy.scoring import Figures, Group, break_down, worst
from asr.evaluation.accuracy.wer import WordErrors
from tests.asr.evaluated import scored

SCORES = [
    scored("a", "The cat sat on the mat.", "the cat sat on mat", speaker="one", snr=5),
    scored("b", "One, two, three, four!", "one too three for", speaker="two", snr=20),
    scored("c", "press one", "please press one now", speaker="one"),
    scored("d", "hello", "hello", speaker="two", snr=5),
]


def test_rates_equal_those_of_jiwer() -> None:
    figures = Figures.of(SCORES)
    references = [score.reference for score in SCORES]
    hypotheses = [score.hypothesis for score in SCORES]
    assert figures.errors.rate == pytest.approx(jiwer.wer(references, hypotheses))
    assert figures.cer == pytest.approx(jiwer.cer(references, hypotheses))
    assert figures.ser == 3 / 4
    assert figures.ci95[0] < figures.errors.rate < figures.ci95[1]
    assert figures.unavailable == {}


def test_the_leaderboards_figure_is_of_the_texts_as_they_were_written() -> None:
    """Ours spells 25 out and keeps the title: what is right for one normaliser isn't for both."""
    figures = Figures.of([scored("a", "Mr. Gray is 25", "mister gray is 25 uh")])
    assert figures.errors == WordErrors(hits=5, insertions=1)
    assert figures.wer_open_asr == 0.0


def test_a_missing_figure_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    figures = Figures.of(SCORES)
    assert figures.wer_open_asr is None
    assert "whisper-normalizer is not installed" in figures.unavailable["wer_open_asr"]
    assert figures.errors.words == 13


def test_groups_by_speaker_and_by_any_field() -> None:
    assert break_down(SCORES, "speaker") == (
        Group("two", 2, WordErrors(hits=3, substitutions=2)),
        Group("one", 2, WordErrors(hits=7, insertions=2, deletions=1)),
    )
    by_snr = {group.value: group.utterances for group in break_down(SCORES, "snr")}
    assert by_snr == {20: 1, None: 1, 5: 2}
    assert list(by_snr) == [None, 20, 5], "the worst first"


def test_the_worst_have_the_most_errors() -> None:
    assert [score.id for score in worst(SCORES, 2)] == ["c", "b"]
    assert [score.id for score in worst(SCORES, 9)] == ["c", "b", "a"], "none without an error"
