"""What is shared by synthesisers: programs that fail, phones that fit, words that match."""

import sys

import pytest

from asr.errors import CorpusError
from training.synthesis.sentence import Sentence
from training.synthesis.speech import (
    SpokenWord,
    SynthesizerRefusal,
    end_with_audio,
    match_words,
    run_program,
)


def test_phones_must_end_where_the_audio_ends() -> None:
    phones = [("pau", 0.1), ("ay", 0.4), ("pau", 0.6)]
    assert end_with_audio(phones, 0.5)[-1] == ("pau", 0.5)
    for duration in (0.3, 0.9):
        with pytest.raises(SynthesizerRefusal, match="audio"):
            end_with_audio(phones, duration)


def test_a_program_that_is_missing_fails_or_hangs_is_told_apart() -> None:
    with pytest.raises(CorpusError, match="apt install nothing") as missing:
        run_program(["/no/such/program"], "apt install nothing", 10)
    assert not isinstance(missing.value, SynthesizerRefusal)
    with pytest.raises(SynthesizerRefusal, match="status 3: out of order"):
        run_program(
            [
                sys.executable,
                "-c",
                "exit(print('out of order', file=__import__('sys').stderr) or 3)",
            ],
            "",
            10,
        )
    with pytest.raises(SynthesizerRefusal, match=r"more than 0\.2 s"):
        run_program([sys.executable, "-c", "import time; time.sleep(9)"], "", 0.2)


def test_words_are_matched_one_to_one_or_not_at_all() -> None:
    sentence = Sentence("See, eigh b.", "see a b")
    times = [(0.0, 0.3), (0.5, 0.6), (0.6, 0.9)]
    assert match_words(sentence, times) == (
        SpokenWord("see", 0.0, 0.3),
        SpokenWord("a", 0.5, 0.6),
        SpokenWord("b", 0.6, 0.9),
    )
    assert match_words(sentence, [*times[:2], None]) is None, "a word whose time isn't known"
    assert match_words(sentence, times[:2]) is None
    assert match_words(sentence, [*times[:2], (0.6, 0.6)]) is None, "a word without length"
    assert match_words(Sentence("Re-entry.", "re entry"), [(0.0, 1.0)]) is None
