"""Segments: cut where the rules say whatever the chunks, no word lost or told twice, one clock."""

from copy import copy
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.greedy import GreedySearch
from asr.decoding.hypothesis import Emission, Hypothesis
from asr.evaluation.meters import rss_mb
from asr.features import FeatureConfig
from asr.results import Endpoint, Event, Final, Partial
from asr.segments import Segmenter
from asr.stream import Stream
from asr.transcript import Transcript
from tests.asr.burst_streams import endpoints, open_burst_stream
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

BURST = 1600  # samples, 0.1 s
GAP = 3200
RATE = 16_000
PAUSE = EndpointRules(silence_s=None, pause_s=1.2, length_s=None)


def recognise(
    samples: np.ndarray, rules: EndpointRules | None, **options: bool | int
) -> tuple[list[Event], Final]:
    stream, _ = open_burst_stream(rules, **options)
    events = stream.accept(samples)
    return events, stream.finish()


def groups(*silences_s: float) -> np.ndarray:
    """Return three words before each silence, and three at the end."""
    words = bursts([BURST] * 3, GAP)
    gaps = [np.zeros(round(seconds * RATE), np.float32) for seconds in silences_s]
    return np.concatenate([part for gap in gaps for part in (words, gap)] + [words])


def test_a_pause_ends_a_segment_and_resets_the_context() -> None:
    events, final = recognise(groups(2.0, 1.3), PAUSE)
    # The letters follow the context: "a" comes after the initial one.
    assert [segment.text for segment in endpoints(events, final)] == ["a b c"] * 3
    assert [segment.rule for segment in endpoints(events, final)] == ["pause", "pause", "end"]
    assert [segment.reason for segment in endpoints(events, final)] == [
        "1.2 s of silence after 'a b c'",
        "1.2 s of silence after 'a b c'",
        "the audio ended",
    ]
    assert final.text == "a b c a b c a b c"


def test_a_silence_shorter_than_the_pause_does_not() -> None:
    events, final = recognise(groups(1.0), PAUSE)
    assert [segment.text for segment in endpoints(events, final)] == ["a b c d e f"]


def test_times_are_those_since_the_stream_began() -> None:
    """A reset never moves the clock: the words are where they are without endpoints."""
    samples = groups(2.0, 3.5)
    events, final = recognise(samples, EndpointRules())
    _, plain = recognise(samples, None)
    assert [(word.start_s, word.end_s) for word in final.result.words] == [
        (word.start_s, word.end_s) for word in plain.result.words
    ]
    spoken = [segment for segment in endpoints(events, final) if segment.words]
    for segment in spoken:
        assert segment.start_s == segment.words[0].start_s
        assert segment.end_s == segment.words[-1].end_s
    assert [segment.start_s for segment in spoken] == pytest.approx([0.0, 2.7, 6.9], abs=0.08)


def test_silence_fires_without_words_and_once_in_a_silence() -> None:
    samples = np.concatenate([np.zeros(10 * RATE, np.float32), groups(10.0)])
    events, final = recognise(samples, EndpointRules())
    found = endpoints(events, final)
    assert [(item.rule, item.text) for item in found] == [
        ("silence", ""),
        ("pause", "a b c"),
        ("silence", ""),
        ("end", "a b c"),
    ]
    assert found[0].reason == "2.4 s without a word"
    assert (found[0].start_s, found[0].end_s) == (2.4, 2.4)
    assert found[2].start_s == pytest.approx(found[1].end_s + 2.4)
    # Each is told within a chunk (and its look-ahead) of the time at which it fired.
    stream, _ = open_burst_stream(EndpointRules())
    told = [event for block in np.array_split(samples, 217) for event in stream.accept(block)]
    assert endpoints(told, final)[0].time_s == pytest.approx(2.4, abs=0.5)


