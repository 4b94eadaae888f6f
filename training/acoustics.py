"""The surroundings of speech: noises, rooms and narrow channels, put on log-mel features.

All of it happens to the power in mel bands, so that cached features meet another noise and another
room in each epoch. Powers of unrelated sounds add, and a room smears power over time; what is left
out, how waves interfere within a band, averages out over its width.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from asr.audio import read_blocks, resample_blocks
from asr.bundle import StreamingConfig
from asr.errors import AudioError, CorpusError
from asr.evaluation.noise import is_held_out
from asr.features import FRAME_SHIFT, SAMPLE_RATE, FeatureConfig, compute_features
from training.corpus import Rejections
from training.feature_cache import UNDECODABLE, FeatureCache

Frames = NDArray[np.float32]

DB_TO_LOG = math.log(10) / 10
"""Decibels to the natural logarithm of power, the unit of the features."""

SILENCE_LOG = math.log(np.finfo(np.float32).eps)
"""What the filter bank gives where there is no sound at all."""

FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SHIFT


# --- what was recorded -------------------------------------------------------------------------


@dataclass(frozen=True)
class Acoustics:
    """Recorded noises and measured rooms, to be drawn from."""

    noises: tuple[str, ...] = ()  # keys of `frames`
    frames: Mapping[str, Frames] | FeatureCache = field(default_factory=dict)  # (T, 80) each
    rooms: tuple[NDArray[np.float64], ...] = ()  # responses, (K, 80) each
    padding: int = 0  # of the frames of a noise, how many at its end are not of it

    @staticmethod
    def load(
        data: Path,
        noise: str | None,
        rooms: str | None,
        cache: FeatureCache,
        rejections: Rejections,
        processes: int,
    ) -> "Acoustics":
        """Read what matches the patterns `noise` and `rooms` under `data`; None is none.

        Noises that are held out for tests are left out; recordings that can't be read go to
        `rejections`. Raises CorpusError if nothing matches, or no noise is left.
        """
        matching = _matching(data, noise)
        noises = [path for path in matching if not is_held_out(path)]
        responses = _room_responses(_matching(data, rooms), rejections)
        # Names that no utterance has: ids of manifests don't begin so.
        named = {f"noise:{path.relative_to(data)}": path for path in noises}
        cache.add_files(named, rejections, processes)
        padding = StreamingConfig().tail_padding_frames
        usable = tuple(name for name in named if name in cache and cache.num_frames(name) > padding)
        if matching and not usable:
            raise CorpusError(
                f"of {len(matching)} recordings that match {noise!r} in {data} none can be trained "
                "on: about one in five, by its name, is left for tests, and not every file is "
                "sound; give more noises"
            )
        return Acoustics(usable, cache, responses, padding)

    def draw_noise(self, length: int, generator: np.random.Generator) -> Frames:
        """Return `(length, 80)` of a noise, from a random place on, and again if it is short.

        Its level is 0 over the whole recording: a silence between two sounds stays one.
        """
        noise = self.frames[self.noises[int(generator.integers(len(self.noises)))]]
        noise = noise[: len(noise) - self.padding]
        start = int(generator.integers(len(noise)))
        part = np.take(noise, np.arange(start, start + length), axis=0, mode="wrap")
        return part - np.float32(level(noise))

    def draw_room(self, generator: np.random.Generator) -> NDArray[np.float64]:
        """Return the response of a room: one that was measured, if there are any, or simulated."""
        if self.rooms and generator.random() < 0.5:
            return self.rooms[int(generator.integers(len(self.rooms)))]
        return simulated_room(generator)


def _matching(data: Path, pattern: str | None) -> list[Path]:
    if pattern is None:
        return []
    if paths := sorted(path for path in data.glob(pattern) if path.is_file()):
        return paths
    raise CorpusError(f"no recording matches {pattern!r} in {data}; expected files of sound")


# --- rooms -------------------------------------------------------------------------------------

RESPONSE_FRAMES = FRAMES_PER_SECOND
"""Longest response; what comes later is lost under what is said next."""

EARLY_FRAMES = 5
"""50 ms, in which reflections help to understand (clarity, C50); later ones blur."""


def _room_responses(
    recordings: list[Path], rejections: Rejections
) -> tuple[NDArray[np.float64], ...]:
    responses = []
    for recording in recordings:
        try:
            responses.append(room_response(recording))
        except AudioError as error:
            rejections.add(UNDECODABLE, str(error))
    return tuple(responses)


def room_response(recording: Path) -> NDArray[np.float64]:
    """Return the power `(K, 80)` that arrives k frames after the direct sound, from an impulse.

    It sums to 1 on average over the bands: a room changes the colour of speech, not its level. In
    an echo chamber, where nobody would be understood, the late sound is made as loud as the early.

    Raises AudioError for what can't be read, and for silence.
    """
    samples = np.concatenate(list(resample_blocks(read_blocks(recording))))
    direct = int(np.abs(samples).argmax())
    if not samples[direct]:
        raise AudioError(f"{recording}: silence; expected what a room makes of an impulse")
    # In the middle of a frame: between two it would be in both, which is an echo after 10 ms.
    before = (FRAME_SHIFT // 2 - direct) % FRAME_SHIFT
    # As loud as can be: else the floor of the features is reverberation that never ends.
    loud = samples / np.abs(samples[direct])
    frames = compute_features(np.concatenate([np.zeros(before, np.float32), loud]))
    first = (before + direct) // FRAME_SHIFT
    response = np.exp(frames[first : first + RESPONSE_FRAMES].astype(np.float64))
    response /= _impulse_power()
    early, late = response[:EARLY_FRAMES].sum(), response[EARLY_FRAMES:].sum()
    response[EARLY_FRAMES:] *= min(1.0, early / max(late, 1e-30))
    return response / response.sum(axis=0).mean()


@cache
def _impulse_power() -> NDArray[np.float64]:
    """What an impulse gives in each band `(80,)`: an ideal room's response, and white noise's."""
    impulse = np.zeros(9 * FRAME_SHIFT, np.float32)
    impulse[len(impulse) // 2] = 1
    return np.exp(compute_features(impulse)[4].astype(np.float64))


def simulated_room(generator: np.random.Generator) -> NDArray[np.float64]:
    """Return the response `(K, 80)` of a room whose sound decays evenly, the high bands faster."""
    reverberation_s = math.exp(generator.uniform(math.log(0.15), math.log(0.9)))  # until -60 dB
    reflected = 10 ** (-generator.uniform(-2, 12) / 10)  # of the direct sound
    bins = np.linspace(0, 1, FeatureConfig().num_mel_bins)
    seconds = np.arange(1, RESPONSE_FRAMES)[:, None] / FRAMES_PER_SECOND
    tail = np.exp(-math.log(1e6) * seconds / (reverberation_s * (1.2 - 0.5 * bins)))
    response = np.concatenate([np.ones((1, len(bins))), reflected * tail / tail.sum(axis=0)])
    return response / response.sum(axis=0)


def reverberate(frames: Frames, response: NDArray[np.float64]) -> Frames:
    """Return the frames `(T, 80)` as heard in a room of that response."""
    power = np.exp(frames.astype(np.float64))
    size = len(frames) + len(response)
    spectrum = np.fft.rfft(power, size, axis=0) * np.fft.rfft(response, size, axis=0)
    heard = np.fft.irfft(spectrum, size, axis=0)[: len(frames)]
    return np.log(np.maximum(heard, math.exp(SILENCE_LOG))).astype(np.float32)


# --- noise -------------------------------------------------------------------------------------


def add_noise(frames: Frames, noise: Frames, snr_db: float) -> Frames:
    """Return speech and a noise of level 0, both `(T, 80)`, together at a ratio of mean powers."""
    return np.logaddexp(frames, noise_beside(frames, noise, snr_db))


def enclose(frames: Frames, noise: Frames, before: int, snr_db: float) -> Frames:
    """Return speech `(T, 80)` between two parts of a noise `(N, 80)` of level 0: `(T + N, 80)`.

    It teaches that most sounds are no words. before: how much of the noise is heard first.
    """
    alone = noise_beside(frames, noise, snr_db)
    return np.concatenate([alone[:before], frames, alone[before:]])


def noise_beside(frames: Frames, noise: Frames, snr_db: float) -> Frames:
    """Return a noise of level 0, alone, as loud as that ratio to the speech makes it."""
    return np.maximum(noise + np.float32(level(frames) - snr_db * DB_TO_LOG), SILENCE_LOG)


def level(frames: Frames) -> float:
    """Return the logarithm of the mean power of a frame, as of the sound before pre-emphasis.

    So a ratio of levels is the signal-to-noise ratio that one of waves is. The bands add up to all
    of the power: each frequency has weights that sum to 1.
    """
    power = np.exp(frames.astype(np.float64)).mean(axis=0)
    return float(np.log((power / _emphasis()).sum()))


@cache
def _emphasis() -> NDArray[np.float64]:
    """By what pre-emphasis multiplies the power in each band `(80,)`."""
    config = FeatureConfig()
    turn = 2 * np.pi * mel_centres_hz() / config.sample_rate
    emphasis: NDArray[np.float64] = np.abs(1 - config.preemphasis * np.exp(-1j * turn)) ** 2
    return emphasis


def add_noise_floor(frames: Frames, snr_db: float, generator: np.random.Generator) -> Frames:
    """Add stationary noise of a random smooth colour, `snr_db` below the loud frames."""
    loud = np.quantile(frames[:, ::4], 0.9)
    bins = np.linspace(0, 1, frames.shape[1])
    slope, curve = generator.normal(0, 1.5, 2)
    colour = slope * (bins - 0.5) + curve * np.cos(2 * np.pi * bins)
    # Log power of a noise scatters about its mean from frame to frame.
    scatter = generator.normal(0, 0.4, frames.shape)
    floor = loud - snr_db * DB_TO_LOG + colour + scatter
    return np.logaddexp(frames, floor.astype(np.float32))


# --- channels ----------------------------------------------------------------------------------


def narrow(frames: Frames, generator: np.random.Generator) -> Frames:
    """Pass the frames `(T, 80)` through a narrow channel: a telephone, a codec, a cheap microphone.

    Bands outside it fall to a floor; companding, as of a telephone, adds noise that follows the
    level of the speech (of mu-law in 8 bits 30 to 40 dB below it, in the middle bands).
    """
    low_hz, high_hz = generator.uniform(50, 350), np.exp(generator.uniform(*np.log([3200, 7000])))
    centres = mel_centres_hz()
    outside = np.maximum(np.log2(low_hz / centres), np.log2(centres / high_hz)).clip(min=0)
    slope_db = generator.uniform(60, 300)  # an octave
    floor = generator.uniform(SILENCE_LOG, -9)
    if generator.random() < 0.5:
        loudness = np.log(np.exp(frames.astype(np.float64)).mean(axis=1, keepdims=True))
        # Rounding errors are white, so the bands, which are wider and emphasised the higher they
        # are, hear more and more of them.
        white = np.log(_impulse_power())
        noise = loudness + white - white.mean() - generator.uniform(25, 40) * DB_TO_LOG
        frames = np.logaddexp(frames, noise)
    passed = frames - slope_db * DB_TO_LOG * outside
    return np.where(outside > 0, np.logaddexp(passed, floor), frames).astype(np.float32)


@cache
def mel_centres_hz() -> NDArray[np.float64]:
    """Return the centre of each mel band, `(80,)`."""
    config = FeatureConfig()
    low, high = config.low_hz, config.sample_rate / 2 + config.high_hz
    return hertz(np.linspace(mel(low), mel(high), config.num_mel_bins + 2))[1:-1]


def mel(hertz: float | NDArray) -> NDArray:
    """Return frequencies in mel."""
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def hertz(mel: NDArray) -> NDArray:
    """Return frequencies in Hz."""
    return 700 * np.expm1(mel / 1127)
