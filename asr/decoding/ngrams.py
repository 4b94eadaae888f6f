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

_LEAST_REST = 1e-4
"""Of the probability, what is left to shorter histories at least: rounded ones may exceed one."""

_CACHED = 256
"""Histories whose expectation is kept: some kB each, up to 300 for the most frequent words."""


@dataclass(frozen=True)
class Level:
    """All n-grams of one order, sorted: a level of a trie."""

    symbols: NDArray[np.integer[Any]]  # (M,) the last symbol of each
    codes: NDArray[np.uint8]  # (M,) its probability, -log(p) / LOG_PROB_STEP
    starts: NDArray[np.int32] | None  # (M + 1,) where in the next level those begin that go on;
    # None: the last level


@dataclass(frozen=True)
class Expectation:
    """The probabilities of all symbols behind a history, as sums: a range of symbols costs no more
    than one of them."""

    rest: float  # the weight of the unigram
    unigram_sums: NDArray[np.float64]  # (vocab_size + 1,)
    known: list[tuple[NDArray[np.int32], NDArray[np.float64]]]  # of each order above one,
    # the symbols that were read there (K,), and the sums of what they have (K + 1,)

    def below(self, bounds: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability `(B,)` of all symbols less than each bound, 0 to vocab_size."""
        sums: NDArray[np.float64] = self.rest * self.unigram_sums[bounds]
        for symbols, part in self.known:
            sums += part[symbols.searchsorted(bounds)]
        return sums

    def between(self, bounds: NDArray[np.int32] | NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the probability `(B - 1,)` of the symbols between each two bounds."""
        return np.diff(self.below(bounds)).clip(0.0)


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
        self.expected = lru_cache(maxsize=_CACHED)(self._expected)

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
            codes = arrays.get(f"{prefix}codes.{order}", symbols[:0])
            if symbols.dtype not in (np.uint8, np.uint16) or codes.dtype != np.uint8:
                raise ValueError(f"{prefix}{order}: {symbols.dtype} and {codes.dtype}")
            if symbols.ndim != 1 or symbols.shape != codes.shape:
                raise ValueError(f"{prefix}{order}: {symbols.shape} symbols, {codes.shape} codes")
            if order == 1 and not np.array_equal(symbols, np.arange(len(symbols))):
                raise ValueError(f"{prefix}1 has not each symbol once")
            if order > 1 and len(symbols) != count:
                raise ValueError(f"{prefix}{order}: {len(symbols)} n-grams; {count} were announced")
            starts = None
            if (children := arrays.get(f"{prefix}children.{order}")) is not None:
                if children.shape != symbols.shape or children.dtype not in (np.uint8, np.uint16):
                    raise ValueError(f"{prefix}{order}: children of shape {children.shape}")
                starts = np.zeros(len(children) + 1, np.int32)
                np.cumsum(children, dtype=np.int32, out=starts[1:])
                count = int(starts[-1])
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

    def _expected(self, history: History) -> Expectation:
        """Return what may follow a history."""
        rest = 1.0
        known: list[tuple[NDArray[np.int32], NDArray[np.float64]]] = []
        for node, (level, longer) in zip(history, pairwise(self._levels), strict=False):
            assert level.starts is not None
            first, last = level.starts[node], level.starts[node + 1]
            if first == last:
                break  # as no longer history goes on either
            sums = np.concatenate([[0.0], np.cumsum(self._probs[longer.codes[first:last]])])
            left = max(_LEAST_REST, 1.0 - float(sums[-1]))
            rest *= left
            known = [(symbols, part * left) for symbols, part in known]
            # Of one type with the bounds, or each look-up would convert them all.
            known.append((longer.symbols[first:last].astype(np.int32), sums))
        return Expectation(rest, self._unigram_sums, known)
