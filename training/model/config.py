"""The dimensions of a Conformer-transducer: all that is needed to build one."""

from dataclasses import asdict, dataclass
from typing import Any

HEAD_DIM = 32
SUBSAMPLING = 4
"""Feature frames per encoder frame: 10 ms in, 40 ms out."""


@dataclass(frozen=True)
class ModelConfig:
    """Dimensions of the model; they travel in its checkpoint and in its bundle."""

    vocab_size: int  # symbols, blank (0) and unknown (1) among them
    dim: int = 128  # width of the encoder; a multiple of 32, for int4 groups and SIMD kernels
    layers: int = 12
    feedforward_factor: int = 4
    conv_kernel: int = 15  # encoder frames seen by the causal depthwise convolution; odd
    subsampling_channels: int = 32
    joiner_dim: int = 256  # encoder and predictor meet in this width
    context_size: int = 2  # tokens that the stateless predictor sees
    num_mel_bins: int = 80
    phone_layers: int = 8  # blocks below the phone head, which only training uses
    num_phones: int = 41  # those of training.synthesis; the first, silence, is CTC's blank

    def __post_init__(self) -> None:
        if self.dim % HEAD_DIM:
            raise ValueError(f"dim is {self.dim}; it must be a multiple of {HEAD_DIM}")
        if self.conv_kernel % 2 == 0:
            raise ValueError(f"conv_kernel is {self.conv_kernel}; it must be odd")

    @property
    def heads(self) -> int:
        return self.dim // HEAD_DIM

    @property
    def conv_rows(self) -> int:
        """Rows of a layer's convolution cache: the frame count, then k-1 frames, two a row."""
        return 1 + (self.conv_kernel - 1) // 2

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


SIZES: dict[str, dict[str, int]] = {
    "xs": {"dim": 96, "layers": 12},
    "s": {"dim": 128, "layers": 12},
    "m": {"dim": 160, "layers": 14},
    "l": {"dim": 256, "layers": 16},
}
"""The one dial: 2.8, 4.9, 9 and 25 million parameters."""


def sized(size: str, vocab_size: int) -> ModelConfig:
    """Return the dimensions of size `xs`, `s`, `m` or `l`."""
    if size not in SIZES:
        raise ValueError(f"size is {size!r}; expected one of {', '.join(SIZES)}")
    return ModelConfig(vocab_size=vocab_size, **SIZES[size])