class HesitantSearch:
    """Hears a word at 2.2 s, and is sure of it at 2.8 s; implements Search."""

    def __init__(self) -> None:
        self._frames = 0
        self._pending: list[Emission] = []

    @property
    def best(self) -> Hypothesis:
        return Hypothesis(self._pending if self._frames >= 70 else [], stable=0)

    def accept(self, encoder_out: np.ndarray) -> None:
        if self._frames <= 55 < self._frames + len(encoder_out):
            self._pending = [Emission(LETTERS.index("▁a"), 55, -0.1)]
        self._frames += len(encoder_out)

    def forget(self, count: int) -> None:
        assert count == 0

    def fork(self) -> "HesitantSearch":
        return copy(self)

    def skip(self, frames: int) -> None:
        self._frames += frames

    def reset(self) -> None:
        self._pending = []


def test_a_silence_ends_no_word_that_is_on_its_way() -> None:
    segmenter = Segmenter(HesitantSearch(), Transcript(LETTERS, 0.04), 0.04, EndpointRules())
    events = segmenter.accept(np.zeros((80, 1), np.float32), 3.2) + segmenter.finish(3.2)
    found = [(event.rule, event.text) for event in events if isinstance(event, Endpoint)]
    assert found == [("silence", ""), ("end", "a")]


def test_length_cuts_between_words_and_keeps_the_context() -> None:
    samples = bursts([BURST] * 30, GAP)  # 30 words in 9 s of speech without a pause
    rules = EndpointRules(silence_s=None, pause_s=None, length_s=3.0)
    events, final = recognise(samples, rules)
    _, plain = recognise(samples, None)
    assert final.result == plain.result
    found = endpoints(events, final)
    assert [item.rule for item in found] == ["length", "length", "length", "end"]
    assert found[0].reason == "3 s since its first word"
    assert " ".join(item.text for item in found) == final.text
    for item in found[:-1]:
        assert 2.3 <= item.end_s - item.start_s <= 3.0


def test_partials_show_the_open_segment() -> None:
    stream, _ = open_burst_stream(PAUSE)
    shown = []
    for block in np.array_split(groups(2.0), 100):
        for event in stream.accept(block):
            shown.append(event.text if isinstance(event, Partial) else "|")
    assert shown[-1] in ("a b", "a b c")
    assert shown[: shown.index("|")][-1] == "a b c"
    assert shown[shown.index("|") + 1] == "a"
    assert stream.text.startswith("a b c a")


@settings(deadline=None, max_examples=20)
@given(
    silences=st.lists(st.sampled_from([0.2, 1.1, 1.3, 2.5, 6.0]), min_size=1, max_size=3),
    chunk_frames=st.sampled_from([4, 8, 16, 64]),
    cuts=st.lists(st.integers(0, 10 * RATE), max_size=6),
    gate=st.booleans(),
    length_s=st.sampled_from([None, 1.5, 20.0]),
)
def test_no_word_is_lost_or_told_twice(
    silences: list[float],
    chunk_frames: int,
    cuts: list[int],
    gate: bool,
    length_s: float | None,
) -> None:
    """Whatever the blocks and the chunk: the same segments, and every word in just one of them."""
    samples = groups(*silences)
    rules = EndpointRules(length_s=length_s)
    events, final = recognise(samples, rules)
    expected = [(item.rule, item.words, item.start_s) for item in endpoints(events, final)]

    stream, _ = open_burst_stream(rules, gate=gate, chunk_frames=chunk_frames)
    events = [event for block in np.split(samples, sorted(cuts)) for event in stream.accept(block)]
    final = stream.finish()
    found = endpoints(events, final)
    assert [(item.rule, item.words, item.start_s) for item in found] == expected
    assert tuple(word for item in found for word in item.words) == final.result.words
    partials = [event for event in events if isinstance(event, Partial)]
    told = [word for event in partials for word in event.new_words]
    assert (*told, *final.new_words) == final.result.words
    assert len(final.result.words) == 3 * (len(silences) + 1)
    for earlier, later in pairwise(events):
        assert earlier.time_s <= later.time_s


