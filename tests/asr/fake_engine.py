"""Engines without a model, so that streaming and search are tested in microseconds."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from asr.decoding.hypothesis import BLANK
from asr.engines import Floats

LOUD_LOG_MEL = -6.0
"""Mean log-mel energy: silence is near -16, the bursts of these tests are near 0."""

LETTERS = ("<blk>", "<unk>", *(f"▁{letter}" for letter in "abcdefgh"))


class BurstEngine:
    """Hears bursts of sound: the first loud frame after silence emits the next letter.

    The state is whether the frame before was loud. It also keeps every window it was given.
    """

    def __init__(self) -> None:
        self.windows: list[Floats] = []
        self.released = 0

    def initial_state(self) -> bool:
        return False

    def encode(self, features: Floats, state: bool) -> tuple[Floats, bool]:
        assert len(features) % 4 == 3, "an encoder call takes 4C + 3 feature frames"
        self.windows.append(features.copy())
        count = (len(features) - 3) // 4
        out = np.zeros((count, 1), np.float32)
        for frame in range(count):
            loud = bool(features[4 * frame : 4 * frame + 7].mean(axis=1).max() > LOUD_LOG_MEL)
            out[frame] = loud and not state
            state = loud
        return out, state

    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        return contexts[:, 1:].astype(np.float32)

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        labels = len(LETTERS) - 2
        (last,) = predictor_out[:, 0].astype(int)
        following = 2 if last == BLANK else 2 + (last - 1) % labels
        log_probs = np.full((len(encoder_out), len(LETTERS)), -9.0, np.float32)
        log_probs[:, BLANK] = -0.1
        log_probs[encoder_out[:, 0] > 0, following] = -0.05
        return log_probs

    def release_memory(self) -> None:
        self.released += 1


class DiceEngine:
    """A joiner of reproducible random numbers that depend on the frame and on the context.

    Its encoder output is the number of the frame.
    """

    def __init__(self, seed: int, vocab_size: int, blank_bonus: float) -> None:
        self.seed, self.vocab_size, self.blank_bonus = seed, vocab_size, blank_bonus
        self.joiner_calls = 0

    def initial_state(self) -> None:
        return None

    def encode(self, features: Floats, state: None) -> tuple[Floats, None]:
        raise NotImplementedError("frames are made by frames()")

    def frames(self, start: int, stop: int) -> Floats:
        return np.arange(start, stop, dtype=np.float32)[:, None]

    def predict(self, contexts: NDArray[np.int64]) -> Floats:
        return contexts.astype(np.float32)

    def join(self, encoder_out: Floats, predictor_out: Floats) -> Floats:
        self.joiner_calls += 1
        contexts = np.broadcast_to(predictor_out.astype(int) + 1, (len(encoder_out), 2)).tolist()
        frames = encoder_out[:, 0].tolist()
        return np.stack([self._row(int(f), c) for f, c in zip(frames, contexts, strict=True)])

    def _row(self, frame: int, context: Sequence[int]) -> Floats:
        row = np.random.default_rng([self.seed, frame, *context]).random(self.vocab_size)
        row[BLANK] += self.blank_bonus
        return np.log(np.maximum(row, 1e-6)).astype(np.float32)
