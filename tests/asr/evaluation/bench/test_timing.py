"""Stage times add up, and what would have been late in real time is found without waiting."""

from collections.abc import Callable

import numpy as np
import pytest

from asr.bundle import StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.engines import Floats
from asr.evaluation.bench.timing import Played, Playing, StageTimes, TimingEngine, play
from asr.features import FeatureConfig
from asr.results import Partial
from asr.stream import Stream
from tests.asr.fake_engine import LETTERS, BurstEngine
from tests.asr.signals import bursts

RATE, BLOCK = 16_000, 1600


class FakeClock:
    """Stands still but for what is computed."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class SlowEngine(BurstEngine):
    """Takes so long for each encoder call, and 1 ms for each other one."""

    def __init__(self, clock: FakeClock, encoder_s: Callable[[int], float]) -> None:
        super().__init__()
        self.clock, self.encoder_s = clock, encoder_s

    def encode(self, features: Floats, state: bool) -> tuple[Floats, bool]:
        self.clock.now += self.encoder_s(len(self.windows))
        return super().encode(features, state)

    def predict(self, contexts: np.ndarray) -> Floats:
        self.clock.now += 0.001
        return super().predict(contexts)

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        self.clock.now += 0.001
        return super().join(encoder_out, predictor_out)


def _play(encoder_s: Callable[[int], float]) -> tuple[Played, TimingEngine]:
    clock = FakeClock()
    engine = TimingEngine(SlowEngine(clock, encoder_s), clock)
    search = GreedySearch(engine)
    stream = Stream(
        engine, search, pieces=LETTERS, features=FeatureConfig(), streaming=StreamingConfig()
    )
    samples = bursts([4000, 4000], gap=12_000, lead=8000, trail=23_200)
    blocks = ((samples[at : at + BLOCK], RATE) for at in range(0, len(samples), BLOCK))
    return play(Playing(stream, engine, clock), blocks), engine


def test_every_call_is_counted_in_its_stage() -> None:
    played, engine = _play(lambda number: 0.01)
    times = engine.times
    assert times.calls["encoder"] == len(played.chunks) == len(engine.encoder_s)
    assert times.seconds["encoder"] == pytest.approx(0.01 * len(played.chunks))
    assert times.seconds["joiner"] == pytest.approx(0.001 * times.calls["joiner"])
    assert times.seconds["predictor"] == pytest.approx(0.001 * times.calls["predictor"])
    assert times.seconds["search"] == pytest.approx(0, abs=1e-9)  # nothing but the networks waits
    assert sum(times.shares().values()) == pytest.approx(1)
    assert sum(chunk.compute_s for chunk in played.chunks) <= times.total_s + 1e-9


def test_shares_of_no_time_are_refused() -> None:
    with pytest.raises(ValueError, match="no time"):
        StageTimes().shares()


def test_a_quick_engine_shows_words_when_their_audio_is_there() -> None:
    played, _ = _play(lambda number: 0.01)
    partials = [shown for shown in played.shown if isinstance(shown.event, Partial)]
    assert [shown.event.text for shown in partials] == ["a", "a b"]
    for shown in partials:  # the block came, and then one chunk was computed
        assert shown.event.time_s < shown.at_s < shown.event.time_s + 0.02
    assert not any(chunk.late for chunk in played.chunks)
    assert 0 < played.response_s < 0.05


def test_what_is_late_makes_the_next_late_until_it_has_caught_up() -> None:
    """One call takes as long as three chunks of 320 ms; the others take a tenth of one."""
    played, _ = _play(lambda number: 0.96 if number == 2 else 0.032)
    late = [chunk.late for chunk in played.chunks]
    assert late[:2] == [False, False]
    assert late[2:4] == [True, True]
    assert not any(late[6:])


def test_an_engine_slower_than_speech_falls_behind_for_good() -> None:
    played, _ = _play(lambda number: 0.64)
    assert all(chunk.late for chunk in played.chunks[1:])
    assert played.response_s > 2


def test_what_else_an_engine_has_is_there() -> None:
    clock = FakeClock()
    inner = SlowEngine(clock, lambda number: 0)
    engine = TimingEngine(inner, clock)
    engine.release_memory()
    assert (engine.released, inner.released) == (1, 1)
