"""Hours of speech through a stream, in a process of its own whose memory is watched."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import soundfile

import asr
from asr.audio import read_blocks
from asr.evaluation.meters import peak_rss_mb, rss_mb
from tests.samples import SAMPLES, read_samples

RATE = 16_000
BLOCK = 1_600  # samples, 0.1 s

T = TypeVar("T")


@dataclass(frozen=True)
class Held:
    """What a process held after so much audio."""

    audio_s: float
    resident_mb: float
    state_bytes: int  # the encoder's caches of the stream
    waiting_bytes: int  # features that were not encoded yet


@dataclass(frozen=True)
class Soak:
    """A stream from its beginning to its end."""

    held: tuple[Held, ...]  # at even distances
    duration_s: float
    words: int
    last_word_s: float  # when it began
    segments: int
    skipped_s: float
    peak_mb: float  # with the result

    def growth_mb(self, warm_up_s: float) -> float:
        """Return by how much the memory grew from `warm_up_s` to any later time."""
        (start, *later) = [item.resident_mb for item in self.held if item.audio_s >= warm_up_s]
        return max(later) - start


def speech(seconds: float, seed: int = 0) -> Iterator[np.ndarray]:
    """Yield blocks of 0.1 s: the recordings in random order, louder and softer, with 0.1 to 20 s of
    silence between them.

    It holds the recordings, and nothing else that is larger than a block: what is measured beside
    it is not its own.
    """
    rng = np.random.default_rng(seed)
    spoken = [read_samples(sample) for sample in SAMPLES]
    left = round(10 * seconds)
    while left > 0:
        gap = round(200 ** rng.random())
        sentence = spoken[rng.integers(len(spoken))]
        gain = np.float32(rng.uniform(0.3, 1.0))
        for _ in range(min(gap, left)):
            yield np.zeros(BLOCK, np.float32)
        left -= gap
        for start in range(0, BLOCK * min(len(sentence) // BLOCK, left), BLOCK):
            yield gain * sentence[start : start + BLOCK]
            left -= 1


def soak(
    audio: Iterable[tuple[np.ndarray, int]],
    every_s: float,
    rules: asr.EndpointRules | None = None,
    gate: bool = False,
) -> Soak:
    """Recognise with the built-in model what is given in blocks; look every `every_s` seconds."""
    stream = asr.load().stream(endpoints=rules, gate=gate)
    held: list[Held] = []
    segments = 0
    for samples, rate in audio:
        for event in stream.accept(samples, rate):
            segments += isinstance(event, asr.Endpoint)
        if stream.audio_s >= every_s * (len(held) + 1):
            state = stream.encoder_state
            state_bytes = state.attention.nbytes + state.convolution.nbytes
            held.append(Held(stream.audio_s, rss_mb(), state_bytes, stream._frames.nbytes))
    result = stream.finish().result
    last_s = result.words[-1].start_s if result.words else 0.0
    return Soak(
        tuple(held),
        result.duration_s,
        len(result.words),
        last_s,
        segments,
        stream.skipped_s,
        peak_rss_mb(),
    )


def soak_live(
    seconds: float, every_s: float, rules: asr.EndpointRules | None = None, gate: bool = False
) -> Soak:
    """Soak a stream in blocks of 0.1 s, as a microphone gives them."""
    return soak(((block, RATE) for block in speech(seconds)), every_s, rules, gate)


def soak_file(path: Path, every_s: float) -> Soak:
    """Soak a stream in an audio file."""
    return soak(read_blocks(path), every_s)


def write_recording(path: Path, seconds: float) -> None:
    """Write speech of such a length: 32 kB a second."""
    with soundfile.SoundFile(path, "w", RATE, 1, "PCM_16") as file:
        for block in speech(seconds):
            file.write(block)


def in_own_process(function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a module in a fresh process: what others have left behind is not there."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()
