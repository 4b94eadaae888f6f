"""The streaming Conformer encoder: one forward pass for training, offline and streaming use."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from training.model.attention import RotaryPositions, SelfAttention, attention_mask
from training.model.config import SUBSAMPLING, ModelConfig
from training.model.convolution import CausalConvolution
from training.model.state import EncoderState, initial_state
from training.model.subsampling import Subsampling, subsampled_lengths


class EncoderOutput(NamedTuple):
    frames: Tensor  # (B, C, joiner_dim)
    lengths: Tensor  # (B,) real frames in each utterance
    state: EncoderState  # for the next call of the same streams
    phonetic: Tensor  # (B, C, D) what the first `phone_layers` blocks make of it


_LayerCache = tuple[Tensor, Tensor]
"""Of one layer: keys and values `(B, left, 2D)`, inputs of the convolution `(B, k-1, D)`."""


class FeedForward(nn.Module):
    """LayerNorm, expand, SiLU, project: `(B, C, D)` -> `(B, C, D)`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        hidden = config.feedforward_factor * config.dim
        self.norm = nn.LayerNorm(config.dim)
        self.expand = nn.Linear(config.dim, hidden)
        self.activation = nn.SiLU()
        self.project = nn.Linear(hidden, config.dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.project(self.activation(self.expand(self.norm(x))))
        return out


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, norm (arXiv 2005.08100).

    In training each utterance skips each of these four with `skip_probability`, which keeps any of
    them from being relied upon (stochastic depth, arXiv 1603.09382). One number is drawn for a
    whole utterance: dropping single elements takes a fifth of a step on a CPU.
    """

    skip_probability = 0.0

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.feedforward_in = FeedForward(config)
        self.attention = SelfAttention(config)
        self.convolution = CausalConvolution(config)
        self.feedforward_out = FeedForward(config)
        self.norm = nn.LayerNorm(config.dim)

    def forward(
        self,
        x: Tensor,
        attention_cache: Tensor,
        conv_cache: Tensor,
        mask: Tensor,
        positions: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`(B, C, D)` and the caches of this layer -> the same, one call on."""
        x = self._add(x, 0.5 * self.feedforward_in(x))
        attended, attention_cache = self.attention(x, attention_cache, mask, positions)
        x = self._add(x, attended)
        convolved, conv_cache = self.convolution(x, conv_cache)
        x = self._add(x, convolved)
        x = self._add(x, 0.5 * self.feedforward_out(x))
        return self.norm(x), attention_cache, conv_cache

    def _add(self, x: Tensor, branch: Tensor) -> Tensor:
        """Both `(B, C, D)`."""
        if not (self.training and self.skip_probability):
            return x + branch
        kept = torch.rand(len(x), 1, 1, device=x.device) >= self.skip_probability
        return x + branch * (kept / (1 - self.skip_probability)).to(branch.dtype)


class ConformerEncoder(nn.Module):
    """Features to frames for the joiner, chunk by chunk or all at once.

    Called with a state that has room for `left` frames it is a step of a stream; called with
    `initial_state(..., left_frames=0)` and `chunk_frames` it computes, for a whole batch at once,
    what that stream would have given.
    """

    feature_mean: Tensor
    feature_inverse_std: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        # Part of the model, so that no stage, engine or device can normalise differently.
        self.register_buffer("feature_mean", torch.zeros(config.num_mel_bins))
        self.register_buffer("feature_inverse_std", torch.ones(config.num_mel_bins))
        self.subsampling = Subsampling(config)
        self.positions = RotaryPositions()
        self.blocks = nn.ModuleList(ConformerBlock(config) for _ in range(config.layers))
        self.output = nn.Linear(config.dim, config.joiner_dim)

    def forward(
        self,
        features: Tensor,
        state: EncoderState,
        feature_lengths: Tensor | None = None,
        chunk_frames: int | Tensor | None = None,
        left_frames: int | Tensor | None = None,
    ) -> EncoderOutput:
        """Encode features `(B, T, F)`, T = 4C + 3 or more.

        feature_lengths: `(B,)`; None where no frame is padding.
        chunk_frames, left_frames: as in `attention_mask`.
        """
        x = self.subsampling((features - self.feature_mean) * self.feature_inverse_std)
        frames, left_rows = x.size(1), state.attention.size(1)
        lengths = None if feature_lengths is None else subsampled_lengths(feature_lengths)
        valid_left = state.conv[0, 0, :, 0]
        mask = attention_mask(valid_left, left_rows, frames, lengths, chunk_frames, left_frames)
        positions = self.positions(left_rows + frames)
        past = self._layer_caches(state)
        split = min(self.config.phone_layers, len(self.blocks))
        phonetic, lower = self._through(range(split), x, past, mask, positions)
        x, upper = self._through(range(split, len(self.blocks)), phonetic, past, mask, positions)
        attention_caches, conv_caches = zip(*lower, *upper, strict=True)
        count = (valid_left + frames).clamp(max=left_rows)
        counts = count[None, None, :, None].expand(len(self.blocks), 1, -1, 2 * self.config.dim)
        next_state = EncoderState(
            attention=torch.stack(attention_caches).transpose(1, 2).to(state.attention.dtype),
            conv=torch.cat([counts, self._fold(torch.stack(conv_caches)).to(counts.dtype)], dim=1),
            processed_frames=state.processed_frames + SUBSAMPLING * frames,
        )
        if lengths is None:
            lengths = torch.full_like(state.processed_frames, frames)
        return EncoderOutput(self.output(x), lengths, next_state, phonetic)

    def encode_phonetic(
        self,
        phonetic: Tensor,
        lengths: Tensor,
        chunk_frames: int | Tensor | None = None,
        left_frames: int | Tensor | None = None,
    ) -> Tensor:
        """Take whole utterances `(B, C, D)` through the blocks above the phones alone.

        lengths: `(B,)`. Returns frames for the joiner, `(B, C, joiner_dim)`: those of `forward` for
        the `phonetic` frames that it gave.
        """
        frames = phonetic.size(1)
        state = initial_state(self.config, len(phonetic), left_frames=0, like=phonetic)
        nothing = state.conv[0, 0, :, 0]
        mask = attention_mask(nothing, 0, frames, lengths, chunk_frames, left_frames)
        upper = range(self.config.phone_layers, len(self.blocks))
        past = self._layer_caches(state)
        x, _ = self._through(upper, phonetic, past, mask, self.positions(frames))
        out: Tensor = self.output(x)
        return out

    def _layer_caches(self, state: EncoderState) -> list[_LayerCache]:
        # Laid out for all layers at once: an exported graph pays for every node.
        attention = state.attention.transpose(1, 2).unbind(0)
        return list(zip(attention, self._unfold(state.conv[:, 1:]).unbind(0), strict=True))

    def _through(
        self,
        layers: range,
        x: Tensor,
        past: list[_LayerCache],
        mask: Tensor,
        positions: tuple[Tensor, Tensor],
    ) -> tuple[Tensor, list[_LayerCache]]:
        """`(B, C, D)` and the caches of all layers -> what these make of it, and their next."""
        caches = []
        for layer in layers:
            x, attention, conv = self.blocks[layer](x, *past[layer], mask, positions)
            caches.append((attention, conv))
        return x, caches

    def _unfold(self, rows: Tensor) -> Tensor:
        """`(L, (k-1)/2, N, 2D)` of the exported layout -> `(L, N, k-1, D)`."""
        return rows.transpose(1, 2).unflatten(3, (2, -1)).flatten(2, 3)

    def _fold(self, cache: Tensor) -> Tensor:
        """`(L, N, k-1, D)` -> `(L, (k-1)/2, N, 2D)`."""
        return cache.unflatten(2, (-1, 2)).flatten(3).transpose(1, 2)
