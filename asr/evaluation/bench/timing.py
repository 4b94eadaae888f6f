"""Where the time of a stream goes: its stages, and its chunks as if the audio came in real time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from asr.audio import Blocks
from asr.engines import EncoderState, Engine, Floats
from asr.features import Samples
from asr.results import Event, Final
from asr.stream import Stream

STAGES = ("features", "encoder", "predictor", "joiner", "search")


@dataclass(slots=True)
class StageTimes:
    """Seconds of computing, and calls, by stage."""

    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES, 0.0))
    calls: dict[str, int] = field(default_factory=lambda: dict.fromkeys(STAGES, 0))

    def count(self, stage: str, seconds: float) -> None:
        """Count a call."""
        self.seconds[stage] += seconds
        self.calls[stage] += 1

    @property
    def total_s(self) -> float:
        """Seconds of all stages together."""
        return sum(self.seconds.values())

    def shares(self) -> dict[str, float]:
        """Return the fraction of the time that each stage takes; raise ValueError for no time."""
        if not self.total_s:
            raise ValueError("no time was measured")
        return {stage: seconds / self.total_s for stage, seconds in self.seconds.items()}


class TimingEngine:
    """Another engine, timed by network. Implements `asr.engines.Engine`."""

    def __init__(self, engine: Engine, clock: Callable[[], float] = time.perf_counter) -> None:
        """`clock` gives seconds from any origin."""
        self._engine = engine
        self._clock = clock
        self.times = StageTimes()
        self.encoder_s: list[float] = []
        """Seconds of each encoder call."""

    def __getattr__(self, name: str) -> Any:  # what an engine has beside the protocol
        return getattr(self._engine, name)

    def initial_state(self) -> EncoderState:
        """See `Engine`."""
        return self._engine.initial_state()

    def encode(self, features: Floats, state: EncoderState) -> tuple[Floats, EncoderState]:
        """See `Engine`."""
        started = self._clock()
        out = self._engine.encode(features, state)
        seconds = self._clock() - started
        self.times.count("encoder", seconds)
        self.encoder_s.append(seconds)
        return out

    def predict(self, contexts: NDArray[Any]) -> Floats:
        """See `Engine`."""
        with self._timed("predictor"):
            return self._engine.predict(contexts)

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        """See `Engine`."""
        with self._timed("joiner"):
            return self._engine.join(encoder_out, predictor_out)

    def release_memory(self) -> None:
        """See `Engine`."""
        self._engine.release_memory()

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = self._clock()
        yield
        self.times.count(stage, self._clock() - started)


@dataclass(frozen=True, slots=True)
class Chunk:
    """One encoder call, and what belongs to it."""

    compute_s: float  # features, encoder, search since the chunk before it
    late: bool  # it was not done when the next one was due, had the audio come in real time


@dataclass(frozen=True, slots=True)
class Shown:
    """An event, and when a user would have seen it: seconds since the recording began to play."""

    at_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class Played:
    """A recording that was given to a stream."""

    audio_s: float
    chunks: tuple[Chunk, ...]
    shown: tuple[Shown, ...]  # the final event is not among them
    final: Final
    final_at_s: float

    @property
    def response_s(self) -> float:
        """From the end of the audio to the final text."""
        return self.final_at_s - self.audio_s


class Playing:
    """Gives audio to a fresh stream as fast as it takes it, on a clock that knows better: a block
    is there when it would have been recorded, computing takes as long as it takes, and what is late
    makes the next late. So latencies in real time are known without waiting for it."""

    def __init__(
        self,
        stream: Stream,
        engine: TimingEngine,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`engine` is that of the stream."""
        self._stream = stream
        self._engine = engine
        self._clock = clock
        self._chunk_s = stream.point.chunk_ms / 1000
        self._chunks: list[Chunk] = []
        self._shown: list[Shown] = []
        self._now_s = 0.0
        self._pending_s = 0.0  # computing that no chunk was charged with yet

    def accept(self, samples: Samples, rate: int) -> None:
        """Take the next block `(n,)`, of the same rate as all. Raises what a stream raises."""
        self._prepare(lambda: self._stream.push(samples, rate))
        self._encode()

    def finish(self) -> Played:
        """End the stream."""
        self._prepare(self._stream.end)
        self._encode()
        started = self._clock()
        final = self._stream.finish()
        self._now_s += self._clock() - started
        return Played(
            self._stream.audio_s, tuple(self._chunks), tuple(self._shown), final, self._now_s
        )

    def _prepare(self, step: Callable[[], None]) -> None:
        started = self._clock()
        step()
        seconds = self._clock() - started
        self._engine.times.count("features", seconds)
        self._now_s = max(self._now_s, self._stream.audio_s) + seconds
        self._pending_s += seconds

    def _encode(self) -> None:
        stream = self._stream
        while (window := stream.next_window()) is not None:
            started = self._clock()
            with stream.meter.computing():
                out, state = self._engine.encode(window, stream.encoder_state)
            events = self._search(out, state)
            seconds = self._clock() - started
            self._now_s += seconds
            late = self._now_s - stream.audio_s > self._chunk_s
            self._chunks.append(Chunk(self._pending_s + seconds, late))
            self._shown += [Shown(self._now_s, event) for event in events]
            self._pending_s = 0.0

    def _search(self, out: Floats, state: EncoderState) -> list[Event]:
        """Search on; what of that is neither predictor nor joiner is the search itself."""
        seconds = self._engine.times.seconds
        others_s = seconds["predictor"] + seconds["joiner"]
        started = self._clock()
        events = self._stream.advance(out, state)
        spent_s = self._clock() - started
        others_s = seconds["predictor"] + seconds["joiner"] - others_s
        self._engine.times.count("search", max(0.0, spent_s - others_s))
        return events


def play(playing: Playing, blocks: Blocks) -> Played:
    """Play all blocks, and finish."""
    for samples, rate in blocks:
        playing.accept(samples, rate)
    return playing.finish()
