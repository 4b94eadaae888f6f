"""Recordings as a sound card would give them: block by block, at the speed of speech, in a loop."""

import itertools
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from asr.audio import Blocks, read_blocks
from asr.errors import AsrError
from asr.evaluation.corpora.manifest import read_manifest
from asr.features import Samples

BLOCK_S = 0.1
GAP_S = 0.5
"""Silence behind each recording: enough that its last word is not taken for the next one's."""

MANIFEST_SUFFIX = ".jsonl"

Push: TypeAlias = Callable[[Samples, int], bool]
"""Takes a block and its sample rate in Hz; says whether it was taken. `LiveStream.push` is one."""


@dataclass(frozen=True, slots=True)
class Recording:
    """An audio file and, where it is known, what is said in it."""

    path: Path
    text: str | None = None


@dataclass(slots=True)
class Play:
    """One time that a recording was played."""

    recording: Recording
    start_s: float  # in the audio that was taken before it
    complete: bool = False  # to its end


def read_recordings(
    sources: Sequence[Path],
    *,
    one_rate: bool = True,
    split: str | None = None,
    limit: int | None = None,
) -> tuple[Recording, ...]:
    """Return the recordings of manifests (`*.jsonl`; of each the rows of `split`, at most `limit`)
    and audio files. What a manifest has and can't be played is left out with a warning.

    Raises AsrError where there is none, and where they are for one stream (`one_rate`) and of
    several rates; AudioError and ManifestError for one that can't be used.
    """
    recordings: list[Recording] = []
    for source in sources:
        if source.suffix == MANIFEST_SUFFIX:
            rows = read_manifest(source, split, limit)
            recordings += [Recording(row.audio, row.text) for row in rows.utterances]
            for row in rows.skipped:
                warnings.warn(f"{source}: {row.id} is left out: {row.reason}", stacklevel=2)
        else:
            recordings.append(Recording(source))
    if not recordings:
        named = ", ".join(map(str, sources))
        raise AsrError(f"no recording to play in {named or 'nothing'}; name others")
    rates = {_sample_rate(recording.path): recording.path for recording in recordings}
    if one_rate and len(rates) > 1:
        (first, one), (second, other), *_ = rates.items()
        raise AsrError(
            f"{one} is at {first} Hz and {other} at {second} Hz; one stream takes one rate: "
            "name recordings of the same"
        )
    return tuple(recordings)


class Playback:
    """Plays recordings, again from the first one after the last, until some time is over."""

    def __init__(
        self,
        recordings: Sequence[Recording],
        seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        read: Callable[[Path, float], Blocks] = read_blocks,
    ) -> None:
        """Take at least one recording, all of one sample rate, and how long to play. `clock` tells
        seconds from any origin; `read` gives the blocks of a file."""
        self._recordings = recordings
        self._seconds = seconds
        self._clock = clock
        self._read = read
        self._started = 0.0
        self._pushed = 0  # samples
        self._taken_s = 0.0
        self.plays: list[Play] = []
        self.late_s = 0.0
        """How late a block was pushed at most: what the machine's load did to this side."""
        self.complete = False
        """Whether it was played for as long as it should."""

    def run(self, push: Push, sleep: Callable[[float], object]) -> None:
        """Push every block when a sound card would have it, which is at its end.

        `sleep` waits for as many seconds; if it returns something true, nothing more is played.

        Raises AudioError for a recording that is damaged behind its first block.
        """
        self._started = self._clock()
        for recording in itertools.cycle(self._recordings):
            play = Play(recording, self._taken_s)
            self.plays.append(play)
            rate = 0
            for samples, rate in self._read(recording.path, BLOCK_S):
                if not self._play(samples, rate, push, sleep):
                    return
            play.complete = True
            silence = np.zeros(round(BLOCK_S * rate), dtype=np.float32)
            for _ in range(round(GAP_S / BLOCK_S)):
                if not self._play(silence, rate, push, sleep):
                    return

    def _play(
        self, samples: Samples, rate: int, push: Push, sleep: Callable[[float], object]
    ) -> bool:
        """Push a block in time; return whether it was played to its end."""
        if self.complete:
            return False
        block = samples[: round(self._seconds * rate) - self._pushed]
        self._pushed += len(block)
        due = self._started + self._pushed / rate
        if sleep(max(0.0, due - self._clock())):
            return False
        self.late_s = max(self.late_s, self._clock() - due)
        if len(block) and push(block, rate):
            self._taken_s += len(block) / rate
        self.complete = self._pushed == round(self._seconds * rate)
        return len(block) == len(samples)


def _sample_rate(path: Path) -> int:
    blocks = read_blocks(path, BLOCK_S)
    _, rate = next(blocks)
    return rate
