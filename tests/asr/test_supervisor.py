"""A stream under a budget: moves lose and repeat nothing, memory is held or the stream ends with
its text, and the report has every decision."""

import json

import numpy as np
import pytest

from asr.budget import CHUNKS_MS, Budget, OperatingPoint
from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.gate import SilenceGate
from asr.decoding.greedy import GreedySearch
from asr.errors import AsrError, BudgetExceeded
from asr.evaluation.meters import RtfMeter
from asr.features import FeatureConfig, compute_features
from asr.governor import Governor, Measurement
from asr.live import LiveStream
from asr.results import Endpoint, Event, Moved, Overrun, Partial
from asr.stream import Stream
from asr.supervisor import RELEASE_EVERY_S, Supervisor, describe
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

LADDER = tuple(map(OperatingPoint, CHUNKS_MS))
COSTS = dict(zip(LADDER, [0.015, 0.006, 0.004, 0.0029, 0.0025], strict=True))
SPEECH = bursts([1600] * 60, 3200, trail=517)
TAIL = np.zeros(19 * 160, np.float32)


class SlowMachine(BurstEngine):
    """An engine and a clock: each call costs what its operating point does, times a slowdown."""

    def __init__(self) -> None:
        super().__init__()
        self.now_s = 0.0
        self.slowdown = 1.0

    def encode(self, features: np.ndarray, state: bool) -> tuple[np.ndarray, bool]:
        out, after = super().encode(features, state)
        point = OperatingPoint(40 * len(out))
        self.now_s += self.slowdown * COSTS.get(point, 0.01) * len(out) * 0.04
        return out, after


def open_stream(
    engine: SlowMachine,
    budget: Budget,
    resident_mb: list[float] | None = None,
    endpoints: EndpointRules | None = None,
    gate: SilenceGate | None = None,
) -> Stream:
    """`resident_mb` is what the process holds, each time that it is asked; then the last."""
    held = list(resident_mb or [0.0])
    supervisor = Supervisor(
        Governor(budget, COSTS),
        engine.release_memory,
        resident=lambda: held.pop(0) if len(held) > 1 else held[0],
    )
    return Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
        meter=RtfMeter(clock=lambda: engine.now_s),
        supervisor=supervisor,
        endpoints=endpoints,
        gate=gate,
    )


def heard_by(engine: BurstEngine) -> np.ndarray:
    """Return the feature frames `(T, 80)` that an engine was given, the overlaps once."""
    return np.concatenate([window[:-3] for window in engine.windows] + [engine.windows[-1][-3:]])


def test_a_governed_stream_hears_every_frame_once_and_says_what_was_decided() -> None:
    engine = SlowMachine()
    stream = open_stream(engine, Budget(rtf=0.03))
    events: list[Event] = []
    for number, block in enumerate(np.array_split(SPEECH, 90)):
        engine.slowdown = 8.0 if 15 < number < 45 else 1.0
        events += stream.accept(block)
    final = stream.finish()

    heard, padded = heard_by(engine), compute_features(np.concatenate([SPEECH, TAIL]))
    np.testing.assert_array_equal(heard, padded[: len(heard)])
    assert len(padded) - len(heard) < 4
    assert len(final.result.words) == 60
    words = [word for event in events if isinstance(event, Partial) for word in event.new_words]
    assert [*words, *final.new_words] == list(final.result.words)

    report = stream.report()
    moves = [event for event in events if isinstance(event, Moved)]
    assert report.moves == tuple(moves)
    assert {move.to_point > move.from_point for move in moves} == {True, False}
    assert {len(window) for window in engine.windows} >= {4 * 4 + 3, 4 * 16 + 3}
    assert sum(item.audio_s for item in report.points) == pytest.approx(report.audio_s)
    assert report.audio_s == pytest.approx(len(heard) / 100, abs=0.05)
    assert report.rtf == pytest.approx(engine.now_s / report.audio_s)
    assert 0 < report.rtf_last_min <= 0.03
    assert {item.point for item in report.points} >= {LADDER[0], moves[0].to_point}


def heard_live(engine: SlowMachine, stream: Stream, audio: np.ndarray) -> LiveStream:
    """Give a stream its audio at the speed of speech, by the engine's clock, through a queue of
    5 s; the machine is a hundred times as slow between 10 and 40 s."""
    live = LiveStream(stream, queue_s=5.0)
    blocks = np.split(audio, range(1600, len(audio), 1600))
    pushed = 0
    while pushed < len(blocks) or live.wait(timeout_s=0):
        while pushed < len(blocks) and 0.1 * (pushed + 1) <= engine.now_s:
            live.push(blocks[pushed])
            pushed += 1
        engine.slowdown = 100.0 if 10 < engine.now_s < 40 else 1.0
        if live.wait(timeout_s=0):
            live.take()
        elif pushed < len(blocks):
            engine.now_s = 0.1 * (pushed + 1)
    return live


