"""A stream hears everything exactly once: no word lost at either end, no dependence on blocks."""

from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.bundle import StreamingConfig
from asr.errors import AsrError, AudioError
from asr.features import FeatureConfig, compute_features
from asr.results import Partial, Result
from asr.stream import Stream
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts, noise

CHUNK_SAMPLES = 8 * 4 * 160
TAIL_SAMPLES = 19 * 160
BURST = 1600  # samples, 0.1 s
GAP = 3200

RESIDUES = [*range(0, CHUNK_SAMPLES, 160), 1, 79, 80, 81, 239, 5119]
"""Lengths modulo the chunk: every one in feature frames, and some that are no whole frame."""


def open_stream(engine: BurstEngine | None = None, chunk_frames: int = 8) -> Stream:
    streaming = StreamingConfig(chunk_frames=chunk_frames)
    return Stream(engine or BurstEngine(), LETTERS, FeatureConfig(), streaming)


def recognise(samples: np.ndarray, chunk_frames: int = 8) -> Result:
    stream = open_stream(chunk_frames=chunk_frames)
    stream.accept(samples)
    return stream.finish()


def heard_by(engine: BurstEngine) -> np.ndarray:
    """Return the feature frames `(T, 80)` that an engine was given, the overlaps once."""
    return np.concatenate([window[:-3] for window in engine.windows] + [engine.windows[-1][-3:]])


@pytest.mark.parametrize("chunk_frames", [4, 8, 16])
@pytest.mark.parametrize("residue", RESIDUES)
def test_the_encoder_sees_every_frame_once(residue: int, chunk_frames: int) -> None:
    samples = noise((CHUNK_SAMPLES + residue) / 16_000)
    engine = BurstEngine()
    stream = open_stream(engine, chunk_frames)
    stream.accept(samples)
    stream.finish()

    heard = heard_by(engine)
    padded = compute_features(np.concatenate([samples, np.zeros(TAIL_SAMPLES, np.float32)]))
    np.testing.assert_array_equal(heard, padded[: len(heard)])
    assert len(padded) - len(heard) < 4, "a whole encoder frame was left over"
    assert len(heard) >= len(samples) / 160 + 12, "the last sample lacks its right context"
    # Each window begins with the three frames that its predecessor ended with.
    for earlier, later in pairwise(engine.windows):
        np.testing.assert_array_equal(earlier[-3:], later[:3])
    assert {len(window) for window in engine.windows[:-1]} <= {4 * chunk_frames + 3}


@pytest.mark.parametrize("rate", [8_000, 44_100])
def test_the_resampler_keeps_nothing_back(rate: int) -> None:
    samples = noise(1.0, rate)
    engine = BurstEngine()
    stream = open_stream(engine)
    stream.accept(samples, rate)
    stream.finish()
    at_16k = soxr.resample(samples, rate, 16_000)
    padded = compute_features(np.concatenate([at_16k, np.zeros(TAIL_SAMPLES, np.float32)]))
    heard = heard_by(engine)
    np.testing.assert_array_equal(heard, padded[: len(heard)])
    assert len(padded) - len(heard) < 4


@pytest.mark.parametrize("silence", [0, 8000])
@pytest.mark.parametrize("residue", RESIDUES)
def test_first_and_last_word_are_never_lost(residue: int, silence: int) -> None:
    # Three words; the middle one's length walks the end of the audio through a whole chunk. Without
    # the silence, sound begins with the first sample and lasts to the last.
    samples = bursts([BURST, BURST + residue, BURST], GAP, lead=silence, trail=silence)
    result = recognise(samples)
    assert result.text == "a b c"
    assert result.words[0].start_s == pytest.approx(silence / 16_000, abs=0.08)
    last = (len(samples) - silence - BURST) / 16_000
    assert result.words[2].start_s == pytest.approx(last, abs=0.08)


@pytest.mark.parametrize("length", [400, 800, 1600, CHUNK_SAMPLES - 1])
def test_audio_shorter_than_a_chunk_is_recognised(length: int) -> None:
    assert recognise(bursts([length], 0)).text == "a"


def test_a_single_sample_is_accepted() -> None:
    assert recognise(np.zeros(1, np.float32)).text == ""


@settings(deadline=None, max_examples=25)
@given(cuts=st.lists(st.integers(0, 30_000), max_size=12), rate=st.sampled_from([16_000, 44_100]))
def test_blocks_do_not_matter(cuts: list[int], rate: int) -> None:
    samples = bursts([BURST, 2 * BURST, BURST], GAP, trail=517)
    expected_engine, engine = BurstEngine(), BurstEngine()
    whole, split = open_stream(expected_engine), open_stream(engine)
    whole.accept(samples, rate)
    for block in np.split(samples, sorted(min(cut, len(samples)) for cut in cuts)):
        split.accept(block, rate)
    assert split.finish() == whole.finish()
    np.testing.assert_array_equal(
        np.concatenate(engine.windows), np.concatenate(expected_engine.windows)
    )


