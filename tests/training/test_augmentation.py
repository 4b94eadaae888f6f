"""Augmentation must do what it says, and the same each time it is asked with the same seed."""

from dataclasses import replace

import numpy as np
import pytest

from asr.features import compute_features
from tests.training.conftest import speak
from training.acoustics import Acoustics
from training.augmentation import SHORTEST_PAUSE, augment, cut_silence, mask, mel_warp, stretch
from training.recipe import AugmentationConfig

MEAN = np.zeros(80, np.float32)
NOTHING = AugmentationConfig.none()
NOISE = Acoustics(("hum",), {"hum": np.zeros((50, 80), np.float32)})


def frames() -> np.ndarray:
    return compute_features(speak("red blue white", 0))


def seeded(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """What draws the timing, and what draws the sound."""
    return np.random.default_rng([seed, 0]), np.random.default_rng([seed, 1])


def test_the_same_seed_gives_the_same_frames() -> None:
    first, second, other = (
        augment(frames(), 1.1, AugmentationConfig(), MEAN, Acoustics(), *seeded(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, second)
    assert first.shape != other.shape or not np.array_equal(first, other)
    assert first.dtype == np.float32


def test_no_augmentation_leaves_the_frames_alone() -> None:
    same = augment(frames(), 1.0, NOTHING, MEAN, Acoustics(), *seeded(0))
    np.testing.assert_allclose(same, frames(), atol=1e-4)


@pytest.mark.parametrize("rate", [0.8, 1.25])
def test_stretch_changes_time_and_not_frequency(rate: float) -> None:
    stretched = stretch(frames(), rate)
    assert len(stretched) == round(len(frames()) / rate)
    peaks, original = stretched.argmax(axis=1), frames().argmax(axis=1)
    moved = original[np.linspace(0, len(original) - 1, len(stretched)).round().astype(int)]
    assert np.median(np.abs(peaks - moved)) <= 1


def test_mel_warp_moves_a_tone_as_a_change_of_its_frequency_would() -> None:
    time = np.arange(16_000) / 16_000
    tone, higher = (
        compute_features((0.1 * np.sin(2 * np.pi * hertz * time)).astype(np.float32))
        for hertz in (1000, 1200)
    )
    warped = mel_warp(tone, 1.2)
    assert abs(int(warped[50].argmax()) - int(higher[50].argmax())) <= 1
    np.testing.assert_allclose(mel_warp(tone, 1.0), tone, atol=1e-4)


def test_shorter_pauses_leave_the_speech() -> None:
    """Only quiet frames are cut, and never all of a pause: the words must stay apart."""
    speech, silence = frames(), np.full((200, 80), -15.0, np.float32)
    said = np.concatenate([silence, speech, silence])
    shortened = [cut_silence(said, np.random.default_rng(seed)) for seed in range(20)]
    lengths = [len(each) for each in shortened]
    assert min(lengths) >= len(speech) + 2 * SHORTEST_PAUSE - 40
    assert min(lengths) < len(said) - 150
    loud = speech[speech.mean(axis=1) > speech.mean()]
    for each in shortened:
        kept = each[each.mean(axis=1) > speech.mean()]
        np.testing.assert_array_equal(kept, loud)


def test_frame_targets_stay_where_they_are() -> None:
    config = AugmentationConfig(
        silence_cut_probability=1,
        time_masks_per_10s=9,
        enclosing_noise_probability=1,
        noise_alone_probability=1,
    ).for_frame_targets()
    assert config.noise_alone_probability == 0
    silent = np.concatenate([frames(), np.full((200, 80), -15.0, np.float32)])
    same = augment(silent, 1.0, config, MEAN, NOISE, *seeded(0))
    assert len(same) == len(silent)
    assert not (same == MEAN).all(axis=0).any()


def is_changed(augmented: np.ndarray) -> bool:
    same_length = len(augmented) == len(frames())
    return not (same_length and np.allclose(augmented, frames(), atol=1e-3))


def test_surroundings_are_drawn_as_often_as_asked() -> None:
    for name in ("recorded_noise", "enclosing_noise", "room", "narrow"):
        config = replace(NOTHING, **{f"{name}_probability": 0.5})
        changed = sum(
            is_changed(augment(frames(), 1.0, config, MEAN, NOISE, *seeded(seed)))
            for seed in range(40)
        )
        assert 10 <= changed <= 30, name


def test_masks_hide_no_more_than_asked() -> None:
    config = AugmentationConfig(frequency_masks=1, frequency_mask_bins=10, time_masks_per_10s=0)
    original = frames()
    for seed in range(20):
        masked = original.copy()
        mask(masked, config, MEAN, np.random.default_rng(seed))
        hidden = (masked == 0).all(axis=0)
        assert hidden.sum() <= 10
        np.testing.assert_array_equal(masked[:, ~hidden], original[:, ~hidden])