def test_a_stream_that_falls_behind_catches_up_and_loses_nothing() -> None:
    """Where one that stays as it is falls further and further behind, until audio is lost."""
    audio = np.tile(bursts([1600] * 10, 3200, trail=3200), 30)
    engine = SlowMachine()
    live = heard_live(engine, open_stream(engine, Budget(rtf=0.5)), audio)
    report = live.report()
    assert report.lost_audio_s == 0
    assert 0.5 < report.max_queue_s < 5
    assert engine.now_s == pytest.approx(len(audio) / 16_000, abs=0.2), "it has not caught up"
    assert len(live.finish().result.words) == 300
    assert report.moves
    assert live.stream.point == LADDER[0]

    engine = SlowMachine()
    stays = Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(chunk_frames=4),
        meter=RtfMeter(clock=lambda: engine.now_s),
    )
    assert heard_live(engine, stays, audio).report().lost_audio_s > 1


def test_the_report_reads_well_and_is_json() -> None:
    engine = SlowMachine()
    engine.slowdown = 40.0
    stream = open_stream(engine, Budget(rtf=0.03))
    stream.queued_s = 2.5
    stream.accept(SPEECH)
    report = stream.report()
    lines = str(report).splitlines()
    assert len(lines) == len(report.moves) + len(report.overruns) + 1
    assert "160 ms -> 2560 ms (rtf 0.6 of 0.03)" in lines[0]
    assert "over budget: rtf 0.1 of 0.03; 2.5 s behind; stays at the lowest point, 2560" in lines[1]
    assert "queue 2.5 s at most, 0.0 s lost" in lines[-1]
    content = json.loads(json.dumps(report.to_dict()))
    assert content["moves"][0]["to_point"] == {"chunk_ms": 2560}
    assert content["overruns"][0]["budget"] == "rtf"
    assert content["max_queue_s"] == 2.5


@pytest.mark.parametrize("point", LADDER)
def test_latency_counts_all_the_audio_that_a_chunk_waits_for(point: OperatingPoint) -> None:
    """Its own, and what the encoder needs of the audio behind it: to the millisecond."""
    stream = open_stream(SlowMachine(), Budget())
    stream.chunk_frames = point.chunk_ms // 40
    silence = np.zeros(16 * point.wait_ms, np.float32)
    stream.push(silence[:-16])
    assert stream.next_window() is None
    stream.push(silence[-16:])
    assert stream.next_window() is not None
    chunk = Measurement(time_s=9.0, point=point, audio_s=0.16, wall_s=0.1, queued_s=0.5)
    assert chunk.latency_s == pytest.approx(point.wait_ms / 1000 + 0.6)


def test_memory_that_can_be_given_back_is_and_the_stream_goes_on() -> None:
    engine = SlowMachine()
    stream = open_stream(engine, Budget(memory_mb=100), resident_mb=[99, 104.5, 98, 99])
    events = stream.accept(SPEECH)
    (overrun,) = [event for event in events if isinstance(event, Overrun)]
    assert (overrun.budget, overrun.found, overrun.limit) == ("memory", 104.5, 100)
    assert overrun.action == "gave back 6.5 MB"
    assert engine.released == 1
    assert len(stream.finish().result.words) == 60


@pytest.mark.parametrize(
    ("resident_mb", "given_back"),
    [([99, 99, 99, 104.5, 103], 1), ([99, 104, 98, 99, 104, 98], 2)],
    ids=["nothing to give", "it is back at once"],
)
def test_memory_that_can_not_be_held_ends_the_stream_with_its_text(
    resident_mb: list[float], given_back: int
) -> None:
    engine = SlowMachine()
    stream = open_stream(engine, Budget(memory_mb=100), resident_mb)
    with pytest.raises(BudgetExceeded, match=r"104.* MB of memory with a budget of 100 MB") as info:
        stream.accept(SPEECH)
    assert engine.released == given_back
    heard = len(heard_by(engine)) / 100
    assert heard < RELEASE_EVERY_S
    assert info.value.text.split() == list("abcdefgh"[: len(info.value.result.words)])
    assert info.value.result.words, "the text so far is lost"
    assert stream.report().overruns[-1].action.endswith("ended the stream")
    for call in (stream.finish, lambda: stream.accept(SPEECH)):
        with pytest.raises(AsrError, match="finished"):
            call()


@pytest.mark.parametrize("block", [1600, len(SPEECH)])
def test_no_event_is_lost_when_memory_ends_the_stream(block: int) -> None:
    """Those that became known in the call that raised come with its error: however the audio was
    cut, each word is told once, and each is in a segment."""
    audio = np.concatenate([bursts([1600] * 3, 3200, trail=24_000), SPEECH])
    calm = [99.0] * 20
    stream = open_stream(SlowMachine(), Budget(memory_mb=100), [*calm, 104, 103], EndpointRules())
    events: list[Event] = []

    def feed() -> None:
        for start in range(0, len(audio), block):
            events.extend(stream.accept(audio[start : start + block]))

    with pytest.raises(BudgetExceeded) as info:
        feed()
    events += info.value.events
    words = info.value.result.words
    assert len(words) > 3
    told = [word for event in events if isinstance(event, Partial) for word in event.new_words]
    assert tuple(told) == words
    segments = [event for event in events if isinstance(event, Endpoint)]
    assert [segment.rule for segment in segments] == ["pause", "end"]
    assert segments[-1].reason == "the memory passed its budget"
    assert tuple(word for segment in segments for word in segment.words) == words
    assert [event for event in events if isinstance(event, Overrun)] == list(
        stream.report().overruns
    )


