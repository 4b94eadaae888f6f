"""Linear layers with weights of 8 or 4 bits, as XNNPACK multiplies them.

Weights are symmetric: int8 with a scale for each output channel; int4, in the Conformer blocks,
with a scale for each group of 32 weights, everything outside them staying int8: a tenth of the
weights, and the most sensitive. The scales of groups are bfloat16 in a `.pte`. Activations are
quantized to int8 as they come, with a scale and a zero point for each frame. XNNPACK has no kernels
for quantized weights and float activations.

`quantize_linears` does it, after training, through torchao; `FakeQuantizedLinear` does the same
arithmetic in training, so that training makes up for it (arXiv 1712.05877, gradients straight
through, arXiv 1308.3432).
"""

import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import AsrError
from training.model import ConformerEncoder, Transducer

PRECISIONS = ("int8", "int4")
GROUP = 32
"""Weights with one scale, int4; the widths of all layers are multiples of it."""

_BLOCKS = "blocks."
"""In the name of a layer of the Conformer blocks."""


def weight_bits(precision: str, name: str) -> int:
    """Return the bits of the weights of the linear layer `name` in a precision of `PRECISIONS`."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r}; expected one of {', '.join(PRECISIONS)}")
    return 4 if precision == "int4" and _BLOCKS in name else 8


def quantize_linears(module: nn.Module, precision: str) -> None:
    """Quantize the weights of all linear layers in place, and their inputs dynamically.

    Raises AsrError without torchao.
    """
    # It tells torch's developers of what torch's developers did.
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        from torchao.quantization import Int8DynamicActivationIntxWeightConfig, quantize_
        from torchao.quantization.granularity import PerAxis, PerGroup
    except ImportError as error:
        raise AsrError(
            f"quantization in torch needs torchao ({error}): pip install 'earshot-asr[executorch]'"
        ) from error
    configs = {
        8: Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int8, weight_granularity=PerAxis(0)
        ),
        4: Int8DynamicActivationIntxWeightConfig(
            weight_dtype=torch.int4,  # type: ignore[attr-defined]
            weight_granularity=PerGroup(GROUP),
        ),
    }
    for bits, config in configs.items():

        def chosen(part: nn.Module, name: str, bits: int = bits) -> bool:
            return isinstance(part, nn.Linear) and weight_bits(precision, name) == bits

        quantize_(module, config, filter_fn=chosen)


class FakeQuantizedLinear(nn.Linear):
    """A linear layer that computes with the rounded values of quantization.

    Its parameters are those of the layer that it replaces: a checkpoint fits either.
    """

    def __init__(self, linear: nn.Linear, bits: int) -> None:
        super().__init__(linear.in_features, linear.out_features, device="meta")
        self.weight, self.bias = linear.weight, linear.bias
        self.bits = bits

    def forward(self, x: Tensor) -> Tensor:
        weight = straight_through(self.weight, rounded_weight(self.weight, self.bits))
        return functional.linear(straight_through(x, rounded_activation(x)), weight, self.bias)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bits={self.bits}"


def fake_quantize(model: Transducer, precision: str) -> None:
    """Make a model compute as its export in this precision will, in place.

    Only the parts that are exported; the heads of training stay as they are. The gains of norms
    move into the linear layers behind them, as in the export, for they decide what is rounded.
    """
    absorb_norms(model.encoder)
    for part in (model.encoder, model.predictor, model.joiner):
        for name, linear in list(part.named_modules()):
            if isinstance(linear, nn.Linear):
                bits = weight_bits(precision, name)
                part.set_submodule(name, FakeQuantizedLinear(linear, bits))


@torch.no_grad()
def absorb_norms(encoder: ConformerEncoder) -> None:
    """Move gain and bias of each LayerNorm that only linear layers follow into those, in place.

    The encoder computes what it computed, in operations that a device need not do. The norms are
    left without effect, and without training: what they could learn, the layers behind them can.
    """
    block: Any
    for block in encoder.blocks:
        attention = block.attention
        behind: list[tuple[nn.LayerNorm, list[nn.Linear]]] = [
            (attention.norm, [attention.query, attention.key_value]),
            (block.feedforward_in.norm, [block.feedforward_in.expand]),
            (block.convolution.norm, [block.convolution.expand]),
            (block.feedforward_out.norm, [block.feedforward_out.expand]),
        ]
        for norm, linears in behind:
            for linear in linears:
                linear.bias.add_(linear.weight @ norm.bias)
                linear.weight.mul_(norm.weight)
            norm.weight.fill_(1)
            norm.bias.fill_(0)
            norm.requires_grad_(False)


def straight_through(value: Tensor, rounded: Tensor) -> Tensor:
    """Return `rounded`, with the gradient of `value`: rounding itself has none."""
    return value + (rounded - value).detach()


@torch.no_grad()
def rounded_weight(weight: Tensor, bits: int) -> Tensor:
    """Return what int8 makes of a weight `(out, in)`, a scale a row, or int4, a scale a group."""
    groups = weight if bits == 8 else weight.unflatten(1, (-1, GROUP))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    scale = groups.abs().amax(-1, keepdim=True) / ((high - low) / 2)
    scale = scale.clamp(min=torch.finfo(weight.dtype).eps)
    # Times the reciprocal, as torchao has it: a quotient of exactly 127.5 may round otherwise.
    steps = (groups * (1 / scale)).round().clamp(low, high)
    if bits == 4:
        scale = scale.bfloat16().to(scale.dtype)  # as ExecuTorch writes the scales of groups
    return (steps * scale).view_as(weight)


@torch.no_grad()
def rounded_activation(x: Tensor) -> Tensor:
    """Return what int8 makes of activations `(..., D)`, with a scale and a zero a frame."""
    low, high = x.amin(-1, keepdim=True).clamp(max=0), x.amax(-1, keepdim=True).clamp(min=0)
    scale = ((high - low) / 255).clamp(min=torch.finfo(torch.float32).eps)
    zero = -128 - (low / scale).round()
    return ((x * (1 / scale)).round().add_(zero).clamp_(-128, 127).sub_(zero)).mul_(scale)
