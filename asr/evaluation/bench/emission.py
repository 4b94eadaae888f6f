"""Speech whose word times are known: synthesised here, or stated by a manifest.

flite (Black and Lenzo, 2001; https://github.com/festvox/flite) prints when each of its phones ends,
so of its speech the times are exact. For manifests see `asr.evaluation.corpora.timed`.
"""

import subprocess
import tempfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from asr.errors import AsrError
from asr.evaluation.corpora.timed import TimedWord, read_timed_manifest

VOICE = "slt"
SENTENCES = (
    "she opened the window and looked out at the rain",
    "there was no one in the garden",
    "he walked down the street with his brother",
    "they had nothing to eat for three days",
    "the old man sat by the fire and told a story",
    "we came to the river before it was dark",
    "i have never seen such a beautiful house",
    "the horses were tired and could go no farther",
)

_SILENCE = "pau"
_TIMEOUT_S = 60


@dataclass(frozen=True, slots=True)
class TimedSpeech:
    """A recording and the times of its words."""

    audio: Path
    words: tuple[TimedWord, ...]  # at least one


def synthesize(folder: Path, sentences: Sequence[str] = SENTENCES) -> list[TimedSpeech]:
    """Speak sentences, one WAV file each, into `folder`. What flite says with other phones than its
    words alone have is left out: where a word ends in that is not known.

    Raises AsrError if flite isn't here, or fails.
    """
    spoken = []
    for number, sentence in enumerate(sentences):
        audio = folder / f"{number}.wav"
        phones = _flite("-voice", VOICE, "-psdur", "-t", sentence, "-o", str(audio))
        words = word_times(sentence.split(), parse_phones(phones), _phone_counts(sentence))
        if words:
            spoken.append(TimedSpeech(audio, words))
    return spoken


def word_times(
    words: Sequence[str], phones: Sequence[tuple[str, float]], counts: Sequence[int]
) -> tuple[TimedWord, ...]:
    """Return when words were said, from phones with their end times in s, pauses among them, and
    how many phones each word has; nothing if that doesn't add up."""
    sounds = []
    before_s = 0.0
    for phone, end_s in phones:
        if phone != _SILENCE:
            sounds.append((before_s, end_s))
        before_s = end_s
    if sum(counts) != len(sounds) or 0 in counts:
        return ()
    timed, start = [], 0
    for word, count in zip(words, counts, strict=True):
        own = sounds[start : start + count]
        timed.append(TimedWord(word, own[0][0], own[-1][1]))
        start += count
    return tuple(timed)


def parse_phones(output: str) -> list[tuple[str, float]]:
    """Parse `pau:0.164 hh:0.255 ...`, as `flite -psdur` prints it."""
    phones = []
    for item in output.split():
        phone, _, end = item.partition(":")
        phones.append((phone, float(end)))
    return phones


def _phone_counts(sentence: str) -> list[int]:
    """How many phones each word has, said alone."""
    counts = []
    for word in sentence.split():
        phones = _flite("-voice", "kal16", "-ps", "-t", word, "-o", "none").split()
        counts.append(sum(phone != _SILENCE for phone in phones))
    return counts


def _flite(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["flite", *arguments], capture_output=True, text=True, timeout=_TIMEOUT_S, check=True
        )
    except FileNotFoundError as error:
        raise AsrError(
            "no speech with known word times: the synthesiser flite isn't here (apt install "
            "flite), and no manifest with `words` was named"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise AsrError(f"flite took more than {_TIMEOUT_S} s") from error
    except subprocess.CalledProcessError as error:
        raise AsrError(f"flite failed: {error.stderr.strip()}") from error
    return done.stdout


def timed_speech(
    sources: Sequence[Path], recordings: Collection[Path], folder: Path
) -> tuple[list[TimedSpeech], str]:
    """Return speech with known word times and where it is from: those of the recordings whose words
    the manifests (`*.jsonl`) among the sources time, else synthesised into `folder`.

    Raises AsrError if there is none.
    """
    manifests = [source for source in sources if source.suffix == ".jsonl"]
    stated = [
        TimedSpeech(timed.utterance.audio, timed.words)
        for manifest in manifests
        for timed in read_timed_manifest(manifest).utterances
        if timed.utterance.audio in recordings
    ]
    if stated:
        return stated, "word times of the manifest"
    return synthesize(folder), f"synthetic speech (flite {VOICE})"


def scratch() -> "tempfile.TemporaryDirectory[str]":
    """A folder for synthesised speech, which goes away."""
    return tempfile.TemporaryDirectory(prefix="earshot-speech-")
