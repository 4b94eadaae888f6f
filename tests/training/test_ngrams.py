"""N-grams that are counted, mixed and thinned out expect all that may follow, and no more."""

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.decoding.ngrams import START, NgramModel
from asr.errors import CorpusError
from training.ngrams import Ngrams, bits_of, count_ngrams, mix, pack, prune

VOCAB = 24
EVERY = np.arange(VOCAB)


def read(seed: int, drawn: int = 0) -> NDArray[np.int64]:
    """Sentences in which each symbol is often followed by a certain one, which `seed` says."""
    draw = np.random.default_rng(drawn)
    stream = [START]
    for _ in range(4000):
        if draw.random() < 0.1:
            stream.append(START)
        elif stream[-1] == START or draw.random() < 0.4:
            stream.append(int(draw.zipf(1.5)) % (VOCAB - 1) + 1)
        else:
            stream.append((stream[-1] * 7 + seed) % (VOCAB - 1) + 1)
    return np.array(stream)


def model(seed: int, cutoffs: tuple[int, ...] = (1, 1, 2)) -> Ngrams:
    return count_ngrams(read(seed), VOCAB, cutoffs)


def behind(ngrams: Ngrams, *history: int) -> NDArray[np.float64]:
    """What each symbol has behind a history."""
    key = 0
    for symbol in history:
        key = key << ngrams.bits | symbol
    return ngrams.prob(key << ngrams.bits | ngrams.keys(1), len(history) + 1)


HISTORIES = [(), (START,), (5,), (23,), (START, 5), (5, 9), (9, 3), (20, 21)]


@pytest.mark.parametrize(
    "ngrams",
    [
        model(1),
        model(1, (1, 1, 1, 1)),
        mix(model(1), model(2), 0.3),
        mix(model(1), model(2, (1, 1)), 0.7),
        prune(mix(model(1), model(2), 0.5), 100),
        model(1).without(5),
        model(1).renumbered(np.array([START, *range(VOCAB - 1, 0, -1)]), VOCAB),
        model(1).renumbered(np.array([START, *range(1, 12), *[12] * 12]), 13),
    ],
    ids=["counted", "of four", "mixed", "orders", "thinned", "without", "renumbered", "fewer"],
)
def test_behind_any_history_probabilities_sum_to_one(ngrams: Ngrams) -> None:
    for history in HISTORIES:
        probs = behind(ngrams, *(symbol % len(ngrams.unigrams) for symbol in history))
        assert probs.sum() == pytest.approx(1.0, abs=1e-9)
        assert probs[START] == 0
        assert probs.min() >= 0


def test_a_mixture_expects_the_mean_of_what_both_know() -> None:
    first, second = model(1), model(2)
    mixed = mix(first, second, 0.3)
    for order in (1, 2, 3):
        keys = mixed.keys(order)
        expected = 0.3 * first.prob(keys, order) + 0.7 * second.prob(keys, order)
        assert mixed.prob(keys, order) == pytest.approx(expected)
    assert set(first.keys(3)) | set(second.keys(3)) == set(mixed.keys(3))


def test_what_is_left_out_is_no_longer_there_and_the_rest_shares_its_place() -> None:
    whole = model(1)
    without = whole.without(5)
    for history in HISTORIES:
        if 5 not in history:
            of_whole = behind(whole, *history)
            expected = np.where(EVERY == 5, 0.0, of_whole / (1 - of_whole[5]))
            # Known ones exactly; the others as shorter histories say.
            assert behind(without, *history) == pytest.approx(expected, rel=0.15, abs=1e-3)


def test_renumbered_symbols_follow_each_other_as_before() -> None:
    numbers = np.array([START, *range(VOCAB - 1, 0, -1)])
    before, after = model(1), model(1).renumbered(numbers, VOCAB)
    for history in HISTORIES:
        renumbered = behind(after, *numbers[list(history)])
        assert renumbered[numbers] == pytest.approx(behind(before, *history))


def cost(ngrams: Ngrams, stream: NDArray[np.int64]) -> float:
    """Nats that a symbol takes."""
    padded = np.concatenate([[START], stream])
    keys = (padded[:-2] << ngrams.bits | padded[1:-1]) << ngrams.bits | padded[2:]
    inside = (padded[2:] != START) & (padded[1:-1] != START)
    return float(-np.log(ngrams.prob(keys[inside], 3)).mean())


