"""An n-gram model of the tokens, and its fusion with what the transducer believes.

A transducer that has heard tens of hours spells what it hears, and has read too little to know
which spelling is a word. A language model has read more. What both have learned counts once: the
transducer's own language model, what its joiner says of the next label without any sound, is taken
off (HAT, arXiv 2003.07705, section 4).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from asr.arrays import read_arrays
from asr.bundle import Bundle
from asr.decoding.hypothesis import BLANK, UNK
from asr.engines import Engine, Floats
from asr.errors import BundleError

LmState: TypeAlias = tuple[int, ...]
"""Where the model stands: the node of the last token, of the last two, and so on, as far as those
were ever read."""

START = BLANK
"""Stands for the begin of a sentence, as in the predictor's first context; blank is in no text."""

MAX_ORDER = 8

LOG_PROB_STEP = 1 / 16
"""Nats between two of the 256 values that a probability has in a file, e^-16 the least of them."""

_CACHED = 1024
"""Contexts whose distribution is kept, 1 kB each with 256 tokens."""


@dataclass(frozen=True)
class Level:
    """All n-grams of one order, sorted: a level of a trie."""

    tokens: NDArray[np.integer[Any]]  # (M,) the last token of each
    codes: NDArray[np.uint8]  # (M,) its probability, -log(p) / LOG_PROB_STEP
    starts: NDArray[np.int32] | None  # (M + 1,) where in the next level those begin that go on;
    # None: the last level


class NgramModel:
    """What follows the last tokens, by the longest n-gram that was read often enough.

    Probabilities are discounted, and what is left goes to shorter contexts: p(w | h) is what its
    n-gram has, and 1 - sum of all that h has times p(w | h without its first token).
    """

    def __init__(self, levels: Sequence[Level]) -> None:
        """Take the levels of order one and up; the first has each token of the vocabulary."""
        self._levels = levels
        self._probs = np.exp(-LOG_PROB_STEP * np.arange(256))
        self._unigram = self._probs[levels[0].codes]
        self._unigram = self._unigram / self._unigram.sum()
        self.log_probs = lru_cache(maxsize=_CACHED)(self._log_probs)

    @property
    def order(self) -> int:
        """How many tokens its longest n-gram has."""
        return len(self._levels)

    @property
    def vocab_size(self) -> int:
        """How many tokens it knows, blank included."""
        return len(self._unigram)

    @staticmethod
    def from_arrays(arrays: Mapping[str, NDArray[Any]]) -> "NgramModel":
        """Read what `arrays` gives. Raises ValueError for arrays that make no model."""
        levels: list[Level] = []
        count = 1  # of the n-grams that the next level should have
        while f"tokens.{len(levels) + 1}" in arrays:
            order = len(levels) + 1
            tokens = arrays[f"tokens.{order}"]
            codes = arrays.get(f"codes.{order}", tokens[:0])
            if tokens.dtype not in (np.uint8, np.uint16) or codes.dtype != np.uint8:
                raise ValueError(f"order {order}: {tokens.dtype} and {codes.dtype}")
            if tokens.ndim != 1 or tokens.shape != codes.shape:
                raise ValueError(f"order {order}: {tokens.shape} tokens, {codes.shape} codes")
            if order == 1 and not np.array_equal(tokens, np.arange(len(tokens))):
                raise ValueError("order 1 has not each token once")
            if order > 1 and len(tokens) != count:
                raise ValueError(f"order {order}: {len(tokens)} n-grams; {count} were announced")
            starts = None
            if (children := arrays.get(f"children.{order}")) is not None:
                if children.shape != tokens.shape or children.dtype not in (np.uint8, np.uint16):
                    raise ValueError(f"order {order}: children of shape {children.shape}")
                starts = np.zeros(len(children) + 1, np.int32)
                np.cumsum(children, dtype=np.int32, out=starts[1:])
                count = int(starts[-1])
            levels.append(Level(tokens, codes, starts))
        if not 1 <= len(levels) <= MAX_ORDER or not len(levels[0].tokens):
            raise ValueError(f"{len(levels)} orders; expected 1 to {MAX_ORDER}")
        if any((level.starts is None) != (level is levels[-1]) for level in levels):
            raise ValueError("an order is missing")
        if any(level.tokens.max(initial=0) >= len(levels[0].tokens) for level in levels):
            raise ValueError("a token is not in the vocabulary")
        return NgramModel(levels)

    def advance(self, state: LmState, token: int) -> LmState:
        """Return the state behind one more token; a sentence begins with START after `()`."""
        nodes = [token]
        for node, (level, longer) in zip(state, pairwise(self._levels), strict=False):
            assert level.starts is not None
            first, last = level.starts[node], level.starts[node + 1]
            at = first + int(longer.tokens[first:last].searchsorted(token))
            if at == last or longer.tokens[at] != token:
                break
            nodes.append(int(at))
        return tuple(nodes[: self.order - 1])

    def _log_probs(self, state: LmState) -> Floats:
        """Return the log-probability of each token `(vocab_size,)` in a state, read-only."""
        probs = self._unigram.copy()
        for node, (level, longer) in zip(state, pairwise(self._levels), strict=False):
            assert level.starts is not None
            first, last = level.starts[node], level.starts[node + 1]
            if first == last:
                break  # as no longer context goes on either
            known = self._probs[longer.codes[first:last]]
            probs *= max(0.0, 1.0 - float(known.sum()))
            probs[longer.tokens[first:last]] += known
        log_probs = np.log(np.maximum(probs, 1e-12)).astype(np.float32)
        log_probs.flags.writeable = False  # it stays in the cache
        return log_probs


