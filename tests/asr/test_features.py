"""The filter bank must not depend on how the samples arrive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.features import FRAME_SHIFT, FilterBank, compute_features


def noise(count: int) -> np.ndarray:
    return np.random.default_rng(count).normal(0, 0.1, count).astype(np.float32)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 3000), min_size=1, max_size=12))
def test_any_split_of_the_samples_gives_the_same_frames(sizes: list[int]) -> None:
    samples = noise(sum(sizes) + 400)
    bank = FilterBank()
    frames = []
    for block in np.split(samples, np.cumsum(sizes)):
        bank.accept(block)
        frames.append(bank.pop())
    bank.finish()
    frames.append(bank.pop())
    np.testing.assert_array_equal(np.concatenate(frames), compute_features(samples))


@pytest.mark.parametrize("count", [400, 401, 479, 480, 16_000, 16_079, 16_080])
def test_frames_are_centred(count: int) -> None:
    assert len(compute_features(noise(count))) == (count + FRAME_SHIFT // 2) // FRAME_SHIFT


def test_a_frame_comes_out_as_soon_as_its_window_is_full() -> None:
    # Frame t is centred at 160 t + 80 and 400 samples wide.
    bank = FilterBank()
    bank.accept(noise(160 * 10 + 80 + 200 - 1))
    assert len(bank.pop()) == 10
    bank.accept(noise(1))
    assert len(bank.pop()) == 1


def test_a_tone_lights_up_the_bin_of_its_frequency() -> None:
    time = np.arange(16_000) / 16_000
    low, high = (
        compute_features((0.1 * np.sin(2 * np.pi * hertz * time)).astype(np.float32))
        for hertz in (300, 3000)
    )
    # 300 and 3000 Hz on a mel scale of 80 bins from 20 to 7600 Hz.
    assert abs(int(low[50].argmax()) - 10) <= 1
    assert abs(int(high[50].argmax()) - 52) <= 1


def test_digital_silence_is_finite() -> None:
    assert np.isfinite(compute_features(np.zeros(16_000, np.float32))).all()
