"""The n-gram model must be a probability, and that of the longest context that was read."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from asr.arrays import read_arrays
from asr.bundle import open_bundle
from asr.decoding.language_model import START, Fusion, NgramModel
from asr.errors import BundleError
from tests.asr.fake_engine import DiceEngine
from tests.asr.language_models import random_model, random_text
from training.language_model import count_ngrams

VOCAB_SIZE = 9


def state_of(model: NgramModel, tokens: list[int]) -> tuple[int, ...]:
    state = model.advance((), START)
    for token in tokens:
        state = model.advance(state, token)
    return state


def test_in_each_context_probabilities_add_up_to_one() -> None:
    model = random_model(VOCAB_SIZE, seed=1)
    text = random_text(VOCAB_SIZE, seed=2, tokens=100)
    state = state_of(model, [])
    for token in text[text != START].tolist():
        probs = np.exp(model.log_probs(state).astype(float))
        assert probs.sum() == pytest.approx(1, abs=0.01)
        assert (probs[2:] > 0).all()
        state = model.advance(state, token)
        assert len(state) <= 2


def test_what_was_read_is_expected() -> None:
    text = np.array([START, 2, 3, 4, START, 2, 3, 4, START, 2, 3, 5, START, 6, 3, 6])
    model = NgramModel.from_arrays(count_ngrams(text, VOCAB_SIZE, (1, 1, 1)))
    assert model.order == 3 and model.vocab_size == VOCAB_SIZE
    after = model.log_probs(state_of(model, [2, 3]))
    assert after.argmax() == 4 and after[5] > after[6]
    assert model.log_probs(state_of(model, [6, 3])).argmax() == 6
    assert model.log_probs(state_of(model, [])).argmax() == 2, "how sentences begin"
    # Never read: what follows 3 alone, and then what is frequent at all.
    np.testing.assert_array_equal(
        model.log_probs(state_of(model, [7, 3])), model.log_probs(state_of(model, [8, 3]))
    )
    assert len(state_of(model, [4, 8])) == 1


def test_rare_ngrams_are_left_to_shorter_contexts() -> None:
    text = np.array([START, *[2, 3, 4] * 5, 2, 5])
    whole = NgramModel.from_arrays(count_ngrams(text, VOCAB_SIZE, (1, 1, 1)))
    small = NgramModel.from_arrays(count_ngrams(text, VOCAB_SIZE, (1, 2, 3)))
    seldom = [float(model.log_probs(state_of(model, [2]))[5]) for model in (whole, small)]
    often = [float(model.log_probs(state_of(model, [2]))[3]) for model in (whole, small)]
    assert seldom[0] > seldom[1] > -6, "something is left for it"
    assert often == pytest.approx([often[0]] * 2, abs=0.1)


def test_the_transducers_own_expectation_is_taken_off() -> None:
    model, engine = random_model(VOCAB_SIZE, seed=1), DiceEngine(1, VOCAB_SIZE, 3.0)
    state = state_of(model, [2, 3])
    alone = Fusion(engine, model, 0.5, 0.0).scores(state, (2, 3))
    np.testing.assert_allclose(alone, 0.5 * model.log_probs(state))
    both = Fusion(engine, model, 0.5, 0.25).scores(state, (2, 3))
    (silent,) = engine.join(np.zeros((1, 1)), engine.predict(np.array([[2, 3]])))
    labels = np.exp(silent[1:]) / np.exp(silent[1:]).sum()
    np.testing.assert_allclose((alone - both)[1:], 0.25 * np.log(labels), atol=1e-5)


def arrays() -> dict[str, np.ndarray]:
    return count_ngrams(random_text(VOCAB_SIZE, 1), VOCAB_SIZE, (1, 1, 1))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens.1": None}, "0 orders"),
        ({"tokens.2": None}, "an order is missing"),
        ({"children.1": None}, "1 were announced"),
        ({"children.1": np.ones(VOCAB_SIZE, np.uint8)}, "were announced"),
        ({"children.2": np.zeros(3, np.uint8)}, "children of shape"),
        ({"codes.2": np.zeros(3, np.uint8)}, "3,"),
        ({"codes.1": np.zeros(VOCAB_SIZE)}, "float64"),
        ({"codes.2": None}, "0,"),
        ({"tokens.1": np.zeros(VOCAB_SIZE, np.uint8)}, "each token once"),
        ({"tokens.3": np.full(len(arrays()["tokens.3"]), 200, np.uint8)}, "not in the vocabulary"),
    ],
)
def test_arrays_that_make_no_model_are_refused(change: dict, message: str) -> None:
    changed = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        NgramModel.from_arrays(changed)


def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY"):
        with pytest.raises(BundleError, match="can't be used"):
            read_arrays(Path("lm.npz"), content)
    pickled = tmp_path / "a.npz"
    np.savez(pickled, tokens=np.array([object()]))
    with pytest.raises(BundleError, match="can't be used"):
        read_arrays(pickled, pickled.read_bytes())
    with zipfile.ZipFile(pickled, "w") as archive:
        archive.writestr("tokens.1", b"no array")
    with pytest.raises(BundleError, match="not all in it are arrays"):
        read_arrays(pickled, pickled.read_bytes())
    np.savez_compressed(pickled, tokens=np.zeros(100_000))
    with pytest.raises(BundleError, match="compressed"):
        read_arrays(pickled, pickled.read_bytes())


def test_a_bundle_without_one_has_no_fusion(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    assert bundle.language_model is None
    assert Fusion.of_bundle(bundle, DiceEngine(1, VOCAB_SIZE, 0.0)) is None
