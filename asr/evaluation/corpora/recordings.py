"""The audio of an utterance: a file, or a part of one."""

import os
from pathlib import Path

import numpy as np
import soundfile

from asr.audio import FORMATS, Blocks, check_rate, check_samples, read_blocks
from asr.errors import AudioError
from asr.evaluation.corpora.manifest import Segment, Utterance

_BLOCK_S = 0.5
_SLACK_S = 0.1  # by which a segment may pass the end: lengths in manifests are rounded


def read_utterance(utterance: Utterance) -> Blocks:
    """Yield the samples of an utterance as `asr.audio.read_blocks` does, and with its errors."""
    if utterance.segment is None:
        return read_blocks(utterance.audio)
    return read_segment(utterance.audio, utterance.segment)


def read_segment(path: Path, segment: Segment) -> Blocks:
    """Yield the samples of a part of an audio file, without decoding what is before it.

    Raises AudioError for a file that can't be read there, one that ends before the segment does, a
    channel that it hasn't, and samples that are NaN, Inf or far outside [-1, 1].
    """
    where = f"{path}, {segment.duration_s:g} s from {segment.start_s:g} s"
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:  # as bytes: it need not be UTF-8
            rate = file.samplerate
            check_rate(rate, str(path))
            if segment.channel is not None and segment.channel >= file.channels:
                raise AudioError(f"{where}: no channel {segment.channel} in {file.channels}")
            start = round(segment.start_s * rate)
            missing = left = round(segment.duration_s * rate)
            if 0 <= start < file.frames:
                file.seek(start)
                blocks = file.blocks(round(_BLOCK_S * rate), frames=left, dtype="float32")
                for block in blocks:
                    mono = block if block.ndim == 1 else _mono(block, segment.channel)
                    yield check_samples(mono).astype(np.float32, copy=False), rate
                    missing -= len(block)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{where}: can't be read as audio ({error}); expected {FORMATS}"
        ) from error
    if left == 0 or missing > _SLACK_S * rate:
        raise AudioError(
            f"{where}: {(left - missing) / rate:.2f} s could be read; correct the manifest, or "
            "copy the recording again"
        )


def _mono(block: np.ndarray, channel: int | None) -> np.ndarray:
    """Return a channel of `block (n, channels)`, or their mean, as `(n,)`."""
    return block.mean(axis=1) if channel is None else block[:, channel]
