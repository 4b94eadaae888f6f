"""Recordings heard through noise, at a ratio of one's choice, the same in each run.

A fifth of any folder of noises is held out: training never hears these, and evaluation hears no
others.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from asr.audio import Blocks, read_blocks, resample_blocks
from asr.errors import AsrError, AudioError
from asr.evaluation.corpora.manifest import Utterance
from asr.evaluation.corpora.recordings import read_utterance
from asr.features import SAMPLE_RATE, Samples

_HELD_OUT_SHARE = 5
"""One noise in so many is never trained on."""

_CLIP = re.compile(r"-[A-Z]$")

_SUFFIXES = (".wav", ".flac", ".ogg", ".opus", ".mp3")


def is_held_out(noise: Path) -> bool:
    """Whether this recording is for tests; by its name alone, so wherever and however it is kept.

    Names that differ in a last `-A`, `-B`, ... are of clips that were cut from one recording, as in
    ESC-50: they stay together.
    """
    source = _CLIP.sub("", noise.stem)
    return zlib.crc32(source.encode()) % _HELD_OUT_SHARE == 0


def held_out_noises(folder: Path) -> tuple[Path, ...]:
    """Return the noises in a folder, and those in it, that are held out; AsrError if none is."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)
    held_out = tuple(path for path in paths if is_held_out(path))
    if not held_out:
        raise AsrError(
            f"--noise {folder}: of {len(paths)} recordings none is held out for tests (about "
            "one in five is, by its name); give a folder of more noises"
        )
    return held_out


@dataclass(frozen=True, slots=True)
class NoisyReader:
    """Reads utterances with noise added: call it as `read_utterance`.

    Which noise, and from where on, goes by the id of the utterance. It is repeated if it is short.
    """

    noises: tuple[Path, ...]
    snr_db: float  # power of the whole utterance over that of the noise under it

    @staticmethod
    def of_options(folder: Path | None, snr_db: float | None) -> "NoisyReader | None":
        """Return what `--noise` and `--snr-db` ask for; None if neither is given."""
        if folder is not None:
            return NoisyReader.of_folder(folder, 10.0 if snr_db is None else snr_db)
        if snr_db is not None:
            raise AsrError(f"--snr-db {snr_db:g}: of which noise? Give --noise FOLDER as well")
        return None

    @staticmethod
    def of_folder(folder: Path, snr_db: float) -> "NoisyReader":
        """Take the noises of `folder` that are held out. Raises AsrError if there is none."""
        return NoisyReader(held_out_noises(folder), snr_db)

    def __call__(self, utterance: Utterance) -> Blocks:
        """Yield its samples at 16 kHz, in one block. Raises AudioError as `read_utterance` does."""
        speech = np.concatenate(list(resample_blocks(read_utterance(utterance))))
        generator = np.random.default_rng(zlib.crc32(utterance.id.encode()))
        noise = read_noise(self.noises[int(generator.integers(len(self.noises)))])
        start = int(generator.integers(len(noise)))
        under = np.take(noise, np.arange(start, start + len(speech)), mode="wrap")
        yield mix(speech, under, self.snr_db), SAMPLE_RATE


def read_noise(path: Path) -> Samples:
    """Return what can be read of it `(n,)`, at 16 kHz. Raises AudioError if that is nothing."""
    blocks: list[Samples] = []
    try:
        for block in resample_blocks(read_blocks(path)):
            blocks.append(block)
    except AudioError:
        if not blocks:
            raise
    return np.concatenate(blocks)


def mix(speech: Samples, noise: Samples, snr_db: float) -> Samples:
    """Return both, `(n,)`, together, quieter if that is needed to keep them within [-1, 1]."""
    power = [float(np.mean(np.square(samples, dtype=np.float64))) for samples in (speech, noise)]
    gain = np.sqrt(power[0] / max(power[1], 1e-12) / 10 ** (snr_db / 10))
    mixed: Samples = speech + np.float32(gain) * noise
    mixed /= np.float32(max(1.0, float(np.abs(mixed).max(initial=0))))
    return mixed
