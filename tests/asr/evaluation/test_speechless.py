"""What is heard where nobody speaks is counted, and only in noises that can be read."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

import asr
from asr.evaluation.speechless import SILENCE, hear_speechless
from asr.features import Samples
from asr.results import Final, Result


class Listener:
    """Hears a word in each stream that is louder than `threshold`, and two in what is very loud."""

    def __init__(self, threshold: float) -> None:
        self.threshold = threshold
        self.streams: list[float] = []  # seconds of each

    def stream(self) -> "ListenerStream":
        return ListenerStream(self)


class ListenerStream:
    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._loudest = self._audio_s = 0.0

    def accept(self, samples: Samples, sample_rate: int) -> None:
        self._loudest = max(self._loudest, float(np.abs(samples).max()))
        self._audio_s += len(samples) / sample_rate

    def finish(self) -> Final:
        self._listener.streams.append(self._audio_s)
        text = ""
        if self._loudest > self._listener.threshold:
            text = "oh no" if self._loudest > 0.5 else "oh"
        return Final(self._audio_s, (), Result(text, (), (), self._audio_s, 0.5), (), ())


def noises(folder: Path) -> Iterator[Path]:
    sounds = ("rain", 0.01, 16_000), ("dog", 0.2, 8_000), ("clap", 0.9, 16_000)
    for name, loudness, rate in sounds:
        path = folder / f"{name}.wav"
        soundfile.write(path, np.full(2 * rate, loudness, np.float32), rate)
        yield path


def test_words_are_counted_and_named_by_their_noise(tmp_path: Path) -> None:
    listener = Listener(threshold=0.1)
    found = hear_speechless(listener, noises(tmp_path))
    assert found.words == 3
    assert found.texts == {"rain.wav": "", "dog.wav": "oh", "clap.wav": "oh no", SILENCE: ""}
    assert listener.streams == [2.0, 2.0, 2.0, 300.0]
    assert found.audio_s == 306
    assert found.figures() == {
        "words": 3,
        "audio_s": 306.0,
        "noises": 3,
        "texts": {"dog.wav": "oh", "clap.wav": "oh no"},
    }
    assert str(found).startswith("3 words in 5.1 minutes in which nobody speaks: 3 noises")


def test_silence_is_heard_with_and_without_hiss() -> None:
    assert hear_speechless(Listener(threshold=0.01), []).words == 0
    hissed = hear_speechless(Listener(threshold=0.0), [])
    assert hissed.texts == {SILENCE: "oh"}
    assert str(hissed).startswith("1 word in 5.0 minutes")


def test_a_noise_that_cannot_be_read_is_left_out_and_named(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.wav"
    damaged.write_bytes(b"no sound")
    found = hear_speechless(Listener(threshold=0.1), [damaged, *noises(tmp_path)])
    assert [each.id for each in found.skipped] == ["damaged.wav"]
    assert found.figures()["noises"] == 3
    assert found.audio_s == 306


def test_the_built_in_model_hears_nothing_in_silence() -> None:
    found = hear_speechless(asr.load(), [])
    assert found.texts == {SILENCE: ""}
    assert found.audio_s == 300
