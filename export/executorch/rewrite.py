"""Rewrites a trained model into operations that XNNPACK runs whole.

What a graph has in a row for XNNPACK runs as one piece; an operation that XNNPACK has not got cuts
the graph in two and is run by a plain kernel. Written as it is, the encoder falls into some hundred
pieces: XNNPACK has no LayerNorm, no `select`, `split` or `unsqueeze`, no product of
four-dimensional tensors and nothing for integers. So a copy of the model gets other modules for
these, made of the same weights, and the code of the model runs them as it ran its own.
`export.executorch.verify` holds the result against the model.
"""

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.bundle import StreamingConfig
from training.compression.quantization import absorb_norms
from training.model import Transducer, subsampling
from training.model.attention import MASKED, RotaryPositions, SelfAttention
from training.model.config import HEAD_DIM
from training.model.convolution import CausalConvolution
from training.model.encoder import ConformerEncoder

LOWEST_PROBABILITY = 1e-37
"""Of a token; the joiner takes less for as much, as float32 holds no less. Its logarithm is -85."""


class LayerNorm(nn.Module):
    """LayerNorm whose means are products with a column of 1/d.

    Without weight and bias (`affine` off) where the layer behind it has absorbed them.
    """

    column: Tensor
    epsilon: Tensor

    def __init__(self, norm: nn.LayerNorm, affine: bool) -> None:
        super().__init__()
        width = norm.normalized_shape[0]
        self.register_buffer("column", torch.full((1, width), 1 / width))
        self.register_buffer("epsilon", torch.tensor([norm.eps]))
        self.affine = affine
        if affine:
            self.weight, self.bias = norm.weight, norm.bias

    def forward(self, x: Tensor) -> Tensor:
        centred = x - functional.linear(x, self.column)
        variance = functional.linear(centred * centred, self.column, self.epsilon)
        normal = centred * torch.rsqrt(variance)
        return normal * self.weight + self.bias if self.affine else normal


class Attention(nn.Module):
    """`SelfAttention` for a batch of one: a single product for Q, K and V, and products of the
    heads in three dimensions."""

    def __init__(self, part: SelfAttention) -> None:
        super().__init__()
        self.heads = part.heads
        self.norm = LayerNorm(part.norm, affine=False)
        query = scale(part.query, HEAD_DIM**-0.5)
        self.query_key_value = stack(query, part.key_value)
        self.output = part.output

    def forward(
        self, x: Tensor, cache: tuple[Tensor, ...], mask: Tensor, positions: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor]:
        """Attend.

        x: `(1, C, D)`; cache: unrotated keys and values, `(left, D)`; mask: `(1, 1, left + C)`;
        positions: cosines and sines of the cache, `(HEAD_DIM, left)`, and of x, `(C, 1, HEAD_DIM)`.
        Returns `(1, C, D)` and the new rows of the cache `(1, C, 2D)`.
        """
        heads, frames, width = self.heads, x.size(1), x.size(2)
        past_cos, past_sin, new_cos, new_sin = positions
        past_keys, past_values = (part.view(-1, heads, HEAD_DIM) for part in cache)
        joint = self.query_key_value(self.norm(x))
        turned = joint[:, :, : 2 * width].view(frames, 2 * heads, HEAD_DIM)
        turned = rotate(turned, new_cos, new_sin, dim=2)
        new_values = joint[:, :, 2 * width :].view(frames, heads, HEAD_DIM)
        queries = turned[:, :heads].permute(1, 0, 2)
        past_keys = rotate(past_keys.permute(1, 2, 0), past_cos, past_sin, dim=1)
        keys = torch.cat([past_keys, turned[:, heads:].permute(1, 2, 0)], dim=2)
        values = torch.cat([past_values, new_values]).permute(1, 0, 2)  # (H, left + C, HEAD_DIM)
        weights = torch.softmax(torch.bmm(queries, keys) + mask, dim=-1)
        attended = torch.bmm(weights, values).permute(1, 0, 2)
        return self.output(attended.reshape(1, frames, width)), joint[:, :, width:]


