"""Features at 100 Hz to encoder frames at 25 Hz."""

from torch import Tensor, nn

from training.model.config import ModelConfig


class Subsampling(nn.Module):
    """Two strided convolutions over time and frequency, the second depthwise-separable.

    Nothing is padded in time: output frame t is made of feature frames 4t to 4t+6. Fed windows
    that overlap by three frames, it needs no cache. (Separable: arXiv 2312.10359.)
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        channels = config.subsampling_channels
        self.first = nn.Conv2d(1, channels, kernel_size=3, stride=2)
        self.depthwise = nn.Conv2d(channels, channels, kernel_size=3, stride=2, groups=channels)
        self.pointwise = nn.Conv2d(channels, channels, kernel_size=1)
        self.activation = nn.SiLU()
        bins = ((config.num_mel_bins - 1) // 2 - 1) // 2
        self.output = nn.Linear(channels * bins, config.dim)
        self.norm = nn.LayerNorm(config.dim)

    def forward(self, features: Tensor) -> Tensor:
        """`(B, T, F)` -> `(B, C, D)` with C = (T - 3) // 4."""
        x = self.activation(self.first(features.unsqueeze(1)))
        x = self.activation(self.pointwise(self.depthwise(x)))
        return self.norm(self.output(x.transpose(1, 2).flatten(2)))


def subsampled_lengths(feature_lengths: Tensor) -> Tensor:
    """Encoder frames in each utterance `(B,)`, none if there are fewer than 7 feature frames."""
    return ((feature_lengths - 3) // 4).clamp(min=0)
