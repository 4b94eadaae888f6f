"""A model of words, asked for tokens: what has been read knows which spellings are words."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from asr.decoding.hypothesis import UNK
from asr.decoding.ngrams import START, History, NgramModel
from asr.engines import Floats

UNKNOWN = 1
"""The symbol, among the words, of all that are not known by themselves. Words begin behind it."""

END = UNK
"""Stands behind the last token of a word; `<unk>` is in none."""

LONGEST_SPELLING = 32
"""Tokens of a known word: all words take the place of the longest."""

_CACHED = 1024
"""States whose distribution is kept: 1 to 2 kB each with 256 tokens."""

_LEAST_PROBABILITY = 1e-12

_ONLY_UNKNOWN = np.array([UNKNOWN, UNKNOWN + 1], np.int32)


class LmState(NamedTuple):
    """A place in a sentence: the words that were said, and the tokens of the one that was begun."""

    history: History  # of words, without that one
    first: int  # the known words that begin with its tokens: these
    last: int  # and up to here
    tokens: int  # how many it has
    unknown: float  # the probability that it is not a known word and is spelled like that; 1 if no
    # known word is
    spelling: History  # of its tokens


class LanguageModel:
    """The probability of a token: that of all words that it may go on to.

    Word n-grams know much in little space, but a search asks after each token. The known words are
    sorted by their spellings, so that those which begin alike are a range, and the n-grams give the
    probability of a range of words as fast as that of one. A word that is not known is spelled by
    n-grams of tokens, with the probability that the word n-grams leave to it. Both are added up, so
    that the tokens of a known word have exactly its probability, and those of another way to spell
    it. What can't be, such as the end of a word without any token, is left to the others.
    """

    def __init__(
        self,
        words: NgramModel,
        spelling: NgramModel,
        spelled: NDArray[np.integer[Any]],
        begins: NDArray[np.bool_],
    ) -> None:
        """Take two models that fit each other; see `from_arrays`.

        spelled: `(words, longest)` the tokens of each known word, END behind them; sorted.
        begins: `(vocab_size,)` the tokens that begin a word.
        """
        self._words, self._spelling, self._begins = words, spelling, begins
        ends = np.full((len(spelled), 1), END, spelled.dtype)
        self._columns = np.ascontiguousarray(np.hstack([spelled, ends]).T)
        self._tokens = np.arange(len(begins), dtype=spelled.dtype)
        self._all_tokens = np.arange(len(begins) + 1, dtype=np.int32)
        self._bounds = lru_cache(maxsize=_CACHED)(self._find_bounds)
        self._spell = lru_cache(maxsize=_CACHED)(self._spelling_probs)
        self._begin = lru_cache(maxsize=_CACHED)(self._begin_probs)
        self.log_probs = lru_cache(maxsize=_CACHED)(self._log_probs)

    @property
    def vocab_size(self) -> int:
        """How many tokens there are."""
        return len(self._begins)

    @staticmethod
    def from_arrays(
        arrays: Mapping[str, NDArray[Any]], begins: NDArray[np.bool_]
    ) -> "LanguageModel":
        """Read what `training.language_model` wrote: `lengths` and `tokens` of the known words, and
        the n-grams `words.*` and `spelling.*`. Raises ValueError for arrays that make no model of
        these tokens."""
        spelling = NgramModel.from_arrays(arrays, "spelling.")
        if spelling.vocab_size != len(begins):
            raise ValueError(f"{spelling.vocab_size} tokens, the graphs {len(begins)}")
        words = NgramModel.from_arrays(arrays, "words.")
        spelled = _spelled(arrays, words.vocab_size - UNKNOWN - 1, len(begins))
        return LanguageModel(words, spelling, spelled, begins)

    def advance(self, state: LmState | None, token: int) -> LmState:
        """Return the state behind one more token; behind None, that at the begin of a sentence."""
        if state is None:
            return self._next_word(self._words.advance((), START))
        if self._begins[token] and state.tokens:
            state = self._next_word(self._with_word(state))
        bounds = self._bounds(state.first, state.last, state.tokens)
        first, last = int(bounds[token]), int(bounds[token + 1])
        unknown = state.unknown * float(self._spell(state.spelling)[token])
        if first == last:
            first, last, unknown = 0, 0, 1.0
        spelling = self._spelling.advance(state.spelling, token)
        return LmState(state.history, first, last, state.tokens + 1, unknown, spelling)

    def _log_probs(self, state: LmState) -> Floats:
        """Return the log-probability of each token `(vocab_size,)` in a state, read-only."""
        if state.tokens:
            probs = self._token_probs(state)
            end, probs[END] = probs[END], 0.0
            if end:
                probs += end * self._begin(self._with_word(state))
        else:
            probs = self._begin(state.history)
        log_probs = log_probs_of(probs)
        log_probs.flags.writeable = False  # it stays in the cache
        return log_probs

    def _token_probs(self, state: LmState) -> NDArray[np.float64]:
        """Return the probability of each token in the word, of END too, `(vocab_size,)`."""
        probs = state.unknown * self._spell(state.spelling)
        if state.first < state.last:
            bounds = self._bounds(state.first, state.last, state.tokens)
            probs += self._words.expected(state.history).between(bounds + UNKNOWN + 1)
        if state.tokens:
            probs[self._begins] = 0.0
        else:
            probs[END] = 0.0
        probs /= probs.sum()
        return probs

    def _begin_probs(self, history: History) -> NDArray[np.float64]:
        return self._token_probs(self._next_word(history))

    def _next_word(self, history: History) -> LmState:
        """Return the state before the first token of a word."""
        unknown = float(self._words.expected(history).between(_ONLY_UNKNOWN)[0])
        known = self._columns.shape[1]
        return LmState(history, 0, known, 0, unknown, self._spelling.advance((), START))

    def _with_word(self, state: LmState) -> History:
        """Return the history with the word that a state has the tokens of."""
        bounds = self._bounds(state.first, state.last, state.tokens)
        known = bounds[END] < bounds[END + 1]
        word = int(bounds[END]) + UNKNOWN + 1 if known else UNKNOWN
        return self._words.advance(state.history, word)

    def _find_bounds(self, first: int, last: int, tokens: int) -> NDArray[np.int32]:
        """Return, of the words of a range, where those begin that go on with each token, and where
        the last of them ends, `(vocab_size + 1,)`."""
        bounds = np.full(self.vocab_size + 1, last, np.int32)
        if first < last:
            bounds[:-1] = first + self._columns[tokens, first:last].searchsorted(self._tokens)
        return bounds

    def _spelling_probs(self, spelling: History) -> NDArray[np.float64]:
        return self._spelling.expected(spelling).between(self._all_tokens)


def log_probs_of(probs: NDArray[np.float64]) -> Floats:
    """Return the logarithms of probabilities, of which none is impossible."""
    log_probs: Floats = np.log(np.maximum(probs, _LEAST_PROBABILITY)).astype(np.float32)
    return log_probs


def _spelled(arrays: Mapping[str, NDArray[Any]], words: int, vocab_size: int) -> NDArray[Any]:
    """Return the tokens of each word in a row, END behind them."""
    lengths, tokens = arrays.get("lengths"), arrays.get("tokens")
    if lengths is None or tokens is None:
        raise ValueError("the spellings of its words are missing")
    if lengths.dtype != np.uint8 or tokens.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"spellings of {lengths.dtype} and {tokens.dtype}")
    if lengths.shape != (words,):
        raise ValueError(f"n-grams of {words} known words; {lengths.shape} are spelled")
    if tokens.shape != (lengths.sum(dtype=np.int64),):
        raise ValueError(f"{tokens.shape} tokens of words; their lengths are others")
    longest = int(lengths.max(initial=0))
    if longest > LONGEST_SPELLING:
        raise ValueError(f"a word of {longest} tokens; expected up to {LONGEST_SPELLING}")
    if tokens.min(initial=END + 1) <= END or tokens.max(initial=0) >= vocab_size:
        raise ValueError("a word has a token that is not in the vocabulary")
    if vocab_size - 1 > np.iinfo(tokens.dtype).max:
        raise ValueError(f"tokens of {tokens.dtype} for a vocabulary of {vocab_size}")
    spelled = np.full((words, longest), END, tokens.dtype)
    spelled[np.arange(longest) < lengths[:, None]] = tokens
    if longest:
        rows = spelled.astype(">u2").view(f"S{2 * longest}")
        if (rows[:-1] >= rows[1:]).any():
            raise ValueError("its words are not sorted by their tokens")
    return spelled