class Fusion:
    """What the language model adds to the score of each label. Streams of a model share it."""

    def __init__(
        self, engine: Engine, model: NgramModel, weight: float, internal_weight: float
    ) -> None:
        """`weight` is that of the log-probabilities of `model`, `internal_weight` of those that are
        taken off: the transducer's own."""
        self._engine, self._model = engine, model
        self._weight, self._internal_weight = weight, internal_weight
        self._internal = lru_cache(maxsize=_CACHED)(self._internal_log_probs)

    @staticmethod
    def of_bundle(bundle: Bundle, engine: Engine) -> "Fusion | None":
        """Return that of a bundle's language model, with an engine of its graphs; None if it has
        none. Raises BundleError for one that can't be used."""
        stated = bundle.language_model
        if stated is None:
            return None
        path = bundle.path / stated.file
        try:
            model = NgramModel.from_arrays(read_arrays(path, bundle.read(stated.file)))
            if model.vocab_size != bundle.model.vocab_size:
                raise ValueError(f"{model.vocab_size} tokens, the graphs {bundle.model.vocab_size}")
        except ValueError as error:
            raise BundleError(
                f"{path}: no language model for this bundle: {error}; export the model again"
            ) from error
        return Fusion(engine, model, stated.weight, stated.internal_weight)

    def with_engine(self, engine: Engine) -> "Fusion":
        """Return the same with another engine of the same graphs."""
        return Fusion(engine, self._model, self._weight, self._internal_weight)

    def advance(self, state: LmState, token: int) -> LmState:
        """Return the state behind one more token."""
        return self._model.advance(state, token)

    def scores(self, state: LmState, context: tuple[int, int]) -> Floats:
        """Return what to add to the log-probability of each token `(vocab_size,)`.

        `context` is the predictor's: the last two tokens.
        """
        scores: Floats = self._weight * self._model.log_probs(state)
        if self._internal_weight:
            scores = scores - self._internal_weight * self._internal(context)
        return scores

    def _internal_log_probs(self, context: tuple[int, int]) -> Floats:
        """What the transducer expects next, if it is a label, without having heard anything."""
        predictor_out = self._engine.predict(np.array([context], dtype=np.int64))
        (log_probs,) = self._engine.join(np.zeros_like(predictor_out), predictor_out)
        labels = log_probs[UNK:]
        internal = log_probs - (labels.max() + np.log(np.exp(labels - labels.max()).sum()))
        internal[BLANK] = 0.0
        return internal
