"""N-grams in the making: counted, mixed, pruned, and packed for `asr.decoding.ngrams`."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from asr.decoding.ngrams import LOG_PROB_STEP, START
from asr.errors import CorpusError

_BITS = 63
"""Of the number that stands for an n-gram."""

_BEGINS = 1 / 16
"""Of all words, those that begin a sentence, about: only their order of magnitude matters."""

_LEAST = 1e-9
"""Probabilities below are none: sums of rounded ones may exceed one."""


@dataclass(frozen=True)
class Order:
    """The n-grams of one order above one, and the weights of shorter ones."""

    keys: NDArray[np.int64]  # (M,) rising; each one number, whose last `bits` are its last symbol
    probs: NDArray[np.float64]  # (M,) of the last symbol behind the others
    histories: NDArray[np.int64]  # (H,) rising; all that have one
    backoffs: NDArray[np.float64]  # (H,) factors of the probabilities of shorter n-grams


@dataclass(frozen=True)
class Ngrams:
    """What follows what, as in an ARPA file: the probabilities of the n-grams that are known.

    Any other has that of the n-gram without its first symbol, times what makes all those behind its
    history sum to one.
    """

    bits: int  # of a symbol
    unigrams: NDArray[np.float64]  # (vocab_size,) of each symbol; START's is 0
    longer: tuple[Order, ...] = ()  # of the orders two and up

    @property
    def order(self) -> int:
        """How many symbols the longest have."""
        return len(self.longer) + 1

    def keys(self, order: int) -> NDArray[np.int64]:
        """Return the n-grams of an order, all symbols for the first."""
        return self.longer[order - 2].keys if order > 1 else np.arange(len(self.unigrams))

    def without_first(self, keys: NDArray[np.int64], order: int) -> NDArray[np.int64]:
        """Return the n-grams of an order without their first symbols."""
        return keys & ((1 << (order - 1) * self.bits) - 1)

    def last(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the last symbols of n-grams."""
        return keys & ((1 << self.bits) - 1)

    def extended(self, keys: NDArray[np.int64], probs: NDArray[np.float64]) -> "Ngrams":
        """Return the model with n-grams of one order more, but for those whose history is none."""
        known = _find(self.keys(self.order), keys >> self.bits)[1]
        keys, probs = keys[known], probs[known]
        histories, begins, of_history = np.unique(
            keys >> self.bits, return_index=True, return_inverse=True
        )
        shorter = self.prob(self.without_first(keys, self.order + 1), self.order)
        rest, sums = 1.0 - _sums(shorter, begins), _sums(probs, begins)
        # Known ones share all where nothing else can follow, and where they claim more than that.
        all_known = rest < _LEAST
        scale = np.where(all_known | (sums > 1.0), 1.0 / sums.clip(_LEAST), 1.0)
        probs = probs * scale[of_history]
        backoffs = (1.0 - scale * sums).clip(_LEAST) / rest.clip(_LEAST)
        if all_known.any():  # then any would do that leaves each something: see `pack`
            ratios = np.minimum.reduceat(probs / shorter.clip(_LEAST), begins)
            backoffs = np.where(all_known, ratios.clip(_LEAST, 1.0), backoffs)
        return replace(self, longer=(*self.longer, Order(keys, probs, histories, backoffs)))

    def prob(self, keys: NDArray[np.int64], order: int) -> NDArray[np.float64]:
        """Return the probability `(N,)` of any n-grams `(N,)` of an order."""
        if order == 1:
            return self.unigrams[keys]
        shorter = self.shorter_prob(keys, order)
        if order > self.order:
            return shorter
        at, known = _find(self.keys(order), keys)
        if not known.any():
            return shorter
        return np.where(known, self.longer[order - 2].probs[at], shorter)

    def shorter_prob(self, keys: NDArray[np.int64], order: int) -> NDArray[np.float64]:
        """Return the probability `(N,)` that n-grams `(N,)` of an order above one would have if
        they were not known."""
        probs = self.prob(self.without_first(keys, order), order - 1)
        if order > self.order or not len(self.longer[order - 2].keys):
            return probs
        of_order = self.longer[order - 2]
        at, known = _find(of_order.histories, keys >> self.bits)
        return np.where(known, of_order.backoffs[at], 1.0) * probs

    def without(self, symbol: int) -> "Ngrams":
        """Return what follows if `symbol` does not."""
        keep = np.arange(len(self.unigrams)) != symbol
        found = replace(
            self, unigrams=self.unigrams * keep / (1.0 - self.unigrams[symbol]), longer=()
        )
        for order in range(2, self.order + 1):
            keys = self.keys(order)
            other = self.prob(keys >> self.bits << self.bits | symbol, order).clip(0.0, 0.99)
            keep = self.last(keys) != symbol
            found = found.extended(keys[keep], (self.longer[order - 2].probs / (1.0 - other))[keep])
        return found

    def renumbered(self, numbers: NDArray[np.int64], vocab_size: int) -> "Ngrams":
        """Return the model of symbols with other numbers, `numbers` `(old vocab_size,)`.

        Those that share a number are added up; n-grams that have one of them are left out, as are
        those of an order that no number holds.
        """
        bits = bits_of(vocab_size)
        unigrams = np.bincount(numbers, self.unigrams, vocab_size)
        unigrams[START] = 0.0
        found = Ngrams(bits, unigrams / unigrams.sum())
        alone = np.bincount(numbers, minlength=vocab_size) == 1
        for order in range(2, min(self.order, longest_order(vocab_size)) + 1):
            places = [numbers[symbols] for symbols in self._symbols(order)]
            keep = places[-1] != START
            keys = np.zeros(len(keep), np.int64)
            for place in places:
                keep &= alone[place]
                keys = keys << bits | place
            rising = np.flatnonzero(keep)[np.argsort(keys[keep])]
            found = found.extended(keys[rising], self.longer[order - 2].probs[rising])
        return found

    def _symbols(self, order: int) -> list[NDArray[np.int64]]:
        """Return the first symbols of the n-grams of an order, the second ones, and so on."""
        keys, mask = self.keys(order), (1 << self.bits) - 1
        return [keys >> back * self.bits & mask for back in range(order - 1, -1, -1)]


