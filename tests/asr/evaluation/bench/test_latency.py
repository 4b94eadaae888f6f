"""Latency of words and stability of partials, on events written by hand."""

import pytest

from asr.evaluation.bench.latency import (
    Stability,
    endpoint_latency_s,
    first_partial_s,
    stability,
    word_latencies,
)
from asr.evaluation.bench.timing import Played, Shown
from asr.evaluation.corpora.timed import TimedWord
from asr.results import Endpoint, Event, Final, Partial, Result, Word


def _played(words: list[tuple[str, float]], events: list[tuple[float, Event]]) -> Played:
    """A final text of words with their ends, and events with the times at which they were shown."""
    result = Result(
        " ".join(text for text, _ in words),
        tuple(Word(text, end_s - 0.1, end_s, 1.0) for text, end_s in words),
        (),
        10.0,
        1.0,
    )
    shown = tuple(Shown(at_s, event) for at_s, event in events)
    return Played(10.0, (), shown, Final(10.0, (), result), 10.5)


def _partial(text: str) -> Partial:
    return Partial(0.0, text, "", ())


def test_a_word_counts_from_its_true_end() -> None:
    played = _played(
        [("one", 1.0), ("two", 2.1)], [(1.4, _partial("one")), (2.6, _partial("one two"))]
    )
    one, two = word_latencies(played, [TimedWord("one", 0.5, 0.9), TimedWord("two", 1.5, 2.0)])
    assert (one.emission_s, one.display_s) == (pytest.approx(0.1), pytest.approx(0.5))
    assert (two.emission_s, two.display_s) == (pytest.approx(0.1), pytest.approx(0.6))


def test_words_that_were_not_recognised_have_no_latency() -> None:
    played = _played(
        [("one", 1.0), ("tree", 3.0), ("four", 4.0)], [(5.0, _partial("one tree four"))]
    )
    spoken = [TimedWord(text, 0.0, 1.0) for text in ("one", "two", "three", "four")]
    assert [round(word.emission_s, 6) for word in word_latencies(played, spoken)] == [0.0, 3.0]


def test_a_word_is_shown_when_it_stays_and_all_before_it() -> None:
    """ "two" is there at 2 s, but the word before it changes until 3 s."""
    events = [(1.0, _partial("won")), (2.0, _partial("won two")), (3.0, _partial("one two"))]
    played = _played([("one", 1.0), ("two", 2.0)], events)
    spoken = [TimedWord("one", 0.0, 1.0), TimedWord("two", 1.0, 2.0)]
    assert [word.display_s for word in word_latencies(played, spoken)] == [2.0, 1.0]


def test_a_word_of_the_final_event_only_is_shown_with_it() -> None:
    played = _played([("one", 1.0)], [])
    (word,) = word_latencies(played, [TimedWord("one", 0.0, 1.0)])
    assert word.display_s == pytest.approx(9.5)
    assert first_partial_s(played) is None


def test_the_first_partial_with_text_counts() -> None:
    assert first_partial_s(_played([], [(0.4, _partial("")), (0.8, _partial("a"))])) == 0.8


def test_an_endpoint_counts_behind_the_last_word() -> None:
    word = Word("one", 1.0, 2.0, 1.0)
    early = Endpoint(0.5, "pause", "", "one", (word,), 0.0, 0.4)
    empty = Endpoint(3.0, "silence", "", "", (), 3.0, 3.0)
    due = Endpoint(3.2, "pause", "", "one", (word,), 1.0, 2.0)
    spoken = [TimedWord("one", 1.0, 2.0)]
    assert endpoint_latency_s(_played([], [(0.6, early), (3.0, empty)]), spoken) is None
    played = _played([], [(0.6, early), (3.0, empty), (3.3, due)])
    assert endpoint_latency_s(played, spoken) == pytest.approx(1.3)


def test_a_growing_word_is_a_revision_and_a_new_one_is_not() -> None:
    texts = ["i", "i go", "i going", "i going home"]
    events = [(float(at), _partial(text)) for at, text in enumerate(texts)]
    found = stability(_played([("i", 0), ("going", 0), ("home", 0)], events))
    assert (found.words, found.revised) == (3, 1)
    assert (found.shown, found.wrong) == (8, 1)
    assert found.revisions_per_word == pytest.approx(1 / 3)
    assert found.unstable_wer == pytest.approx(1 / 8)


def test_a_word_that_vanishes_is_a_revision() -> None:
    events = [(0.0, _partial("oh no")), (1.0, _partial("oh"))]
    assert stability(_played([("oh", 0)], events)).revised == 1


def test_stability_of_several_recordings_adds_up() -> None:
    assert Stability(3, 1, 8, 1) + Stability(1, 0, 1, 0) == Stability(4, 1, 9, 1)
    assert Stability().revisions_per_word is None
    assert Stability().unstable_wer is None
