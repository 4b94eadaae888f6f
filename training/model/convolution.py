"""The convolution module of a Conformer block, causal, with an explicit cache."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.config import ModelConfig


class CausalConvolution(nn.Module):
    """Gated pointwise, causal depthwise, LayerNorm, SiLU, pointwise (Conformer, arXiv 2005.08100).

    LayerNorm stands where the paper has BatchNorm: statistics over a batch would let padding and
    the number of machines change the result.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.dim)
        self.expand = nn.Linear(config.dim, 2 * config.dim)
        self.depthwise = nn.Conv1d(
            config.dim, config.dim, kernel_size=config.conv_kernel, groups=config.dim
        )
        self.depthwise_norm = nn.LayerNorm(config.dim)
        self.activation = nn.SiLU()
        self.project = nn.Linear(config.dim, config.dim)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """`(B, C, D)` and the k-1 inputs before it `(B, k-1, D)` -> the same, one call on."""
        frames = x.size(1)
        x = functional.glu(self.expand(self.norm(x)), dim=-1)
        x = torch.cat([cache.to(x.dtype), x], dim=1)
        cache = x[:, frames:]
        x = self.depthwise(x.transpose(1, 2)).transpose(1, 2)
        return self.project(self.activation(self.depthwise_norm(x))), cache
