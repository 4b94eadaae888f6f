"""Engines of a real model that watch what they are asked."""

from typing import Any

from asr.engines import EncoderState, Engine, Floats


class CountingEngine:
    """Counts the encoder frames that it computes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.frames = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def encode(self, features: Floats, state: EncoderState) -> tuple[Floats, EncoderState]:
        encoder_out, after = self._engine.encode(features, state)
        self.frames += len(encoder_out)
        return encoder_out, after


class RememberingEngine:
    """Computes each encoder call once: another split of the same audio makes the same calls, or
    pays for those that differ."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: dict[tuple[bytes, int], tuple[Floats, EncoderState]] = {}
        self._state = engine.initial_state()
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def initial_state(self) -> EncoderState:
        return self._state

    def encode(self, features: Floats, state: EncoderState) -> tuple[Floats, EncoderState]:
        key = features.tobytes(), id(state)  # all states are kept, so an id is never used again
        if key not in self._known:
            self.calls += 1
            self._known[key] = self._engine.encode(features, state)
        return self._known[key]
