"""Feeds and their order: real time goes first, no audio is lost, no stream breaks another."""

import json
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.budget import Budget, OperatingPoint
from asr.errors import BudgetExceeded
from asr.governor import Governor
from asr.serving.feed import BLOCK_S, BURST_S, Feed, Step
from asr.serving.scheduler import Scheduler
from asr.stream import Stream
from asr.supervisor import Supervisor
from tests.asr.serving.test_protocol import open_stream
from tests.asr.signals import bursts

RATE = 16_000
SPEECH = bursts([1600] * 8, 3200, trail=517)


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Client:
    """A feed with what it delivers."""

    def __init__(self, clock: Clock | None = None, stream: Stream | None = None) -> None:
        self.steps: list[Step] = []
        stream = stream or open_stream(None)
        self.feed = Feed(stream, RATE, self.steps.append, clock or Clock())

    def run(self) -> None:
        while self.feed.due_s() is not None:
            self.feed.step()


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * RATE), np.float32)


@given(st.lists(st.integers(1, 6000), min_size=1, max_size=12))
@settings(max_examples=20, deadline=None)
def test_the_words_do_not_depend_on_how_the_audio_is_cut(lengths: list[int]) -> None:
    client, start = Client(), 0
    for length in [*lengths, len(SPEECH)]:
        client.feed.push(SPEECH[start : start + length])
        start += length
    client.feed.close()
    client.run()
    expected = open_stream(None)
    expected.accept(SPEECH)
    assert client.feed.stream.text == expected.finish().text != ""
    assert client.steps[-1].is_last
    assert sum(step.audio_s for step in client.steps) == pytest.approx(len(SPEECH) / RATE)


def test_tiny_messages_are_taken_together() -> None:
    client = Client()
    for sample in SPEECH[:5000]:
        client.feed.push(sample[None])
    client.feed.close()
    client.run()
    assert len(client.steps) == 2, "one step of audio and the end"


def test_a_step_is_short_whatever_a_message_holds() -> None:
    client = Client()
    client.feed.push(silence(10))
    client.run()
    assert max(step.audio_s for step in client.steps) == pytest.approx(BLOCK_S)


def test_audio_is_due_when_it_comes_but_never_before_its_time() -> None:
    clock = Clock()
    speaking, sending = Client(clock), Client(clock)
    sending.feed.push(silence(30))
    for _ in range(10):  # by now what may come at once is through
        sending.feed.step()
    clock.now_s += 0.1
    speaking.feed.push(silence(0.1))
    assert speaking.feed.due_s() == clock.now_s
    assert sending.feed.due_s() == pytest.approx(100 + 10 * BLOCK_S - BURST_S, abs=0.01)
    assert speaking.feed.due_s() < sending.feed.due_s()


def test_audio_before_its_time_is_no_backlog() -> None:
    clock = Clock()
    client = Client(clock)
    client.feed.push(silence(5))
    client.feed.step()
    assert client.feed.stream.queued_s == 0.0
    clock.now_s += 5.0
    client.feed.step()
    assert client.feed.stream.queued_s == pytest.approx(5 - 2 * BLOCK_S)


def test_a_pause_saves_nothing_up() -> None:
    """Else a client could be silent for a minute, and then send one at once before all others."""
    clock = Clock()
    client = Client(clock)
    client.feed.push(silence(0.1))
    client.run()
    clock.now_s += 60
    client.feed.push(silence(10))
    while (due_s := client.feed.due_s()) is not None:
        last_due_s = due_s
        client.feed.step()
    assert last_due_s == pytest.approx(clock.now_s + 10 - BLOCK_S - BURST_S, abs=0.1)


def test_the_oldest_audio_is_recognised_first() -> None:
    clock, scheduler = Clock(), Scheduler()
    clients = [Client(clock) for _ in range(3)]
    for number in (2, 0, 1):
        clock.now_s = 100 + number
        clients[number].feed.push(silence(0.1))
    for client in clients:
        scheduler.submit(client.feed)
        scheduler.submit(client.feed)  # to say it twice changes nothing
    order = []
    while scheduler.step():
        order += [number for number, client in enumerate(clients) if client.steps]
        for client in clients:
            client.steps.clear()
    assert order == [0, 1, 2]


def test_workers_share_feeds_without_a_mishap() -> None:
    scheduler = Scheduler()
    clients = [Client() for _ in range(8)]
    ended = threading.Semaphore(0)
    for client in clients:
        deliver = client.steps.append
        client.feed._deliver = lambda step, deliver=deliver: (
            deliver(step),
            step.is_last and ended.release(),
        )
    scheduler.start(3)
    for start in range(0, len(SPEECH), 700):
        for client in clients:
            client.feed.push(SPEECH[start : start + 700])
            scheduler.submit(client.feed)
    for client in clients:
        client.feed.close()
        scheduler.submit(client.feed)
    for _ in clients:
        assert ended.acquire(timeout=30)
    scheduler.stop()
    assert len({client.feed.stream.text for client in clients}) == 1
    assert not scheduler.step(), "nothing is left"


def test_a_broken_stream_tells_what_it_had_and_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    client.feed.push(SPEECH[:16_000])
    client.run()

    def fail(*_: object) -> None:
        raise RuntimeError("the engine")

    monkeypatch.setattr(client.feed.stream, "accept", fail)
    client.feed.push(SPEECH[16_000:])
    client.feed.step()
    last = client.steps[-1]
    assert last.is_last and isinstance(last.error, RuntimeError)
    (message,) = last.messages
    assert '"is_final": true' in message.text and '"text": "a b' in message.text
    assert client.feed.due_s() is None


def stream_in(resident_mb: list[float]) -> Stream:
    """With a budget of 100 MB; what the process holds, each time that it is asked."""
    governor = Governor(Budget(memory_mb=100), {OperatingPoint(320): 1.0})
    held = iter(resident_mb)
    return open_stream(supervisor=Supervisor(governor, lambda: None, lambda: next(held)))


def test_memory_that_ends_a_stream_takes_none_of_its_words() -> None:
    """They are in the error: the last words, their segment, and why it ends."""
    client = Client(stream=stream_in([99, 99, 99, 104, 103]))
    client.feed.push(SPEECH)
    client.feed.close()
    client.run()
    last = client.steps[-1]
    assert last.is_last and isinstance(last.error, BudgetExceeded)
    messages = [json.loads(message.text) for step in client.steps for message in step.messages]
    finals = [message["text"] for message in messages if message["is_final"] and message["text"]]
    assert " ".join(finals) == last.error.text == "a b c d e"
    assert [message["is_eof"] for message in messages].index(True) == len(messages) - 1
    (notice,) = [notice for message in messages for notice in message.get("notices", [])]
    assert "memory 104 of 100" in notice and notice.endswith("ended the stream")
    assert last.overruns == 1


def test_what_is_decided_at_the_end_is_told() -> None:
    chunks = 7  # before the last
    client = Client(stream=stream_in([*[99.0] * chunks, 104, 98]))
    client.feed.push(SPEECH)
    client.feed.close()
    client.run()
    last = client.steps[-1]
    assert (last.is_last, last.error, last.overruns) == (True, None, 1)
    assert "gave back 6.0 MB" in json.loads(last.messages[-1].text)["notices"][0]


def test_nobody_listens_any_more() -> None:
    client = Client()
    client.feed.push(SPEECH)
    client.feed.abandon()
    assert client.feed.due_s() is None
    assert client.feed.queued_s == 0
    client.feed.step()
    assert client.steps == []
