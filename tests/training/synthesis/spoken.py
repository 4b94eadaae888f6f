"""A synthesiser that costs nothing, and a look at what real ones said."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest

from asr.errors import CorpusError
from training.synthesis.phones import PHONES, SILENCE, frame_labels
from training.synthesis.sentence import as_spoken
from training.synthesis.speech import Speech, SynthesizerRefusal, Utterance

VOWELS = {"aa", "ae", "ah", "ao", "aw", "ax", "ay", "eh", "er", "ey", "ih", "iy"}
VOWELS |= {"ow", "oy", "uh", "uw"}


class FakeSynthesizer:
    """Speaks one second a word, and knows its words; what it can't say is in `failing`."""

    name = "flite"
    voices = ("slt", "rms", "awb", "kal16")

    def __init__(self, failing: str = "nothing", dies_after: int = 10**9, batch: int = 2) -> None:
        self.failing = failing
        self.dies_after = dies_after
        self.batch = batch
        self.spoken: list[int] = []

    def require(self, voices: Sequence[str]) -> None:
        if unknown := set(voices) - set(self.voices):
            raise CorpusError(f"no voice {unknown}")

    def speak(self, utterances: Sequence[Utterance]) -> list[Speech | SynthesizerRefusal]:
        return [self._speak(utterance) for utterance in utterances]

    def _speak(self, utterance: Utterance) -> Speech | SynthesizerRefusal:
        if len(self.spoken) == self.dies_after:
            raise KeyboardInterrupt
        if self.failing in utterance.sentence.text:
            return SynthesizerRefusal("failed with status -11")
        self.spoken.append(utterance.index)
        duration = len(utterance.sentence.text.split())
        samples = np.full(16_000 * duration, utterance.index, dtype=np.int16)
        return Speech(samples, phones=[("pau", 0.5), ("ay", 0.9), ("pau", float(duration))])


def utterance(
    synthesizer: str, voice: str, sentence: str, stretch: float = 1.0, pitch: float = 1.0
) -> Utterance:
    """An utterance as it could have been drawn."""
    return Utterance(0, as_spoken(sentence), "train", synthesizer, voice, stretch, pitch)


def levels_db(samples: np.ndarray) -> np.ndarray:
    """Level of the 20 ms around each encoder frame's centre."""
    frames = range(len(samples) // 640 - 1)
    power = [np.mean(samples[640 * t + 400 : 640 * t + 720].astype(float) ** 2) for t in frames]
    return 10 * np.log10(np.array(power) + 1)


def assert_phones_follow_the_audio(speech: Speech) -> None:
    """Where a vowel is labelled, the audio is loudest; where a silence, there is one."""
    assert speech.phones is not None
    assert all(earlier < later for (_, earlier), (_, later) in pairwise(speech.phones))
    assert speech.phones[-1][1] == pytest.approx(len(speech.samples) / 16_000, abs=1e-3)
    level_db = levels_db(speech.samples)
    labels = [PHONES[i] for i in frame_labels(speech.phones, len(level_db))]
    vowel = np.isin(labels, list(VOWELS))
    silence = np.array([label == SILENCE for label in labels])
    assert level_db[vowel].mean() > level_db[~vowel & ~silence].mean() + 3
    assert level_db[~vowel & ~silence].mean() > level_db[silence].mean() + 10


def assert_words_follow_the_audio(speech: Speech, text: str) -> None:
    """The words are those of the text, and between the clauses it is quieter than in them."""
    assert speech.words is not None
    assert " ".join(word.word for word in speech.words) == text
    ends = [time for word in speech.words for time in (word.start_s, word.end_s)]
    assert ends == sorted(ends)
    assert 0 <= ends[0] < ends[-1] <= len(speech.samples) / 16_000
    level_db = levels_db(speech.samples)
    centres = np.arange(len(level_db)) * 0.04 + 0.035
    spoken = np.zeros(len(level_db), dtype=bool)
    for word in speech.words:
        spoken |= (centres >= word.start_s) & (centres < word.end_s)
    assert level_db[spoken].mean() > level_db[~spoken].mean() + 10


def fundamental_hz(samples: np.ndarray) -> float:
    """Median over loud frames of the strongest autocorrelation between 60 and 350 Hz."""
    estimates = []
    for start in range(0, len(samples) - 1024, 320):
        frame = samples[start : start + 1024].astype(float) * np.hanning(1024)
        if np.mean(frame**2) > 1e5:
            correlation = np.correlate(frame, frame, "full")[1023:]
            shortest = 16_000 // 350
            estimates.append(16_000 / (shortest + correlation[shortest : 16_000 // 60].argmax()))
    return float(np.median(estimates))
