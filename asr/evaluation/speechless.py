"""Words that are heard where nobody speaks: in noise alone and in silence. Each one is an error."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from asr.audio import Blocks
from asr.errors import AudioError
from asr.evaluation.corpora.manifest import Skipped
from asr.evaluation.noise import read_noise
from asr.evaluation.recognition import SpeechRecognizer
from asr.features import SAMPLE_RATE

SILENCE = "silence and hiss"
"""The name of what is heard last: digital silence, and then a microphone's hiss at -60 dBFS."""

_SILENCE_S = 150  # of each of the two
_HISS = 1e-3


@dataclass(frozen=True, slots=True)
class Speechless:
    """What was heard."""

    audio_s: float
    texts: Mapping[str, str]  # by the file of the noise, and SILENCE; empty is right
    skipped: tuple[Skipped, ...]  # could not be read

    @property
    def words(self) -> int:
        """How many words were heard."""
        return sum(len(text.split()) for text in self.texts.values())

    def figures(self) -> dict[str, Any]:
        """Return them as a report and a model card keep them."""
        return {
            "words": self.words,
            "audio_s": round(self.audio_s, 1),
            "noises": len(self.texts) - 1,
            "texts": {name: text for name, text in self.texts.items() if text},
        }

    def __str__(self) -> str:
        words = "1 word" if self.words == 1 else f"{self.words or 'no'} words"
        return (
            f"{words} in {self.audio_s / 60:.1f} minutes in which nobody speaks: "
            f"{len(self.texts) - 1} noises, silence and hiss"
        )


def hear_speechless(recognizer: SpeechRecognizer, noises: Iterable[Path]) -> Speechless:
    """Recognise each noise alone, and silence, each in a stream of its own.

    Take noises that were not trained on: `asr.evaluation.noise.held_out_noises`.
    """
    audio_s = 0.0
    texts: dict[str, str] = {}
    skipped: list[Skipped] = []
    for noise in noises:
        try:
            samples = read_noise(noise)
        except AudioError as error:
            skipped.append(Skipped(noise.name, str(error)))
            continue
        audio_s += len(samples) / SAMPLE_RATE
        texts[noise.name] = _hear(recognizer, iter([(samples, SAMPLE_RATE)]))
    texts[SILENCE] = _hear(recognizer, _silence())
    return Speechless(audio_s + 2 * _SILENCE_S, texts, tuple(skipped))


def _silence() -> Blocks:
    generator = np.random.default_rng(0)
    for loudness in (0.0, _HISS):
        for _ in range(_SILENCE_S):
            second = loudness * generator.standard_normal(SAMPLE_RATE)
            yield second.astype(np.float32), SAMPLE_RATE


def _hear(recognizer: SpeechRecognizer, blocks: Blocks) -> str:
    stream = recognizer.stream()
    for samples, sample_rate in blocks:
        stream.accept(samples, sample_rate)
    return stream.finish().result.text