@pytest.mark.parametrize("rate", [8_000, 22_050, 44_100, 48_000])
def test_any_rate_gives_the_same_words_at_the_same_times(rate: int) -> None:
    at_16k = bursts([BURST, BURST, BURST], GAP)
    positions = np.arange(len(at_16k) * rate // 16_000) * 16_000 / rate
    resampled = np.interp(positions, np.arange(len(at_16k)), at_16k).astype(np.float32)
    stream = open_stream()
    stream.accept(resampled, rate)
    result = stream.finish()
    assert result.text == "a b c"
    assert result.duration_s == pytest.approx(len(at_16k) / 16_000, abs=1e-4)
    for word, expected in zip(result.words, recognise(at_16k).words, strict=True):
        assert word.start_s == pytest.approx(expected.start_s, abs=0.04)


def test_int16_and_float64_are_the_same_audio() -> None:
    pcm = (bursts([BURST, BURST], GAP) * 32767).astype(np.int16)
    expected = recognise(pcm.astype(np.float32) / 32768)
    assert recognise(pcm) == expected
    assert recognise(pcm / 32768) == expected


def test_partials_only_append_and_report_each_word_once() -> None:
    stream = open_stream()
    samples = bursts([BURST] * 12, GAP)
    events = [event for block in np.array_split(samples, 30) for event in stream.accept(block)]
    result = stream.finish()
    assert len(events) >= 5
    assert all(isinstance(event, Partial) for event in events)
    for earlier, later in pairwise(events):
        assert later.text.startswith(earlier.text)
        assert later.text != earlier.text
        assert later.time_s >= earlier.time_s
    assert result.text.startswith(events[-1].text)
    new_words = [word for event in events for word in event.new_words]
    assert new_words == list(result.words)[: len(new_words)]


def test_a_word_is_reported_within_a_chunk_of_its_sound() -> None:
    # 35 feature frames make a chunk; a frame is known when its 25 ms window has been heard.
    stream = open_stream()
    (event,) = stream.accept(bursts([BURST], 0, trail=CHUNK_SAMPLES))
    assert event.text == "a"
    quick = open_stream()
    assert quick.accept(bursts([35 * 160 + 200], 0)) != []


def test_bad_blocks_are_refused_whole_and_the_stream_goes_on() -> None:
    samples = bursts([BURST, BURST], GAP)
    stream = open_stream()
    stream.accept(samples[:2000])
    poisoned = samples[:1000].copy()
    poisoned[123] = np.nan
    with pytest.raises(AudioError, match=r"sample 123 .* NaN or Inf"):
        stream.accept(poisoned)
    with pytest.raises(AudioError, match=r"shape \(1000, 2\)"):
        stream.accept(np.zeros((1000, 2)))
    with pytest.raises(AudioError, match="int32"):
        stream.accept(np.zeros(1000, np.int32))
    with pytest.raises(AudioError, match="divide by 32768"):
        stream.accept(samples[:1000] * 32768)
    with pytest.raises(AudioError, match="8000 Hz in a stream that began at 16000"):
        stream.accept(samples[:1000], 8000)
    stream.accept(samples[2000:])
    assert stream.finish() == recognise(samples)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_not_finite_is_refused(value: float) -> None:
    with pytest.raises(AudioError, match=r"sample 2 .* NaN or Inf"):
        open_stream().accept([0.0, 0.1, value, 0.1])


def test_an_impossible_rate_is_refused() -> None:
    with pytest.raises(AudioError, match="0 Hz; expected"):
        open_stream().accept(np.zeros(10), 0)


def test_a_finished_stream_says_so() -> None:
    stream = open_stream()
    stream.finish()
    with pytest.raises(AsrError, match=r"finished; open another with recognizer\.stream"):
        stream.finish()
    with pytest.raises(AsrError, match="finished"):
        stream.accept(np.zeros(10))


def test_no_audio_is_an_empty_result() -> None:
    stream = open_stream()
    assert stream.accept([]) == []
    assert stream.rtf == 0.0
    result = stream.finish()
    assert (result.text, result.duration_s) == ("", 0.0)


def test_accounting() -> None:
    stream = open_stream()
    stream.accept(np.zeros(8000), 8000)
    assert stream.audio_s == 1.0
    assert stream.compute_s > 0
    assert stream.rtf == stream.compute_s / stream.audio_s


def test_what_is_held_does_not_grow_with_the_audio() -> None:
    """An hour in one array must not become an hour of features."""

    class ShortMemory(BurstEngine):
        largest = 0

        def encode(self, features: np.ndarray, state: bool) -> tuple[np.ndarray, bool]:
            held = stream._frames
            self.largest = max(self.largest, len(held if held.base is None else held.base))
            out = super().encode(features, state)
            self.windows.clear()
            return out

    engine = ShortMemory()
    stream = open_stream(engine)
    stream.accept(np.zeros(16_000 * 60, np.int16))
    assert engine.largest < 200, "more than two seconds of features were buffered"
