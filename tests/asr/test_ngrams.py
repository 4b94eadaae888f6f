"""The n-gram model must be a probability, and that of the longest history that was read."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from asr.arrays import read_arrays
from asr.decoding.ngrams import START, History, NgramModel
from asr.errors import BundleError
from tests.asr.language_models import random_text
from training.ngrams import count_ngrams, pack

SYMBOLS = 9


def model_of(text: np.ndarray, cutoffs: tuple[int, ...] = (1, 1, 1)) -> NgramModel:
    return NgramModel.from_arrays(pack(count_ngrams(text, SYMBOLS, cutoffs)), "")


def history_of(model: NgramModel, symbols: list[int]) -> History:
    history = model.advance((), START)
    for symbol in symbols:
        history = model.advance(history, symbol)
    return history


def expected(model: NgramModel, symbols: list[int]) -> np.ndarray:
    """Return the probability of each symbol behind some."""
    history = history_of(model, symbols)
    return model.expected(history).between(np.arange(model.vocab_size + 1, dtype=np.int32))


def test_behind_each_history_probabilities_add_up_to_one() -> None:
    model = model_of(random_text(SYMBOLS, seed=1))
    text = random_text(SYMBOLS, seed=2, symbols=100)
    history = history_of(model, [])
    for symbol in text[text != START].tolist():
        probs = model.expected(history).between(np.arange(SYMBOLS + 1, dtype=np.int32))
        assert probs.sum() == pytest.approx(1, abs=0.01)
        assert (probs[2:] > 0).all()
        history = model.advance(history, symbol)
        assert len(history) <= 2


def test_a_range_of_symbols_has_the_sum_of_their_probabilities() -> None:
    model = model_of(random_text(SYMBOLS, seed=1))
    for symbols in ([], [2], [3, 2], [8, 8]):
        probs = expected(model, symbols)
        ranges = model.expected(history_of(model, symbols)).between(
            np.array([2, 5, 5, 9], np.int32)
        )
        np.testing.assert_allclose(ranges, [probs[2:5].sum(), 0, probs[5:].sum()], atol=1e-12)


def test_what_was_read_is_expected() -> None:
    model = model_of(np.array([START, 2, 3, 4, START, 2, 3, 4, START, 2, 3, 5, START, 6, 3, 6]))
    assert model.order == 3 and model.vocab_size == SYMBOLS
    after = expected(model, [2, 3])
    assert after.argmax() == 4 and after[5] > after[6]
    assert expected(model, [6, 3]).argmax() == 6
    assert expected(model, []).argmax() == 2, "how sentences begin"
    # Never read: what follows 3 alone, and then what is frequent at all.
    np.testing.assert_array_equal(expected(model, [7, 3]), expected(model, [8, 3]))
    assert len(history_of(model, [4, 8])) == 1


def test_rare_ngrams_are_left_to_shorter_histories() -> None:
    text = np.array([START, *[2, 3, 4] * 5, 2, 5])
    whole, small = model_of(text), model_of(text, (1, 2, 3))
    seldom = [expected(model, [2])[5] for model in (whole, small)]
    assert seldom[0] > seldom[1] > 0.001, "something is left for it"
    assert all(expected(model, [2])[3] > 0.6 for model in (whole, small))


def test_what_was_read_behind_much_is_expected_behind_anything() -> None:
    """Kneser and Ney's example: "Francisco" is frequent, but behind "San" alone."""
    san, francisco, house = 2, 3, 4
    sentences = [[START, san, francisco]] * 20 + [[START, what, house] for what in range(5, 9)]
    text = np.array([symbol for sentence in sentences for symbol in sentence])
    after_new = expected(model_of(text, (1, 1)), [house])
    assert after_new[house] > 2 * after_new[francisco]
    assert expected(model_of(text, (1, 1)), [san]).argmax() == francisco


def test_discounts_are_those_of_chen_and_goodman() -> None:
    """n1 = 10, n2 = 5, n3 = 3, n4 = 2: Y = 0.5, and what is given up 0.5, 1.1 and 1.67."""
    counts = [1] * 9 + [2] * 5 + [3] * 3 + [4] * 2
    pairs = [[START, 2 + number] for number, count in enumerate(counts) for _ in range(count)]
    once = 21  # behind the last: what can't follow START
    text = np.array([symbol for pair in pairs for symbol in pair] + [once])
    model = NgramModel.from_arrays(pack(count_ngrams(text, 22, (1, 1))), "")
    probs = model.expected(model.advance((), START)).known[0][0]
    kept = np.diff(probs.sums) * len(pairs)
    wanted = [0.5] * 9 + [0.9] * 5 + [3 - 5 / 3] * 3 + [4 - 5 / 3] * 2
    np.testing.assert_allclose(kept, wanted, rtol=1 / 32)


def test_of_little_text_half_is_given_up() -> None:
    text = np.array(
        [symbol for count in (1, 2, 3) for _ in range(count) for symbol in (0, 1 + count)] + [5]
    )
    model = NgramModel.from_arrays(pack(count_ngrams(text, 6, (1, 1))), "")
    kept = np.diff(model.expected(model.advance((), START)).known[0][0].sums) * 6
    np.testing.assert_allclose(kept, [0.5, 1.5, 2.5], rtol=1 / 32)


def arrays() -> dict[str, np.ndarray]:
    return pack(count_ngrams(random_text(SYMBOLS, 1), SYMBOLS, (1, 1, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"symbols.1": None}, "0 orders"),
        ({"symbols.2": None}, "an order is missing"),
        ({"children.1": None}, "1 were announced"),
        ({"children.1": np.ones(SYMBOLS, np.uint8)}, "were announced"),
        ({"children.2": np.zeros(3, np.uint8)}, "children of shape"),
        ({"codes.2": np.zeros(3, np.uint8)}, "3,"),
        ({"codes.1": np.zeros(SYMBOLS)}, "float64"),
        ({"codes.2": None}, "0,"),
        ({"symbols.1": np.zeros(SYMBOLS, np.uint8)}, "each symbol once"),
        ({"symbols.2": np.array(3, np.uint8)}, "codes"),
        ({"symbols.2": arrays()["symbols.2"][::-1].copy()}, "do not rise"),
        ({"symbols.2": np.zeros_like(arrays()["symbols.2"])}, "do not rise"),
        ({"children.1": np.full(SYMBOLS, 2**16 - 1, np.uint16)}, "were announced"),
        (
            {"symbols.3": np.full(len(arrays()["symbols.3"]), 200, np.uint8)},
            "not in the vocabulary|do not rise",
        ),
    ],
)
def test_arrays_that_make_no_model_are_refused(change: dict, message: str) -> None:
    changed = {name: array for name, array in (arrays() | change).items() if array is not None}
    with pytest.raises(ValueError, match=message):
        NgramModel.from_arrays(changed, "")


def test_what_is_no_file_of_arrays_is_refused(tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04", b"\x93NUMPY"):
        with pytest.raises(BundleError, match="can't be used"):
            read_arrays(Path("lm.npz"), content)
    pickled = tmp_path / "a.npz"
    for shape in (f"({10**30},)", "((((", "(1,), 'descr': ',u1'"):
        head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n".encode()
        with zipfile.ZipFile(pickled, "w") as archive:
            content = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little") + head
            archive.writestr("tokens.1.npy", content)
        with pytest.raises(BundleError, match="can't be used"):
            read_arrays(pickled, pickled.read_bytes())
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
