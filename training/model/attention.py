"""Multi-head self-attention over a bounded past, with rotary positions that need no clock."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.model.config import HEAD_DIM, ModelConfig

MASKED = -1e4
"""Added to the score of a key that may not be seen: finite, so that no row becomes NaN."""


class RotaryPositions(nn.Module):
    """Tables of rotary position embeddings (RoFormer, arXiv 2104.09864).

    Attention depends on the distance of query and key alone, so positions are counted from the
    oldest cached frame of each call: no absolute counter is kept and a stream may run for ever.
    The tables are built in float64: built in float32 they err by 1e-4 at frame 500.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, max_frames: int = 2048) -> None:
        super().__init__()
        self._extend(max_frames, torch.zeros(()))

    def _extend(self, frames: int, like: Tensor) -> None:
        inverse = 10_000 ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float64) / HEAD_DIM)
        angles = torch.outer(torch.arange(frames, dtype=torch.float64), inverse)
        angles = torch.cat([angles, angles], dim=1)
        self.register_buffer("cos", angles.cos().to(like), persistent=False)
        sines = angles.sin()
        sines[:, : HEAD_DIM // 2] *= -1  # (x, y) -> (x cos - y sin, y cos + x sin)
        self.register_buffer("sin", sines.to(like), persistent=False)

    def forward(self, frames: int) -> tuple[Tensor, Tensor]:
        """Return cosines and signed sines `(frames, HEAD_DIM)` of positions 0, 1, ..."""
        if not torch.compiler.is_compiling() and frames > len(self.cos):
            self._extend(2 * frames, self.cos)
        return self.cos[:frames], self.sin[:frames]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "RotaryPositions":
        """Rebuild the tables when the module changes type, so that float64 is exact."""
        frames = len(self.cos)
        super()._apply(fn, recurse)
        self._extend(frames, self.cos)
        return self


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate `(..., T, HEAD_DIM)` by the tables `(T, HEAD_DIM)`; the minus is in the sines."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat([second, first], dim=-1) * sin


class SelfAttention(nn.Module):
    """Queries of the new frames over keys of the cached and the new frames."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.heads = config.heads
        self.norm = nn.LayerNorm(config.dim)
        self.query = nn.Linear(config.dim, config.dim)
        self.key_value = nn.Linear(config.dim, 2 * config.dim)
        self.output = nn.Linear(config.dim, config.dim)

    def forward(
        self, x: Tensor, cache: Tensor, mask: Tensor, positions: tuple[Tensor, Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        x: `(B, C, D)` new frames; cache: `(B, left, 2D)` keys and values, unrotated;
        mask: `(B or 1, 1, C, left + C)`, added to the scores;
        positions: tables `(left + C, HEAD_DIM)`.
        Returns `(B, C, D)` and the next cache `(B, left, 2D)`.
        """
        left, frames = cache.size(1), x.size(1)
        x = self.norm(x)
        cache = torch.cat([cache.to(x.dtype), self.key_value(x)], dim=1)
        keys, values = (self._split_heads(t) for t in cache.chunk(2, dim=-1))
        cos, sin = positions
        queries = rotate(self._split_heads(self.query(x)), cos[left:], sin[left:])
        scores = torch.matmul(queries * HEAD_DIM**-0.5, rotate(keys, cos, sin).transpose(2, 3))
        # Plain product and softmax: on a CPU the fused attention's backward is slower.
        weights = torch.softmax(scores + mask, dim=-1)
        heads = torch.matmul(weights.to(values.dtype), values)
        return self.output(heads.transpose(1, 2).flatten(2)), cache[:, frames:]

    def _split_heads(self, x: Tensor) -> Tensor:
        """`(B, T, D)` -> `(B, H, T, HEAD_DIM)`."""
        return x.unflatten(2, (self.heads, HEAD_DIM)).transpose(1, 2)


def attention_mask(
    valid_left: Tensor,
    left_rows: int,
    frames: int,
    lengths: Tensor | None = None,
    chunk_frames: int | Tensor | None = None,
    left_frames: int | Tensor | None = None,
) -> Tensor:
    """Return what each new frame may see, `(B or 1, 1, C, left_rows + C)`, to add to the scores.

    valid_left: `(B,)` how many of the cached rows hold real frames (the newest ones do).
    lengths: `(B,)` real frames among the new ones; None where none is padding.
    chunk_frames: the new frames fall into chunks of this size, each seeing no later chunk;
        None: they are one chunk.
    left_frames: how far before its chunk a frame sees; None: as far as there is.
        Both are the same for all utterances, or `(B,)`.
    """
    device = valid_left.device
    key = torch.arange(left_rows + frames, device=device) - left_rows  # 0: the first new frame
    # Integers, so the clamp is 0 for a frame that may be seen and -1 for one that may not.
    visible = (key + valid_left.unsqueeze(1)).clamp(-1, 0)[:, None, None, :]
    if lengths is not None:
        visible = visible + (lengths.unsqueeze(1) - 1 - key).clamp(-1, 0)[:, None, None, :]
    if chunk_frames is not None:
        query = torch.arange(frames, device=device).unsqueeze(1)
        chunk = torch.as_tensor(chunk_frames, device=device).reshape(-1, 1, 1, 1)
        start = query // chunk * chunk
        visible = visible + (start + chunk - 1 - key).clamp(-1, 0)
        if left_frames is not None:
            left = torch.as_tensor(left_frames, device=device).reshape(-1, 1, 1, 1)
            visible = visible + (key - (start - left)).clamp(-1, 0)
    return visible * -MASKED
