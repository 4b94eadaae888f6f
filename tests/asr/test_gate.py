"""The gate skips long silence only, and never the sound that ends it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.bundle import StreamingConfig
from asr.decoding.gate import SilenceGate
from asr.features import compute_features

STREAMING = StreamingConfig()
HOLD, LOOKBACK = 96, 16
RNG = np.random.default_rng(5)
NEVER = 10_000  # blank frames: the search has found nothing for long


def features(seconds: float, level: float) -> np.ndarray:
    """Return the features of white noise of an amplitude, without those at its ends."""
    samples = level * RNG.standard_normal(int(16_000 * seconds) + 320)
    return compute_features(samples.astype(np.float32))[1:-1]


def heard(*parts: np.ndarray) -> SilenceGate:
    gate = SilenceGate(STREAMING, LOOKBACK)
    for part in parts:
        gate.accept(part)
    return gate


@pytest.mark.parametrize("level", [0.0, 1e-4, 1e-2])
def test_it_closes_after_the_hold_and_keeps_the_look_back(level: float) -> None:
    gate = heard(features(10.0, level))
    gate.pass_on(HOLD - 1)
    assert (gate.is_closed(NEVER), gate.skippable(NEVER, ended=False)) == (False, 0)
    gate.pass_on(1)
    assert gate.is_closed(NEVER)
    assert gate.skippable(NEVER, ended=False) == 250 - HOLD - LOOKBACK
    assert gate.skippable(NEVER, ended=True) == 250 - HOLD


def test_it_stays_open_while_the_search_finds_tokens() -> None:
    gate = heard(features(10.0, 0.0))
    gate.pass_on(200)
    assert not gate.is_closed(HOLD - 1)
    assert gate.skippable(HOLD - 1, ended=True) == 0
    assert gate.is_closed(HOLD)


@pytest.mark.parametrize("noise", [0.0, 1e-3])
@pytest.mark.parametrize("band_hz", [(100, 400), (1000, 1500), (5000, 7000)])
def test_a_sound_in_any_band_opens_it_before_its_onset(
    noise: float, band_hz: tuple[int, int]
) -> None:
    """A hum, a vowel's formant, an "s": 20 dB above the noise in a part of the spectrum."""
    spectrum = np.fft.rfft(RNG.standard_normal(16_000))
    hz = np.fft.rfftfreq(16_000, 1 / 16_000)
    sound = np.fft.irfft(np.where((hz > band_hz[0]) & (hz < band_hz[1]), spectrum, 0))
    samples = np.concatenate([np.zeros(160_000), 0.05 * sound])
    samples += noise * RNG.standard_normal(len(samples))
    gate = heard(compute_features(samples.astype(np.float32)))
    gate.pass_on(HOLD)
    onset = 250 - HOLD
    assert not gate.is_closed(NEVER)
    assert onset - LOOKBACK - 1 <= gate.skippable(NEVER, ended=False) <= onset - LOOKBACK + 1


def test_steady_noise_does_not_open_it() -> None:
    assert not any(heard(features(120.0, 3e-3))._loud)


def test_noise_that_sets_in_is_learnt_and_speech_is_not() -> None:
    gate = heard(features(5.0, 1e-3), features(15.0, 1e-2))
    gate.pass_on(25 * 10)
    assert not gate.is_closed(NEVER)
    gate.pass_on(25 * 7)
    assert gate.is_closed(NEVER), "20 dB more are learnt in 10 s at most"

    modulated = features(60.0, 1e-3)
    syllables = (np.arange(len(modulated)) // 12) % 2 == 1  # four a second
    modulated[syllables] += 4.0
    gate = heard(modulated)
    gate.pass_on(25 * 50)
    assert gate._loud.count(True) > 100, "speech became its own floor"


@settings(max_examples=20, deadline=None)
@given(cuts=st.lists(st.integers(0, 800), max_size=10))
def test_blocks_do_not_matter(cuts: list[int]) -> None:
    whole = np.concatenate([features(5.0, 1e-3), features(2.0, 0.1), features(1.0, 1e-3)])
    gate = heard(*np.split(whole, sorted(cuts)))
    assert gate._loud == heard(whole)._loud
