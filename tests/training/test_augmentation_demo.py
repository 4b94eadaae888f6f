"""The demonstration must show what augmentation does: each kind alone, and audibly."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.features import SAMPLE_RATE, compute_features
from tests.training.conftest import speak
from training.acoustics import Acoustics
from training.augmentation_demo import demonstrate, invert, write_demonstrations
from training.recipe import AugmentationConfig

NOISE = Acoustics(("hum",), {"hum": np.zeros((50, 80), np.float32)})


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "speech.wav", speak("red blue", 0), SAMPLE_RATE)
    return tmp_path / "speech.wav"


def test_an_inversion_has_the_features_that_it_was_made_of() -> None:
    frames = compute_features(speak("red blue", 0))
    again = compute_features(invert(frames))
    count = min(len(frames), len(again))
    loud = frames[:count] > np.quantile(frames, 0.7)
    assert np.abs(again[:count] - frames[:count])[loud].mean() < 1.0


def test_each_kind_changes_the_recording(recording: Path) -> None:
    original, *others = demonstrate(recording, AugmentationConfig(), NOISE, seed=1)
    assert original.name == "original"
    assert {"room", "recorded_noise", "narrow", "masks", "as_trained"} <= {o.name for o in others}
    for other in others:
        if other.name != "silence_cut":  # nothing to cut here
            same = other.frames.shape == original.frames.shape
            assert not (same and np.allclose(other.frames, original.frames, atol=0.05)), other.name


def test_without_recorded_noise_there_is_none_to_show(recording: Path) -> None:
    made = demonstrate(recording, AugmentationConfig(), Acoustics(), seed=1)
    assert "recorded_noise" not in {each.name for each in made}


def test_files_and_picture_are_written(recording: Path, tmp_path: Path) -> None:
    made = demonstrate(recording, AugmentationConfig(), Acoustics(), seed=1)[:2]
    picture = write_demonstrations(made, tmp_path / "out")
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *(f"{each.name}.wav" for each in made),
        "spectrograms.png",
    }
    samples, rate = soundfile.read(tmp_path / "out" / "original.wav")
    assert rate == SAMPLE_RATE
    assert 0.05 < np.abs(samples).max() <= 1
