"""A gate before the encoder that lets long silence pass by."""

import numpy as np

from asr.bundle import StreamingConfig
from asr.engines import Floats

_BANDS = 8
_MARGIN = 2.0  # natural log of power: 8.7 dB above the floor in any band is sound
_FALL = 0.5  # of the way down to a frame that is below the floor
_RISE = 0.02  # in 40 ms: 2 dB a second, so that speech does not become its own floor
_HOLD_CONTEXTS = 1.5  # left contexts of silence: then the encoder's output is nearly at rest


class SilenceGate:
    """Says which encoder frames need not be encoded, because they are of a long silence.

    It closes when for 1.5 left contexts (3.84 s) no band was louder than the noise floor and the
    search found only blanks. By then the encoder's output is nearly at rest (after 4 s of digital
    silence, within a tenth of where it was at the last word), so its state is kept as it is while
    frames are skipped. When a band rises above the floor, the gate opens before the last
    `lookback_frames`, which are then encoded like any others: a word's soft onset is not lost, and
    all that the encoder notices is a silence that was shorter.

    The floor of a band falls quickly to what is quieter and rises slowly, so its mistakes cost time
    and not words, but for one: a sound that stays within 9 dB of the noise before it is missed
    while the gate is closed.

    The unit is the encoder frame. What the gate decides depends on the features and on the search,
    not on the blocks in which they arrive.
    """

    def __init__(self, streaming: StreamingConfig, lookback_frames: int = 16) -> None:
        """Take the geometry of the encoder, and how much is encoded before a sound (0.64 s)."""
        self._factor = streaming.subsampling_factor
        self._hold = round(_HOLD_CONTEXTS * streaming.left_context_frames)
        self._lookback = lookback_frames
        self._rest: Floats | None = None  # features of the encoder frame that is not whole yet
        self._floor: Floats | None = None  # (_BANDS,)
        self._loud: list[bool] = []  # of the encoder frames that were not passed yet
        self._quiet = 0  # frames without a loud one, up to the last that was passed

    def accept(self, features: Floats) -> None:
        """Hear the next feature frames `(T, num_mel_bins)`."""
        if self._rest is not None:
            features = np.concatenate([self._rest, features])
        count = len(features) // self._factor
        whole = features[: count * self._factor]
        self._rest = features[len(whole) :].copy()
        bins = features.shape[1]
        starts = np.arange(_BANDS) * bins // _BANDS
        widths = np.diff(starts, append=bins)
        frames = whole.reshape(count, self._factor, bins).mean(axis=1)
        for level in np.add.reduceat(frames, starts, axis=1) / widths:
            self._loud.append(self._is_loud(level))

    def pass_on(self, frames: int) -> None:
        """Say that the next `frames` encoder frames were encoded or skipped."""
        for loud in self._loud[:frames]:
            self._quiet = 0 if loud else self._quiet + 1
        del self._loud[:frames]

    def is_long(self, blank_frames: int) -> bool:
        """Whether there was enough silence by now that the next frames can be skipped if they are
        more of it."""
        return min(self._quiet, blank_frames) >= self._hold

    def is_closed(self, blank_frames: int) -> bool:
        """Whether nothing that was heard so far needs the encoder, but what is kept to look back.

        `blank_frames`: how many encoder frames before the next one the search found blank.
        """
        return self.is_long(blank_frames) and not any(self._loud)

    def skippable(self, blank_frames: int, ended: bool) -> int:
        """Return how many of the next encoder frames can be skipped; `ended`: no more follow."""
        if not self.is_long(blank_frames):
            return 0
        if any(self._loud):
            return max(0, self._loud.index(True) - self._lookback)
        return len(self._loud) if ended else max(0, len(self._loud) - self._lookback)

    def _is_loud(self, level: Floats) -> bool:
        if self._floor is None:
            self._floor = level
        above = level - self._floor
        self._floor = self._floor + np.where(above < 0, _FALL * above, np.minimum(above, _RISE))
        return bool(above.max() > _MARGIN)
