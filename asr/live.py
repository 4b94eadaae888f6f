"""Live input: a bounded queue between whoever captures audio and the stream that recognises it.

    live = LiveStream(recognizer.stream(budget=asr.Budget(rtf=0.3)))

    def on_block(samples):                  # the capture thread, or an audio driver's callback:
        live.push(samples, 48_000)          # never blocks, never computes; at the end live.close()

    for event in live:                      # the consumer: recognises, and ends with the `Final`
        match event:
            case asr.Partial(): print(event.text)
            case asr.Moved(): print(event.from_point, "->", event.to_point, event.reason)
            case asr.Overrun(): print(event.budget, event.behind_s, event.refused_s, event.action)
    print(live.report())                    # an `asr.BudgetReport`; also while it runs

A consumer that waits in its own way takes the steps apart; iterating is nothing more:

    while live.wait():                      # until there is a block, False after the last one
        for event in live.take(): ...       # recognise one block, the oldest
    final = live.finish()

The policy when the consumer falls behind: the queue grows, and its length goes to the stream's
governor, which moves to a cheaper operating point. Audio is lost only where the queue is full, and
never silently: `push` returns False and takes nothing of that block, and the next events hold an
`Overrun` that says how much was refused and how far behind the stream is. Times count the audio
that was taken. A producer that can wait, such as one that reads a file, pushes with `wait=True`.
"""

from collections import deque
from collections.abc import Iterator
from threading import Condition

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.audio import check_rate, check_samples
from asr.errors import AsrError, AudioError, BudgetExceeded
from asr.features import SAMPLE_RATE
from asr.results import Event, Final
from asr.stream import Stream
from asr.supervisor import BudgetReport

QUEUE_S = 30.0
"""Seconds of audio that wait at most, 6 MB at 48 kHz: longer than any pause of a working machine,
and beyond it an answer would come too late to be one."""


class LiveStream:
    """A stream with a queue before it. One thread pushes, another recognises."""

    def __init__(self, stream: Stream, queue_s: float = QUEUE_S) -> None:
        """`stream` has been given no audio yet; from now on only this object gives it some.

        Raises AsrError if `queue_s` is not positive.
        """
        if not queue_s > 0:
            raise AsrError(f"a queue of {queue_s} s; expected more than 0")
        self.stream = stream
        self.queue_s = queue_s
        self._blocks: deque[tuple[NDArray[np.generic], int]] = deque()
        self._queued_s = 0.0
        self._rate: int | None = None  # of the first block, and so of all
        self._refused_s = 0.0  # not yet told in an event
        self._closed = False
        self._error: Exception | None = None
        self._changed = Condition()

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait."""
        return self._queued_s

    def push(
        self, samples: ArrayLike, sample_rate: int = SAMPLE_RATE, *, wait: bool = False
    ) -> bool:
        """Take a block for the consumer, as `Stream.accept` takes it; it is copied.

        False: the queue has no room for it, and this block is lost. With `wait` the call waits for
        room instead. After `close`, nothing is taken. An empty queue takes a block of any length.

        Raises AudioError for samples that no stream takes, and for another rate than that of the
        first block.
        """
        checked = check_samples(samples)
        # As small as it can wait: a stream computes in float32.
        block = np.array(checked, np.int16 if checked.dtype == np.int16 else np.float32)
        check_rate(sample_rate, "a block")
        seconds = len(block) / sample_rate
        with self._changed:
            self._rate = self._rate or sample_rate
            if sample_rate != self._rate:
                raise AudioError(
                    f"a block at {sample_rate} Hz in a stream that began at {self._rate} Hz; "
                    "open another stream for another rate"
                )
            if not len(block):  # however many there are, they take no room
                return not self._closed
            if wait:
                self._changed.wait_for(lambda: self._has_room(seconds) or self._closed)
            if self._closed:
                return False
            if not self._has_room(seconds):
                self._refused_s += seconds
                return False
            self._blocks.append((block, sample_rate))
            self._queued_s += seconds
            self._changed.notify_all()
            return True

    def close(self, error: Exception | None = None) -> None:
        """Say that no more audio follows, or why: then `error` comes out of `take` behind the last
        block. Either side may close; what is queued is recognised still."""
        with self._changed:
            self._closed = True
            self._error = self._error or error
            self._changed.notify_all()

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until there is something to `take`. False: nothing is left and none will come, or
        the time is over. Ctrl-C may end this wait; then nothing is lost, and it may be called
        again."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready() or self._closed, timeout_s)
            return self._ready()

    def take(self) -> list[Event]:
        """Recognise the oldest block that waits, and return what became known by it; nothing is
        known if none waits.

        Raises what `Stream.accept` raises, and the error that the producer closed with.
        """
        with self._changed:
            refused_s, self._refused_s = self._refused_s, 0.0
            if not self._blocks and self._error is not None:
                error, self._error = self._error, None
                raise error
            queued_s = self._queued_s
            block = self._blocks.popleft() if self._blocks else None
            if block is not None:
                self._queued_s -= len(block[0]) / block[1]
            if not self._blocks:
                self._queued_s = 0.0  # without what rounding left
            self._changed.notify_all()
        events: list[Event] = []
        if refused_s:
            self.stream.queued_s = queued_s
            events.append(self.stream.refuse(refused_s, self.queue_s))
        if block is not None:
            self.stream.queued_s = self._queued_s
            end_s = self.stream.audio_s + len(block[0]) / block[1]
            try:
                events += self.stream.accept(*block)
            except BudgetExceeded as exceeded:
                exceeded.put_before(events)
                self._abandon(end_s - self.stream.audio_s)
                raise
        return events

    def finish(self) -> Final:
        """End the stream when nothing waits any more: its last event, as `Stream.finish`.

        Raises AsrError while audio waits: `take` it first, or it would be lost.
        """
        self.close()
        if self._ready():
            raise AsrError(f"{self._queued_s:.2f} s of audio wait for this stream; take() it first")
        return self.stream.finish()

    def __iter__(self) -> Iterator[Event]:
        """Yield the events of the stream until it ends; the `Final` is the last."""
        while self.wait():
            yield from self.take()
        yield self.finish()

    def report(self) -> BudgetReport:
        """What the stream cost so far and what was decided, as `Stream.report`."""
        return self.stream.report()

    def _has_room(self, seconds: float) -> bool:
        return not self._blocks or self._queued_s + seconds <= self.queue_s

    def _ready(self) -> bool:
        return bool(self._blocks or self._error)

    def _abandon(self, unheard_s: float) -> None:
        """The stream is over, with that much of its last block unheard: what waits is lost, too.
        Let a producer that waits go."""
        with self._changed:
            self._closed = True
            self.stream.note_lost(unheard_s + self._queued_s + self._refused_s)
            self._blocks.clear()
            self._queued_s = self._refused_s = 0.0
            self._changed.notify_all()
