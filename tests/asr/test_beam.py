"""Beam search must find what a search over everything finds, however its frames arrive."""

import itertools
from collections.abc import Sequence
from functools import cache

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asr.bundle import LanguageModelFile
from asr.decoding import beam
from asr.decoding.beam import BeamSearch
from asr.decoding.fusion import Fusion
from asr.decoding.greedy import GreedySearch
from asr.decoding.hypothesis import BLANK, INITIAL_CONTEXT, UNK, Emission, Hypothesis
from asr.decoding.ngrams import START
from asr.engines import Floats
from tests.asr.fake_engine import DiceEngine
from tests.asr.language_models import random_model, random_pairs

VOCAB_SIZE = 5
WIDE = 10_000


class KnowingEngine(DiceEngine):
    """Never takes `<unk>` for the likeliest: greedy search then goes on as if it were blank."""

    def _row(self, frame: int, context: Sequence[int]) -> Floats:
        row = super()._row(frame, context)
        row[UNK] = -20
        return row


@cache
def joined(engine: DiceEngine, frame: int, context: tuple[int, int]) -> np.ndarray:
    (log_probs,) = engine.join(engine.frames(frame, frame + 1), engine.predict(np.array([context])))
    return log_probs


def probabilities(engine: DiceEngine, frames: int, fusion: Fusion | None = None) -> dict:
    """The definition: of each sequence of tokens, the sum over all alignments, in logarithms."""
    found: dict[tuple[int, ...], float] = {}
    for alignment in itertools.product([BLANK, *range(UNK + 1, VOCAB_SIZE)], repeat=frames):
        score, context, tokens = 0.0, INITIAL_CONTEXT, ()
        state = fusion.advance(None, START) if fusion else None
        for frame, token in enumerate(alignment):
            score += joined(engine, frame, context)[token]
            if token != BLANK:
                if fusion:
                    score += fusion.scores(state, context)[token]
                    state = fusion.advance(state, token)
                context, tokens = (context[1], token), (*tokens, token)
        found[tokens] = np.logaddexp(found.get(tokens, -np.inf), score)
    return found


def tokens_of(hypothesis: Hypothesis) -> tuple[int, ...]:
    return tuple(emission.token for emission in hypothesis.emissions)


@pytest.fixture
def nothing_is_pruned(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "MARGIN", 1e9)
    monkeypatch.setattr(beam, "CERTAIN_BLANK", np.inf)


@pytest.mark.usefixtures("nothing_is_pruned")
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    seed=st.integers(0, 2**16),
    bonus=st.sampled_from([0.0, 0.5, 2.0]),
    weight=st.sampled_from([None, 0.0, 0.7]),
)
def test_a_wide_beam_finds_the_best_of_all(seed: int, bonus: float, weight: float | None) -> None:
    """In three frames: in more, one of two that expect the same may be given up too soon."""
    engine = DiceEngine(seed, VOCAB_SIZE, bonus)
    fusion = None
    if weight is not None:
        stated = LanguageModelFile("lm.npz", weight, 0.3, 0.2)
        pairs = random_pairs(VOCAB_SIZE, seed)
        fusion = Fusion(engine, random_model(VOCAB_SIZE, seed), stated, pairs)
    expected = probabilities(engine, 3, fusion)
    search = BeamSearch(engine, fusion, beam=WIDE)
    search.accept(engine.frames(0, 3))
    best = max(expected.values())
    nobody_speaks = expected[()] > best - beam.NOTHING_MARGIN
    found = expected[()] if nobody_speaks else best
    assert expected[tokens_of(search.best)] == pytest.approx(found, abs=1e-4)
    wanted = sorted((score - best for score in expected.values()), reverse=True)
    scores = [path.score for path in search._paths]
    assert scores == sorted(scores, reverse=True)
    assert 10 < len(scores) <= len(wanted)
    assert all(np.abs(np.array(wanted) - score).min() < 1e-3 for score in scores)


