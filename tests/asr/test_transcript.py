"""Words, their times and their confidence follow from the tokens alone."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asr.decoding.greedy import Emission
from asr.results import Word
from asr.transcript import Transcript

PIECES = ("<blk>", "<unk>", "▁he", "ll", "o", "▁the", "re", "'s", "▁")
HE, LL, OH, THE, RE, S, MARK = range(2, 9)


def emissions(*tokens: int, start: int = 0) -> list[Emission]:
    """Return one token every second frame, each with probability 1/2."""
    return [Emission(token, start + 2 * i, math.log(0.5)) for i, token in enumerate(tokens)]


def test_words_and_times() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    transcript.append(emissions(HE, LL, OH, THE, RE, S))
    result = transcript.close(duration_s=1.0)
    assert result.text == "hello there's"
    assert [(word.text, word.start_s, word.end_s) for word in result.words] == [
        ("hello", 0.0, 0.2),
        ("there's", 0.24, 0.44),
    ]
    assert [token.time_s for token in result.tokens] == [0.0, 0.08, 0.16, 0.24, 0.32, 0.4]
    assert result.confidence == pytest.approx(0.5)


def test_a_word_is_complete_when_the_next_begins() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    assert transcript.append(emissions(HE, LL)) == ()
    assert transcript.text == "hell"
    assert transcript.append(emissions(OH, start=4)) == ()
    (word,) = transcript.append(emissions(THE, start=6))
    assert word.text == "hello"
    assert transcript.text == "hello the"


def test_confidence_of_a_word_is_the_geometric_mean_of_its_tokens() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    transcript.append([Emission(HE, 0, math.log(0.9)), Emission(LL, 1, math.log(0.4))])
    (word,) = transcript.close(1.0).words
    assert word.confidence == pytest.approx(0.6)


def test_a_log_probability_above_zero_by_rounding_is_certainty() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    transcript.append([Emission(HE, 0, 1e-6)])
    result = transcript.close(1.0)
    assert result.tokens[0].confidence == result.words[0].confidence == result.confidence == 1.0


def test_a_first_piece_without_a_mark_still_begins_a_word() -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    transcript.append(emissions(LL, THE))
    assert transcript.close(1.0).text == "ll the"


def test_nothing_recognised() -> None:
    result = Transcript(PIECES, frame_s=0.04).close(2.0)
    assert (result.text, result.words, result.tokens, result.confidence) == ("", (), (), 0.0)
    assert result.duration_s == 2.0


@given(st.lists(st.lists(st.integers(2, 8), max_size=5), max_size=8))
def test_text_is_the_words_and_only_ever_grows(blocks: list[list[int]]) -> None:
    transcript = Transcript(PIECES, frame_s=0.04)
    completed: list[Word] = []
    frame = 0
    for block in blocks:
        before = transcript.text
        completed += transcript.append(emissions(*block, start=frame))
        frame += 2 * len(block)
        assert transcript.text.startswith(before)
    result = transcript.close(1.0)
    assert result.text == transcript.text == " ".join(word.text for word in result.words)
    assert completed == list(result.words)[: len(completed)]
    assert "".join(t.piece for t in result.tokens).replace("▁", "") == result.text.replace(" ", "")
