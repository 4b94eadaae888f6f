"""Protects the count of wrong characters, against jiwer's."""

import jiwer
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.evaluation.accuracy.edit_distance import edit_distance

WORDS = st.lists(st.sampled_from("abc"), min_size=1, max_size=12)


@settings(deadline=None)
@given(WORDS, WORDS)
def test_equals_jiwer(one: list[str], other: list[str]) -> None:
    theirs = jiwer.process_words(" ".join(one), " ".join(other))
    expected = theirs.substitutions + theirs.insertions + theirs.deletions
    assert edit_distance(one, other) == expected


def test_of_nothing_and_of_long_texts() -> None:
    assert edit_distance("", "") == 0
    assert edit_distance("", "abc") == edit_distance("abc", "") == 3
    assert edit_distance("a" * 500 + "b", "b" + "a" * 500) == 2, "past the width of a machine word"
