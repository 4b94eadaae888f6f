"""espeak-ng's accents and variants are heard, with the times of words."""

import ctypes
import shutil

import numpy as np
import pytest

from asr.errors import CorpusError
from tests.training.synthesis.spoken import (
    assert_words_follow_the_audio,
    fundamental_hz,
    utterance,
)
from training.synthesis.espeak import ACCENTS, VARIANTS, VOICES, Espeak, _words
from training.synthesis.espeak_worker import LIBRARY
from training.synthesis.sentence import Sentence, as_spoken
from training.synthesis.speech import Speech, SpokenWord, SynthesizerRefusal

SENTENCE = "The castle path was last seen by our brother's men, it seems."


def _is_there() -> bool:
    try:
        ctypes.CDLL(LIBRARY)
    except OSError:
        return False
    return shutil.which("espeak-ng") is not None


needs_espeak = pytest.mark.skipif(
    not _is_there(), reason="espeak-ng is not installed (apt install espeak-ng)"
)


def speak(voice: str, sentence: str = SENTENCE, stretch: float = 1.0, pitch: float = 1.0) -> Speech:
    speech = Espeak().speak([utterance("espeak-ng", voice, sentence, stretch, pitch)])[0]
    assert isinstance(speech, Speech), speech
    return speech


def test_a_missing_espeak_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CorpusError, match="apt install espeak-ng"):
        Espeak().require(VOICES)


def test_words_begin_with_their_first_phoneme_and_end_before_the_next() -> None:
    sentence = Sentence("Well, go home.", "well go home")
    events = [
        *[("word", 1, 0), ("w", 1, 100), ("E", 1, 200), ("_:", 6, 300), ("_", 6, 400)],
        *[("word", 7, 400), ("g", 7, 450), ("oU", 7, 500), ("word", 10, 600), ("h", 10, 600)],
        *[("oU", 10, 700), ("m", 10, 800), ("_:", 14, 900)],
    ]
    assert _words(sentence, events, 1000) == (
        SpokenWord("well", 0.1, 0.3),
        SpokenWord("go", 0.45, 0.6),
        SpokenWord("home", 0.6, 0.9),
    )
    two_in_one = [event for event in events if event[:2] != ("word", 10)]
    assert _words(sentence, two_in_one, 1000) is None


@needs_espeak
def test_all_its_voices_are_there_and_others_are_named() -> None:
    """Given a variant that it doesn't have, espeak-ng speaks without."""
    Espeak().require(VOICES)
    Espeak().require(ACCENTS)
    for voice in ("nobody", "en-us+nobody", "de"):
        with pytest.raises(CorpusError, match=voice.replace("+", r"\+")):
            Espeak().require([voice])


@needs_espeak
def test_accents_and_variants_differ() -> None:
    voices = [*(f"{accent}+m3" for accent in ACCENTS), *(f"en+{name}" for name in VARIANTS)]
    voices.remove("en+m3")
    drawn = [utterance("espeak-ng", voice, SENTENCE) for voice in voices]
    spoken = [speech for speech in Espeak().speak(drawn) if isinstance(speech, Speech)]
    assert len({speech.samples.tobytes() for speech in spoken}) == len(voices)
    for voice, speech in zip(voices, spoken, strict=True):
        assert 2 < len(speech.samples) / 16_000 < 6, voice
        level = np.sqrt(np.mean(speech.samples.astype(float) ** 2))
        assert 500 < level < 8000, voice
        assert np.mean(np.abs(speech.samples.astype(int)) >= 32767) < 1e-3, f"{voice} clips"


@needs_espeak
@pytest.mark.parametrize("voice", ["en-us+m3", "en+f2"])
def test_word_times_follow_the_audio_and_the_speed(voice: str) -> None:
    lengths = []
    for stretch in (0.8, 1.25):
        speech = speak(voice, "I saw six people, and then they stopped there.", stretch)
        assert_words_follow_the_audio(speech, "i saw six people and then they stopped there")
        assert speech.phones is None, "they are of another set than flite's"
        lengths.append(len(speech.samples))
    assert lengths[1] / lengths[0] == pytest.approx(1.25 / 0.8, rel=0.08)


@needs_espeak
def test_words_said_as_one_have_no_times() -> None:
    assert speak("en-us+m3", "It was one of the men.").words is None


@needs_espeak
def test_pitch_changes_the_voice() -> None:
    hertz = [
        fundamental_hz(speak("en-us+m3", "We are all here.", pitch=pitch).samples)
        for pitch in (0.8, 1.25)
    ]
    assert hertz[1] / hertz[0] == pytest.approx(1.56, rel=0.15)


@needs_espeak
def test_an_utterance_sounds_the_same_whatever_was_spoken_before_it() -> None:
    """The library remembers; a corpus must not depend on how its sentences fall into processes."""
    drawn = [
        utterance("espeak-ng", "en-us+f3", "Another one."),
        utterance("espeak-ng", "en-us+m3", SENTENCE),
    ]
    together = Espeak().speak(drawn)[1]
    assert isinstance(together, Speech)
    np.testing.assert_array_equal(speak("en-us+m3").samples, together.samples)


@needs_espeak
def test_what_it_cannot_say_is_refused_alone() -> None:
    drawn = [
        utterance("espeak-ng", "nobody", SENTENCE),
        utterance("espeak-ng", "en-us+m3", SENTENCE),
    ]
    refused, spoken = Espeak().speak(drawn)
    assert isinstance(refused, SynthesizerRefusal)
    assert isinstance(spoken, Speech)


@needs_espeak
def test_a_spelled_letter_is_said_by_its_name() -> None:
    """It takes as long as a letter, and not as an article."""
    assert as_spoken("c a t").spoken == "c eigh t."
    words = speak("en-us+m3", "c a t").words
    assert words is not None
    assert [word.word for word in words] == ["c", "a", "t"]
    assert words[1].end_s - words[1].start_s > 0.1
