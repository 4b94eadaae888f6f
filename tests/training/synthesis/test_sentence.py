"""The words that are given to a synthesiser are those of the transcript."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.text import normalize
from training.synthesis.sentence import as_spoken


@pytest.mark.parametrize(
    ("written", "spoken", "text"),
    [
        ("Then whose is it?", "then whose is it?", "then whose is it"),
        ("Press 1 for A.M, or 2!", "press one for eigh m, or two!", "press one for a m or two"),
        ("c a t", "c eigh t.", "c a t"),
        ("Anna, A, N, N, A.", "anna, eigh, n, n, eigh.", "anna a n n a"),
        ("am I a man", "am i a man.", "am i a man"),
        ("x i sixty one", "x i sixty one.", "x i sixty one"),
        ("$13.25 -- at 10:05", "thirteen dollars and twenty five cents at ten oh five.", None),
        ("1,042 of them; so: many", "one thousand forty two of them, so, many.", None),
        ("On Fleet St, they", "on fleet saint they.", "on fleet saint they"),
    ],
)
def test_what_is_spoken_is_the_transcript(written: str, spoken: str, text: str | None) -> None:
    sentence = as_spoken(written)
    assert sentence.spoken == spoken
    assert sentence.text == normalize(written) == (text or sentence.text)


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="ab iAM,;:.?!0123456789$'-", max_size=40))
def test_the_words_are_the_same_but_for_the_spelled_letter(written: str) -> None:
    sentence = as_spoken(written)
    words = re.sub(r"\beigh\b", "a", normalize(sentence.spoken))
    assert words == sentence.text == normalize(written)
