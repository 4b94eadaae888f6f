"""What training rounds is what the export rounds, and rounding stops no gradient."""

import copy
import sys

import pytest
import torch
from torch import nn

from asr.engines.executorch import set_threads
from asr.errors import AsrError
from training.compression.quantization import (
    PRECISIONS,
    FakeQuantizedLinear,
    absorb_norms,
    fake_quantize,
    quantize_linears,
    rounded_activation,
    rounded_weight,
    straight_through,
    weight_bits,
)
from training.model import ModelConfig, Transducer

CONFIG = ModelConfig(vocab_size=30, dim=64, layers=2, conv_kernel=7)


@pytest.fixture
def model() -> Transducer:
    torch.manual_seed(0)
    model = Transducer(CONFIG)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return model.eval()


def encode(model: Transducer) -> torch.Tensor:
    torch.manual_seed(1)
    with torch.no_grad():
        return model.encode(torch.randn(1, 67, 80), torch.tensor([67]), 8, 64).frames


def test_absorbed_norms_change_no_output(model: Transducer) -> None:
    before = encode(model)
    absorb_norms(model.encoder)
    assert (encode(model) - before).abs().max() < 1e-5
    norm = model.encoder.blocks[0].feedforward_in.norm
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all() and not norm.weight.requires_grad
    assert not model.encoder.blocks[0].norm.weight.eq(1).any(), "what follows it adds: it stays"


@pytest.mark.timeout(600)  # the lowering, on a machine with other work
@pytest.mark.parametrize("precision", PRECISIONS)
def test_training_computes_what_xnnpack_computes(precision: str) -> None:
    """Else the model learns to make up for errors that its export does not make."""
    portable_lib = pytest.importorskip("executorch.extension.pybindings.portable_lib")
    from export.executorch.lowering import Method, lower

    torch.manual_seed(0)
    linear = nn.Linear(64, 96).eval().requires_grad_(False)
    quantized = nn.ModuleDict({"blocks": nn.Sequential(copy.deepcopy(linear))})
    quantize_linears(quantized, precision)
    x = 3 * torch.randn(5, 64) + 1
    program = lower({"linear": Method(quantized["blocks"], (x,))})
    set_threads(portable_lib, 1)
    method = portable_lib._load_program_from_buffer(program.content).load_method("linear")
    expected = method.call((x,))[0]
    found = FakeQuantizedLinear(linear, weight_bits(precision, "blocks.linear"))(x)
    assert (found - expected).abs().max() < 1e-5
    assert (expected - linear(x)).abs().max() > 1e-3, "something was quantized"


def test_int4_is_for_the_blocks_alone(model: Transducer) -> None:
    fake_quantize(model, "int4")
    bits = {n: m.bits for n, m in model.named_modules() if isinstance(m, FakeQuantizedLinear)}
    assert bits["encoder.blocks.1.attention.output"] == 4
    assert bits["encoder.output"] == bits["joiner.labels"] == bits["predictor.output"] == 8
    assert not any(name in bits for name in ("ctc", "phones")), "only what is exported"


def test_a_checkpoint_fits_with_and_without_quantization(model: Transducer) -> None:
    before = model.state_dict()
    fake_quantize(model, "int8")
    assert list(model.state_dict()) == list(before)
    Transducer(CONFIG).load_state_dict(model.state_dict())


def test_int4_costs_more_than_int8(model: Transducer) -> None:
    exact = encode(model)
    errors = []
    for precision in PRECISIONS:
        rounded = copy.deepcopy(model)
        fake_quantize(rounded, precision)
        errors.append(float((encode(rounded) - exact).abs().mean()))
    assert 0 < errors[0] < errors[1] / 2


def test_gradients_pass_straight_through() -> None:
    value = torch.tensor([0.3, 1.7], requires_grad=True)
    rounded = straight_through(value, value.round())
    (2 * rounded).sum().backward()
    assert rounded.tolist() == [0, 2] and value.grad is not None and value.grad.tolist() == [2, 2]


def test_rounding_keeps_zeros_and_constants() -> None:
    """Padding is zeros, and an all-zero row must not become NaN."""
    assert rounded_weight(torch.zeros(2, 64), 4).eq(0).all()
    assert rounded_activation(torch.zeros(2, 8)).eq(0).all()
    assert rounded_activation(torch.tensor([[0.0, 5.0, 0.0]]))[0, 0] == 0


ADVICE = r"needs torchao .*: pip install 'earshot-asr\[executorch\]'"


def test_without_torchao_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(AsrError, match=ADVICE):
        quantize_linears(nn.Sequential(nn.Linear(64, 64)), "int8")


def test_a_torchao_without_the_configuration_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its configurations come and go from one version to the next."""
    torchao = pytest.importorskip("torchao.quantization")
    monkeypatch.delattr(torchao, "Int8DynamicActivationIntxWeightConfig")
    with pytest.raises(AsrError, match=ADVICE) as caught:
        quantize_linears(nn.Sequential(nn.Linear(64, 64)), "int8")
    assert "Int8DynamicActivationIntxWeightConfig" in str(caught.value)


def test_an_unknown_precision_is_named() -> None:
    with pytest.raises(ValueError, match="int3"):
        weight_bits("int3", "blocks.0")
