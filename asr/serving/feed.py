"""One stream with the audio that waits for it."""

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from asr.audio import Samples
from asr.budget import OperatingPoint
from asr.errors import BudgetExceeded
from asr.results import Event, Overrun
from asr.serving.protocol import Message, MessageWriter
from asr.stream import Stream

BLOCK_S = 0.32
"""Audio of one step, at most: about a chunk, so that no stream holds a worker for longer than the
2.56 s take that may settle with it."""

BURST_S = 2.0
"""Audio that may come at once, behind a hiccup of the network, and is due at once."""


@dataclass(frozen=True, slots=True)
class Step:
    """What came of a step."""

    messages: list[Message]
    point: OperatingPoint  # of its chunks
    audio_s: float = 0.0
    compute_s: float = 0.0
    late_s: float = 0.0  # from when its audio was due to these messages
    overruns: int = 0  # budgets that were broken
    is_last: bool = False
    error: Exception | None = None  # why the stream broke


@dataclass(slots=True)
class _Block:
    samples: Samples
    due_s: float
    played_s: float  # when its audio ends if it is played as it comes, but no faster than speech


class Feed:
    """The event loop pushes audio, worker threads take steps, one at a time.

    Audio is due when its last sample arrives, but never faster than time goes by: a client that
    sends a file as fast as it can is computed as fast as it can be, after all those who speak.

    This is no `asr.LiveStream`: that refuses audio when its queue is full, which a microphone can't
    do without. Here the client is read no further until there is room, and audio that came before
    its time is no backlog: it doesn't make the governor hurry.
    """

    def __init__(
        self,
        stream: Stream,
        sample_rate: int,
        deliver: Callable[[Step], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`stream` has been given no audio yet. `deliver` takes each step, in a worker thread."""
        self.stream = stream
        self._rate = sample_rate
        self._block_samples = max(1, round(BLOCK_S * sample_rate))
        self._deliver = deliver
        self._clock = clock
        self._writer = MessageWriter(stream, clock)
        self._lock = Lock()
        self._blocks: deque[_Block] = deque()
        self._queued = 0  # samples
        self._pace_s = 0.0  # when the audio so far would have ended, had it been played
        self._due_s = 0.0  # of the last block
        self._closed = False
        self._over = False

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait."""
        return self._queued / self._rate

    def push(self, samples: Samples) -> None:
        """Take audio `(n,)`, without a copy where it can be; behind `close`, none."""
        now_s = self._clock()
        with self._lock:
            while len(samples) and not self._closed:
                last = self._blocks[-1] if self._blocks else None
                room = self._block_samples - len(last.samples) if last else 0
                part = samples[: room or self._block_samples]
                samples = samples[len(part) :]
                self._queued += len(part)
                length_s = len(part) / self._rate
                self._pace_s = max(self._pace_s + length_s, now_s)
                self._due_s = due_s = max(now_s, self._pace_s - BURST_S)
                if last and room:  # so that many tiny messages don't cost a step each
                    last.samples = np.concatenate([last.samples, part])
                    last.due_s, last.played_s = due_s, self._pace_s
                else:
                    self._blocks.append(_Block(part, due_s, self._pace_s))

    def close(self) -> None:
        """Say that no more audio follows."""
        with self._lock:
            self._closed = True
            self._due_s = max(self._due_s, self._clock())

    def abandon(self) -> None:
        """Forget what waits: nobody wants to know any more."""
        with self._lock:
            self._over = True
            self._blocks.clear()
            self._queued = 0

    def due_s(self) -> float | None:
        """Return when the next step is due, by the clock; None if there is nothing to do."""
        with self._lock:
            if self._over:
                return None
            if self._blocks:
                return self._blocks[0].due_s
            return self._due_s if self._closed else None

    def step(self) -> None:
        """Recognise what is due next, or end the stream, and deliver what came of it."""
        with self._lock:
            if self._over:
                return
            block = self._blocks.popleft() if self._blocks else None
            if block is not None:
                self._queued -= len(block.samples)
            elif not self._closed:
                return
            due_s = block.due_s if block else self._due_s
            behind_s = self._behind_s()
        point, computed_s = self.stream.point, self.stream.meter.compute_s
        self.stream.queued_s = behind_s
        events: Sequence[Event]
        try:
            if block is not None:
                events = self.stream.accept(block.samples, self._rate)
                messages = self._writer.write(events)
            else:
                final = self.stream.finish()
                events, messages = final.decisions, self._writer.finish(final)
        except Exception as error:  # what breaks one stream must not end the others
            self._over = True
            events = error.events if isinstance(error, BudgetExceeded) else ()
            messages = self._writer.cut(events)
            overruns = _overruns(events)
            self._deliver(Step(messages, point, overruns=overruns, is_last=True, error=error))
            return
        self._over = self._over or block is None
        step = Step(
            messages,
            point,
            audio_s=len(block.samples) / self._rate if block else 0.0,
            compute_s=self.stream.meter.compute_s - computed_s,
            late_s=max(0.0, self._clock() - due_s),
            overruns=_overruns(events),
            is_last=block is None,
        )
        self._deliver(step)

    def _behind_s(self) -> float:
        """Seconds of audio that wait, but for those that came before their time."""
        now_s = self._clock()
        late = sum(len(block.samples) for block in self._blocks if block.played_s <= now_s)
        return late / self._rate


def _overruns(events: Sequence[Event]) -> int:
    return sum(isinstance(event, Overrun) for event in events)
