"""Of tokens, the language model must say exactly what its words say."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from asr.bundle import LanguageModelFile, open_bundle
from asr.decoding.fusion import Fusion
from asr.decoding.language_model import END, UNKNOWN, LanguageModel, LmState
from asr.decoding.ngrams import START, History, NgramModel
from tests.asr.fake_engine import DiceEngine
from tests.asr.language_models import begins, random_arrays, random_model, spell
from training.language_model import model_arrays, transcript_arrays

VOCAB_SIZE = 9


def state_of(model: LanguageModel, tokens: list[int]) -> LmState:
    state = model.advance(None, START)
    for token in tokens:
        state = model.advance(state, token)
    return state


def expected(model: LanguageModel, tokens: list[int]) -> np.ndarray:
    return np.exp(model.log_probs(state_of(model, tokens)).astype(float))


class Definition:
    """What the probability of a token is: a sum over all words, one by one."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.words = NgramModel.from_arrays(arrays, "words.")
        self.spelling = NgramModel.from_arrays(arrays, "spelling.")
        tokens = iter(arrays["tokens"].tolist())
        self.known = [list(islice(tokens, length)) for length in arrays["lengths"].tolist()]

    def probs(self, tokens: list[int]) -> np.ndarray:
        """Return the probability of each token `(VOCAB_SIZE,)` behind others."""
        said: list[list[int]] = []
        for token in tokens:
            if begins(VOCAB_SIZE)[token] or not said:
                said.append([])
            said[-1].append(token)
        history = self.words.advance((), START)
        for word in said[:-1]:
            history = self.words.advance(history, self.symbol(word))
        if not said:
            return self.in_word(history, [])
        probs = self.in_word(history, said[-1])
        end, probs[END] = probs[END], 0.0
        return probs + end * self.in_word(self.words.advance(history, self.symbol(said[-1])), [])

    def in_word(self, history: History, tokens: list[int]) -> np.ndarray:
        words = all_probs(self.words, history)
        spelled, probability = self.spelling.advance((), START), 1.0
        for token in tokens:
            probability *= all_probs(self.spelling, spelled)[token]
            spelled = self.spelling.advance(spelled, token)
        probs = np.zeros(VOCAB_SIZE)
        fits = [word for word in self.known if word[: len(tokens)] == tokens]
        for word in fits:
            probs[[*word, END][len(tokens)]] += words[self.symbol(word)]
        unknown = words[UNKNOWN] * probability if fits else 1.0
        probs += unknown * all_probs(self.spelling, spelled)
        probs[begins(VOCAB_SIZE) if tokens else END] = 0
        return probs / probs.sum()

    def symbol(self, word: list[int]) -> int:
        return self.known.index(word) + UNKNOWN + 1 if word in self.known else UNKNOWN


def all_probs(model: NgramModel, history: History) -> np.ndarray:
    return model.expected(history).between(np.arange(model.vocab_size + 1, dtype=np.int32))