@pytest.mark.parametrize("silence_s", [0.2, 4.0, 5.0, 6.3, 10.0])
@pytest.mark.parametrize("chunk_frames", [4, 8, 64])
def test_the_gate_loses_no_word_and_no_time(silence_s: float, chunk_frames: int) -> None:
    samples = groups(silence_s, silence_s)
    stream, engine = open_burst_stream(None, gate=True, chunk_frames=chunk_frames)
    stream.accept(samples)
    result = stream.finish().result
    _, plain = recognise(samples, None)
    assert result == plain.result
    encoded = sum((len(window) - 3) // 4 for window in engine.windows) * 0.04
    assert encoded + stream.skipped_s == pytest.approx(len(samples) / RATE + 0.19, abs=0.06)
    # The hold and the look-back are 4.5 s together; what is skipped is a number of whole chunks.
    skippable = 2 * max(0.0, silence_s - 4.5)
    assert skippable - 2 * 0.04 * (2 * chunk_frames) <= stream.skipped_s <= skippable


def test_behind_a_closed_gate_the_chunks_are_those_of_an_open_one() -> None:
    """Chunks of speech begin where they would have begun, so they are encoded alike."""
    samples = groups(10.0)
    gated, engine = open_burst_stream(None, gate=True)
    plain, plain_engine = open_burst_stream(None)
    for stream in (gated, plain):
        stream.accept(samples)
        stream.finish()
    assert gated.skipped_s > 4.0
    last = -(-3 * (BURST + GAP) // (8 * 640))
    for window, expected in zip(engine.windows[-last:], plain_engine.windows[-last:], strict=True):
        np.testing.assert_array_equal(window, expected)


def test_an_ended_silence_is_not_encoded_and_a_long_one_holds_nothing() -> None:
    stream, engine = open_burst_stream(EndpointRules(), gate=True)
    stream.accept(np.zeros(120 * RATE, np.int16))
    assert len(stream._windows._features) < 4 * (16 + 8) + 4
    stream.finish()
    assert len(engine.windows) == 12, "of 120 s of silence, 3.84 s are encoded"


def test_the_gate_waits_for_a_rule_that_counts_the_silence() -> None:
    samples = np.concatenate([groups(), np.zeros(30 * RATE, np.float32)])
    stream, _ = open_burst_stream(EndpointRules(silence_s=20.0, pause_s=1.2), gate=True)
    events = stream.accept(samples)
    assert [event.rule for event in endpoints(events, stream.finish())] == ["pause", "silence"]
    assert 8.0 < stream.skipped_s < 10.5


def test_closed_segments_leave_nothing_in_the_search() -> None:
    engine = BurstEngine()
    search = GreedySearch(engine)
    stream = Stream(
        engine,
        search,
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
        endpoints=EndpointRules(),
    )
    stream.accept(groups(2.0, 2.0))
    assert search.best.emissions == []


@pytest.mark.slow
@pytest.mark.parametrize("rules", [None, EndpointRules()])
def test_an_hour_is_held_in_the_memory_of_a_minute(rules: EndpointRules | None) -> None:
    """But for its text: 12 000 words here, with a thousand segments or without."""
    stream, engine = open_burst_stream(rules, gate=True)
    minute = np.concatenate([groups(*[0.5] * 10, 6.0, *[1.5] * 9), np.zeros(3 * RATE, np.float32)])
    held = []
    for _ in range(3600 * RATE // len(minute) + 1):
        for block in np.array_split(minute, 100):
            stream.accept(block)
        engine.windows.clear()
        held.append(rss_mb())
    assert stream.audio_s >= 3600
    assert held[-1] - held[2] < 1.0
    assert len(stream.finish().result.words) > 4000


def test_the_tokens_of_the_segments_are_those_of_the_result() -> None:
    stream, _ = open_burst_stream(PAUSE)
    events = stream.accept(np.append(groups(2.0, 2.0), np.zeros(8000, np.float32)))
    assert [token.piece for token in stream.segment_tokens] == ["▁a", "▁b", "▁c"]
    final = stream.finish()
    segments = endpoints(events, final)
    assert [len(segment.tokens) for segment in segments] == [3, 3, 3]
    assert tuple(t for segment in segments for t in segment.tokens) == final.result.tokens
    assert stream.segment_tokens == ()
