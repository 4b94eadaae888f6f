"""Words, their times and their confidence follow from the tokens alone."""

import math
import tracemalloc
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.endpoint import Segment
from asr.decoding.hypothesis import Emission, Hypothesis
from asr.results import Result, Word
from asr.transcript import Transcript

PIECES = ("<blk>", "<unk>", "▁he", "ll", "o", "▁the", "re", "'s", "▁")
HE, LL, OH, THE, RE, S, MARK = range(2, 9)


def emissions(*tokens: int, start: int = 0) -> list[Emission]:
    """Return one token every second frame, each with probability 1/2."""
    return [Emission(token, start + 2 * i, math.log(0.5)) for i, token in enumerate(tokens)]


def stable(*found: Emission) -> Hypothesis:
    return Hypothesis(found, len(found))


def transcribe(*found: Emission) -> Result:
    """Return the transcript of emissions in a second of audio."""
    transcript = Transcript(PIECES, frame_s=0.04)
    transcript.update(stable(*found))
    transcript.complete()
    return transcript.result(duration_s=1.0)


def test_words_and_times() -> None:
    result = transcribe(*emissions(HE, LL, OH, THE, RE, S))
    assert result.text == "hello there's"
    assert [(word.text, word.start_s, word.end_s) for word in result.words] == [
        ("hello", 0.0, 0.2),
        ("there's", 0.24, 0.44),
    ]
    assert [token.time_s for token in result.tokens] == [0.0, 0.08, 0.16, 0.24, 0.32, 0.4]
    assert result.confidence == pytest.approx(0.5)


def test_a_word_is_complete_when_the_next_begins() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    tokens = emissions(HE, LL, OH, THE)
    assert transcript.update(stable(*tokens[:2])) == ()
    assert transcript.text == "hell"
    assert transcript.update(stable(tokens[2])) == ()
    (word,) = transcript.update(stable(tokens[3]))
    assert word.text == "hello"
    assert transcript.text == "hello the"
    assert [word.text for word in transcript.complete()] == ["the"]


def test_only_stable_tokens_make_words_and_the_rest_may_still_change() -> None:
    """What a beam search does: the end of its best hypothesis is a guess."""
    transcript = Transcript(PIECES, frame_s=0.04)
    guess, better = emissions(HE, LL, THE, RE), emissions(HE, OH, THE, S)
    assert transcript.update(Hypothesis(guess, stable=1)) == ()
    assert (transcript.text, transcript.stable_text) == ("hell there", "he")
    assert transcript.update(Hypothesis(better[1:], stable=0)) == ()
    assert (transcript.text, transcript.stable_text) == ("heo the's", "he")
    (word,) = transcript.update(Hypothesis(better[1:], stable=2))
    assert word.text == "heo"
    assert (transcript.text, transcript.stable_text) == ("heo the's", "heo the")
    transcript.update(Hypothesis([], stable=0))
    assert transcript.text == "heo the"
    transcript.update(Hypothesis(better[3:], stable=0))
    last_words = transcript.complete()
    assert transcript.result(1.0) == transcribe(*better)
    assert last_words == transcript.result(1.0).words[1:]


def test_a_segment_ends_with_its_complete_words() -> None:
    """The word that may still grow begins the next segment, with all its tokens and its time."""
    transcript = Transcript(PIECES, frame_s=0.04)
    tokens = emissions(HE, LL, OH, THE, RE)
    transcript.update(Hypothesis(tokens, stable=4))
    assert transcript.segment == Segment(silent_from=9, first_frame=0, has_whole_word=True)
    assert [word.text for word in transcript.close_segment()] == ["hello"]
    assert (transcript.text, transcript.stable_text) == ("there", "the")
    assert transcript.whole_text == "hello there"
    assert transcript.segment == Segment(silent_from=9, first_frame=6, has_whole_word=False)
    transcript.update(stable(*tokens[4:]))
    transcript.complete()
    (there,) = transcript.close_segment()
    assert (there.text, there.start_s) == ("there", 0.24)
    assert (transcript.text, transcript.whole_text) == ("", "hello there")
    assert transcript.segment == Segment(silent_from=9)
    transcript.update(stable(*emissions(HE, start=50)))
    assert transcript.segment == Segment(silent_from=51, first_frame=50)
    transcript.complete()
    assert transcript.result(3.0) == replace(
        transcribe(*tokens, *emissions(HE, start=50)), duration_s=3.0
    )


def test_a_segment_that_is_only_a_guess_so_far() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    assert transcript.segment == Segment(silent_from=0)
    transcript.update(Hypothesis(emissions(HE, LL, start=7), stable=0))
    assert transcript.segment == Segment(silent_from=10, first_frame=7)
    transcript.update(Hypothesis([], stable=0))
    assert transcript.segment == Segment(silent_from=0)


def test_an_hour_of_speech_is_held_in_half_a_megabyte() -> None:
    tokens = emissions(HE, LL, OH, THE, RE)
    transcript = Transcript(PIECES, frame_s=0.04)
    tracemalloc.start()
    try:
        for _ in range(5000):  # 10 000 words in 25 000 tokens
            transcript.update(stable(*tokens))
            transcript.close_segment()
        grown, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert grown < 700_000


def test_confidence_of_a_word_is_the_geometric_mean_of_its_tokens() -> None:
    result = transcribe(Emission(HE, 0, math.log(0.9)), Emission(LL, 1, math.log(0.4)))
    assert result.words[0].confidence == pytest.approx(0.6)


def test_a_log_probability_above_zero_by_rounding_is_certainty() -> None:
    result = transcribe(Emission(HE, 0, 1e-6))
    assert result.tokens[0].confidence == result.words[0].confidence == result.confidence == 1.0


def test_a_first_piece_without_a_mark_still_begins_a_word() -> None:
    assert transcribe(*emissions(LL, THE)).text == "ll the"


def test_nothing_recognised() -> None:
    result = Transcript(PIECES, frame_s=0.04).result(2.0)
    assert (result.text, result.words, result.tokens, result.confidence) == ("", (), (), 0.0)
    assert result.duration_s == 2.0


@given(
    tokens=st.lists(st.integers(2, 8), max_size=30),
    updates=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=8),
)
def test_stable_text_is_a_prefix_and_only_ever_grows(
    tokens: list[int], updates: list[tuple[int, int]]
) -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    found = emissions(*tokens)
    completed: list[Word] = []
    taken = 0
    for ready, unstable in sorted(updates):
        before = transcript.stable_text
        ready = min(ready, len(found))
        hypothesis = Hypothesis(found[taken : ready + unstable], ready - taken)
        completed += transcript.update(hypothesis)
        taken = ready
        assert transcript.stable_text.startswith(before)
        assert transcript.text.startswith(transcript.stable_text)
        so_far = Transcript(PIECES, frame_s=0.04)
        so_far.update(stable(*found[: ready + unstable]))
        assert transcript.text == so_far.text
    completed += transcript.update(stable(*found[taken:]))
    last_words = transcript.complete()
    result = transcript.result(1.0)
    assert result.text == transcript.text == " ".join(word.text for word in result.words)
    assert (*completed, *last_words) == result.words
    assert "".join(t.piece for t in result.tokens).replace("▁", "") == result.text.replace(" ", "")
