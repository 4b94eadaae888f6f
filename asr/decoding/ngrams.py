"""N-grams: what is expected behind a history, by the longest part of it that was read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

History: TypeAlias = tuple[int, ...]
"""Where a model stands: the node of the last symbol, of the last two, and so on, as far as those
were ever read."""

START = 0
"""The symbol before the first one; never expected."""

MAX_ORDER = 8

LOG_PROB_STEP = 1 / 16
"""Nats between two of the 256 values that a probability has in a file, e^-16 the least of them."""

_LEAST_LEFT = 1e-4
"""Of the probability, what is left to shorter histories at least: rounded ones may exceed one."""

_CACHED = 256
"""Histories of which is kept what was read behind them: 12 bytes for each symbol, most often some
hundreds, and 300 kB for the most frequent words."""


@dataclass(frozen=True)
class Level:
    """All n-grams of one order, sorted: a level of a trie."""

    symbols: NDArray[np.integer[Any]]  # (M,) the last symbol of each
    codes: NDArray[np.uint8]  # (M,) its probability, -log(p) / LOG_PROB_STEP
    starts: NDArray[np.int32] | None  # (M + 1,) where in the next level those begin that go on;
    # None: the last level


@dataclass(frozen=True)
class Known:
    """What was read behind one history, as sums: a range of symbols costs no more than one."""

    symbols: NDArray[np.int32]  # (K,) rising
    sums: NDArray[np.float64]  # (K + 1,) of the probabilities of those before each, from 0
    left: float  # of the probability, to shorter histories


@dataclass(frozen=True)
class Expectation:
    """The probabilities of all symbols behind a history: the weighted sum of what each part of it
    knows, and of the unigram."""

    unigram_sums: NDArray[np.float64]  # (vocab_size + 1,)
    unigram_weight: float
    known: list[tuple[Known, float]]  # of each order above one, and its weight

    def between(self, bounds: NDArray[np.int32]) -> NDArray[np.float64]:
        """Return the probability `(B - 1,)` of the symbols from each bound, 0 to vocab_size, to
        before the next."""
        # Each part by itself: in a sum of all, the great ones would swallow the small ones.
        probs: NDArray[np.float64] = self.unigram_weight * np.diff(self.unigram_sums[bounds])
        for known, weight in self.known:
            probs += weight * np.diff(known.sums[known.symbols.searchsorted(bounds)])
        return probs


class NgramModel:
    """What follows the last symbols, by the longest n-gram that was read often enough.

    Probabilities are discounted, and what is left goes to shorter histories: p(w | h) is what its
    n-gram has, and 1 - sum of all that h has times p(w | h without its first symbol).
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        """Take the levels of order one and up; the first has each symbol."""
        self._levels = levels
        self._probs = np.exp(-LOG_PROB_STEP * np.arange(256))
        sums = np.concatenate([[0.0], np.cumsum(self._probs[levels[0].codes])])
        self._unigram_sums = sums / sums[-1]
        self._known = lru_cache(maxsize=_CACHED)(self._read_known)

    @property
    def order(self) -> int:
        """How many symbols its longest n-gram has."""
        return len(self._levels)

    @property
    def vocab_size(self) -> int:
        """How many symbols there are, START included."""
        return len(self._levels[0].symbols)

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]], prefix: str) -> "NgramModel":
        """Read the `arrays` whose names begin with `prefix`. Raises ValueError for those that make
        no model."""
        levels: list[Level] = []
        count = 1  # of the n-grams that the next level should have
        while f"{prefix}symbols.{len(levels) + 1}" in arrays:
            order = len(levels) + 1
            symbols = arrays[f"{prefix}symbols.{order}"]
            codes = arrays.get(f"{prefix}codes.{order}", np.empty(0, np.uint8))
            if symbols.dtype not in (np.uint8, np.uint16) or codes.dtype != np.uint8:
                raise ValueError(f"{prefix}{order}: {symbols.dtype} and {codes.dtype}")
            if symbols.ndim != 1 or symbols.shape != codes.shape:
                raise ValueError(f"{prefix}{order}: {symbols.shape} symbols, {codes.shape} codes")
            if order == 1 and not np.array_equal(symbols, np.arange(len(symbols))):
                raise ValueError(f"{prefix}1 has not each symbol once")
            if order > 1 and len(symbols) != count:
                raise ValueError(f"{prefix}{order}: {len(symbols)} n-grams; {count} were announced")
            if order > 1 and not _rise(symbols, levels[-1].starts):
                raise ValueError(f"{prefix}{order}: the symbols behind a history do not rise")
            starts = None
            if (children := arrays.get(f"{prefix}children.{order}")) is not None:
                if children.shape != symbols.shape or children.dtype not in (np.uint8, np.uint16):
                    raise ValueError(f"{prefix}{order}: children of shape {children.shape}")
                count = int(children.sum(dtype=np.int64))
                if count > np.iinfo(np.int32).max:
                    raise ValueError(f"{prefix}{order + 1}: {count} n-grams are too many")
                starts = np.zeros(len(children) + 1, np.int32)
                np.cumsum(children, dtype=np.int32, out=starts[1:])
            levels.append(Level(symbols, codes, starts))
        if not 1 <= len(levels) <= MAX_ORDER or not len(levels[0].symbols):
            raise ValueError(f"{prefix}: {len(levels)} orders; expected 1 to {MAX_ORDER}")
        if any((level.starts is None) != (level is levels[-1]) for level in levels):
            raise ValueError(f"{prefix}: an order is missing")
        if any(level.symbols.max(initial=0) >= len(levels[0].symbols) for level in levels):
            raise ValueError(f"{prefix}: a symbol is not in the vocabulary")
        return NgramModel(levels)

    def advance(self, history: History, symbol: int) -> History:
        """Return the history with one more symbol; the first is START, behind `()`."""
        nodes = [symbol]
        for node, (level, longer) in zip(history, pairwise(self._levels), strict=False):
            assert level.starts is not None
            first, last = level.starts[node], level.starts[node + 1]
            at = first + int(longer.symbols[first:last].searchsorted(symbol))
            if at == last or longer.symbols[at] != symbol:
                break
            nodes.append(int(at))
        return tuple(nodes[: self.order - 1])

    def expected(self, history: History) -> Expectation:
        """Return what may follow a history."""
        weight = 1.0
        known: list[tuple[Known, float]] = []
        for order, node in reversed(list(enumerate(history))):
            if (of_node := self._known(order, node)) is not None:
                known.append((of_node, weight))
                weight *= of_node.left
        return Expectation(self._unigram_sums, weight, known)

    def _read_known(self, order: int, node: int) -> Known | None:
        """Return what was read behind a node; None if nothing was."""
        starts = self._levels[order].starts
        assert starts is not None
        first, last = starts[node], starts[node + 1]
        if first == last:
            return None
        longer = self._levels[order + 1]
        sums = np.concatenate([[0.0], np.cumsum(self._probs[longer.codes[first:last]])])
        # Of one type with the bounds, or each look-up would convert them all.
        symbols = longer.symbols[first:last].astype(np.int32)
        return Known(symbols, sums, max(_LEAST_LEFT, 1.0 - float(sums[-1])))


def _rise(symbols: NDArray[np.integer[Any]], starts: NDArray[np.int32] | None) -> bool:
    """Say whether the symbols behind each history rise, none of them START."""
    if starts is None or not len(symbols):
        return True
    first = np.zeros(len(symbols), np.bool_)
    first[starts[:-1][starts[:-1] < starts[1:]]] = True
    rises = symbols[1:] > symbols[:-1]
    return bool((rises | first[1:]).all() and symbols.min() > START)
