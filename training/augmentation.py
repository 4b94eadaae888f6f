"""Many voices, rooms and noises out of few recordings, by warps and masks of log-mel features.

Everything works on frames `(T, 80)` as the filter bank gives them, so cached features can be
augmented anew in each epoch for a few microseconds a frame.
"""

from functools import cache

import numpy as np

from training.acoustics import (
    DB_TO_LOG,
    Acoustics,
    Frames,
    add_noise,
    add_noise_floor,
    enclose,
    mel,
    mel_centres_hz,
    narrow,
    reverberate,
)
from training.recipe import AugmentationConfig

WARP_STEPS = 200
"""Warp factors are rounded to 1/200, so that few matrices are ever made."""

QUIET_MARGIN = 2.0
"""Log power above the quietest tenth of the frames that still counts as a pause."""

ENCLOSING_FRAMES = 150
"""Longest noise alone before speech, and after it."""

SHORTEST_PAUSE = 20
"""Frames; a plosive is shorter."""


def augment(
    frames: Frames,
    rate: float,
    config: AugmentationConfig,
    mean: Frames,
    acoustics: Acoustics,
    timing: np.random.Generator,
    sound: np.random.Generator,
    shortest: int = 0,
) -> Frames:
    """Return the augmented frames `(T', 80)`: as said by another voice, in another place.

    rate: by which time is compressed.
    mean: `(80,)` what a masked bin is set to: nothing known, once features are normalised.
    timing: draws what moves, cuts or adds frames; views of an utterance, compared frame by frame,
    share it.
    sound: draws all else.
    shortest: frames that pauses are not cut below. Of a recording that is all silence, whatever its
    text says, less would be left than its tokens need.
    """
    frames = stretch(frames, rate)
    if timing.random() < config.silence_cut_probability:
        cut = cut_silence(frames, timing)
        frames = cut if len(cut) >= shortest else frames
    frames = mel_warp(frames, float(sound.uniform(*config.mel_warp)))
    if sound.random() < config.room_probability:
        frames = reverberate(frames, acoustics.draw_room(sound))
    if acoustics.noises and sound.random() < config.recorded_noise_probability:
        noise = acoustics.draw_noise(len(frames), sound)
        frames = add_noise(frames, noise, float(sound.uniform(*config.recorded_noise_snr_db)))
    if acoustics.noises and timing.random() < config.enclosing_noise_probability:
        parts = timing.integers(0, ENCLOSING_FRAMES + 1, 2)
        noise = acoustics.draw_noise(int(parts.sum()), sound)
        snr_db = float(sound.uniform(*config.enclosing_noise_snr_db))
        frames = enclose(frames, noise, int(parts[0]), snr_db)
    if sound.random() < config.noise_probability:
        frames = add_noise_floor(frames, float(sound.uniform(*config.noise_snr_db)), sound)
    if sound.random() < config.narrow_probability:
        frames = narrow(frames, sound)
    frames += np.float32(sound.uniform(*config.gain_db) * DB_TO_LOG)
    mask(frames, config, mean, sound)
    return frames


def stretch(frames: Frames, rate: float) -> Frames:
    """Change the speaking rate, not the voice: `(T, F)` -> `(round(T / rate), F)`."""
    count = max(1, round(len(frames) / rate))
    position = np.linspace(0, len(frames) - 1, count, dtype=np.float32)
    before = position.astype(np.int64)
    after = np.minimum(before + 1, len(frames) - 1)
    share = (position - before).astype(np.float32)[:, None]
    return frames[before] * (1 - share) + frames[after] * share


def mel_warp(frames: Frames, factor: float) -> Frames:
    """Multiply all frequencies by `factor`, as a shorter vocal tract would (VTLP, Jaitly 2013)."""
    return frames @ _warp_matrix(round(factor * WARP_STEPS))


@cache
def _warp_matrix(steps: int) -> Frames:
    """`(F, F)`: each warped bin as a mixture of the two bins it comes from."""
    centres = mel(mel_centres_hz())
    source = mel(mel_centres_hz() / (steps / WARP_STEPS))
    position = np.clip((source - centres[0]) / (centres[1] - centres[0]), 0, len(centres) - 1)
    before = np.minimum(position.astype(int), len(centres) - 2)
    share = position - before
    matrix = np.zeros((len(centres), len(centres)), np.float32)
    columns = np.arange(len(centres))
    matrix[before, columns] = 1 - share
    matrix[before + 1, columns] += share
    return matrix


def cut_silence(frames: Frames, generator: np.random.Generator) -> Frames:
    """Shorten pauses, which readers make long and speakers don't, to a random rest of them."""
    level = frames.mean(axis=1)
    quiet = level < np.quantile(level, 0.1) + QUIET_MARGIN
    keep = np.ones(len(frames), bool)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], quiet, [False]]).astype(np.int8)))
    for start, end in edges.reshape(-1, 2):
        if end - start > SHORTEST_PAUSE:
            rest = int(generator.integers(SHORTEST_PAUSE, end - start + 1))
            keep[start + SHORTEST_PAUSE // 2 : end - (rest - SHORTEST_PAUSE // 2)] = False
    return frames[keep]


def mask(
    frames: Frames, config: AugmentationConfig, mean: Frames, generator: np.random.Generator
) -> None:
    """Hide random bands of time and frequency, in place (SpecAugment, arXiv 1904.08779)."""
    total, bins = frames.shape
    for _ in range(config.frequency_masks):
        width = int(generator.integers(0, config.frequency_mask_bins + 1))
        start = int(generator.integers(0, bins - width + 1))
        frames[:, start : start + width] = mean[start : start + width]
    count = generator.poisson(config.time_masks_per_10s * total / 1000)
    for _ in range(count):
        width = int(generator.integers(0, config.time_mask_frames + 1))
        start = int(generator.integers(0, max(1, total - width)))
        frames[start : start + width] = mean