class Convolution(nn.Module):
    """`CausalConvolution` that returns the new inputs, not the next cache."""

    def __init__(self, part: CausalConvolution) -> None:
        super().__init__()
        self.norm = LayerNorm(part.norm, affine=False)
        self.expand = part.expand
        self.depthwise = part.depthwise
        self.depthwise_norm = LayerNorm(part.depthwise_norm, affine=True)
        self.activation, self.project = part.activation, part.project

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """`(1, C, D)` and the k-1 inputs before it -> the same and the new inputs `(1, C, D)`."""
        x, width = self.expand(self.norm(x)), x.size(2)
        gated = x[:, :, :width] * torch.sigmoid(x[:, :, width:])
        x = self.depthwise(torch.cat([cache, gated], dim=1).transpose(1, 2)).transpose(1, 2)
        return self.project(self.activation(self.depthwise_norm(x))), gated


class Subsampling(nn.Module):
    """`training.model.subsampling.Subsampling` for a batch of one."""

    def __init__(self, part: subsampling.Subsampling) -> None:
        super().__init__()
        self.first, self.depthwise, self.pointwise = part.first, part.depthwise, part.pointwise
        self.activation, self.output = part.activation, part.output
        self.norm = LayerNorm(part.norm, affine=True)

    def forward(self, features: Tensor) -> Tensor:
        """`(1, T, F)` -> `(1, C, D)`."""
        x = self.activation(self.first(features.view(1, *features.shape)))
        x = self.activation(self.pointwise(self.depthwise(x)))
        return self.norm(self.output(x.transpose(1, 2).flatten(2)))


