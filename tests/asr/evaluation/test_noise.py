"""Noise at a stated ratio, the same in each run, and only noise that was never trained on."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Utterance
from asr.evaluation.noise import NoisyReader, is_held_out, mix

RATE = 16_000


def tone(hertz: float, seconds: float = 1.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(round(seconds * rate)) / rate
    return (0.2 * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def utterance(folder: Path, name: str = "a", rate: int = RATE) -> Utterance:
    soundfile.write(folder / f"{name}.wav", tone(400, rate=rate), rate)
    return Utterance(name, folder / f"{name}.wav", "word", 1.0, None, None)


@pytest.fixture
def noises(tmp_path: Path) -> Path:
    folder = tmp_path / "noises"
    folder.mkdir()
    for number in range(40):
        soundfile.write(folder / f"{number}.wav", tone(1000 + 50 * number, 0.3), RATE)
    return folder


@pytest.mark.parametrize("snr_db", [0.0, 20.0, -5.0])
def test_the_ratio_is_that_of_the_powers(snr_db: float) -> None:
    speech, noise = tone(400), tone(3000) * 0.01
    spectrum = np.abs(np.fft.rfft(mix(speech, noise, snr_db))) ** 2
    assert 10 * np.log10(spectrum[400] / spectrum[3000]) == pytest.approx(snr_db, abs=0.01)


def test_a_mixture_stays_within_full_scale() -> None:
    mixed = mix(tone(400) * 4.5, tone(3000), -10)
    assert np.abs(mixed).max() == pytest.approx(1)


def test_silence_and_noise_give_numbers() -> None:
    assert not mix(np.zeros(100, np.float32), tone(400)[:100], 0).any()
    assert np.isfinite(mix(tone(400)[:100], np.zeros(100, np.float32), 0)).all()


def test_only_held_out_noises_are_heard(noises: Path) -> None:
    names = {path.name for path in noises.iterdir()}
    reader = NoisyReader.of_folder(noises, 10)
    assert {path.name for path in reader.noises} == {n for n in names if is_held_out(Path(n))}
    assert 2 <= len(reader.noises) <= 20


def test_clips_of_one_recording_stay_together() -> None:
    """Else a noise would be trained on by one clip, and tested on by its sibling."""
    for number in range(50):
        clips = [f"folder/rain-{number}-{clip}.opus" for clip in "ABC"]
        copies = [f"other/rain-{number}-A.wav", f"rain-{number}.flac"]
        assert len({is_held_out(Path(name)) for name in clips + copies}) == 1


def test_an_utterance_hears_the_same_noise_in_each_run(noises: Path, tmp_path: Path) -> None:
    reader = NoisyReader.of_folder(noises, 0)
    heard = {}
    for name in "abcdefgh":
        [(first, rate)] = reader(utterance(tmp_path, name))
        [(second, _)] = NoisyReader.of_folder(noises, 0)(utterance(tmp_path, name))
        assert rate == RATE
        np.testing.assert_array_equal(first, second)
        heard[name] = first.tobytes()
    assert len(set(heard.values())) > 3


def test_any_sample_rate_is_mixed_at_16_khz(noises: Path, tmp_path: Path) -> None:
    [(samples, rate)] = NoisyReader.of_folder(noises, 10)(utterance(tmp_path, rate=44_100))
    assert rate == RATE
    assert len(samples) == pytest.approx(RATE, abs=10)


def test_a_folder_without_held_out_noises_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(AsrError, match="of 0 recordings none is held out"):
        NoisyReader.of_folder(tmp_path, 10)


def test_a_ratio_without_noise_is_an_error() -> None:
    assert NoisyReader.of_options(None, None) is None
    with pytest.raises(AsrError, match="Give --noise FOLDER"):
        NoisyReader.of_options(None, 5)