def test_of_fewer_ngrams_those_are_kept_that_matter() -> None:
    mixed = mix(model(1), model(2), 0.5)
    stream = read(1, drawn=7)
    most = sum(len(order.keys) for order in mixed.longer)
    costs = [cost(prune(mixed, count), stream) for count in (0, most // 8, most // 2, most)]
    assert costs == sorted(costs, reverse=True)
    assert costs[2] - costs[3] < 0.25 * (costs[0] - costs[3]), "half of them know most"
    draw = np.random.default_rng(0)
    pairs = np.sort(draw.choice(mixed.keys(2), most // 8, replace=False))
    at_random = Ngrams(mixed.bits, mixed.unigrams).extended(pairs, mixed.prob(pairs, 2))
    assert costs[1] < cost(at_random, stream)
    thin = prune(mixed, most // 8)
    assert sum(len(order.keys) for order in thin.longer) <= most // 8


def test_what_tells_much_is_kept_with_its_history() -> None:
    """Behind "2 3" there is always 4, though 3 behind 2 tells nothing, and 4 is rare behind 3."""
    unigrams = np.array([0.0, 0.1, 0.3, 0.3, 0.3])
    bits = bits_of(len(unigrams))
    pair, other = 2 << bits | 3, 3 << bits | 1
    ngrams = Ngrams(bits, unigrams).extended(np.array([pair, other]), np.array([0.3, 0.12]))
    ngrams = ngrams.extended(np.array([pair << bits | 4]), np.array([0.9]))
    pruned = prune(ngrams, 2)
    assert pruned.keys(2).tolist() == [pair]
    assert pruned.prob(np.array([pair << bits | 4]), 3) == pytest.approx(0.9)
    assert prune(ngrams, 0).order == 3
    assert not len(prune(ngrams, 0).keys(2))


def test_a_file_expects_what_was_counted() -> None:
    """`pack` and `asr.decoding.ngrams` agree, but for rounding."""
    ngrams = prune(mix(model(1), model(2), 0.5), 400)
    packed = NgramModel.from_arrays(pack(ngrams), "")
    bounds = np.arange(VOCAB + 1, dtype=np.int32)
    for history in HISTORIES:
        place = packed.advance((), history[0]) if history else ()
        for symbol in history[1:]:
            place = packed.advance(place, symbol)
        probs = packed.expected(place).between(bounds)
        expected = behind(ngrams, *history)
        assert probs[1:] == pytest.approx(expected[1:], rel=0.08, abs=2e-4)


def test_counts_of_kneser_and_ney() -> None:
    """By hand: "1 2" twice and "3 2" once; of two different begins of "2", of one of the others."""
    stream = np.array([START, 1, 2, START, 1, 2, START, 3, 2])
    ngrams = count_ngrams(stream, 4, (1, 1))
    # Behind START: 1 twice, 3 once; 2 behind 1 and 3. Unigrams count different begins: 1, 2, 1.
    assert ngrams.unigrams == pytest.approx([0, 1 / 4, 2 / 4, 1 / 4])
    # Too few counts to estimate discounts: half a count each.
    assert behind(ngrams, 3)[2] == pytest.approx(0.5 + 0.5 * 2 / 4)
    assert behind(ngrams, START)[1] == pytest.approx(1.5 / 3 + 1 / 3 * 1 / 4)


def test_discounts_and_cutoffs_of_longer_ngrams() -> None:
    """n1 = 2, n2 = 1, n3 = 1, n4 = 1 of pairs, and three cutoffs: Y = 0.5."""
    sentences = [[1, 2]] * 4 + [[2, 3]] * 3 + [[3, 1]] * 2 + [[1, 3], [3, 2]]
    stream = np.array([symbol for said in sentences for symbol in (START, *said)])
    whole, cut = (count_ngrams(stream, 4, (1, cutoff)) for cutoff in (1, 3))
    assert len(whole.keys(2)) > len(cut.keys(2))
    behind_one = behind(cut, 1)
    assert behind_one[2] == pytest.approx(behind(whole, 1)[2], rel=0.2)
    assert 0 < behind_one[3] < behind(whole, 1)[3], "left to shorter ones"


def test_ngrams_that_no_number_holds_are_refused() -> None:
    stream = np.array([START, *range(2, 200)])
    packed = NgramModel.from_arrays(pack(count_ngrams(stream, 511, (1,) * 7)), "")
    history = packed.advance((), START)
    for symbol in stream[1:].tolist():
        assert packed.expected(history).between(np.arange(512, dtype=np.int32)).argmax() == symbol
        history = packed.advance(history, symbol)
    with pytest.raises(CorpusError, match="n-grams of 513 symbols may have up to 6"):
        count_ngrams(stream, 513, (1,) * 7)


def test_bits_hold_the_last_symbol() -> None:
    assert [bits_of(count) for count in (1, 2, 3, 256, 257)] == [1, 1, 2, 8, 9]
