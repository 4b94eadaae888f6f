"""The stateless predictor: what the last two tokens say about the next."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.config import ModelConfig


class StatelessPredictor(nn.Module):
    """Embedding and a short convolution (arXiv 2109.07513): no state but the last tokens."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim = config.joiner_dim
        self.context_size = config.context_size
        self.embedding = nn.Embedding(config.vocab_size, dim)
        self.convolution = nn.Conv1d(dim, dim, kernel_size=config.context_size, groups=dim // 4)
        self.output = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """`(N, U)` int64 -> `(N, U - context_size + 1, joiner_dim)`; -1 stands for no token yet."""
        known = (tokens >= 0).unsqueeze(2)
        x = torch.where(known, self.embedding(tokens.clamp(min=0)), 0.0)
        x = self.convolution(x.transpose(1, 2)).transpose(1, 2)
        out: Tensor = self.output(functional.relu(x))
        return out

    def with_history(self, targets: Tensor) -> Tensor:
        """Prepend the start of a stream, `[-1, 0]`: `(B, U)` -> `(B, U + context_size)`."""
        start = targets.new_zeros(targets.size(0), self.context_size)
        start[:, :-1] = -1
        return torch.cat([start, targets], dim=1)
