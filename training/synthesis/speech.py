"""What a synthesiser is asked to say, and what comes back."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from asr.text import normalize
from training.synthesis.phones import Phones
from training.synthesis.sentence import Sentence


@dataclass(frozen=True)
class Utterance:
    """What is drawn for one utterance, before it is spoken."""

    index: int  # place in the corpus; (seed, index) draws all the rest
    sentence: Sentence
    split: str  # "train" or "dev"
    synthesizer: str  # its name
    voice: str  # the synthesiser's name of the voice
    stretch: float  # phone durations are multiplied by this
    pitch: float  # the fundamental frequency is multiplied by this


@dataclass(frozen=True)
class Speech:
    """An utterance as it was spoken."""

    samples: NDArray[np.int16]  # (n,) at 16 kHz
    phones: Phones | None = None  # that cover the samples; None where they aren't flite's
    words: tuple["SpokenWord", ...] | None = None  # those of the text; None where not all are known


@dataclass(frozen=True)
class SpokenWord:
    """When a word was said."""

    word: str
    start_s: float
    end_s: float

    def to_dict(self) -> dict[str, Any]:
        """As manifests have it."""
        times = {"start_s": round(self.start_s, 4), "end_s": round(self.end_s, 4)}
        return {"word": self.word, **times}


class SynthesizerRefusal(CorpusError):
    """A synthesiser is there, but failed on what it was asked."""


class Synthesizer(Protocol):
    """A program that speaks. What it says of an utterance depends on that utterance alone."""

    name: str
    voices: tuple[str, ...]  # those that speak if none are named
    batch: int  # utterances that one process speaks: more for a program that starts slowly

    def require(self, voices: Sequence[str]) -> None:
        """Raise CorpusError unless it is installed and has all of `voices`; say how to get it."""

    def speak(self, utterances: Sequence[Utterance]) -> list[Speech | SynthesizerRefusal]:
        """Speak utterances; a refusal in the place of what could not be said."""


def run_program(
    command: Sequence[str], install: str, timeout_s: float, given: bytes = b""
) -> bytes:
    """Standard output of a program that was given `given` on its standard input.

    Raises CorpusError, with the advice `install`, if it is missing; SynthesizerRefusal if it fails
    or takes longer than `timeout_s`.
    """
    program = Path(command[0]).name
    try:
        result = subprocess.run(
            command,
            check=False,
            capture_output=True,
            input=given,
            timeout=timeout_s,
            start_new_session=True,  # Ctrl-C is for us: it would be taken for a failed sentence
        )
    except FileNotFoundError as error:
        raise CorpusError(
            f"the speech synthesiser `{program}` was not found; install it: {install}"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise SynthesizerRefusal(f"{program} took more than {timeout_s:g} s") from error
    if result.returncode != 0:
        said = result.stderr.decode(errors="replace").strip()[-300:]
        raise SynthesizerRefusal(f"{program} failed with status {result.returncode}: {said}")
    return result.stdout


def at_sample_rate(samples: NDArray[np.int16], rate: int) -> NDArray[np.int16]:
    """Samples (n,) of any rate at 16 kHz; those that resampling would push over the top are cut."""
    return samples if rate == SAMPLE_RATE else soxr.resample(samples, rate, SAMPLE_RATE)


def read_wav(path: Path, voice: str) -> NDArray[np.int16]:
    """Samples (n,) at 16 kHz of what a synthesiser wrote."""
    try:
        samples, rate = soundfile.read(path, dtype="int16")
    except soundfile.LibsndfileError as error:
        raise SynthesizerRefusal(f"voice {voice} left no audio: {error}") from error
    if samples.ndim != 1:
        raise SynthesizerRefusal(f"voice {voice} speaks {samples.shape[1]} channels; expected one")
    return at_sample_rate(samples, rate)


def match_words(
    sentence: Sentence, tokens: Sequence[tuple[float, float] | None]
) -> tuple[SpokenWord, ...] | None:
    """The words of a sentence with the times (start, end in s) of what it is written with.

    `tokens`: the times of each part of `sentence.spoken` between spaces, None where unknown. None
    unless each of them is one word of the text: of "re-entry" it is not known where "re" ends.
    """
    written, words = sentence.spoken.split(), sentence.text.split()
    one_each = all(len(normalize(token).split()) == 1 for token in written)
    if not (one_each and len(written) == len(words) == len(tokens)):
        return None
    spoken = [SpokenWord(word, *times) for word, times in zip(words, tokens, strict=True) if times]
    increasing = all(word.start_s < word.end_s for word in spoken)
    return tuple(spoken) if increasing and len(spoken) == len(words) else None


def end_with_audio(phones: Phones, duration: float) -> Phones:
    """The phones with the last end set to `duration` (s); SynthesizerRefusal if they don't fit it.

    Voices made of halves of phones speak a little less or more than the last silence.
    """
    if len(phones) < 3 or not phones[-2][1] < duration < phones[-1][1] + 0.05:
        times = ", ".join(f"{end:.3f}" for _, end in phones[-2:])
        raise SynthesizerRefusal(
            f"the last phones end at {times} s but the audio at {duration:.3f} s"
        )
    return [*phones[:-1], (phones[-1][0], round(duration, 4))]
