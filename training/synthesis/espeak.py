"""espeak-ng: many accents and voices, of a formant synthesiser, with the times of their words.

https://github.com/espeak-ng/espeak-ng. Less human than the others, and of far more kinds: an accent
(what is said, and how) with a variant (who says it).
"""

import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.errors import CorpusError
from training.synthesis.sentence import Sentence
from training.synthesis.speech import (
    Speech,
    SpokenWord,
    SynthesizerRefusal,
    Utterance,
    at_sample_rate,
    match_words,
    run_program,
)

ACCENTS = (
    *("en-us", "en-us-nyc", "en", "en-gb-scotland", "en-gb-x-gbclan", "en-gb-x-gbcwmd"),
    *("en-gb-x-rp", "en-029"),  # "en" is British
)
# Without robots, whisperers, echoes, voices far from a human's, and those that clip.
VARIANTS = (
    *("m1", "m2", "m3", "m4", "m5", "m6", "m7", "m8", "f1", "f2", "f3", "f4", "f5", "croak"),
    *("grandma", "grandpa", "Alex", "Andrea", "Andy", "Annie", "Denis", "Diogo", "Henrique"),
    *("Hugo", "Lee", "Mario", "Michael", "Mike", "aunty", "belinda", "linda", "max", "michel"),
    *("miguel", "quincy", "rob", "robert", "steph", "travis", "victor"),
)
VOICES = tuple(f"{accent}+{variant}" for accent in ACCENTS for variant in VARIANTS)

_WORDS_PER_MINUTE = 175  # espeak-ng's default
_START_TIMEOUT_S, _TIMEOUT_S = 60, 30  # of a process, and of each of its utterances
_INSTALL = "`apt install espeak-ng` (Debian, Ubuntu)"
_WORKER = Path(__file__).with_name("espeak_worker.py")


class Espeak:
    """The synthesiser espeak-ng: a process for several utterances."""

    name = "espeak-ng"
    voices = VOICES
    batch = 10

    def require(self, voices: Sequence[str]) -> None:
        """Raise CorpusError unless espeak-ng is installed and has all of `voices`.

        Given a variant that it doesn't have, it speaks without and says nothing.
        """
        # By the names of their files: with some languages' names, a variant is not heard.
        files = [row[4] for row in _listed("en")]
        accents = {Path(file).name.lower() for file in files if file.startswith("gmw/")}
        variants = {row[4].removeprefix("!v/") for row in _listed("variant")}
        for voice in voices:
            accent, _, variant = voice.partition("+")
            if accent not in accents or (variant and variant not in variants):
                raise CorpusError(
                    f"espeak-ng has no voice {voice!r}; expected one of "
                    f"{', '.join(sorted(accents))}, alone or with `+` and one of "
                    f"{', '.join(sorted(variants))}"
                )

    def speak(self, utterances: Sequence[Utterance]) -> list[Speech | SynthesizerRefusal]:
        """Speak utterances, with the times of their words where espeak-ng says them one by one."""
        asked = "".join(json.dumps(_request(utterance)) + "\n" for utterance in utterances)
        timeout_s = _START_TIMEOUT_S + _TIMEOUT_S * len(utterances)
        worker = [sys.executable, "-I", "-S", str(_WORKER)]
        try:
            output = run_program(worker, _INSTALL, timeout_s, asked.encode())
        except SynthesizerRefusal as refusal:
            return [refusal] * len(utterances)
        answers = _parse(output)
        return [
            _speech(utterance.sentence, *answer)
            for utterance, answer in zip(utterances, answers, strict=True)
        ]


def _listed(kind: str) -> list[list[str]]:
    """The fields of `espeak-ng --voices=KIND`: priority, language, age, name, file."""
    output = run_program(["espeak-ng", f"--voices={kind}"], _INSTALL, _START_TIMEOUT_S)
    return [line.split() for line in output.decode(errors="replace").splitlines()[1:]]


def _request(utterance: Utterance) -> dict[str, Any]:
    return {
        "voice": utterance.voice,
        "text": utterance.sentence.spoken,
        "words_per_minute": round(_WORDS_PER_MINUTE / utterance.stretch),
        # Its scale of pitch: 50 is the voice's own, and 50 more are an octave.
        "pitch": round(50 + 50 * math.log2(utterance.pitch)),
    }


def _parse(output: bytes) -> Iterator[tuple[dict[str, Any], NDArray[np.int16]]]:
    """What the worker wrote for each utterance: its header and its samples."""
    place = 0
    while place < len(output):
        end = output.index(b"\n", place)
        header = json.loads(output[place:end])
        count = header.get("samples", 0)
        yield header, np.frombuffer(output, np.int16, count, end + 1)
        place = end + 1 + 2 * count


def _speech(
    sentence: Sentence, header: dict[str, Any], samples: NDArray[np.int16]
) -> Speech | SynthesizerRefusal:
    if not len(samples):
        why = f"failed with status {header['failed']}" if "failed" in header else "said nothing"
        return SynthesizerRefusal(f"espeak-ng {why}")
    return Speech(
        at_sample_rate(samples, header["rate"]),
        words=_words(sentence, header["events"], header["rate"]),
    )


def _words(
    sentence: Sentence, events: Sequence[tuple[str, int, int]], rate: int
) -> tuple[SpokenWord, ...] | None:
    """The times of the words; None where espeak-ng says two as one, such as "of the".

    `events`: ("word" or a phoneme, the position in the text of the word that it is of, sample). A
    word begins with its first phoneme, and ends where what follows its last one begins.
    """
    starts = list(
        itertools.accumulate((len(part) + 1 for part in sentence.spoken.split(" ")), initial=1)
    )
    times: dict[int, tuple[float, float]] = {}
    phonemes = [event for event in events if event[0] != "word"]
    said = {position for name, position, _ in events if name == "word"}
    for (name, position, begin), (_, _, end) in itertools.pairwise(phonemes):
        if name.startswith("_") or position not in said:
            continue
        first, _ = times.get(position, (begin / rate, 0.0))
        times[position] = (first, end / rate)
    tokens: list[tuple[float, float] | None] = []
    for start, following in itertools.pairwise(starts):
        own = [times[position] for position in sorted(times) if start <= position < following]
        tokens.append((own[0][0], own[-1][1]) if own else None)
    return match_words(sentence, tokens)
