"""Streaming log-mel filter bank: the one feature extractor of training and device.

The options are those that sherpa-onnx uses for its streaming transducers, so a bundle sees the
same features there. The computation is kaldi-native-fbank's.
"""

from dataclasses import asdict, dataclass
from typing import TypeAlias

import kaldi_native_fbank as knf
import numpy as np
from numpy.typing import NDArray

Samples: TypeAlias = NDArray[np.float32]
"""Mono audio `(n,)`, full scale [-1, 1]."""

SAMPLE_RATE = 16_000
"""Hz. Audio of any other rate is resampled before it reaches the filter bank."""

FRAME_SHIFT = 160
"""Samples from one frame to the next (10 ms)."""


@dataclass(frozen=True)
class FeatureConfig:
    """Options of the filter bank; they travel in the bundle."""

    sample_rate: int = SAMPLE_RATE  # Hz
    num_mel_bins: int = 80
    frame_length_ms: float = 25.0
    frame_shift_ms: float = 10.0
    preemphasis: float = 0.97
    low_hz: float = 20.0
    high_hz: float = -400.0  # below zero: counted down from the Nyquist frequency

    def to_dict(self) -> dict[str, float]:
        return asdict(self)


class FilterBank:
    """Samples in, frames out, in blocks of any size.

    Frames are centred (`snip_edges` off): n samples give `round(n / 160)` frames. A frame comes out
    once its whole window has been heard; `finish` mirrors the signal at its end for the last ones.
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        self.config = config or FeatureConfig()
        self._fbank = knf.OnlineFbank(_options(self.config))
        self._taken = 0

    def accept(self, samples: Samples) -> None:
        """Take samples `(n,)` in [-1, 1] at the configured rate."""
        if len(samples):
            # The binding takes a sequence, number by number, which a view gives in less time
            # than an array: 310 instead of 430 us for 320 ms, frames included.
            view = np.ascontiguousarray(samples).data
            self._fbank.accept_waveform(self.config.sample_rate, view)

    def finish(self) -> None:
        """Say that no more samples follow, so that the last frames come out."""
        self._fbank.input_finished()

    def pop(self) -> NDArray[np.float32]:
        """Return the frames `(T, num_mel_bins)` that became ready since the last call."""
        ready = self._fbank.num_frames_ready
        frames = np.empty((ready - self._taken, self.config.num_mel_bins), dtype=np.float32)
        for row in range(len(frames)):
            frames[row] = self._fbank.get_frame(self._taken + row)
        self._fbank.pop(len(frames))
        self._taken = ready
        return frames


def compute_features(samples: Samples, config: FeatureConfig | None = None) -> NDArray[np.float32]:
    """Return the frames `(T, num_mel_bins)` of a whole recording `(n,)`."""
    bank = FilterBank(config)
    bank.accept(samples)
    bank.finish()
    return bank.pop()


def _options(config: FeatureConfig) -> knf.FbankOptions:
    options = knf.FbankOptions()
    options.frame_opts.samp_freq = config.sample_rate
    options.frame_opts.dither = 0.0
    options.frame_opts.frame_length_ms = config.frame_length_ms
    options.frame_opts.frame_shift_ms = config.frame_shift_ms
    options.frame_opts.preemph_coeff = config.preemphasis
    options.frame_opts.remove_dc_offset = True
    options.frame_opts.window_type = "povey"
    options.frame_opts.snip_edges = False
    options.mel_opts.num_bins = config.num_mel_bins
    options.mel_opts.low_freq = config.low_hz
    options.mel_opts.high_freq = config.high_hz
    return options