def bits_of(vocab_size: int) -> int:
    """Return how many bits a symbol takes."""
    return max(1, (vocab_size - 1).bit_length())


def longest_order(vocab_size: int) -> int:
    """Return how many of so many symbols a number holds."""
    return _BITS // bits_of(vocab_size)


def count_ngrams(stream: NDArray[np.int64], vocab_size: int, cutoffs: Sequence[int]) -> Ngrams:
    """Return the n-grams of symbols `(N,)` that were read as often as `cutoffs` of each order say.

    START stands before each sentence. By modified Kneser-Ney smoothing (Chen and Goodman 1998):
    each n-gram that is kept gives up a part of its count, and what is not kept all of it, to what
    its shorter history expects; and a shorter one counts not how often it was read, but behind how
    many different symbols. Raises CorpusError for more cutoffs than n-grams of so many symbols can
    have.
    """
    bits = bits_of(vocab_size)
    if (longest := longest_order(vocab_size)) < len(cutoffs):
        raise CorpusError(
            f"{len(cutoffs)} cutoffs; n-grams of {vocab_size} symbols may have up to {longest}: "
            "give fewer, or, without a model to mix with, a higher first one, for fewer words"
        )
    sentence = np.cumsum(stream == START)
    counted = [_count(stream, sentence, order, bits) for order in range(1, len(cutoffs) + 1)]
    weights = [
        _continuations(keys, counts, longer, order, bits)
        for order, ((keys, counts), (longer, _)) in enumerate(pairwise(counted), 1)
    ]
    weights.append(counted[-1][1])
    unigrams = np.zeros(vocab_size)
    unigrams[counted[0][0]] = weights[0] / weights[0].sum()
    found = Ngrams(bits, unigrams)
    for order in range(2, len(cutoffs) + 1):
        (keys, counts), of_order = counted[order - 1], weights[order - 1]
        histories, begins, of_history = np.unique(
            keys >> bits, return_index=True, return_inverse=True
        )
        totals = np.add.reduceat(of_order, begins)
        probs = (of_order - _discounts(of_order)[of_order.clip(0, 3)]) / totals[of_history]
        # And so was the history of each: the last cutoff was no higher.
        kept = counts >= cutoffs[order - 1]
        left = 1.0 - np.bincount(of_history[kept], probs[kept], len(histories))
        keys, of_history = keys[kept], of_history[kept]
        shorter = found.prob(found.without_first(keys, order), order - 1)
        found = found.extended(keys, probs[kept] + left[of_history] * shorter)
    return found


def mix(first: Ngrams, second: Ngrams, share: float) -> Ngrams:
    """Return what two models of the same symbols expect, the first weighted `share`: the n-grams of
    both, with the mean of their probabilities."""
    found = Ngrams(first.bits, share * first.unigrams + (1 - share) * second.unigrams)
    for order in range(2, max(first.order, second.order) + 1):
        known = [model.keys(order) for model in (first, second) if order <= model.order]
        keys = np.unique(np.concatenate(known))
        probs = share * first.prob(keys, order) + (1 - share) * second.prob(keys, order)
        found = found.extended(keys, probs)
    return found


