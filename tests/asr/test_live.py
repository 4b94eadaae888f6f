"""The queue before a live stream: bounded, in order, never silent about what it refuses."""

import threading

import numpy as np
import pytest

from asr.budget import Budget, OperatingPoint
from asr.bundle import StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.errors import AsrError, AudioError, BudgetExceeded
from asr.features import FeatureConfig
from asr.governor import Governor
from asr.live import LiveStream
from asr.results import Event, Final, Overrun
from asr.stream import Stream
from asr.supervisor import Supervisor
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

SPEECH = bursts([1600] * 12, 3200, trail=517)
BLOCKS = np.array_split(SPEECH, 40)
SECOND = np.zeros(16_000, np.float32)


def open_stream(supervisor: Supervisor | None = None) -> Stream:
    engine = BurstEngine()
    return Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=StreamingConfig(),
        supervisor=supervisor,
    )


def recognised(blocks: list[np.ndarray]) -> Final:
    stream = open_stream()
    for block in blocks:
        stream.accept(block)
    return stream.finish()


def drain(live: LiveStream) -> list[Event]:
    events = []
    while live.wait(timeout_s=0):
        events += live.take()
    return events


def test_what_is_pushed_is_recognised_in_order() -> None:
    live = LiveStream(open_stream())
    for block in BLOCKS:
        assert live.push(block)
    assert live.queued_s == pytest.approx(len(SPEECH) / 16_000)
    live.close()
    events = list(live)
    assert isinstance(events[-1], Final)
    assert events[-1].result == recognised(BLOCKS).result
    assert live.queued_s == 0.0
    assert live.report().max_queue_s == pytest.approx(len(SPEECH) / 16_000, abs=0.5)
    assert live.report().lost_audio_s == 0.0


def test_a_producer_in_another_thread() -> None:
    live = LiveStream(open_stream(), queue_s=0.3)

    def produce() -> None:
        for block in BLOCKS:
            assert live.push(block, wait=True)
        live.close()

    producer = threading.Thread(target=produce)
    producer.start()
    (*_, final) = live
    producer.join()
    assert final.result == recognised(BLOCKS).result
    assert live.report().max_queue_s <= 0.3


def test_a_full_queue_refuses_whole_blocks_and_says_so_once() -> None:
    live = LiveStream(open_stream(), queue_s=1.0)
    taken = [live.push(block) for block in BLOCKS]
    kept = sum(taken)
    assert taken == [True] * kept + [False] * (len(BLOCKS) - kept)
    assert live.queued_s <= 1.0
    first, *others = drain(live)
    lost_s = sum(map(len, BLOCKS[kept:])) / 16_000
    assert isinstance(first, Overrun)
    assert (first.budget, first.limit) == ("audio", 1.0)
    assert first.refused_s == pytest.approx(lost_s)
    assert first.behind_s == pytest.approx(1.0, abs=0.15)
    assert not any(isinstance(event, Overrun) for event in others)
    assert live.finish().result == recognised(BLOCKS[:kept]).result
    assert live.report().lost_audio_s == pytest.approx(lost_s)


def test_there_is_room_again_when_the_consumer_has_caught_up() -> None:
    live = LiveStream(open_stream(), queue_s=1.0)
    assert live.push(SECOND)
    assert not live.push(SECOND)
    drain(live)
    assert live.push(SECOND)
    drain(live)
    assert live.finish().result.duration_s == 2.0


def test_an_empty_queue_takes_a_block_of_any_length() -> None:
    live = LiveStream(open_stream(), queue_s=0.1)
    assert live.push(SECOND)
    assert not live.push(SECOND[:1])


def test_the_stream_knows_how_much_waits_behind_each_block() -> None:
    stream = open_stream()
    live = LiveStream(stream)
    waiting = []
    for _ in range(3):
        live.push(SECOND)
    while live.wait(timeout_s=0):
        live.take()
        waiting.append(stream.queued_s)
    assert waiting == [2.0, 1.0, 0.0]


def test_a_block_is_copied() -> None:
    """An audio driver fills the same buffer again."""
    live = LiveStream(open_stream())
    buffer = np.empty_like(BLOCKS[0])
    for block in BLOCKS[:-1]:
        buffer[: len(block)] = block
        live.push(buffer[: len(block)])
    buffer[:] = 0
    live.close()
    (*_, final) = live
    assert final.result == recognised(BLOCKS[:-1]).result


def test_the_producers_error_comes_behind_what_it_had_pushed() -> None:
    live = LiveStream(open_stream())
    for block in BLOCKS:
        live.push(block)
    live.close(AudioError("the microphone was unplugged"))
    with pytest.raises(AudioError, match="unplugged"):
        list(live)
    assert live.finish().result == recognised(BLOCKS).result


