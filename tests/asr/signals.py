"""Test signals, 16 kHz unless said."""

import numpy as np


def noise(seconds: float, rate: int = 16_000) -> np.ndarray:
    """Return noise `(n,)` f32 whose level rises and falls four times a second."""
    n = round(seconds * rate)
    level = 0.1 * (1 + np.sin(2 * np.pi * 4 * np.arange(n) / rate))
    return (level * np.random.default_rng(7).standard_normal(n)).clip(-1, 1).astype(np.float32)


def bursts(lengths: list[int], gap: int, lead: int = 0, trail: int = 0) -> np.ndarray:
    """Return bursts of noise of the given lengths in samples, `gap` samples of silence between
    them, `lead` before and `trail` after."""
    rng = np.random.default_rng(11)
    parts = [np.zeros(lead)]
    for number, length in enumerate(lengths):
        parts += [np.zeros(gap if number else 0), 0.3 * rng.standard_normal(length)]
    parts.append(np.zeros(trail))
    return np.concatenate(parts).clip(-1, 1).astype(np.float32)
