"""Greedy transducer search over whole chunks."""

from copy import copy

import numpy as np

from asr.decoding.hypothesis import INITIAL_CONTEXT, UNK, Emission, Hypothesis
from asr.engines import Engine, Floats


class GreedySearch:
    """The argmax of the joiner at each frame, at most one token a frame, `<unk>` never emitted.
    Implements `asr.decoding.hypothesis.Search`.

    All frames of a chunk are joined at once with the current predictor output. The first frame
    whose argmax is a label emits it; only then is the predictor evaluated again, and only the
    frames behind it are joined again. This gives the tokens of a loop over frames in (emissions +
    1) joiner calls a chunk instead of one a frame: speech emits a token about every tenth frame.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._context = INITIAL_CONTEXT
        self._predictor_out = self._predict()
        self._emissions: list[Emission] = []
        self._frames = 0

    @property
    def best(self) -> Hypothesis:
        """See `Search`. All of it is stable."""
        return Hypothesis(self._emissions, stable=len(self._emissions))

    def accept(self, encoder_out: Floats) -> None:
        """See `Search`."""
        start = 0
        while start < len(encoder_out):
            log_probs = self._engine.join(encoder_out[start:], self._predictor_out)
            best = log_probs.argmax(axis=1)
            labels = np.flatnonzero(best > UNK)  # above blank and <unk>
            if not len(labels):
                break
            row = int(labels[0])
            token = int(best[row])
            frame = self._frames + start + row
            self._emissions.append(Emission(token, frame, float(log_probs[row, token])))
            self._context = (self._context[1], token)
            self._predictor_out = self._predict()
            start += row + 1
        self._frames += len(encoder_out)

    def forget(self, count: int) -> None:
        """See `Search`."""
        del self._emissions[:count]

    def fork(self) -> "GreedySearch":
        """See `Search`."""
        fork = copy(self)
        fork._emissions = list(self._emissions)
        return fork

    def skip(self, frames: int) -> None:
        """See `Search`."""
        self._frames += frames

    def reset(self) -> None:
        """See `Search`."""
        self._emissions.clear()
        self._context = INITIAL_CONTEXT
        self._predictor_out = self._predict()

    def _predict(self) -> Floats:
        return self._engine.predict(np.array([self._context], dtype=np.int64))
