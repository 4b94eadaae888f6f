"""festival speaks several sentences in a process, with the times of flite's phones and of words."""

import shutil
import subprocess

import numpy as np
import pytest

from asr.errors import CorpusError
from tests.training.synthesis.spoken import (
    assert_phones_follow_the_audio,
    assert_words_follow_the_audio,
    fundamental_hz,
    utterance,
)
from training.synthesis import PHONES
from training.synthesis.festival import VOICES, Festival
from training.synthesis.speech import Speech, SynthesizerRefusal, Utterance

INSTALL = "apt install festival festvox-kallpc16k festvox-kdlpc16k festvox-us-slt-hts"


def _has_voices() -> bool:
    try:
        Festival().require(VOICES)
    except CorpusError:
        return False
    return True


needs_festival = pytest.mark.skipif(
    shutil.which("festival") is None or not _has_voices(),
    reason=f"festival or a voice of it is not installed ({INSTALL})",
)

SENTENCE = "I saw six people's horses, and then they stopped."


def speak(*utterances: Utterance) -> list[Speech]:
    spoken = Festival().speak(utterances)
    assert not any(isinstance(speech, SynthesizerRefusal) for speech in spoken), spoken
    return [speech for speech in spoken if isinstance(speech, Speech)]


def test_a_missing_festival_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CorpusError, match=INSTALL):
        Festival().require(VOICES)


@needs_festival
def test_a_missing_voice_says_how_to_install_it() -> None:
    with pytest.raises(CorpusError, match=rf"nobody.*kal_diphone.*{INSTALL}"):
        Festival().require(["kal_diphone", "nobody"])


@needs_festival
@pytest.mark.parametrize("voice", VOICES)
def test_times_follow_the_audio(voice: str) -> None:
    """Of phones, all of them flite's, and of words; they stay true with a stretch."""
    drawn = [utterance("festival", voice, SENTENCE, stretch) for stretch in (0.8, 1.25)]
    spoken = [speak(one)[0] for one in drawn]
    for speech in spoken:
        assert_phones_follow_the_audio(speech)
        assert {phone for phone, _ in speech.phones or []} <= set(PHONES)
        assert_words_follow_the_audio(speech, drawn[0].sentence.text)
    lengths = [len(speech.samples) for speech in spoken]
    assert lengths[1] / lengths[0] == pytest.approx(1.25 / 0.8, rel=0.05)


@needs_festival
@pytest.mark.parametrize("voice", ["kal_diphone", "ked_diphone"])
def test_pitch_changes_the_voice(voice: str) -> None:
    hertz = [
        fundamental_hz(speak(utterance("festival", voice, "We are all here.", pitch=p))[0].samples)
        for p in (0.8, 1.25)
    ]
    assert hertz[1] / hertz[0] == pytest.approx(1.56, rel=0.15)


@needs_festival
def test_an_utterance_sounds_the_same_whatever_was_spoken_before_it() -> None:
    """Or a corpus would depend on how its sentences fall into processes."""
    drawn = [
        Utterance(**{**vars(utterance("festival", voice, sentence, stretch, pitch)), "index": i})
        for i, (voice, sentence, stretch, pitch) in enumerate(
            [
                ("cmu_us_slt_arctic_hts", "Something else.", 1.2, 0.9),
                ("kal_diphone", "Not this either.", 0.9, 1.2),
                ("cmu_us_slt_arctic_hts", "But this.", 1.0, 1.0),
                ("kal_diphone", "And this.", 1.0, 1.0),
            ]
        )
    ]
    together = speak(*drawn)
    for one, speech in zip(drawn[2:], together[2:], strict=True):
        np.testing.assert_array_equal(speak(one)[0].samples, speech.samples)


@needs_festival
def test_a_sentence_that_kills_festival_takes_no_other_with_it() -> None:
    """festival 2.5 dies of an empty sentence, and with it all that comes after."""
    drawn = [
        Utterance(**{**vars(utterance("festival", "kal_diphone", sentence)), "index": index})
        for index, sentence in enumerate(["Before it.", "", "After it."])
    ]
    drawn[1] = Utterance(**{**vars(drawn[1]), "sentence": type(drawn[1].sentence)("", "")})
    before, killer, after = Festival().speak(drawn)
    assert isinstance(before, Speech)
    assert isinstance(after, Speech)
    assert isinstance(killer, SynthesizerRefusal)


@needs_festival
def test_its_front_end_says_the_phones_of_a_spelled_letter() -> None:
    phones = [
        phone for phone, _ in speak(utterance("festival", "kal_diphone", "c a t"))[0].phones or []
    ]
    assert phones == ["pau", "s", "iy", "ey", "t", "iy", "pau"]


def test_a_festival_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*arguments: object, **options: object) -> None:
        raise subprocess.TimeoutExpired("festival", 90.0)

    monkeypatch.setattr(subprocess, "run", hang)
    [refusal] = Festival().speak([utterance("festival", "kal_diphone", SENTENCE)])
    assert isinstance(refusal, SynthesizerRefusal)
    assert "90 s" in str(refusal)
