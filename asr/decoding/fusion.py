"""What a language model and the transducer believe together.

A transducer that has heard tens of hours spells what it hears, and has read too little to know
which spelling is a word. A language model has read more. What both have learned counts once: the
transducer's own language model is taken off. It is what its joiner says of the next label without
any sound (HAT, arXiv 2003.07705, section 4), and what pairs of tokens in the transcripts that it
learned from say (the low-order density ratio of arXiv 2203.16776): both together do better than
either.
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.arrays import read_arrays
from asr.bundle import Bundle, LanguageModelFile
from asr.decoding.hypothesis import UNK
from asr.decoding.language_model import LanguageModel, LmState, log_probs_of
from asr.decoding.ngrams import NgramModel
from asr.engines import Engine, Floats
from asr.errors import BundleError
from asr.transcript import WORD_START

_CACHED = 4096
"""Contexts whose distribution is kept, 1 kB each with 256 tokens."""


class Fusion:
    """What the language model adds to the score of each label. Streams of a model share it."""

    def __init__(
        self,
        engine: Engine,
        model: LanguageModel,
        stated: LanguageModelFile,
        transcripts: NgramModel | None = None,
    ) -> None:
        """`stated` has the weights: of the log-probabilities of `model`, and of what is taken off,
        the transducer's own and those of pairs of tokens in `transcripts`, if there are any."""
        self._engine, self._model = engine, model
        self._stated, self._transcripts = stated, transcripts
        self._own = lru_cache(maxsize=_CACHED)(self._own_scores)

    @staticmethod
    def of_bundle(bundle: Bundle, engine: Engine) -> "Fusion | None":
        """Return that of a bundle's language model, with an engine of its graphs; None if it has
        none. Raises BundleError for one that can't be used."""
        stated = bundle.language_model
        if stated is None:
            return None
        path = bundle.path / stated.file
        begins = np.array([piece.startswith(WORD_START) for piece in bundle.read_tokens()])
        try:
            arrays = read_arrays(path, bundle.read(stated.file))
            model = LanguageModel.from_arrays(arrays, begins)
            transcripts = _transcripts(arrays, len(begins))
        except ValueError as error:
            raise BundleError(
                f"{path}: no language model for this bundle: {error}; count it again "
                "(asr-train language-model), and export the model again"
            ) from error
        return Fusion(engine, model, stated, transcripts)

    def with_engine(self, engine: Engine) -> "Fusion":
        """Return the same with another engine of the same graphs."""
        return Fusion(engine, self._model, self._stated, self._transcripts)

    def advance(self, state: LmState | None, token: int) -> LmState:
        """See `LanguageModel.advance`."""
        return self._model.advance(state, token)

    def scores(self, state: LmState, context: tuple[int, int]) -> Floats:
        """Return what to add to the log-probability of each label `(vocab_size,)`.

        `context` is the predictor's: the last two tokens.
        """
        return self._stated.weight * self._model.log_probs(state) - self._own(context)

    def _own_scores(self, context: tuple[int, int]) -> Floats:
        """Return what is taken off `(vocab_size,)`."""
        scores: Floats = self._stated.internal_weight * self._internal_log_probs(context)
        if self._transcripts is not None:
            pairs = self._transcripts.expected(self._transcripts.advance((), context[1]))
            probs = pairs.between(np.arange(len(scores) + 1, dtype=np.int32))
            scores += self._stated.transcript_weight * log_probs_of(probs)
        return scores

    def _internal_log_probs(self, context: tuple[int, int]) -> Floats:
        """What the transducer expects next, if it is a label, without having heard anything."""
        predictor_out = self._engine.predict(np.array([context], dtype=np.int64))
        (log_probs,) = self._engine.join(np.zeros_like(predictor_out), predictor_out)
        labels = log_probs[UNK:]
        return log_probs - (labels.max() + np.log(np.exp(labels - labels.max()).sum()))


def _transcripts(arrays: Mapping[str, NDArray[Any]], vocab_size: int) -> NgramModel | None:
    """Read the pairs of tokens in the transcripts; None if there are none. Raises ValueError for
    those of other tokens."""
    if "transcripts.symbols.1" not in arrays:
        return None
    transcripts = NgramModel.from_arrays(arrays, "transcripts.")
    if transcripts.vocab_size != vocab_size or transcripts.order != 2:
        raise ValueError(
            f"transcripts of {transcripts.vocab_size} tokens in n-grams of {transcripts.order}; "
            f"expected pairs of {vocab_size}"
        )
    return transcripts
