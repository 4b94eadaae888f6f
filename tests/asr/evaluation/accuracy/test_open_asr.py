"""Protects the figure that stands beside those of the Open ASR leaderboard."""

import sys

import jiwer
import pytest
from whisper_normalizer.english import EnglishTextNormalizer

from asr.errors import AsrError
from asr.evaluation.accuracy.open_asr import open_asr_wer

PAIRS = [
    ("Mr. Gray's colour isn't twenty five.", "mister gray is color is not 25"),
    ("uh", "hello"),  # nothing left of it: left out
    ("The cat sat on the mat", "a cat sat mat on"),
]


def test_is_that_of_the_leaderboard() -> None:
    normalize = EnglishTextNormalizer()
    pairs = [tuple(map(normalize, pair)) for pair in PAIRS]
    references, hypotheses = zip(*(pair for pair in pairs if pair[0]), strict=True)
    expected = jiwer.wer(list(references), list(hypotheses))
    assert 0 < expected < 0.5
    assert open_asr_wer(PAIRS) == pytest.approx(expected)


def test_no_normaliser_or_no_words_have_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(AsrError, match="leaves no word"):
        open_asr_wer([("um", "hello")])
    monkeypatch.setitem(sys.modules, "whisper_normalizer.english", None)
    with pytest.raises(AsrError, match=r"not installed: pip install 'earshot-asr\[eval\]'"):
        open_asr_wer(PAIRS)
