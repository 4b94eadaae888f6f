"""Words, their times and their confidence follow from the tokens alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    return transcript.close(duration_s=1.0)[0]


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
    assert transcript.update(stable(*tokens[:3])) == ()
    (word,) = transcript.update(stable(*tokens))
    assert word.text == "hello"
    assert transcript.text == "hello the"
    assert [word.text for word in transcript.close(1.0)[1]] == ["the"]


def test_only_stable_tokens_make_words_and_the_rest_may_still_change() -> None:
    """What a beam search does: the end of its best hypothesis is a guess."""
    transcript = Transcript(PIECES, frame_s=0.04)
    guess, better = emissions(HE, LL, THE, RE), emissions(HE, OH, THE, S)
    assert transcript.update(Hypothesis(guess, stable=1)) == ()
    assert (transcript.text, transcript.stable_text) == ("hell there", "he")
    assert transcript.update(Hypothesis(better, stable=1)) == ()
    assert (transcript.text, transcript.stable_text) == ("heo the's", "he")
    (word,) = transcript.update(Hypothesis(better, stable=3))
    assert word.text == "heo"
    assert (transcript.text, transcript.stable_text) == ("heo the's", "heo the")
    transcript.update(Hypothesis(better[:3], stable=3))
    assert transcript.text == "heo the"
    transcript.update(Hypothesis(better, stable=3))
    result, last_words = transcript.close(1.0)
    assert result == transcribe(*better)
    assert last_words == result.words[1:]


def test_an_hour_costs_an_update_no_more_than_a_minute() -> None:
    """Only what is new is read of the hypothesis, however many tokens it holds."""

    class Counting(list[Emission]):
        read = 0

        def __getitem__(self, index: slice) -> list[Emission]:
            part = super().__getitem__(index)
            self.read += len(part)
            return part

    transcript, tokens = Transcript(PIECES, frame_s=0.04), Counting()
    for frame in range(0, 10_000, 2):
        tokens += emissions(HE, start=frame)
        transcript.update(Hypothesis(tokens, len(tokens)))
    assert tokens.read == len(tokens)


def test_confidence_of_a_word_is_the_geometric_mean_of_its_tokens() -> None:
    result = transcribe(Emission(HE, 0, math.log(0.9)), Emission(LL, 1, math.log(0.4)))
    assert result.words[0].confidence == pytest.approx(0.6)


def test_a_log_probability_above_zero_by_rounding_is_certainty() -> None:
    result = transcribe(Emission(HE, 0, 1e-6))
    assert result.tokens[0].confidence == result.words[0].confidence == result.confidence == 1.0


def test_a_first_piece_without_a_mark_still_begins_a_word() -> None:
    assert transcribe(*emissions(LL, THE)).text == "ll the"


def test_nothing_recognised() -> None:
    result, _ = Transcript(PIECES, frame_s=0.04).close(2.0)
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
    for ready, unstable in sorted(updates):
        before = transcript.stable_text
        hypothesis = Hypothesis(found[: ready + unstable], min(ready, len(found)))
        completed += transcript.update(hypothesis)
        assert transcript.stable_text.startswith(before)
        assert transcript.text.startswith(transcript.stable_text)
        so_far = Transcript(PIECES, frame_s=0.04)
        so_far.update(stable(*hypothesis.emissions))
        assert transcript.text == so_far.text
    completed += transcript.update(stable(*found))
    result, last_words = transcript.close(1.0)
    assert result.text == transcript.text == " ".join(word.text for word in result.words)
    assert (*completed, *last_words) == result.words
    assert "".join(t.piece for t in result.tokens).replace("▁", "") == result.text.replace(" ", "")
