"""flite: four American voices, 80 times faster than real time, with the times of their phones.

Black and Lenzo, "Flite: a small fast run-time synthesis engine", 2001;
https://github.com/festvox/flite
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from training.synthesis.phones import PHONES, Phones
from training.synthesis.speech import (
    Speech,
    SynthesizerRefusal,
    Utterance,
    end_with_audio,
    read_wav,
    run_program,
)

VOICES: tuple[str, ...] = ("slt", "rms", "awb", "kal16")

_TIMEOUT_S = 60
_INSTALL = "`apt install flite` (Debian, Ubuntu), or from https://github.com/festvox/flite"


def _flite(*arguments: str) -> str:
    """flite's standard output; CorpusError if it is missing, SynthesizerRefusal if it fails."""
    return run_program(["flite", *arguments], _INSTALL, _TIMEOUT_S).decode(errors="replace")


def pronounce(text: str) -> list[str]:
    """The phones of `text` by flite's front end, with "pau" at both ends and where it pauses.

    About 10 ms a sentence, most of it starting the process: call it from threads for many, and keep
    the result. Raises CorpusError if flite is missing, SynthesizerRefusal if it fails on this text.
    """
    # kal16 is the fastest voice; the front end is the same for all.
    return _flite("-voice", "kal16", "-ps", "-t", text, "-o", "none").split()


class Flite:
    """The synthesiser flite: a process for each utterance."""

    name = "flite"
    voices = VOICES
    batch = 1

    def require(self, voices: Sequence[str]) -> None:
        """Raise CorpusError unless flite is installed and has all of `voices`.

        Given a voice that it doesn't have, flite speaks with its default one and says nothing.
        """
        available = _flite("-lv").partition(":")[2].split()
        if unknown := [voice for voice in voices if voice not in available]:
            raise CorpusError(f"flite has no voice {unknown}; it has {', '.join(available)}")

    def speak(self, utterances: Sequence[Utterance]) -> list[Speech | SynthesizerRefusal]:
        """Speak utterances, with the times of their phones."""
        return [self._speak_or_refuse(utterance) for utterance in utterances]

    def _speak_or_refuse(self, utterance: Utterance) -> Speech | SynthesizerRefusal:
        try:
            return self._speak(utterance)
        except SynthesizerRefusal as refusal:
            return refusal

    def _speak(self, utterance: Utterance) -> Speech:
        with tempfile.TemporaryDirectory(prefix="synthesis-") as scratch:
            wav = Path(scratch) / "utterance.wav"
            output = _flite(
                *("-voice", utterance.voice, "-psdur"),
                *("--setf", f"duration_stretch={utterance.stretch}"),
                # Measured with flite 2.2: slt, awb and kal16 follow it, rms keeps its own pitch.
                *("--setf", f"f0_shift={utterance.pitch}"),
                *("-t", utterance.sentence.spoken, "-o", str(wav)),
            )
            samples = read_wav(wav, utterance.voice)
        phones = end_with_audio(_parse_durations(output), len(samples) / SAMPLE_RATE)
        return Speech(samples, phones=phones)


def _parse_durations(output: str) -> Phones:
    """`pau:0.164 hh:0.255 ...`, as printed by `flite -psdur`, to phones with end times in s."""
    phones: Phones = []
    for item in output.split():
        phone, _, end = item.partition(":")
        if phone not in PHONES:
            raise SynthesizerRefusal(
                f"flite printed {item!r}; expected one of its phones, `:`, a time"
            )
        phones.append((phone, float(end)))
    return phones
