"""Warps and masks of log-mel features: many voices and rooms out of few recordings.

Everything works on frames `(T, 80)` as the filter bank gives them, so cached features can be
augmented anew in each epoch for a few microseconds a frame.
"""

import math
from functools import cache

import numpy as np
from numpy.typing import NDArray

from asr.features import FeatureConfig
from training.recipe import AugmentationConfig

Frames = NDArray[np.float32]

WARP_STEPS = 200
"""Warp factors are rounded to 1/200, so that few matrices are ever made."""

DB_TO_LOG = math.log(10) / 10
"""Decibels to the natural logarithm of power, the unit of the features."""


def augment(
    frames: Frames,
    rate: float,
    config: AugmentationConfig,
    mean: Frames,
    generator: np.random.Generator,
) -> Frames:
    """Return the augmented frames `(T', 80)`.

    rate: by which time is compressed.
    mean: `(80,)` what a masked bin is set to: nothing known, once features are normalised.
    """
    frames = stretch(frames, rate)
    frames = mel_warp(frames, float(generator.uniform(*config.mel_warp)))
    if generator.random() < config.noise_probability:
        frames = add_noise_floor(frames, float(generator.uniform(*config.noise_snr_db)), generator)
    frames += np.float32(generator.uniform(*config.gain_db) * DB_TO_LOG)
    mask(frames, config, mean, generator)
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
    config = FeatureConfig()
    low, high = config.low_hz, config.sample_rate / 2 + config.high_hz
    edges = np.linspace(_mel(low), _mel(high), config.num_mel_bins + 2)
    centres = edges[1:-1]
    source = _mel(_hertz(centres) / (steps / WARP_STEPS))
    position = np.clip((source - centres[0]) / (centres[1] - centres[0]), 0, len(centres) - 1)
    before = np.minimum(position.astype(int), len(centres) - 2)
    share = position - before
    matrix = np.zeros((len(centres), len(centres)), np.float32)
    columns = np.arange(len(centres))
    matrix[before, columns] = 1 - share
    matrix[before + 1, columns] += share
    return matrix


def _mel(hertz: float | NDArray) -> NDArray:
    return 1127 * np.log1p(np.asarray(hertz) / 700)


def _hertz(mel: NDArray) -> NDArray:
    return 700 * np.expm1(mel / 1127)


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