def prune(ngrams: Ngrams, most: int) -> Ngrams:
    """Return a model of no more than `most` n-grams above order one: those without which the
    perplexity would rise most, and their histories.

    After Seymore and Rosenfeld (1996), with the model's own probabilities of histories in place of
    their counts. N-grams that are less probable than the shorter ones say are left out in any case;
    of those that tell as much as the first that is left out, none is kept.
    """
    expected = ngrams.unigrams.copy()  # how often an n-gram is there
    expected[START] = _BEGINS
    histories: list[NDArray[np.int64]] = []  # where those of each are, one order below
    gains: list[NDArray[np.float64]] = []
    for order, of_order in enumerate(ngrams.longer, 2):
        at, _ = _find(ngrams.keys(order - 1), of_order.keys >> ngrams.bits)
        expected = expected[at] * of_order.probs
        ratio = of_order.probs / ngrams.shorter_prob(of_order.keys, order).clip(_LEAST)
        gains.append(expected * np.log(ratio.clip(_LEAST)))
        histories.append(at)
    # A history gains at least what those behind it do.
    for at, gain, before in reversed(list(zip(histories[1:], gains[1:], gains, strict=False))):
        np.maximum.at(before, at, gain)
    falling = -np.sort(-np.concatenate([np.empty(0), *gains]))
    least = max(0.0, float(falling[most])) if most < len(falling) else 0.0
    pruned = replace(ngrams, longer=())
    for of_order, gain in zip(ngrams.longer, gains, strict=True):
        pruned = pruned.extended(of_order.keys[gain > least], of_order.probs[gain > least])
    return pruned


def pack(ngrams: Ngrams) -> dict[str, NDArray]:
    """Return the arrays of `asr.decoding.ngrams.NgramModel.from_arrays`.

    Of each n-gram they hold what it has above what is left to shorter ones; one that has less, kept
    as the history of others, is raised to that.
    """
    small = _smallest(len(ngrams.unigrams) - 1)
    arrays: dict[str, NDArray] = {}
    for order in range(1, ngrams.order + 1):
        keys, probs = ngrams.keys(order), ngrams.unigrams
        if order > 1:
            probs = ngrams.longer[order - 2].probs - ngrams.shorter_prob(keys, order)
            histories, before = keys >> ngrams.bits, ngrams.keys(order - 1)
            children = np.searchsorted(histories, before, "right")
            children -= np.searchsorted(histories, before)
            fitting = _smallest(children.max(initial=0))
            arrays[f"children.{order - 1}"] = children.astype(fitting)
        arrays[f"symbols.{order}"] = ngrams.last(keys).astype(small)
        arrays[f"codes.{order}"] = codes_of(probs)
    return arrays


def codes_of(probs: NDArray[np.float64]) -> NDArray[np.uint8]:
    """Return the values that stand for probabilities in a file."""
    codes: NDArray[np.float64] = np.round(-np.log(probs.clip(_LEAST)) / LOG_PROB_STEP)
    return codes.clip(0, 255).astype(np.uint8)


def _find(
    rising: NDArray[np.int64], wanted: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return where numbers are, or would be, and whether they are there."""
    at = np.searchsorted(rising, wanted)
    if not len(rising):
        return at, np.zeros(len(wanted), np.bool_)
    at = at.clip(max=len(rising) - 1)
    return at, rising[at] == wanted


def _sums(values: NDArray[np.float64], begins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the sum from each of `begins` to the next."""
    return np.add.reduceat(values, begins) if len(begins) else np.empty(0)


def _count(
    stream: NDArray[np.int64], sentence: NDArray[np.int64], order: int, bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the n-grams of an order, and how often each is there. A START is only ever the first
    of its symbols."""
    last = np.arange(order - 1, len(stream))
    inside = (sentence[last] == sentence[last - order + 1]) & (stream[last] != START)
    last = last[inside]
    keys = np.zeros(len(last), np.int64)
    for back in range(order - 1, -1, -1):
        keys = keys << bits | stream[last - back]
    return np.unique(keys, return_counts=True)


def _continuations(
    keys: NDArray[np.int64],
    counts: NDArray[np.int64],
    longer: NDArray[np.int64],
    order: int,
    bits: int,
) -> NDArray[np.int64]:
    """Return the continuation count of each n-gram, behind how many different symbols it was read:
    of `longer`, those of the next order, how many end with it. Of one that begins a sentence,
    return how often."""
    ends, different = np.unique(longer & ((1 << order * bits) - 1), return_counts=True)
    weights = counts.copy()
    weights[np.searchsorted(keys, ends)] = different
    return weights


def _discounts(weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what n-grams of weight 0, 1, 2, and 3 or more give up."""
    once, twice, thrice, often = ((weights == times).sum() for times in (1, 2, 3, 4))
    if not (once and twice and thrice and often):
        return np.array([0.0, 0.5, 0.5, 0.5])
    one = once / (once + 2 * twice)
    ratios = np.array([twice / once, thrice / twice, often / thrice])
    times = np.array([1, 2, 3])
    given = (times - (times + 1) * one * ratios).clip(0.1, 0.95 * times)
    return np.concatenate([[0.0], given])


def _smallest(largest: int) -> type[np.unsignedinteger]:
    return np.uint8 if largest < 256 else np.uint16
