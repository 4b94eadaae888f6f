"""Whole-chunk greedy search must give what a loop over frames gives, for less work."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.beam import BeamSearch
from asr.decoding.greedy import GreedySearch
from asr.decoding.hypothesis import BLANK, INITIAL_CONTEXT, UNK, Emission, Hypothesis, Search
from tests.asr.fake_engine import DiceEngine

VOCAB_SIZE = 6


def frame_by_frame(engine: DiceEngine, frames: int) -> list[Emission]:
    """The definition: one joiner call a frame, at most one symbol, `<unk>` counts as blank."""
    context, emissions = INITIAL_CONTEXT, []
    for frame in range(frames):
        predictor_out = engine.predict(np.array([context]))
        (log_probs,) = engine.join(engine.frames(frame, frame + 1), predictor_out)
        token = int(log_probs.argmax())
        if token not in (BLANK, UNK):
            emissions.append(Emission(token, frame, float(log_probs[token])))
            context = (context[1], token)
    return emissions


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**16),
    blank_bonus=st.sampled_from([0.0, 0.5, 0.9, 5.0]),
    chunks=st.lists(st.integers(0, 12), max_size=6),
)
def test_equals_a_loop_over_frames(seed: int, blank_bonus: float, chunks: list[int]) -> None:
    engine = DiceEngine(seed, VOCAB_SIZE, blank_bonus)
    expected = frame_by_frame(engine, sum(chunks))
    search = GreedySearch(engine)
    searched = found = 0
    for chunk in chunks:
        engine.joiner_calls = 0
        search.accept(engine.frames(searched, searched + chunk))
        searched += chunk
        emitted = len(search.best.emissions) - found
        found += emitted
        assert engine.joiner_calls <= emitted + 1, "joined more often than it emitted"
        assert search.best.stable == found, "greedy search never changes its mind"
    assert search.best.emissions == expected


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**16), chunks=st.lists(st.integers(1, 12), min_size=1, max_size=6))
def test_what_was_read_may_be_forgotten(seed: int, chunks: list[int]) -> None:
    """Forgetting changes nothing of what is found next."""
    engine = DiceEngine(seed, VOCAB_SIZE, blank_bonus=0.5)
    search = GreedySearch(engine)
    searched, read = 0, []
    for chunk in chunks:
        search.accept(engine.frames(searched, searched + chunk))
        searched += chunk
        read += search.best.emissions
        search.forget(search.best.stable)
        assert search.best == Hypothesis([], stable=0)
    assert read == frame_by_frame(engine, searched)


@pytest.mark.parametrize("make", [GreedySearch, BeamSearch])
def test_a_reset_begins_anew_but_for_the_count_of_frames(make: Callable[..., Search]) -> None:
    """What follows is what a fresh search finds in those frames; skipped ones count as well."""
    engine = DiceEngine(seed=3, vocab_size=VOCAB_SIZE, blank_bonus=0.0)
    search, fresh = make(engine), make(engine)
    search.accept(engine.frames(0, 10))
    assert search.best.emissions
    search.reset()
    search.skip(20)
    fresh.skip(30)
    assert search.best == fresh.best == Hypothesis([], stable=0)
    for later in (search, fresh):
        later.accept(engine.frames(30, 40))
    assert search.best == fresh.best
    assert 30 <= search.best.emissions[0].frame < 40


def test_unknown_is_never_emitted() -> None:
    engine = DiceEngine(seed=1, vocab_size=2, blank_bonus=-1.0)  # <unk> always wins
    search = GreedySearch(engine)
    search.accept(engine.frames(0, 8))
    assert search.best.emissions == []


@pytest.mark.parametrize("chunk", [1, 8, 16])
def test_silence_costs_one_joiner_call_a_chunk(chunk: int) -> None:
    engine = DiceEngine(seed=1, vocab_size=VOCAB_SIZE, blank_bonus=5.0)
    GreedySearch(engine).accept(engine.frames(0, chunk))
    assert engine.joiner_calls == 1
