"""Two passes: what settles is what long chunks give, whatever was previewed before."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import asr
from asr.budget import Budget
from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.engines import Floats
from asr.errors import AsrError
from asr.results import Endpoint, Event, Partial
from asr.stream import Stream
from asr.windows import Window, Windows
from tests.asr.burst_streams import endpoints, open_burst_stream
from tests.asr.fake_engine import BurstEngine
from tests.asr.signals import bursts
from tests.samples import SAMPLES, read_samples

RATE = 16_000
LONG = 64


class HastyEngine(BurstEngine):
    """Mishears, as an "h", what begins within 0.2 s of the end of its chunk."""

    def encode(self, features: Floats, state: bool) -> tuple[Floats, bool]:
        out, state = super().encode(features, state)
        out[-5:] *= 2
        return out, state

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        log_probs = super().join(encoder_out, predictor_out)
        misheard = encoder_out[:, 0] > 1
        log_probs[misheard, 2:] = -9.0
        log_probs[misheard, -1] = -0.05
        return log_probs


def open_stream(
    rules: EndpointRules | None = None,
    *,
    gate: bool = False,
    chunk_frames: int = 8,
    engine: BurstEngine | None = None,
    settling_frames: int | None = LONG,
) -> Stream:
    """Return a stream of two passes, unless `settling_frames` is None."""
    stream, _ = open_burst_stream(
        rules,
        gate=gate,
        chunk_frames=chunk_frames,
        settling_frames=settling_frames,
        engine=engine,
    )
    return stream


def silence(seconds: float) -> NDArray[np.float32]:
    return np.zeros(round(seconds * RATE), np.float32)


def words(count: int) -> NDArray[np.float32]:
    """Return bursts of 0.1 s, 0.2 s apart."""
    return bursts([1600] * count, 3200)


def open_windows(chunk_frames: int = 8, settling_frames: int | None = LONG) -> Windows:
    streaming = StreamingConfig(chunk_frames=chunk_frames)
    return Windows(streaming, 1, "before all", settling_frames)


def taken(windows: Windows) -> list[Window]:
    """Take all windows that are there. The state behind each says which it was."""
    found = []
    while (window := windows.next()) is not None:
        found.append(windows.advance(f"{'preview' if window.is_preview else 'long'} {len(found)}"))
    return found


def features(frames: int) -> Floats:
    return np.arange(4.0 * frames + 3, dtype=np.float32)[:, None]


@pytest.mark.parametrize("chunk_frames", [1, 4, 8, 16, 24, 32])
def test_a_long_chunk_is_previewed_but_for_its_end(chunk_frames: int) -> None:
    windows = open_windows(chunk_frames)
    windows.accept(features(LONG + 3))
    *previews, long = taken(windows)[: -(-LONG // chunk_frames)]
    assert [(each.frames, each.is_preview) for each in previews] == [
        (chunk_frames, True) for _ in range((LONG - 1) // chunk_frames)
    ]
    assert (long.frames, long.is_preview) == (LONG, False)
    for number, preview in enumerate(previews):
        expected = features(LONG)[4 * chunk_frames * number :][: 4 * chunk_frames + 3]
        np.testing.assert_array_equal(preview.features, expected)
    np.testing.assert_array_equal(long.features, features(LONG))


@pytest.mark.parametrize(("chunk_frames", "settling"), [(64, LONG), (100, LONG), (8, None)])
def test_no_preview_where_a_chunk_is_long_enough_or_there_is_one_pass(
    chunk_frames: int, settling: int | None
) -> None:
    windows = open_windows(chunk_frames, settling)
    windows.accept(features(200))
    windows.end()
    frames = [each.frames for each in taken(windows) if not each.is_preview]
    rest = 200 % chunk_frames
    assert frames == [chunk_frames] * (200 // chunk_frames) + [rest] * (rest > 0)


def test_each_chunk_goes_on_from_where_the_last_of_its_kind_left_off() -> None:
    windows = open_windows(16)
    windows.accept(features(2 * LONG + 16))
    states = []
    while (window := windows.next()) is not None:
        states.append(windows.state)
        windows.advance(f"behind {len(states)}{' (preview)' if window.is_preview else ''}")
    round_1 = ["before all", "behind 1 (preview)", "behind 2 (preview)", "before all"]
    round_2 = ["behind 4", "behind 5 (preview)", "behind 6 (preview)", "behind 4"]
    assert states == [*round_1, *round_2, "behind 8"]


@given(cuts=st.lists(st.integers(0, 803), max_size=20), chunk_frames=st.integers(1, 70))
def test_windows_do_not_depend_on_blocks(cuts: list[int], chunk_frames: int) -> None:
    runs = []
    for at in ([], sorted(cuts)):
        windows, found = open_windows(chunk_frames), []
        for block in np.split(features(200), at):
            windows.accept(block)
            found += taken(windows)
        windows.end()
        runs.append([(each.frames, each.is_preview) for each in found + taken(windows)])
    assert runs[0] == runs[1]
    assert sum(frames for frames, is_preview in runs[0] if not is_preview) == 200


def test_what_must_settle_does_so_first() -> None:
    windows = open_windows()
    windows.settle()
    assert not windows.must_settle, "nothing was previewed"
    windows.accept(features(24))
    taken(windows)
    windows.accept(features(100)[4 * 24 + 3 :])
    windows.settle()
    window = windows.next()
    assert window is not None and (window.frames, window.is_preview) == (24, False)
    windows.advance("settled")
    assert (windows.state, windows.must_settle, windows.previewed_frames) == ("settled", False, 0)
    assert [each.frames for each in taken(windows)][:8] == [8] * 7 + [LONG]


def test_nothing_to_advance_by_is_said() -> None:
    with pytest.raises(AsrError, match=r"no window to advance by; next_window\(\) gives one"):
        open_stream().advance(np.zeros((8, 1), np.float32), False)


@pytest.mark.parametrize("block", [400, 5000, 200_000])
def test_previews_are_shown_and_long_chunks_settle(block: int) -> None:
    samples = words(20)
    stream = open_stream(engine=HastyEngine())
    events = [
        e for at in range(0, len(samples), block) for e in stream.accept(samples[at:][:block])
    ]
    final = stream.finish()
    long = open_stream(engine=HastyEngine(), chunk_frames=LONG, settling_frames=None)
    long.accept(samples)
    assert final.result == long.finish().result
    partials = [event for event in events if isinstance(event, Partial)]
    assert any("h" in each.text.removeprefix(final.text) for each in partials)
    assert sum("h" in each.text for each in partials) > final.text.count("h"), "they were mended"
    for before, after in pairwise(partials):
        assert after.stable_text.startswith(before.stable_text)
    told = [word for each in partials for word in each.new_words]
    assert (*told, *final.new_words) == final.result.words


def test_an_endpoint_does_not_wait_for_a_long_chunk() -> None:
    rules = EndpointRules(silence_s=None, pause_s=0.4, length_s=None)
    stream = open_stream(rules)
    samples = np.concatenate([words(3), silence(1.7)])
    events = [e for at in range(0, len(samples), 160) for e in stream.accept(samples[at:][:160])]
    (endpoint,) = endpoints(events, stream.finish())
    assert endpoint.rule == "pause" and endpoint.text == "a b c"
    assert 0.4 <= endpoint.time_s - endpoint.end_s <= 0.4 + 0.32 + 0.08


def test_an_endpoint_that_only_a_preview_saw_is_none() -> None:
    """The long chunk hears a word in what was a pause at first."""

    class LateEngine(BurstEngine):
        """Hears nothing in its first windows but the first word."""

        def encode(self, features: Floats, state: bool) -> tuple[Floats, bool]:
            out, state = super().encode(features, state)
            if len(features) == 4 * 8 + 3 and len(self.windows) > 1:
                out[:] = 0
            return out, state

    rules = EndpointRules(silence_s=None, pause_s=0.8, length_s=None)
    stream = open_stream(rules, engine=LateEngine())
    events = stream.accept(np.concatenate([words(5), silence(2.0)]))
    (endpoint,) = endpoints(events, stream.finish())
    assert endpoint.text == "a b c d e"


def test_a_gate_closes_in_a_preview_too() -> None:
    engine = BurstEngine()
    stream = open_stream(gate=True, engine=engine)
    for part in (words(2), silence(60.0), words(2)):
        for block in np.array_split(part, 50):
            stream.accept(block)
    result = stream.finish().result
    assert result.text == "a b c d"
    assert result.words[2].start_s == pytest.approx(60.4, abs=0.1)
    assert 60 - 4.5 - 2 * 0.32 <= stream.skipped_s <= 60 - 4.5


def test_a_gate_takes_nothing_from_a_window_that_was_given() -> None:
    """A server may push audio before it advances by the window that it has."""
    samples = np.concatenate([words(3), silence(8.0), words(4)])
    for offset in range(0, 40_000, 5000):
        engine = BurstEngine()
        stream = open_stream(gate=True, chunk_frames=LONG, engine=engine)
        for block in np.split(samples, range(offset, len(samples), 40_000)):
            window = stream.next_window()
            stream.push(block)
            while window is not None:
                stream.advance(*engine.encode(window, stream.encoder_state))
                window = stream.next_window()
        stream.end()
        while (window := stream.next_window()) is not None:
            stream.advance(*engine.encode(window, stream.encoder_state))
        assert stream.finish().text == "a b c d e f g"


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
    rules = EndpointRules(silence_s, pause_s, length_s)
    stream = open_stream(rules, gate=gate)
    events: list[Event] = []
    for (count, seconds), chunk_frames in zip(parts, chunks, strict=False):
        stream.chunk_frames = chunk_frames
        events += stream.accept(np.concatenate([words(count), silence(seconds)]))
    final = stream.finish()
    plain = open_stream(rules, settling_frames=None)
    plain_events = [
        event
        for count, seconds in parts
        for event in plain.accept(np.concatenate([words(count), silence(seconds)]))
    ]
    expected = endpoints(plain_events, plain.finish())
    found = endpoints(events, final)
    assert [(e.rule, e.words, e.start_s) for e in found] == [
        (e.rule, e.words, e.start_s) for e in expected
    ]
    told = [word for event in events if isinstance(event, Partial) for word in event.new_words]
    assert (*told, *final.new_words) == final.result.words
    assert len(final.result.words) == sum(count for count, _ in parts)
    stable = ""
    for event in events:
        if isinstance(event, Partial):
            assert event.stable_text.startswith(stable)
            assert event.text.startswith(event.stable_text)
            stable = event.stable_text
        elif isinstance(event, Endpoint):
            stable = ""


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_the_built_in_model_settles_what_its_long_chunks_hear(sample) -> None:
    """To the bit: whatever the previews are, and where they change."""
    samples = read_samples(sample)
    long = asr.load(search="beam", chunk_ms=2560).stream()
    long.accept(samples)
    expected = long.finish().result
    recognizer = asr.load()
    assert recognizer.transcribe(sample.path) == expected
    for sizes in ([4], [8], [16, 4, 64, 8]):
        stream = recognizer.stream()
        for number, block in enumerate(np.array_split(samples, 40)):
            stream.chunk_frames = sizes[number % len(sizes)]
            stream.accept(block)
        assert stream.finish().result == expected


def test_a_governed_stream_hears_the_same_words() -> None:
    sample = SAMPLES[0]
    recognizer = asr.load()
    stream = recognizer.stream(Budget(rtf=1.0, latency_ms=2000))
    assert len(stream.report().ladder) == 5
    stream.accept(read_samples(sample))
    assert stream.finish().result == recognizer.transcribe(sample.path)
