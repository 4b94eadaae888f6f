"""A second pass: each segment is heard again whole, and what is told before never changes."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import asr
from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.gate import SilenceGate
from asr.decoding.greedy import GreedySearch
from asr.engines import Floats
from asr.evaluation.corpora.manifest import read_manifest
from asr.features import FeatureConfig
from asr.results import Endpoint, Event, Final, Partial
from asr.second_pass import SecondPass
from asr.segments import LEAD_FRAMES, LONGEST_FRAMES, TAIL_FRAMES
from asr.stream import Stream
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

RATE = 16_000
SAMPLES = "data/samples/manifest.jsonl"


class SurerEngine(BurstEngine):
    """Hears every burst as an "h", where the other engine hears "a", "b", "c" ..."""

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        log_probs = super().join(encoder_out, predictor_out)
        heard = encoder_out[:, 0] > 0
        log_probs[heard, 2:] = -9.0
        log_probs[heard, -1] = -0.05
        return log_probs


def open_stream(
    rules: EndpointRules | None = None, *, gate: bool = False, chunk_frames: int = 8
) -> tuple[Stream, SurerEngine, SecondPass]:
    """Return a stream, and what hears its segments again."""
    first, again = BurstEngine(), SurerEngine()
    streaming = StreamingConfig(chunk_frames=chunk_frames)
    second_pass = SecondPass(again, lambda: GreedySearch(again), streaming, chunk_frames=256)
    stream = Stream(
        first,
        GreedySearch(first),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=streaming,
        endpoints=rules or EndpointRules(),
        gate=SilenceGate(streaming) if gate else None,
        second_pass=second_pass,
    )
    return stream, again, second_pass


def open_one_pass(rules: EndpointRules | None, *, chunk_frames: int) -> tuple[Stream, BurstEngine]:
    """Return a stream that hears everything once, and its engine."""
    engine = BurstEngine()
    stream = Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(chunk_frames=chunk_frames),
        endpoints=rules,
    )
    return stream, engine


def segments(events: list[Event], final: Final) -> list[Endpoint]:
    return [each for each in (*events, *final.endpoints) if isinstance(each, Endpoint)]


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


def words(count: int) -> NDArray[np.float32]:
    """Return bursts of 0.1 s, 0.2 s apart."""
    return bursts([1600] * count, 3200)


@pytest.mark.parametrize("block", [400, 5000, 200_000])
def test_nothing_is_stable_before_a_segment_was_heard_again(block: int) -> None:
    stream, _, _ = open_stream()
    samples = np.concatenate([words(3), silence(2.0), words(2)])
    events = [
        e for at in range(0, len(samples), block) for e in stream.accept(samples[at:][:block])
    ]
    final = stream.finish()
    assert [each.text for each in segments(events, final)] == ["h h h", "h h"]
    assert final.text == "h h h h h"
    partials = [event for event in events if isinstance(event, Partial)]
    told = [word for each in partials for word in each.new_words] + list(final.new_words)
    assert tuple(told) == final.result.words
    for before, after in pairwise(partials):
        assert after.stable_text.startswith(before.stable_text) or not after.stable_text
    if block == 400:
        assert "a b c" in [each.text for each in partials], "the first pass is shown meanwhile"
        assert {each.stable_text for each in partials} == {"", "h h h"}


@settings(max_examples=30, deadline=None)
@given(
    lead=st.floats(0.0, 4.0),
    count=st.integers(1, 12),
    chunk_frames=st.sampled_from([4, 8, 16, 64]),
    cuts=st.lists(st.integers(0, 200_000), max_size=6),
)
def test_what_is_heard_again_is_the_segment(
    lead: float, count: int, chunk_frames: int, cuts: list[int]
) -> None:
    """From the lead before its first word to the tail behind its last one, frame by frame."""
    samples = np.concatenate([silence(lead), words(count), silence(1.6)])
    stream, again, _ = open_stream(chunk_frames=chunk_frames)
    for block in np.split(samples, sorted(min(cut, len(samples)) for cut in cuts)):
        stream.accept(block)
    result = stream.finish().result
    whole, plain = open_one_pass(None, chunk_frames=256)
    whole.accept(samples)
    expected = whole.finish().result
    assert [word.start_s for word in result.words] == [word.start_s for word in expected.words]
    assert result.text == " ".join("h" * count)
    (heard,) = again.windows
    (all_features,) = plain.windows
    first, last = (round(expected.words[at].start_s / 0.04) for at in (0, -1))
    start, end = max(0, first - LEAD_FRAMES), last + 1 + TAIL_FRAMES
    np.testing.assert_array_equal(heard, all_features[4 * start : 4 * end + 3])


def test_a_segment_that_is_too_long_stays_as_it_was_heard_first() -> None:
    rules = EndpointRules(length_s=None)
    long = round(LONGEST_FRAMES * 0.04 / 0.3) + 5
    stream, again, _ = open_stream(rules)
    events = stream.accept(np.concatenate([words(long), silence(1.5), words(2), silence(1.5)]))
    final = stream.finish()
    first, second = segments(events, final)
    assert first.text.startswith("a b c d e f g h a b") and len(first.words) == long
    assert second.text == "h h"
    (heard,) = again.windows
    before = round(first.words[-1].end_s / 0.04)
    behind = round(second.words[-1].end_s / 0.04)
    assert len(heard) == 4 * (behind + TAIL_FRAMES - before - 10) + 3, "all of the silence before"


@pytest.mark.parametrize("chunk_frames", [1, 8, 64, 256])
def test_a_segment_that_is_cut_in_speech_is_the_same_as_in_one_pass(chunk_frames: int) -> None:
    rules = EndpointRules(silence_s=None, pause_s=None, length_s=3.0)
    stream, again, _ = open_stream(rules, chunk_frames=chunk_frames)
    events = stream.accept(words(30))
    found = segments(events, stream.finish())
    plain, _ = open_one_pass(rules, chunk_frames=chunk_frames)
    events = plain.accept(words(30))
    assert found == segments(events, plain.finish())
    assert [each.rule for each in found] == ["length"] * 3 + ["end"]
    assert again.windows == [], "the last one began in speech as well"


@pytest.mark.parametrize("chunk_frames", [1, 8, 64])
@pytest.mark.parametrize("pause_s", [0.2, 0.3, 0.4])
def test_no_word_is_lost_behind_a_short_pause(chunk_frames: int, pause_s: float) -> None:
    stream, _, _ = open_stream(EndpointRules(pause_s=pause_s), chunk_frames=chunk_frames)
    stream.accept(np.concatenate([words(3), silence(0.5), words(2)]))
    assert stream.finish().text == "h h h h h"


@pytest.mark.parametrize("gate", [False, True])
def test_silence_is_not_kept(gate: bool) -> None:
    stream, again, second_pass = open_stream(gate=gate)
    for _ in range(120):
        stream.accept(silence(1.0))
        assert second_pass.kept_frames <= LEAD_FRAMES + 2 * 8
    stream.accept(np.concatenate([words(2), silence(2.0)]))
    assert second_pass.kept_frames <= LEAD_FRAMES + 2 * 8
    final = stream.finish()
    assert final.text == "h h"
    assert [round(word.start_s) for word in final.result.words] == [120, 120]
    assert len(again.windows) == 1


def test_a_segment_with_a_gap_stays_as_it_was_heard_first() -> None:
    """Without rules for pauses the gate skips silence between the words of a segment."""
    rules = EndpointRules(silence_s=None, pause_s=None, length_s=60.0)
    stream, again, _ = open_stream(rules, gate=True)
    for part in (words(2), silence(10.0), words(2)):
        stream.accept(part)
    assert stream.finish().text == "a b c d"
    assert stream.skipped_s > 5
    assert again.windows == []


def test_a_long_segment_is_heard_in_chunks_that_the_engine_takes() -> None:
    stream, again, _ = open_stream(EndpointRules(length_s=None))
    stream.accept(words(50))  # 15 s
    final = stream.finish()
    assert final.text == " ".join("h" * 50)
    one, two = again.windows
    assert len(one) == 4 * 256 + 3
    np.testing.assert_array_equal(one[-3:], two[:3])


def test_what_nobody_said_is_taken_back() -> None:
    """A noise that was a word at first is a pause without words in the end."""

    class DeafEngine(BurstEngine):
        def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
            return super().join(np.zeros_like(encoder_out), predictor_out)

    stream, _, second_pass = open_stream()
    deaf = DeafEngine()
    second_pass._engine, second_pass._open_search = deaf, lambda: GreedySearch(deaf)
    events = stream.accept(np.concatenate([words(1), silence(4.0)]))
    final = stream.finish()
    assert final.text == ""
    assert [(each.rule, each.text) for each in segments(events, final)] == [("silence", "")]
    assert [each.text for each in events if isinstance(each, Partial)] == ["a", ""]


def test_one_silence_is_told_once() -> None:
    """Though the second pass hears its beginning elsewhere."""

    class LateEngine(SurerEngine):
        def encode(self, features: Floats, state: bool) -> tuple[Floats, bool]:
            out, state = super().encode(features, state)
            return np.roll(out, 3, axis=0), state

    stream, _, second_pass = open_stream(EndpointRules(pause_s=None))
    late = LateEngine()
    second_pass._engine, second_pass._open_search = late, lambda: GreedySearch(late)
    events = stream.accept(np.concatenate([words(2), silence(9.0)]))
    found = segments(events, stream.finish())
    assert [(each.rule, each.text) for each in found] == [("silence", "h h")]


@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(1, 9), st.floats(0.3, 6.0)), min_size=1, max_size=5),
    chunks=st.lists(st.sampled_from([1, 4, 8, 16, 64]), min_size=5, max_size=5),
    pause_s=st.sampled_from([None, 0.2, 1.2]),
    silence_s=st.sampled_from([None, 2.4]),
    length_s=st.sampled_from([None, 1.0, 3.0]),
    gate=st.booleans(),
)
def test_each_word_is_told_once_and_never_taken_back(
    parts: list[tuple[int, float]],
    chunks: list[int],
    pause_s: float | None,
    silence_s: float | None,
    length_s: float | None,
    gate: bool,
) -> None:
    """Whatever the rules, with a gate, and with a governor that moves in the middle of a word."""
    stream, _, _ = open_stream(EndpointRules(silence_s, pause_s, length_s), gate=gate)
    events: list[Event] = []
    for (count, seconds), chunk_frames in zip(parts, chunks, strict=False):
        stream.chunk_frames = chunk_frames
        events += stream.accept(np.concatenate([words(count), silence(seconds)]))
    final = stream.finish()
    told = [word for event in events if isinstance(event, Partial) for word in event.new_words]
    assert (*told, *final.new_words) == final.result.words
    of_segments = [word for each in segments(events, final) for word in each.words]
    assert tuple(of_segments) == final.result.words
    assert len(final.result.words) == sum(count for count, _ in parts)
    times = [word.start_s for word in final.result.words]
    assert times == sorted(times)
    stable = ""
    for event in events:
        if isinstance(event, Partial):
            assert event.stable_text.startswith(stable)
            assert event.text.startswith(event.stable_text)
            stable = event.stable_text
        elif isinstance(event, Endpoint):
            stable = ""


def test_a_recogniser_hears_as_well_as_offline() -> None:
    two_pass, offline = asr.load(search="two-pass"), asr.load(chunk_ms=10_240)
    for sample in read_manifest(SAMPLES).utterances:
        assert two_pass.transcribe(sample.audio).text == offline.transcribe(sample.audio).text


def test_a_slow_reader_is_not_cut_unless_rules_say_so() -> None:
    recognizer = asr.load(search="two-pass")
    audio = read_manifest(SAMPLES).utterances[0].audio
    speech = np.concatenate([block for block, _ in asr.read_blocks(audio)])
    samples = np.concatenate([speech, silence(1.5), speech, silence(3.0), speech])
    for rules, expected in ((None, 2), (EndpointRules(), 3)):
        stream = recognizer.stream(endpoints=rules)
        events = stream.accept(samples)
        spoken = [each for each in segments(events, stream.finish()) if each.words]
        assert len(spoken) == expected


def test_a_budget_is_refused(tiny_bundle: Path) -> None:
    recognizer = asr.load(tiny_bundle, search="two-pass")
    with pytest.raises(asr.BudgetError, match="two-pass"):
        recognizer.stream(asr.Budget(rtf=1.0))