class EncoderStep(nn.Module):
    """One call of the streaming encoder, for a batch of one and chunks of one size.

    A stream's last chunk may have fewer frames: it is padded, and `frames` says how many are real.

    The caches are rows, a row a frame with what all layers keep of it, so that a stream's past is a
    piece of memory that grows at its end. The program gives the new rows, and the caller appends
    them. As outputs, the next caches (0.8 MB) were copied three times a call: a step of the
    built-in model took 2.2 ms, not 1.7, and two pieces.
    """

    past_cos: Tensor
    past_sin: Tensor
    new_cos: Tensor
    new_sin: Tensor
    keys: Tensor  # position of each key, the first new frame being 0

    def __init__(self, encoder: ConformerEncoder, streaming: StreamingConfig, chunk: int) -> None:
        super().__init__()
        self.config = encoder.config
        self.left = left = streaming.left_context_frames
        self.encoder = _rewritten(encoder)
        cos, sin = RotaryPositions(left + chunk)(left + chunk)
        tables = {
            "past_cos": cos[:left].T.contiguous(),
            "past_sin": sin[:left].T.contiguous(),
            "new_cos": cos[left:].unsqueeze(1).contiguous(),
            "new_sin": sin[left:].unsqueeze(1).contiguous(),
            "keys": (torch.arange(left + chunk) - left).float().view(1, 1, -1),
        }
        for name, table in tables.items():
            self.register_buffer(name, table)

    def forward(self, x: Tensor, cache: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Encode a chunk.

        x: `(1, 4C + 3, num_mel_bins)`; cache: `(left, 3LD)`, the rows of the last frames, oldest
        first: of each layer key, value and input of the depthwise convolution;
        counts: `(2,)` float, how many rows of the cache are of this stream, the newest ones, and
        how many of the C encoder frames are real.
        Returns `(1, C, joiner_dim)` and the new rows `(1, C, 3LD)`.
        """
        encoder, width = self.encoder, self.config.dim
        # As `attention_mask` does it: 0 where a frame may be seen, -1 where not.
        past = (self.keys + counts[:1]).clamp(-1, 0)
        mask = (past + (counts[1:] - self.keys - 1.0).clamp(-1, 0)) * -MASKED
        positions = self.past_cos, self.past_sin, self.new_cos, self.new_sin
        window = self.config.conv_kernel - 1

        x = encoder.subsampling((x - encoder.feature_mean) * encoder.feature_inverse_std)
        new = []
        for layer, block in enumerate(encoder.blocks):
            # Slices of the input itself: XNNPACK copies each, and a slice of one again.
            start = 3 * width * layer
            middle, end = start + width, start + 2 * width
            key_value = cache[:, start:middle], cache[:, middle:end]
            inputs = cache[self.left - window :, end : end + width]
            x, rows, inputs = block(x, key_value, inputs.view(1, window, width), mask, positions)
            new += [rows, inputs]
        return encoder.output(x), torch.cat(new, dim=2)


class PredictorStep(nn.Module):
    """The predictor for one context: `(1, context_size)` int64 -> `(1, joiner_dim)`."""

    table: Tensor

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        part = copy.deepcopy(model.predictor)
        # "No token yet", -1, is the first row.
        self.register_buffer("table", functional.pad(part.embedding.weight.detach(), (0, 0, 1, 0)))
        self.convolution, self.output = part.convolution, part.output

    def forward(self, y: Tensor) -> Tensor:
        x = self.convolution(functional.embedding(y + 1, self.table).permute(0, 2, 1))
        out: Tensor = self.output(functional.relu(x.view(1, -1)))
        return out


class JoinerStep(nn.Module):
    """The joiner: two `(N, joiner_dim)` -> log-probabilities `(N, V)`, blank first."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        part = copy.deepcopy(model.joiner)
        self.blank, self.labels = part.blank, part.labels

    def forward(self, encoder_out: Tensor, predictor_out: Tensor) -> Tensor:
        hidden = torch.tanh(encoder_out + predictor_out)
        blank, labels = self.blank(hidden), torch.softmax(self.labels(hidden), dim=-1)
        shares = torch.cat([torch.sigmoid(blank), torch.sigmoid(-blank) * labels], dim=-1)
        # XNNPACK has a logarithm, but neither log-softmax nor a maximum over the last dimension.
        return torch.log(shares.clamp(min=LOWEST_PROBABILITY))


def rotate(x: Tensor, cos: Tensor, sin: Tensor, dim: int) -> Tensor:
    """As `training.model.attention.rotate`, but over any dimension, with slices for the halves."""
    half = HEAD_DIM // 2
    swapped = torch.cat([x.narrow(dim, half, half), x.narrow(dim, 0, half)], dim=dim)
    return x * cos + swapped * sin


def scale(linear: nn.Linear, factor: float) -> nn.Linear:
    """Return the layer whose output is `factor` times as large."""
    return _linear(linear.weight * factor, linear.bias * factor)


def stack(*linears: nn.Linear) -> nn.Linear:
    """Return the layer that gives the outputs of all, side by side."""
    weights, biases = ([getattr(each, name) for each in linears] for name in ("weight", "bias"))
    return _linear(torch.cat(weights), torch.cat(biases))


def _rewritten(encoder: ConformerEncoder) -> ConformerEncoder:
    encoder = copy.deepcopy(encoder)
    absorb_norms(encoder)
    block: Any
    encoder.set_submodule("subsampling", Subsampling(encoder.subsampling))
    for block in encoder.blocks:
        for part in (block.feedforward_in, block.feedforward_out):
            part.set_submodule("norm", LayerNorm(part.norm, affine=False))
        block.set_submodule("attention", Attention(block.attention))
        block.set_submodule("convolution", Convolution(block.convolution))
        block.set_submodule("norm", LayerNorm(block.norm, affine=True))
    return encoder


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    linear = nn.Linear(weight.size(1), weight.size(0))
    linear.weight, linear.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    return linear
