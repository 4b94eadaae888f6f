"""What is done to log-mel power must be what happens to sound: compared with waves where it can."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.errors import CorpusError
from asr.evaluation.noise import is_held_out, mix
from asr.features import SAMPLE_RATE, compute_features
from tests.training.conftest import speak
from training.acoustics import (
    SILENCE_LOG,
    Acoustics,
    add_noise,
    add_noise_floor,
    enclose,
    level,
    mel_centres_hz,
    narrow,
    reverberate,
    room_response,
    simulated_room,
)
from training.corpus import Rejections
from training.feature_cache import FeatureCache


def speech() -> np.ndarray:
    return speak("red blue white", 0)


def white(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.05, count).astype(np.float32)


def room(seconds: float = 0.4) -> np.ndarray:
    """An impulse response: the direct sound, then noise that decays by 60 dB in `seconds`."""
    time = np.arange(SAMPLE_RATE) / SAMPLE_RATE
    response = white(len(time), 1) * np.exp(-6.9 * time / seconds)
    response[:200] = 0
    response[0] = 1
    return response.astype(np.float32)


def correlation(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


# --- noise


@pytest.mark.parametrize("colour", ["white", "low"])
@pytest.mark.parametrize("snr_db", [0.0, 10.0])
def test_noise_on_features_is_noise_on_the_wave(snr_db: float, colour: str) -> None:
    """At the same ratio as evaluation adds it, whatever its colour."""
    clean, noise = speech(), white(len(speech()))
    if colour == "low":  # what pre-emphasis all but removes
        noise = np.convolve(noise, np.ones(40) / 40, "same").astype(np.float32)
    wave = compute_features(mix(clean, noise, snr_db))
    heard = compute_features(noise)
    added = add_noise(compute_features(clean), heard - np.float32(level(heard)), snr_db)
    assert abs(np.mean(wave - added)) < 0.3  # 1.3 dB
    assert correlation(wave, added) > 0.97


def test_a_silence_between_two_noises_stays_one() -> None:
    """Else a short utterance that meets it would drown in amplified nothing."""
    barks = np.full((200, 80), SILENCE_LOG, np.float32)
    barks[:50] = 2.0
    clean = np.zeros((10, 80), np.float32)
    noisy = [
        add_noise(clean, Acoustics(("dog",), {"dog": barks}).draw_noise(10, generator), 0.0)
        for generator in map(np.random.default_rng, range(30))
    ]
    louder = [float(np.mean(each - clean)) for each in noisy]
    assert min(louder) < 0.01
    assert max(louder) == pytest.approx(np.log(5), abs=0.01)  # a quarter of the time, 4 times


def test_a_noise_floor_fills_the_silence_at_the_asked_level() -> None:
    clean = compute_features(speech())
    noisy = add_noise_floor(clean, 20.0, np.random.default_rng(0))
    assert (noisy >= clean - 1e-5).all()
    quiet = clean.mean(axis=1) < np.quantile(clean.mean(axis=1), 0.2)
    loud = np.quantile(clean[:, ::4], 0.9)
    level_db = (noisy[quiet].mean() - loud) * 10 / np.log(10)
    assert -32 < level_db < -8


def test_speech_between_noises_is_left_alone() -> None:
    clean = compute_features(speech())
    noise = np.zeros((60, 80), np.float32)
    noise -= np.float32(level(noise))
    enclosed = enclose(clean, noise, 20, 10.0)
    np.testing.assert_array_equal(enclosed[20:-40], clean)
    assert len(enclosed) == len(clean) + 60
    alone = np.concatenate([enclosed[:20], enclosed[-40:]])
    assert level(clean) - level(alone) == pytest.approx(np.log(10), abs=1e-3)


def test_a_short_noise_is_repeated_from_a_random_place_on() -> None:
    noise = np.arange(7, dtype=np.float32)[:, None] * np.ones((1, 80), np.float32)
    drawn = [
        Acoustics(("n",), {"n": noise}).draw_noise(20, np.random.default_rng(seed))[:, 0]
        for seed in range(10)
    ]
    assert len({each[0] for each in drawn}) > 2
    for each in drawn:
        np.testing.assert_allclose(np.diff(each) % 7, np.ones(19), atol=1e-5)


# --- rooms


def test_a_room_on_features_is_the_room_on_the_wave(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "room.wav", room(), SAMPLE_RATE, subtype="FLOAT")
    clean = speech()
    wave = compute_features(np.convolve(clean, room())[: len(clean)].astype(np.float32))
    features = reverberate(compute_features(clean), room_response(tmp_path / "room.wav"))
    dry = compute_features(clean)
    wave, features, dry = (each - each.mean() for each in (wave, features, dry))
    assert correlation(wave, features) > 0.95
    # What remains is how reflections interfere in the narrow low bands.
    assert np.abs(wave - features).mean() < 0.6 * np.abs(wave - dry).mean()


def test_a_room_begins_with_its_direct_sound_however_late_it_comes(tmp_path: Path) -> None:
    late = np.concatenate([np.zeros(3000, np.float32), room()])
    soundfile.write(tmp_path / "late.wav", late, SAMPLE_RATE, subtype="FLOAT")
    response = room_response(tmp_path / "late.wav")
    assert response.sum(axis=1).argmax() == 0
    assert response.sum(axis=0).mean() == pytest.approx(1)


@pytest.mark.parametrize("place", [0, 80, 3000, 3039, 3199])
def test_without_reflections_a_room_changes_nothing(place: int, tmp_path: Path) -> None:
    """Wherever in the grid of frames the direct sound comes: else it would be heard twice."""
    impulse = np.zeros(SAMPLE_RATE // 2, np.float32)
    impulse[place] = 0.5
    soundfile.write(tmp_path / "none.wav", impulse, SAMPLE_RATE, subtype="FLOAT")
    clean = compute_features(speech())
    heard = reverberate(clean, room_response(tmp_path / "none.wav"))
    loud = clean > np.quantile(clean, 0.3)
    assert np.abs(heard - clean)[loud].mean() < 0.1


def test_a_quiet_recording_of_a_room_is_that_room(tmp_path: Path) -> None:
    """The floor of the features is no reverberation."""
    for name, gain in {"loud": 1.0, "quiet": 0.002}.items():
        soundfile.write(tmp_path / f"{name}.wav", gain * room(), SAMPLE_RATE, subtype="FLOAT")
    loud, quiet = (room_response(tmp_path / f"{name}.wav") for name in ("loud", "quiet"))
    np.testing.assert_allclose(quiet, loud, rtol=1e-3, atol=1e-6)


def test_an_echo_chamber_is_made_bearable(tmp_path: Path) -> None:
    echoes = np.tile(room(0.9), 2)[: 2 * SAMPLE_RATE] + white(2 * SAMPLE_RATE)
    echoes[0] = 1
    soundfile.write(tmp_path / "cave.wav", echoes / 2, SAMPLE_RATE, subtype="FLOAT")
    response = room_response(tmp_path / "cave.wav")
    assert response[:5].sum() == pytest.approx(response[5:].sum())


def test_simulated_rooms_keep_the_level_and_never_hear_the_future() -> None:
    click = np.full((200, 80), SILENCE_LOG, np.float32)
    click[50] = 0
    for seed in range(20):
        response = simulated_room(np.random.default_rng(seed))
        heard = reverberate(click, response)
        assert (heard[:50] < -10).all()
        assert (heard[51] > heard[90]).all()
        np.testing.assert_allclose(np.exp(heard[50:]).sum(axis=0), 1, atol=0.01)


# --- channels


def test_a_narrow_channel_takes_the_high_bands_and_leaves_the_middle() -> None:
    frames = compute_features(speech())
    middle = (mel_centres_hz() > 400) & (mel_centres_hz() < 3000)
    for seed in range(20):
        heard = narrow(frames, np.random.default_rng(seed))
        loud = frames[:, middle] > np.quantile(frames[:, middle], 0.9)
        assert np.abs(heard - frames)[:, middle][loud].mean() < 0.15
        assert heard[:, -1].max() < frames[:, -1].max()
        assert (heard >= SILENCE_LOG - 1e-3).all()


def test_companding_adds_the_noise_that_mu_law_adds() -> None:
    """Measured on a wave: white, so in the bands of the filter bank more the higher they are."""
    clean = speech()
    compressed = np.sign(clean) * np.log1p(255 * np.abs(clean)) / np.log(256)
    rounded = np.round(compressed * 127) / 127
    decoded = np.sign(rounded) * np.expm1(np.abs(rounded) * np.log(256)) / 255
    error = compute_features((decoded - clean).astype(np.float32))
    frames = compute_features(clean)
    loudness = np.log(np.exp(frames.astype(np.float64)).mean(axis=1))
    loud = loudness > np.quantile(loudness, 0.6)
    measured = (error[loud] - loudness[loud, None]).mean(axis=0)
    # One band sounds in each frame, and what is in the others is noise.
    tone = np.full((80, 80), SILENCE_LOG, np.float32)
    np.fill_diagonal(tone, 10.0)
    colours = []
    inside = np.flatnonzero((mel_centres_hz() > 400) & (mel_centres_hz() < 3000))
    for seed in range(20):
        heard = narrow(tone, np.random.default_rng(seed))[0]
        if heard[inside].min() > SILENCE_LOG + 1:  # else it was a channel without companding
            colours.append(heard[inside] - np.log(np.exp(tone[0]).mean()))
    assert 5 <= len(colours) <= 15
    for colour in colours:
        assert np.std(colour - measured[inside]) < 0.3  # 1.3 dB


# --- files


def test_held_out_noises_are_never_trained_on(tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    names = [f"noise-{number}.wav" for number in range(30)]
    for name in names:
        soundfile.write(tmp_path / "noise" / name, white(1600), SAMPLE_RATE)
    cache = FeatureCache(tmp_path / "cache")
    acoustics = Acoustics.load(tmp_path, "noise/*", None, cache, Rejections(), 1)
    kept = {Path(name).name for name in acoustics.noises}
    assert kept == {name for name in names if not is_held_out(Path(name))}
    assert 0 < len(kept) < len(names)


def test_a_noise_is_heard_without_the_silence_that_pads_its_features(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "good.wav", white(SAMPLE_RATE // 2), SAMPLE_RATE)
    cache = FeatureCache(tmp_path / "cache")
    acoustics = Acoustics.load(tmp_path, "*.wav", None, cache, Rejections(), 1)
    heard = acoustics.draw_noise(500, np.random.default_rng(0)).mean(axis=1)
    assert heard.max() - heard.min() < 3  # dB would be 13; of digital silence it is more
    assert level(acoustics.draw_noise(500, np.random.default_rng(0))) == pytest.approx(0, abs=0.1)


def test_noises_of_which_none_is_left_to_train_on_are_an_error(tmp_path: Path) -> None:
    """Else a recipe with noise would train without."""
    name = next(f"{number}.wav" for number in range(99) if is_held_out(Path(f"{number}.wav")))
    soundfile.write(tmp_path / name, white(1600), SAMPLE_RATE)
    with pytest.raises(CorpusError, match=r"of 1 recordings that match '\*.wav' .* none"):
        Acoustics.load(tmp_path, "*.wav", None, FeatureCache(tmp_path / "c"), Rejections(), 1)


def test_a_room_that_is_no_sound_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("no sound")
    soundfile.write(tmp_path / "silent.wav", np.zeros(1600), SAMPLE_RATE)
    soundfile.write(tmp_path / "good.wav", room(), SAMPLE_RATE)
    rejections = Rejections()
    cache = FeatureCache(tmp_path / "cache")
    assert len(Acoustics.load(tmp_path, None, "*.*", cache, rejections, 1).rooms) == 1
    named = "".join(sorted(rejections.names["audio that can't be decoded"]))
    assert "README.md" in named
    assert "silent.wav: silence" in named


def test_a_pattern_that_matches_nothing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no recording matches 'noise/\*'"):
        Acoustics.load(tmp_path, "noise/*", None, FeatureCache(tmp_path), Rejections(), 1)


def test_a_noise_that_is_no_sound_is_named_and_left_out(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"no sound")
    soundfile.write(tmp_path / "good.wav", white(1600), SAMPLE_RATE)
    assert not is_held_out(Path("bad.wav"))
    assert not is_held_out(Path("good.wav"))
    rejections = Rejections()
    cache = FeatureCache(tmp_path / "cache")
    assert Acoustics.load(tmp_path, "*.wav", None, cache, rejections, 1).noises == (
        "noise:good.wav",
    )
    assert "bad.wav" in "".join(rejections.lines())
