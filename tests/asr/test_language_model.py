"""Of tokens, the language model must say exactly what its words say."""

from pathlib import Path

import numpy as np
import pytest

from asr.bundle import open_bundle
from asr.decoding.fusion import Fusion
from asr.decoding.language_model import END, UNKNOWN, LanguageModel, LmState
from asr.decoding.ngrams import START, NgramModel
from tests.asr.fake_engine import DiceEngine
from tests.asr.language_models import begins, random_arrays, random_model, random_sentences, spell
from training.language_model import model_arrays

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
        self.model = NgramModel.from_arrays(arrays, "words.")
        ends = np.cumsum(arrays["lengths"])
        self.words = [row.tolist() for row in np.split(arrays["tokens"], ends[:-1])]

    def probability(self, sentence: list[list[int]]) -> float:
        """Return the probability that a sentence begins with these words, the last of which may
        be the begin of another."""
        history, probability = self.model.advance((), START), 1.0
        for number, word in enumerate(sentence):
            probs = self.model.expected(history).between(np.arange(self.model.vocab_size + 1))
            last = number == len(sentence) - 1
            fits = [known[: len(word)] == word if last else known == word for known in self.words]
            probability *= float(probs[UNKNOWN + 1 :] @ np.array(fits) / probs.sum())
            history = self.model.advance(history, self.words.index(word) + UNKNOWN + 1)
        return probability


@pytest.mark.parametrize("seed", range(4))
def test_tokens_have_the_probability_of_their_words(seed: int) -> None:
    arrays = random_arrays(VOCAB_SIZE, seed, (1, 1, 1))  # so that all words are known
    model = LanguageModel.from_arrays(arrays, begins(VOCAB_SIZE))
    definition = Definition(arrays)
    for words in random_sentences(VOCAB_SIZE, seed):
        sentence = [spell(word) for word in words]
        tokens = [token for word in sentence for token in word]
        found = sum(
            float(model.log_probs(state_of(model, tokens[:count]))[token])
            for count, token in enumerate(tokens)
        )
        if tokens:
            assert np.exp(found) == pytest.approx(definition.probability(sentence), rel=1e-3)


def test_in_each_state_probabilities_add_up_to_one() -> None:
    model = random_model(VOCAB_SIZE, seed=1)
    tokens = np.random.default_rng(2).integers(2, VOCAB_SIZE, 60).tolist()
    state = state_of(model, [])
    for token in tokens:
        probs = np.exp(model.log_probs(state).astype(float))
        assert probs.sum() == pytest.approx(1, abs=1e-5)
        assert (probs[2:] > 0).all(), "nothing is impossible"
        state = model.advance(state, token)


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
    alone = Fusion(engine, model, 0.5, 0.0).scores(state, (2, 3))
    np.testing.assert_allclose(alone, 0.5 * model.log_probs(state))
    both = Fusion(engine, model, 0.5, 0.25).scores(state, (2, 3))
    (silent,) = engine.join(np.zeros((1, 1)), engine.predict(np.array([[2, 3]])))
    labels = np.exp(silent[1:]) / np.exp(silent[1:]).sum()
    np.testing.assert_allclose((alone - both)[1:], 0.25 * np.log(labels), atol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lengths": None}, "spellings of its words are missing"),
        ({"lengths": np.zeros(3)}, "spellings of float64"),
        ({"lengths": np.array([1], np.uint8)}, "their lengths are others"),
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
        ({"tokens": turned[:first], "lengths": lengths[1:2]}, "1 are spelled"),
    ):
        with pytest.raises(ValueError, match=message):
            LanguageModel.from_arrays(arrays | change, begins(VOCAB_SIZE))


def test_a_bundle_without_one_has_no_fusion(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.language_model is None
    assert Fusion.of_bundle(bundle, DiceEngine(1, VOCAB_SIZE, 0.0)) is None
