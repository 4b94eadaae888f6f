"""Streams without a model, that hear bursts of sound."""

from collections.abc import Sequence

from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.gate import SilenceGate
from asr.decoding.greedy import GreedySearch
from asr.features import FeatureConfig
from asr.results import Endpoint, Event, Final
from asr.stream import Stream
from tests.asr.fake_engine import LETTERS, BurstEngine


def open_burst_stream(
    rules: EndpointRules | None,
    *,
    gate: bool = False,
    chunk_frames: int = 8,
    settling_frames: int | None = None,
    engine: BurstEngine | None = None,
) -> tuple[Stream, BurstEngine]:
    """Return a stream of one pass, or of two, and its engine."""
    engine, streaming = engine or BurstEngine(), StreamingConfig(chunk_frames=chunk_frames)
    stream = Stream(
        engine,
        GreedySearch(engine),
        pieces=LETTERS,
        features=FeatureConfig(),
        streaming=streaming,
        endpoints=rules,
        gate=SilenceGate(streaming) if gate else None,
        settling_frames=settling_frames,
    )
    return stream, engine


def endpoints(events: Sequence[Event], final: Final) -> list[Endpoint]:
    """Return those of a whole stream."""
    return [event for event in (*events, *final.endpoints) if isinstance(event, Endpoint)]
