"""Audio files and raw PCM as blocks of mono samples; streaming resampling.

Everything here is a stream: a file of any length costs the memory of one block.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from asr.containers import mp3_states_length, ogg_is_complete, wav_length_s
from asr.errors import AudioError
from asr.features import SAMPLE_RATE, Samples

Blocks: TypeAlias = Iterator[tuple[Samples, int]]
"""Blocks of a recording, one after the other, each with its sample rate in Hz."""

FORMATS = "wav, flac, ogg/opus or mp3"

MIN_RATE, MAX_RATE = 1_000, 1_000_000
"""Hz. Outside of these a sample rate is a mistake, not a recording."""

MAX_AMPLITUDE = 16.0
"""Full scale is 1. Float samples may pass it a little; far beyond, they were not scaled at all."""

_MAX_BLOCK_VALUES = 1 << 20  # samples times channels: 4 MB, so that many channels stay small
_COUNT_SLACK_S = 0.1  # mp3 and flac state their length to within a few codec frames
_UNKNOWN_COUNT = 2**63 - 1  # libsndfile's word for it: a flac that was written to a pipe
_CONTAINERS = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3": "MP3"}


def read_blocks(path: str | Path, block_s: float = 0.5) -> Blocks:
    """Yield the samples of an audio file as `(samples (n,) mono in [-1, 1], sample rate in Hz)`.

    Any sample rate; channels are averaged. `block_s` is the length of a block in seconds.

    Raises:
        AudioError: no such file, a directory, an empty file, not audio, no samples, NaN or Inf,
            values far outside [-1, 1], or a file that ends before the length it states (or, of
            Ogg, before its stream says that it ends). Whatever could be read before the damage has
            been yielded by then, so a caller that catches the error loses nothing.
    """
    path = Path(path)
    _check_file(path)
    try:
        file = _ForwardFile(os.fsencode(path))  # as bytes: a name need not be UTF-8
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(
            f"{path}: can't be read as audio ({_reason(error)}); expected {FORMATS}"
        ) from error
    with file:
        check_rate(file.samplerate, str(path))
        count = 0
        for block in _decode(file, str(path), block_s):
            bad = first_nonfinite(block)
            mono = block[:bad].mean(axis=1, dtype=np.float32)
            if (peak := _peak(mono)) > MAX_AMPLITUDE:
                raise AudioError(
                    f"{path}: samples reach {peak:g}; expected [-1, 1]: scale the recording"
                )
            if len(mono):
                yield mono, file.samplerate
            count += len(mono)
            if bad is not None:
                raise AudioError(
                    f"{path}: the sample at {count / file.samplerate:.3f} s is NaN or Inf; "
                    "write the recording again"
                )
        _check_complete(path, file, count)


def read_pcm_blocks(
    source: BinaryIO, sample_rate: int = SAMPLE_RATE, block_s: float = 0.5
) -> Blocks:
    """Yield raw PCM (16 bit, little-endian, mono) as `read_blocks` does, as soon as it arrives.

    Raises:
        AudioError: nothing in it, half a sample at its end, or a file format instead of raw PCM.
    """
    check_rate(sample_rate, "raw PCM")
    wanted = 2 * max(1, int(block_s * sample_rate))
    # A pipe gives what is there; waiting for a full block would delay live audio.
    read = getattr(source, "read1", source.read)
    pending = b""
    count = 0
    while data := read(wanted):
        pending += data
        if count == 0:
            _check_raw(pending)
        whole = len(pending) // 2 * 2
        if whole:
            yield to_float(np.frombuffer(pending[:whole], dtype="<i2")), sample_rate
            count += whole // 2
            pending = pending[whole:]
    if pending:
        raise AudioError("raw PCM ended in half a sample; expected 16 bit little-endian mono")
    if count == 0:
        raise AudioError("no audio in the raw PCM; expected 16 bit little-endian mono samples")


def to_float(samples: NDArray[np.generic]) -> Samples:
    """Return int16 or float samples as float32; int16 is scaled to [-1, 1)."""
    if samples.dtype == np.int16:
        return samples.astype(np.float32) / np.float32(32768)
    return np.ascontiguousarray(samples, dtype=np.float32)


def check_samples(samples: object) -> NDArray[np.generic]:
    """Return `samples` as an array if a stream can take it: one-dimensional, int16 or float in
    [-1, 1], all finite. Raises AudioError."""
    array = np.asarray(samples)
    if array.ndim != 1:
        raise AudioError(
            f"samples of shape {array.shape}; expected one dimension: average the channels first"
        )
    if not len(array):
        return array.astype(np.float32)
    if array.dtype == np.int16:
        return array
    if not np.issubdtype(array.dtype, np.floating):
        raise AudioError(f"samples of type {array.dtype}; expected int16, or float in [-1, 1]")
    peak = _peak(array)
    if not np.isfinite(peak):
        raise AudioError(
            f"sample {first_nonfinite(array)} of the block is NaN or Inf; "
            "expected finite values in [-1, 1]"
        )
    if peak > MAX_AMPLITUDE:
        raise AudioError(
            f"samples reach {peak:g}; expected [-1, 1]: divide by 32768, or pass int16"
        )
    return array


def check_rate(rate: int, what: str) -> None:
    """Raise AudioError for a sample rate in Hz that no recording has; `what` has it."""
    if not MIN_RATE <= rate <= MAX_RATE:
        raise AudioError(f"{what}: a sample rate of {rate} Hz; expected {MIN_RATE} to {MAX_RATE}")


def first_nonfinite(block: NDArray[np.generic]) -> int | None:
    """Return the index of the first row `block (n,)` or `(n, channels)` with NaN or Inf in it."""
    finite = np.isfinite(block)
    if finite.all():
        return None
    return int(np.argmin(finite.reshape(len(block), -1).all(axis=1)))


class StreamingResampler:
    """Samples of any rate to another, in blocks of any size, by soxr.

    The filter's state goes on from block to block, so the output doesn't depend on how the input
    was split, and its delay is taken out: sample n of the output is at n / out_rate seconds.
    """

    def __init__(self, in_rate: int, out_rate: int = SAMPLE_RATE) -> None:
        """Raises AudioError for a rate in Hz that no recording has."""
        check_rate(in_rate, "the stream")
        self.in_rate = in_rate
        self._soxr = None
        if in_rate != out_rate:
            self._soxr = soxr.ResampleStream(in_rate, out_rate, 1, dtype="float32")

    def accept(self, samples: Samples) -> Samples:
        """Take samples `(n,)`; return the resampled ones that are ready."""
        if self._soxr is None:
            return samples
        return self._soxr.resample_chunk(samples)

    def finish(self) -> Samples:
        """Return the last samples."""
        if self._soxr is None:
            return np.empty(0, dtype=np.float32)
        return self._soxr.resample_chunk(np.empty(0, dtype=np.float32), last=True)


def resample_blocks(blocks: Blocks) -> Iterator[Samples]:
    """Yield the samples `(n,)` of a recording's blocks at 16 kHz. Raises what `blocks` raise."""
    resampler: StreamingResampler | None = None
    for samples, rate in blocks:
        resampler = resampler or StreamingResampler(rate)
        yield resampler.accept(samples)
    if resampler is not None:
        yield resampler.finish()