@pytest.mark.parametrize("cutoffs", [(1, 1, 1), (2, 2, 2), (1, 2), (3,), (100,)])
def test_tokens_have_the_probability_of_the_words_they_may_become(cutoffs: tuple) -> None:
    arrays = random_arrays(VOCAB_SIZE, 3, cutoffs)
    model = LanguageModel.from_arrays(arrays, begins(VOCAB_SIZE))
    definition = Definition(arrays)
    assert len(definition.known) > 3 or cutoffs == (100,)
    generator = np.random.default_rng(4)
    for _ in range(60):
        tokens = generator.integers(2, VOCAB_SIZE, generator.integers(0, 7)).tolist()
        tokens[:1] = [token // 2 * 2 for token in tokens[:1]]  # a word begins
        wanted = definition.probs(tokens)
        np.testing.assert_allclose(expected(model, tokens), wanted, atol=1e-6)
        assert wanted.sum() == pytest.approx(1)


def test_what_a_word_is_spelled_with_multiplies_to_its_probability() -> None:
    arrays = random_arrays(VOCAB_SIZE, 1, (1, 1, 1))
    model = LanguageModel.from_arrays(arrays, begins(VOCAB_SIZE))
    words = NgramModel.from_arrays(arrays, "words.")
    probs = all_probs(words, words.advance((), START))
    for number, tokens in enumerate(Definition(arrays).known):
        behind = [expected(model, tokens[:count])[token] for count, token in enumerate(tokens)]
        ends = expected(model, tokens)[begins(VOCAB_SIZE)].sum()
        wanted = probs[number + UNKNOWN + 1]
        assert np.prod(behind) * ends == pytest.approx(wanted, rel=0.2), "but for unknown words"


def test_words_of_any_length_are_possible() -> None:
    model = random_model(VOCAB_SIZE, seed=1)
    state = state_of(model, [2])
    for _ in range(400):
        state = model.advance(state, 3)
        assert state.unknown > 0
        assert np.isfinite(model.log_probs(state)).all()
    assert (state.first, state.last) == (0, 0)


def test_a_word_is_expected_behind_those_it_was_read_behind() -> None:
    said = [["2 3", "4 5", "6"], ["2 3", "4 5", "6"], ["2 5", "4 5", "8"], ["2 5", "4 5", "8"]]
    model = LanguageModel.from_arrays(
        model_arrays(said, spell, VOCAB_SIZE, (1, 1, 1)), begins(VOCAB_SIZE)
    )
    assert expected(model, []).argmax() == 2
    assert expected(model, [2, 3]).argmax() == 4
    assert expected(model, [2, 3, 4]).argmax() == 5, "it is not whole yet"
    assert expected(model, [2, 3, 4, 5]).argmax() == 6
    assert expected(model, [2, 5, 4, 5]).argmax() == 8


def test_words_that_are_not_known_are_spelled_like_others() -> None:
    said = [["2 3 5", "4"], ["2 3 7", "4"], ["6 3 5", "4"]]
    model = LanguageModel.from_arrays(
        model_arrays(said, spell, VOCAB_SIZE, (2, 2, 2)), begins(VOCAB_SIZE)
    )
    assert model.vocab_size == VOCAB_SIZE
    assert expected(model, [2]).argmax() == 3, "the one known word is 4"
    assert expected(model, [8, 3]).argmax() == 5
    after_unknown = expected(model, [6, 3, 5])
    assert after_unknown.argmax() == 4, "what follows a word that is not known"
    assert state_of(model, [8, 3]).unknown > 0


def test_the_transducers_own_expectation_is_taken_off() -> None:
    model, engine = random_model(VOCAB_SIZE, seed=1), DiceEngine(1, VOCAB_SIZE, 3.0)
    state = state_of(model, [2, 3])
    alone = Fusion(engine, model, weights(0.5, 0.0)).scores(state, (2, 3))
    np.testing.assert_allclose(alone, 0.5 * model.log_probs(state))
    both = Fusion(engine, model, weights(0.5, 0.25)).scores(state, (2, 3))
    (silent,) = engine.join(np.zeros((1, 1)), engine.predict(np.array([[2, 3]])))
    labels = np.exp(silent[1:]) / np.exp(silent[1:]).sum()
    np.testing.assert_allclose((alone - both)[1:], 0.25 * np.log(labels), atol=1e-5)


def test_what_the_transcripts_expect_is_taken_off() -> None:
    model, engine = random_model(VOCAB_SIZE, seed=1), DiceEngine(1, VOCAB_SIZE, 3.0)
    state = state_of(model, [2, 3])
    # Behind 3 there is 4 twice of three times, and never 5.
    pairs = transcript_arrays([[2, 3, 4], [3, 4, 2], [3, 2], [5]], VOCAB_SIZE)
    transcripts = NgramModel.from_arrays(pairs, "transcripts.")
    without = Fusion(engine, model, weights(0.5, 0.25)).scores(state, (2, 3))
    stated = weights(0.5, 0.25, 0.4)
    taken = (without - Fusion(engine, model, stated, transcripts).scores(state, (2, 3))) / 0.4
    assert taken[4] == pytest.approx(np.log(2 / 3), abs=0.35)
    assert taken[4] > taken[2] > taken[5] + 1
    # At the begin of a sentence, which is no token.
    begin = Fusion(engine, model, stated, transcripts).scores(model.advance(None, 0), (-1, 0))
    assert np.isfinite(begin).all()
    assert Fusion(engine, model, stated).scores(state, (2, 3)) == pytest.approx(without)


def weights(of_model: float, internal: float, transcripts: float = 0.0) -> LanguageModelFile:
    return LanguageModelFile("lm.npz", of_model, internal, transcripts)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": None}, "spellings of its words are missing"),
        ({"lengths": np.zeros(3)}, "spellings of float64"),
        ({"lengths": np.array([1], np.uint8)}, r"\(1,\) are spelled"),
        ({"lengths": np.zeros(10**6, np.uint8)}, r"\(1000000,\) are spelled"),
        ({"tokens": np.array([[2]], np.uint8)}, "their lengths are others"),
        ({"words.symbols.1": None}, "words.: 0 orders"),
        ({"spelling.symbols.2": None}, "spelling.: an order is missing"),
    ],
)
def test_arrays_that_make_no_model_are_refused(change: dict, message: str) -> None:
    arrays = random_arrays(VOCAB_SIZE, 1) | change
    arrays = {name: array for name, array in arrays.items() if array is not None}
    with pytest.raises(ValueError, match=message):
        LanguageModel.from_arrays(arrays, begins(VOCAB_SIZE))


def test_words_that_can_not_be_looked_up_are_refused() -> None:
    arrays = random_arrays(VOCAB_SIZE, 1)
    turned = arrays["tokens"].copy()
    first, second = arrays["lengths"][:2]
    turned[: first + second] = np.roll(turned[: first + second], second)
    lengths = arrays["lengths"].copy()
    lengths[:2] = second, first
    for change, message in (
        ({"tokens": turned, "lengths": lengths}, "not sorted"),
        ({"tokens": np.full_like(turned, END)}, "not in the vocabulary"),
        ({"tokens": np.full_like(turned, VOCAB_SIZE)}, "not in the vocabulary"),
        ({"lengths": lengths[1:]}, "are spelled"),
    ):
        with pytest.raises(ValueError, match=message):
            LanguageModel.from_arrays(arrays | change, begins(VOCAB_SIZE))


def test_too_long_words_and_tokens_that_overflow_are_refused() -> None:
    arrays = random_arrays(VOCAB_SIZE, 1)
    lengths = arrays["lengths"].copy()
    lengths[0] = 33
    tokens = np.concatenate([np.full(33 - arrays["lengths"][0], 2, np.uint8), arrays["tokens"]])
    with pytest.raises(ValueError, match="a word of 33 tokens"):
        LanguageModel.from_arrays(
            arrays | {"lengths": lengths, "tokens": tokens}, begins(VOCAB_SIZE)
        )
    many = random_arrays(300, 1)
    assert LanguageModel.from_arrays(many, begins(300)).vocab_size == 300
    with pytest.raises(ValueError, match="tokens of uint8 for a vocabulary of 300"):
        LanguageModel.from_arrays(many | {"tokens": many["tokens"].astype(np.uint8)}, begins(300))


def test_a_bundle_without_one_has_no_fusion(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.language_model is None
    assert Fusion.of_bundle(bundle, DiceEngine(1, VOCAB_SIZE, 0.0)) is None
