"""A stream hears everything exactly once: no word lost at either end, no dependence on blocks."""

from itertools import pairwise

import numpy as np
import pytest
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.bundle import MAX_CHUNK_FRAMES, StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.decoding.hypothesis import Emission, Hypothesis
from asr.errors import AsrError, AudioError
from asr.evaluation.meters import RtfMeter
from asr.features import FeatureConfig, compute_features
from asr.results import Event, Partial, Result, Word
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
    engine = engine or BurstEngine()
    return Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(chunk_frames=chunk_frames),
    )


def recognise(samples: np.ndarray, chunk_frames: int = 8) -> Result:
    stream = open_stream(chunk_frames=chunk_frames)
    stream.accept(samples)
    return stream.finish().result


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
    result = stream.finish().result
    assert result.text == "a b c"
    assert result.duration_s == pytest.approx(len(at_16k) / 16_000, abs=1e-4)
    for word, expected in zip(result.words, recognise(at_16k).words, strict=True):
        assert word.start_s == pytest.approx(expected.start_s, abs=0.04)


def test_int16_and_float64_are_the_same_audio() -> None:
    pcm = (bursts([BURST, BURST], GAP) * 32767).astype(np.int16)
    expected = recognise(pcm.astype(np.float32) / 32768)
    assert recognise(pcm) == expected
    assert recognise(pcm / 32768) == expected


def new_words(events: list[Event]) -> list[Word]:
    return [word for event in events for word in event.new_words]


def test_events_alone_are_the_whole_transcript() -> None:
    """Greedy text only grows; each word is reported once, those of the end in the final event."""
    stream = open_stream()
    samples = bursts([BURST] * 12, GAP)
    events = [event for block in np.array_split(samples, 30) for event in stream.accept(block)]
    final = stream.finish()
    assert len(events) >= 5
    assert all(isinstance(event, Partial) for event in events)
    for earlier, later in pairwise([*events, final]):
        assert later.text.startswith(earlier.text)
        assert later.time_s >= earlier.time_s
    assert all(later.text != earlier.text for earlier, later in pairwise(events))
    assert all(event.stable_text == event.text for event in events)
    assert final.text == final.result.text
    assert new_words([*events, final]) == list(final.result.words)
    assert final.new_words, "the last word was complete before the end"


def test_finish_reports_the_words_of_its_own_chunks() -> None:
    """After the last block, several chunks may be left: none of their words may be lost."""
    samples = bursts([BURST] * 8, GAP)
    stream = open_stream()
    stream.push(samples)
    final = stream.finish()
    assert new_words([final]) == list(final.result.words) == list(recognise(samples).words)


class SecondThoughts:
    """A search whose last letter is a guess until the next is there: a, ab, ab c, ..."""

    def __init__(self) -> None:
        self.emissions: list[Emission] = []
        self.count = 0

    @property
    def best(self) -> Hypothesis:
        return Hypothesis(self.emissions, max(0, len(self.emissions) - 1))

    def accept(self, encoder_out: np.ndarray) -> None:
        if self.emissions:
            self.emissions[-1] = Emission(2, self.emissions[-1].frame, -0.1)
        self.emissions.append(Emission(3, 8 * self.count, -0.1))
        self.count += 1

    def forget(self, count: int) -> None:
        del self.emissions[:count]

    def skip(self, frames: int) -> None:
        raise NotImplementedError("no gate here")

    def reset(self) -> None:
        raise NotImplementedError("no endpoints here")


def test_a_search_may_change_its_mind_about_what_is_not_stable() -> None:
    stream = Stream(
        BurstEngine(),
        SecondThoughts(),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
    )
    events = stream.accept(np.zeros(3 * CHUNK_SAMPLES + 1000, np.float32))
    final = stream.finish()
    assert [event.text for event in events] == ["b", "a b", "a a b"]
    assert [event.stable_text for event in events] == ["", "a", "a a"]
    assert final.text == "a a a b"
    assert new_words([*events, final]) == list(final.result.words)


@settings(deadline=None, max_examples=15)
@given(sizes=st.lists(st.integers(1, 20), min_size=1, max_size=6))
def test_a_scheduler_may_take_the_steps_and_change_the_chunk(sizes: list[int]) -> None:
    """Whoever encodes the windows, whenever, in chunks of any sizes: nothing is lost or doubled."""
    samples = bursts([BURST, 2 * BURST, BURST], GAP, trail=517)
    engine = BurstEngine()
    stream = open_stream(engine)
    events: list[Event] = []
    sizes_left = list(sizes)
    for block in [*np.array_split(samples, 5), None]:
        if block is None:
            stream.end()
        else:
            stream.push(block)
        while (window := stream.next_window()) is not None:
            np.testing.assert_array_equal(stream.next_window(), window)
            encoder_out, state = engine.encode(window, stream.encoder_state)
            if sizes_left:
                stream.chunk_frames = sizes_left.pop(0)  # for the next window, not for this
            events += stream.advance(encoder_out, state)
    final = stream.finish()
    assert new_words([*events, final]) == list(final.result.words)
    assert final.result.words == recognise(samples).words
    padded = compute_features(np.concatenate([samples, np.zeros(TAIL_SAMPLES, np.float32)]))
    heard = heard_by(engine)
    np.testing.assert_array_equal(heard, padded[: len(heard)])
    assert len(padded) - len(heard) < 4


@pytest.mark.parametrize("chunk_frames", [0, -8, MAX_CHUNK_FRAMES + 1])
def test_an_impossible_chunk_is_refused(chunk_frames: int) -> None:
    stream = open_stream()
    with pytest.raises(AsrError, match=f"a chunk of {chunk_frames} frames; expected 1 to 256"):
        stream.chunk_frames = chunk_frames


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
    assert stream.finish().result == recognise(samples)


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
    for refused in (lambda: stream.accept(np.zeros(10)), lambda: stream.push([0.0]), stream.end):
        with pytest.raises(AsrError, match="finished"):
            refused()


def test_no_audio_is_an_empty_result() -> None:
    stream = open_stream()
    assert stream.accept([]) == []
    assert stream.meter.rtf == 0.0
    result = stream.finish().result
    assert (result.text, result.duration_s) == ("", 0.0)


def test_every_step_is_measured() -> None:
    ticks = iter(range(1000))
    engine = BurstEngine()
    stream = Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
        meter=RtfMeter(clock=lambda: float(next(ticks))),
    )
    stream.accept(np.zeros(8000, np.float32), 8000)
    assert stream.audio_s == stream.meter.audio_s == 1.0
    chunks = len(engine.windows)
    assert stream.meter.compute_s == 1 + 2 * chunks, "the features, and each chunk's two steps"
    stream.finish()
    rest = 1 + 2 * (len(engine.windows) - chunks) + 1
    assert stream.meter.compute_s == 1 + 2 * chunks + rest, "the same, and the end of the segment"


def test_what_is_held_does_not_grow_with_the_audio() -> None:
    """An hour in one array must not become an hour of features."""

    class ShortMemory(BurstEngine):
        largest = 0

        def encode(self, features: np.ndarray, state: bool) -> tuple[np.ndarray, bool]:
            held = stream._windows._features
            self.largest = max(self.largest, len(held if held.base is None else held.base))
            out = super().encode(features, state)
            self.windows.clear()
            return out

    engine = ShortMemory()
    stream = open_stream(engine)
    stream.accept(np.zeros(16_000 * 60, np.int16))
    assert engine.largest < 200, "more than two seconds of features were buffered"
