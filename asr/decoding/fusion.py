"""What a language model and the transducer believe together.

A transducer that has heard tens of hours spells what it hears, and has read too little to know
which spelling is a word. A language model has read more. What both have learned counts once: the
transducer's own language model, what its joiner says of the next label without any sound, is taken
off (HAT, arXiv 2003.07705, section 4).
"""

from functools import lru_cache

import numpy as np

from asr.arrays import read_arrays
from asr.bundle import Bundle
from asr.decoding.hypothesis import UNK
from asr.decoding.language_model import LanguageModel, LmState
from asr.engines import Engine, Floats
from asr.errors import BundleError
from asr.transcript import WORD_START

_CACHED = 4096
"""Contexts whose distribution is kept, 1 kB each with 256 tokens."""


class Fusion:
    """What the language model adds to the score of each label. Streams of a model share it."""

    def __init__(
        self, engine: Engine, model: LanguageModel, weight: float, internal_weight: float
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
        begins = np.array([piece.startswith(WORD_START) for piece in bundle.read_tokens()])
        try:
            model = LanguageModel.from_arrays(read_arrays(path, bundle.read(stated.file)), begins)
        except ValueError as error:
            raise BundleError(
                f"{path}: no language model for this bundle: {error}; count it again "
                "(asr-train language-model), and export the model again"
            ) from error
        return Fusion(engine, model, stated.weight, stated.internal_weight)

    def with_engine(self, engine: Engine) -> "Fusion":
        """Return the same with another engine of the same graphs."""
        return Fusion(engine, self._model, self._weight, self._internal_weight)

    def advance(self, state: LmState | None, token: int) -> LmState:
        """See `LanguageModel.advance`."""
        return self._model.advance(state, token)

    def scores(self, state: LmState, context: tuple[int, int]) -> Floats:
        """Return what to add to the log-probability of each label `(vocab_size,)`.

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
        return log_probs - (labels.max() + np.log(np.exp(labels - labels.max()).sum()))