@pytest.mark.usefixtures("nothing_is_pruned")
@pytest.mark.parametrize("seed", range(4))
def test_no_token_is_told_unless_it_is_much_likelier_than_none(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = DiceEngine(seed, VOCAB_SIZE, 0.0)
    expected = probabilities(engine, 3)
    lead = max(expected.values()) - expected[()]
    assert lead > 0.5, "else this tests nothing"
    search = BeamSearch(engine, beam=WIDE)
    search.accept(engine.frames(0, 3))
    monkeypatch.setattr(beam, "NOTHING_MARGIN", lead - 0.1)
    assert expected[tokens_of(search.best)] == pytest.approx(max(expected.values()), abs=1e-4)
    monkeypatch.setattr(beam, "NOTHING_MARGIN", lead + 0.1)
    assert search.best == Hypothesis([], stable=0)
    search.reset()
    search.accept(engine.frames(3, 6))
    monkeypatch.setattr(beam, "NOTHING_MARGIN", 1e9)
    assert search.best == Hypothesis([], stable=0), "what is said next has a start of its own"


def test_once_a_token_is_stable_others_need_no_lead_over_none() -> None:
    engine = DiceEngine(3, VOCAB_SIZE, 0.0)
    search = BeamSearch(engine, beam=1)
    search.accept(engine.frames(0, 20))
    assert search.best.stable > 1
    search.forget(1)
    assert search.best.emissions


@pytest.mark.parametrize("kind", [BeamSearch, GreedySearch])
def test_a_fork_goes_on_by_itself(kind: type[BeamSearch | GreedySearch]) -> None:
    engine = DiceEngine(3, VOCAB_SIZE, 0.5)
    plain, forked = kind(engine), kind(engine)
    for search in (plain, forked):
        search.accept(engine.frames(0, 20))
        search.forget(search.best.stable)
    fork = forked.fork()
    fork.accept(engine.frames(50, 90))
    fork.accept(engine.frames(90, 91))
    assert list(forked.best.emissions) == list(plain.best.emissions)
    for search in (plain, forked):
        search.accept(engine.frames(20, 40))
    assert list(forked.best.emissions) == list(plain.best.emissions)
    fork = forked.fork()
    for search in (plain, fork):
        search.accept(engine.frames(40, 60))
    assert list(fork.best.emissions) == list(plain.best.emissions)


def test_of_two_that_expect_the_same_the_better_is_kept() -> None:
    """Else they fill the beam, and what they differ in is never settled."""
    engine = DiceEngine(5, VOCAB_SIZE, 0.3)
    stated = LanguageModelFile("lm.npz", 0.5, 0.2, 0.0)
    fusion = Fusion(engine, random_model(VOCAB_SIZE, 5), stated)
    for fused in (None, fusion):
        search = BeamSearch(engine, fused, beam=50)
        for frame in range(60):
            search.accept(engine.frames(frame, frame + 1))
            futures = [(path.context, path.lm_before) for path in search._paths]
            assert len(set(futures)) == len(futures)
            assert all(path.score > -beam.MARGIN for path in search._paths)


def test_what_is_forgotten_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "NOTHING_MARGIN", 0.0)  # all hypotheses are told
    engine = DiceEngine(5, VOCAB_SIZE, 0.3)
    search = BeamSearch(engine)
    for frame in range(200):
        search.accept(engine.frames(frame, frame + 1))
        best = search.best
        search.forget(best.stable)
        nodes, node = 0, search._paths[0].last
        while node is not None:
            nodes, node = nodes + 1, node.before
        assert nodes == len(best.emissions) - best.stable + 1, "and the root"


@pytest.mark.usefixtures("nothing_is_pruned")  # the engine's labels may outdo a "certain" blank
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(seed=st.integers(0, 2**16), bonus=st.sampled_from([0.0, 0.5, 0.9]))
def test_a_beam_of_one_is_greedy_search(seed: int, bonus: float) -> None:
    engine = KnowingEngine(seed, VOCAB_SIZE, bonus)
    greedy, narrow = GreedySearch(engine), BeamSearch(engine, beam=1)
    for search in (greedy, narrow):
        search.accept(engine.frames(0, 30))
    assert narrow.best.emissions == greedy.best.emissions


@settings(deadline=None, max_examples=15)
@given(
    seed=st.integers(0, 2**16),
    bonus=st.sampled_from([0.0, 0.9, 3.0]),
    chunks=st.lists(st.integers(0, 20), min_size=1, max_size=6),
    forgetting=st.booleans(),
)
def test_however_frames_arrive_and_are_forgotten_the_tokens_are_the_same(
    seed: int, bonus: float, chunks: list[int], forgetting: bool
) -> None:
    engine = DiceEngine(seed, VOCAB_SIZE, bonus)
    whole, search = BeamSearch(engine, beam=3), BeamSearch(engine, beam=3)
    read: list[Emission] = []
    searched = 0
    for chunk in chunks:
        search.accept(engine.frames(searched, searched + chunk))
        searched += chunk
        best = search.best
        assert 0 <= best.stable <= len(best.emissions)
        if forgetting:
            read += best.emissions[: best.stable]
            search.forget(best.stable)
            assert search.best.stable == 0
            assert list(search.best.emissions) == list(best.emissions[best.stable :])
    whole.accept(engine.frames(0, searched))
    assert [*read, *search.best.emissions] == list(whole.best.emissions)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**16), bonus=st.sampled_from([0.0, 0.9]))
def test_what_is_stable_stays(seed: int, bonus: float) -> None:
    engine = DiceEngine(seed, VOCAB_SIZE, bonus)
    search = BeamSearch(engine, beam=4)
    stable: list[Emission] = []
    for frame in range(40):
        search.accept(engine.frames(frame, frame + 1))
        now = list(search.best.emissions[: search.best.stable])
        assert now[: len(stable)] == stable
        stable = now


def test_in_the_end_everything_is_settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beam, "MOST_UNSTABLE", 5)
    engine = DiceEngine(7, VOCAB_SIZE, 0.0)
    search = BeamSearch(engine, beam=50)
    search.accept(engine.frames(0, 60))
    best = search.best
    assert len(best.emissions) > 20
    assert best.stable >= len(best.emissions) - 5


def test_unknown_is_never_emitted() -> None:
    engine = DiceEngine(seed=1, vocab_size=2, blank_bonus=-1.0)  # <unk> always wins
    search = BeamSearch(engine)
    search.accept(engine.frames(0, 8))
    assert search.best.emissions == []


def test_certain_silence_costs_a_joiner_call_for_eight_frames(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beam, "CERTAIN_BLANK", -1.0)
    engine = DiceEngine(seed=1, vocab_size=VOCAB_SIZE, blank_bonus=9.0)
    BeamSearch(engine).accept(engine.frames(0, 16))
    assert engine.joiner_calls == 2
