"""Greedy transducer search over whole chunks."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from asr.engines import Engine

BLANK = 0
UNK = 1
INITIAL_CONTEXT = (-1, BLANK)
"""The predictor's input before any token: what sherpa-onnx starts with."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One token of a hypothesis."""

    token: int
    frame: int  # encoder frames since the stream began
    log_prob: float


class GreedySearch:
    """The argmax of the joiner at each frame, at most one token a frame, `<unk>` never emitted.

    All frames of a chunk are joined at once with the current predictor output. The first frame
    whose argmax is a label emits it; only then is the predictor evaluated again, and only the
    frames behind it are joined again. This gives the tokens of a loop over frames in (emissions +
    1) joiner calls a chunk instead of one a frame: speech emits a token about every tenth frame.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._context = INITIAL_CONTEXT
        self._predictor_out = engine.predict(self._context)
        self._frames = 0

    @property
    def frames(self) -> int:
        """Encoder frames searched so far."""
        return self._frames

    def accept(self, encoder_out: NDArray[np.float32]) -> list[Emission]:
        """Search the next encoder frames `(C, joiner_dim)`; return the tokens that they emit."""
        emissions: list[Emission] = []
        start = 0
        while start < len(encoder_out):
            log_probs = self._engine.join(encoder_out[start:], self._predictor_out)
            best = log_probs.argmax(axis=1)
            labels = np.flatnonzero((best != BLANK) & (best != UNK))
            if not len(labels):
                break
            row = int(labels[0])
            token = int(best[row])
            frame = self._frames + start + row
            emissions.append(Emission(token, frame, float(log_probs[row, token])))
            self._context = (self._context[1], token)
            self._predictor_out = self._engine.predict(self._context)
            start += row + 1
        self._frames += len(encoder_out)
        return emissions
