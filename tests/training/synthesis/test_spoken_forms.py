"""Digits, dates, times, amounts, spelled words and orders: all kinds, in words only."""

import re

import numpy as np
import pytest

from asr.text import normalize
from training.synthesis.spoken_forms import spoken_form

SENTENCES = [spoken_form(np.random.default_rng((7, index))) for index in range(1500)]


def test_they_are_a_function_of_the_draw() -> None:
    assert SENTENCES[5] == spoken_form(np.random.default_rng((7, 5)))
    assert len({sentence.text for sentence in SENTENCES}) > 1000


def test_they_are_words_already() -> None:
    for sentence in SENTENCES:
        assert re.fullmatch(r"[a-z' ]+", sentence.text)
        assert normalize(sentence.text) == sentence.text
        assert re.sub(r"\beigh\b", "a", normalize(sentence.spoken)) == sentence.text


@pytest.mark.parametrize(
    "pattern",
    [
        r"^((zero|oh|one|two|three|four|five|six|seven|eight|nine) ?)+$",
        r"hundred",
        r"point",
        r"(january|june|december) (\w+ )?(first|second|third|twenty|\w+th)",
        r"nineteen \w+",
        r"(half past|quarter to|o'clock|oh \w+)",
        r"\b[ap] m\b",
        r"(dollars|pounds|euros) and",
        r"my number is( \w+){7}",
        r"\ba n n a\b|s a r a h|d a v i d|g r a c e",
        r"^(stop|cancel|yes|no|help)$",
        r"turn (on|off) the",
    ],
)
def test_each_kind_occurs(pattern: str) -> None:
    assert any(re.search(pattern, sentence.text) for sentence in SENTENCES), pattern