class _ForwardFile(soundfile.SoundFile):
    """A file that is only read onwards.

    soundfile seeks to where it is after each read of a file that it can seek in. That costs a FLAC
    file half its decoding time, and fails at the end of one whose length is unknown.
    """

    def seekable(self) -> bool:
        return False


def _peak(samples: NDArray[np.floating]) -> float:
    """Return the largest absolute value, 0 of nothing; NaN and Inf pass through. No copy."""
    return max(-float(samples.min()), float(samples.max())) if len(samples) else 0.0


def _decode(file: soundfile.SoundFile, name: str, block_s: float) -> Iterator[Samples]:
    """Yield blocks `(n, channels)`, valid until the next one; AudioError where decoding fails."""
    frames = min(int(block_s * file.samplerate), _MAX_BLOCK_VALUES // file.channels)
    buffer = np.empty((max(1, frames), file.channels), dtype=np.float32)
    count = 0
    while True:
        buffer.fill(np.nan)
        try:
            block = file.read(out=buffer)
        except soundfile.SoundFileError as error:
            # The decoder gives no count when it fails, but what it wrote is no longer NaN.
            rest = buffer[: first_nonfinite(buffer)]
            yield rest
            good_s = (count + len(rest)) / file.samplerate
            raise AudioError(
                f"{name}: damaged after {good_s:.2f} s ({_reason(error)}); copy the recording again"
            ) from error
        if not len(block):
            return
        yield block
        count += len(block)


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
        is_regular = stat.S_ISREG(status.st_mode)
        if is_regular:  # a pipe is opened once only: its writer would not survive a second time
            path.open("rb").close()
    except FileNotFoundError as error:
        raise AudioError(f"{path}: no such file") from error
    except OSError as error:
        raise AudioError(f"{path}: can't be opened: {error.strerror}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path}: a directory; expected an audio file")
    if is_regular and status.st_size == 0:
        raise AudioError(f"{path}: an empty file; expected {FORMATS}")
    if path.suffix.lower() == ".raw":
        raise AudioError(
            f"{path}: raw PCM says nothing of its rate; pipe it in: asr transcribe --rate HZ - < "
            f"{path} (16 bit little-endian mono), or rename it if it is {FORMATS}"
        )


def _check_raw(head: bytes) -> None:
    for magic, name in _CONTAINERS.items():
        if head.startswith(magic):
            raise AudioError(
                f"stdin holds a {name} file; expected raw PCM (16 bit little-endian mono): "
                "name the file instead of '-', or convert it with ffmpeg -f s16le -ac 1"
            )


def _check_complete(path: Path, file: soundfile.SoundFile, count: int) -> None:
    advice = "copy the recording again"
    read_s = count / file.samplerate
    if path.is_file():  # a pipe can't be read twice
        wav_s = wav_length_s(path)
        stated_s = max(wav_s, _stated_length_s(path, file))
        if read_s < max(wav_s, stated_s - _COUNT_SLACK_S):
            raise AudioError(
                f"{path}: truncated: its header states {stated_s:.2f} s, {read_s:.2f} s could "
                f"be read; {advice}"
            )
        if file.format == "OGG" and not ogg_is_complete(path):
            raise AudioError(
                f"{path}: truncated: it ends without an end-of-stream page, {read_s:.2f} s could "
                f"be read; {advice}"
            )
    if count == 0:
        raise AudioError(
            f"{path}: no samples in it, says its header; record it again, or if its recorder was "
            "killed, repair it: ffmpeg -i"
        )


def _stated_length_s(path: Path, file: soundfile.SoundFile) -> float:
    """Return the seconds that the decoder takes from the file, 0 where it only guesses them."""
    if file.frames == _UNKNOWN_COUNT or (file.format == "MP3" and not mp3_states_length(path)):
        return 0.0
    return file.frames / file.samplerate


def _reason(error: Exception) -> str:
    """Return libsndfile's or the system's own words for an error."""
    text = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
    return str(text).removeprefix("Error : ").rstrip(".")
