"""Whole-chunk greedy search must give what a loop over frames gives, for less work."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.decoding.greedy import GreedySearch
from asr.decoding.hypothesis import BLANK, INITIAL_CONTEXT, UNK, Emission
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
