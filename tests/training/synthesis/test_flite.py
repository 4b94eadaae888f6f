"""flite says the phones that it speaks, and when each ends."""

import shutil

import pytest

from asr.errors import CorpusError
from tests.training.synthesis.spoken import (
    assert_phones_follow_the_audio,
    fundamental_hz,
    utterance,
)
from training.synthesis import PHONES, pronounce
from training.synthesis.flite import VOICES, Flite, _parse_durations
from training.synthesis.speech import Speech, SynthesizerRefusal

needs_flite = pytest.mark.skipif(
    shutil.which("flite") is None, reason="flite is not installed (apt install flite)"
)

ALL_PHONES_TEXT = (
    "The boy's azure toy, which you judge; the good father thinks of owning a huge house. "
    "Zebras pay for singing cheaply. At her age, should she look up at the blue sky? "
    "Measure how many cows they bought."
)


def speak(voice: str, sentence: str, stretch: float = 1.0, pitch: float = 1.0) -> Speech:
    speech = Flite().speak([utterance("flite", voice, sentence, stretch, pitch)])[0]
    assert isinstance(speech, Speech)
    return speech


def test_durations_as_flite_prints_them() -> None:
    assert _parse_durations("pau:0.164 hh:0.255 \n") == [("pau", 0.164), ("hh", 0.255)]
    with pytest.raises(SynthesizerRefusal, match="xx:1"):
        _parse_durations("pau:0.1 xx:1.0")


def test_a_missing_flite_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    for use in (lambda: Flite().require(VOICES), lambda: pronounce("hello there")):
        with pytest.raises(CorpusError, match="apt install flite"):
            use()


@needs_flite
def test_the_inventory_is_all_that_flite_speaks() -> None:
    assert set(pronounce(ALL_PHONES_TEXT)) == set(PHONES)
    assert len(PHONES) == len(set(PHONES)) == 41


@needs_flite
def test_pronounce_gives_the_phones_of_the_words() -> None:
    assert pronounce("hello, you") == ["pau", "hh", "ax", "l", "ow", "pau", "y", "uw", "pau"]


@needs_flite
def test_an_unknown_voice_is_an_error_because_flite_would_use_another() -> None:
    with pytest.raises(CorpusError, match="nobody"):
        Flite().require(["slt", "nobody"])


@needs_flite
@pytest.mark.parametrize("voice", VOICES)
def test_phone_times_follow_the_audio(voice: str) -> None:
    """The times stay true with a stretch."""
    lengths = {}
    for stretch in (0.8, 1.25):
        speech = speak(voice, "I saw six people, and then they stopped.", stretch)
        assert_phones_follow_the_audio(speech)
        lengths[stretch] = len(speech.samples)
    assert lengths[1.25] / lengths[0.8] == pytest.approx(1.25 / 0.8, rel=0.05)


@needs_flite
@pytest.mark.parametrize("voice", ["slt", "awb", "kal16"])
def test_pitch_changes_the_voice_and_not_the_times(voice: str) -> None:
    low, high = (speak(voice, "We are all here now.", pitch=pitch) for pitch in (0.8, 1.25))
    assert low.phones is not None
    assert high.phones is not None
    assert low.phones[:-1] == high.phones[:-1]
    hertz = [fundamental_hz(speech.samples) for speech in (low, high)]
    assert hertz[1] / hertz[0] == pytest.approx(1.56, rel=0.15)


@needs_flite
def test_a_spelled_letter_is_said_by_its_name() -> None:
    """And not as the article."""
    assert pronounce("c eigh t") == ["pau", "s", "iy", "ey", "t", "iy", "pau"]