def test_bad_blocks_are_refused_where_they_are_pushed() -> None:
    live = LiveStream(open_stream())
    with pytest.raises(AudioError, match="NaN"):
        live.push(np.array([0.0, np.nan]))
    for rate in (0, 10, 10**7):
        with pytest.raises(AudioError, match=f"{rate} Hz; expected 1000"):
            live.push(SECOND, rate)
    assert live.push(SECOND)
    with pytest.raises(AudioError, match="8000 Hz in a stream that began at 16000"):
        live.push(SECOND, 8000)
    drain(live)
    assert live.finish().result.duration_s == 1.0


def test_what_waits_is_held_as_small_as_it_can_be() -> None:
    """Float64 as float32, int16 as it is, and empty blocks not at all, however many there are."""
    live = LiveStream(open_stream())
    assert all(live.push([]) for _ in range(100))
    assert not live.wait(timeout_s=0)
    for samples, size in [(SECOND, 4), (SECOND.astype(np.float64), 4), (SECOND.astype("i2"), 2)]:
        live.push(samples)
        assert live._blocks[-1][0].nbytes == size * len(SECOND)
    live.close()
    assert not live.push([])


def test_what_is_known_when_memory_runs_out_comes_with_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = open_stream()
    live = LiveStream(stream, queue_s=1.0)
    live.push(SECOND)
    assert not live.push(SECOND)
    end = Overrun(1.0, "memory", 99, 80, 0.0, "ended the stream")

    def accept(samples: np.ndarray, sample_rate: int) -> list[Event]:
        raise BudgetExceeded("no memory", recognised([SECOND]).result, [end])

    monkeypatch.setattr(stream, "accept", accept)
    with pytest.raises(BudgetExceeded) as info:
        live.take()
    refused, last = info.value.events
    assert (refused.budget, last) == ("audio", end)


def test_what_waits_when_memory_runs_out_is_counted_as_lost() -> None:
    """The rest of the block that was begun, what was queued behind it, and what was refused."""
    held_mb = iter([99, 99, 104, 103])
    governor = Governor(Budget(memory_mb=100), {OperatingPoint(320): 1.0})
    stream = open_stream(Supervisor(governor, lambda: None, lambda: next(held_mb)))
    live = LiveStream(stream, queue_s=4.0)
    assert live.push(np.tile(SECOND, 3)) and live.push(SECOND)
    with pytest.raises(BudgetExceeded) as info:
        live.take()
    heard_s = info.value.result.duration_s
    assert heard_s == 1.0, "a slice of a second"
    assert live.report().lost_audio_s == pytest.approx(4.0 - heard_s)
    assert not live.push(SECOND), "it is over"


def test_after_the_end_nothing_is_taken() -> None:
    live = LiveStream(open_stream())
    live.push(SECOND)
    with pytest.raises(AsrError, match=r"1\.00 s of audio wait for this stream; take\(\) it"):
        live.finish()
    assert not live.push(SECOND)
    assert not live.push(SECOND, wait=True)
    drain(live)
    assert live.finish().result.duration_s == 1.0
    assert live.report().lost_audio_s == 0.0


def test_a_producer_that_waits_is_let_go_when_the_stream_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = open_stream()
    live = LiveStream(stream, queue_s=1.0)
    live.push(SECOND)

    def accept(samples: np.ndarray, sample_rate: int) -> list[Event]:
        raise BudgetExceeded("no memory", recognised([SECOND]).result)

    monkeypatch.setattr(stream, "accept", accept)
    answers: list[bool] = []
    live.push(SECOND)
    waiting = threading.Thread(target=lambda: answers.append(live.push(SECOND, wait=True)))
    waiting.start()
    with pytest.raises(BudgetExceeded):
        live.take()
    waiting.join(timeout=10)
    assert answers in ([False], [True])
    assert not live.push(SECOND, wait=True)


@pytest.mark.parametrize("queue_s", [0, -1, float("nan")])
def test_an_impossible_queue(queue_s: float) -> None:
    with pytest.raises(AsrError, match=f"a queue of {queue_s} s"):
        LiveStream(open_stream(), queue_s)


def test_a_queue_that_came_and_went_between_two_chunks_is_in_the_report() -> None:
    """With large chunks, the queue is long over when the next one is measured."""
    stream = open_stream()
    stream.chunk_frames = 64
    live = LiveStream(stream)
    for block in np.split(np.zeros(2 * 16_000, np.float32), 20):
        live.push(block)
    drain(live)
    for _ in range(10):
        live.push(np.zeros(1600, np.float32))
        drain(live)
    report = live.report()
    assert report.audio_s == pytest.approx(2.56)
    assert report.max_queue_s == pytest.approx(1.9)