@pytest.mark.parametrize("given_mb", [103.0, 98.0])
def test_what_is_decided_at_the_end_is_told_too(given_mb: float) -> None:
    stream = open_stream(SlowMachine(), Budget(memory_mb=100), [*[99.0] * 9, 104, given_mb])
    stream.push(SPEECH)
    if given_mb > 100:
        with pytest.raises(BudgetExceeded) as info:
            stream.finish()
        events, words = info.value.events, info.value.result.words
        told = [event for event in events if isinstance(event, Overrun)]
        partials = [event for event in events if isinstance(event, Partial)]
        assert tuple(word for partial in partials for word in partial.new_words) == words
        assert len(words) > 3
    else:
        told = list(stream.finish().decisions)
    assert told == list(stream.report().overruns)
    assert [overrun.budget for overrun in told] == ["memory"]


def test_memory_is_held_in_silence_too() -> None:
    """Nothing is computed while the gate is closed; the process may grow all the same."""
    silence = np.zeros(30 * 16_000, np.int16)
    calm = [99.0] * 40
    stream = open_stream(
        SlowMachine(), Budget(memory_mb=100), [*calm, 104, 98], gate=SilenceGate(StreamingConfig())
    )
    (overrun,) = [e for _ in range(2) for e in stream.accept(silence) if isinstance(e, Overrun)]
    assert overrun.action == "gave back 6.0 MB"
    assert 10 < stream.skipped_s < stream.audio_s

    stream = open_stream(
        SlowMachine(), Budget(memory_mb=100), [*calm, 104, 103], gate=SilenceGate(StreamingConfig())
    )
    with pytest.raises(BudgetExceeded) as info:
        stream.accept(np.tile(silence, 2))
    assert info.value.events == stream.report().overruns
    assert info.value.result.duration_s < 60


def test_memory_that_others_take_meanwhile_is_not_given_back() -> None:
    stream = open_stream(SlowMachine(), Budget(memory_mb=100), [104, 105])
    with pytest.raises(BudgetExceeded, match=r"only 0\.0 MB could be given back"):
        stream.accept(SPEECH)


def test_silence_that_was_skipped_at_the_end_is_in_the_books() -> None:
    engine = SlowMachine()
    stream = Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
        meter=RtfMeter(clock=lambda: engine.now_s),
        gate=SilenceGate(StreamingConfig()),
    )
    stream.accept(np.zeros(30 * 16_000, np.int16))
    stream.finish()
    report = stream.report()
    assert stream.skipped_s > 20
    assert report.audio_s == pytest.approx(30.19, abs=0.05)
    assert report.rtf == pytest.approx(stream.meter.compute_s / report.audio_s)
    assert sum(item.audio_s for item in report.points) == pytest.approx(report.audio_s)


def test_memory_that_comes_back_much_later_is_given_back_again() -> None:
    engine = SlowMachine()
    calm = [99.0] * int(1.1 * RELEASE_EVERY_S / 0.16)
    stream = open_stream(engine, Budget(memory_mb=100), [104, 98, *calm, 104, 98, 99])
    stream.accept(SPEECH)
    assert engine.released == 2


def test_without_a_budget_the_books_are_kept_and_nothing_is_decided() -> None:
    engine = SlowMachine()
    engine.slowdown = 500.0
    stream = Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
        meter=RtfMeter(clock=lambda: engine.now_s),
    )
    assert not any(isinstance(event, Moved | Overrun) for event in stream.accept(SPEECH))
    report = stream.report()
    assert (report.budget, report.ladder) == (Budget(), (OperatingPoint(320),))
    assert report.rtf == pytest.approx(500 * 0.006)


def test_the_last_minute_is_that_of_the_audio() -> None:
    """The figure that a stress run is judged by; it holds no more than that minute."""
    supervisor = Supervisor(Governor(Budget(), COSTS), lambda: None)
    for number in range(1, 1001):  # 160 s: dear for 95 s, then cheap
        time_s = 0.16 * number
        rtf = 0.5 if time_s < 95 else 0.1
        supervisor.observe(Measurement(time_s, LADDER[0], 0.16, rtf * 0.16), cpu_s=0.0)
    report = supervisor.report()
    assert report.rtf_last_min == pytest.approx(0.1)
    assert report.rtf == pytest.approx((95 * 0.5 + 65 * 0.1) / 160, rel=0.01)
    assert len(supervisor._last_minute) == pytest.approx(60 / 0.16, abs=2)


def test_refused_audio_is_one_line_for_many_blocks() -> None:
    stream = open_stream(SlowMachine(), Budget())
    for _ in range(20):
        event = stream.refuse(0.1, limit_s=30)
    assert event.refused_s == 0.1
    (overrun,) = stream.report().overruns
    assert overrun.refused_s == pytest.approx(2.0)
    assert stream.report().lost_audio_s == pytest.approx(2.0)
    assert "refused 2.00 s of audio" in describe(overrun)
