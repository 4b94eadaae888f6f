"""Arithmetic and bytes of a call, held against the model that is trained."""

from dataclasses import replace
from pathlib import Path

import pytest

from asr.bundle import Bundle, Golden, ModelConfig
from asr.evaluation.cost.costs import call_costs, stream_state_bytes
from asr.evaluation.cost.energy_model import (
    DRAM_PJ_PER_BYTE,
    FLOAT_MAC_PJ,
    INT8_MAC_PJ,
    invocations,
    model_energy,
    modelled_rows,
    no_modelled_rows,
)
from asr.evaluation.cost.roofline import MachineRates, step_bound


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The dimensions of size s, no files."""
    model = ModelConfig(12, 128, 15, 256, 2, 256, parameters=4_903_456)
    return Bundle(Path("none"), "s", "en", model, (), {}, Golden("none", {}))


def test_parameters_and_arithmetic_are_those_of_the_trained_model(bundle: Bundle) -> None:
    """torch counts its own multiply-accumulates, of an encoder step of 8 frames."""
    torch = pytest.importorskip("torch")
    from torch.utils.flop_counter import FlopCounterMode

    from training.model import Transducer, initial_state, sized

    model = Transducer(sized("s", 256)).eval()
    costs = call_costs(bundle, "int8", chunk_frames=8)
    for name, cost in costs.items():
        part = getattr(model, name)
        assert cost.parameters == sum(weight.numel() for weight in part.parameters()), name
    state = initial_state(model.config, 1, left_frames=64)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model.encoder(torch.zeros(1, 35, 80), state)
    assert costs["encoder"].macs == pytest.approx(counter.get_total_flops() / 2, rel=0.02)
    held = state.attention.numel() + state.conv.numel()
    assert stream_state_bytes(bundle) == 4 * held


def test_int8_reads_a_quarter_of_fp32(bundle: Bundle) -> None:
    whole, quarter = (call_costs(bundle, p, 8)["encoder"] for p in ("fp32", "int8"))
    assert whole.weight_bytes == 4 * quarter.weight_bytes
    assert whole.state_bytes == quarter.state_bytes
    with pytest.raises(ValueError, match="precision 'fp16'; expected one of fp32"):
        call_costs(bundle, "fp16", 8)


def test_a_longer_chunk_needs_fewer_calls_and_less_energy(bundle: Bundle) -> None:
    assert invocations(bundle, 8, 4.0)["encoder"] == pytest.approx(3.125)
    assert invocations(bundle, 8, 4.0)["predictor"] == 4.0
    energies = [
        sum(part.millijoules for part in model_energy(bundle, "int8", chunk, 4.0).values())
        for chunk in (4, 8, 16)
    ]
    assert energies == sorted(energies, reverse=True)


def test_energy_is_bytes_and_arithmetic_times_the_stated_constants(bundle: Bundle) -> None:
    for precision, mac_pj in (("int8", INT8_MAC_PJ), ("fp32", FLOAT_MAC_PJ)):
        encoder = model_energy(bundle, precision, 8, 4.0)["encoder"]
        cost = call_costs(bundle, precision, 8)["encoder"]
        assert not encoder.local  # 5 MB don't stay in 1 MB
        read = 3.125 * (cost.weight_bytes + cost.state_bytes)
        expected = (read * DRAM_PJ_PER_BYTE + 3.125 * cost.macs * mac_pj) / 1e9
        assert encoder.millijoules == pytest.approx(expected)


def test_small_networks_that_are_called_often_stay_on_the_chip(bundle: Bundle) -> None:
    energy = model_energy(bundle, "int8", 8, 4.0)
    assert (energy["joiner"].local, energy["predictor"].local) == (True, True)
    wide = replace(bundle, model=replace(bundle.model, vocab_size=5000))
    assert not model_energy(wide, "int8", 8, 4.0)["joiner"].local


def test_rows_say_that_they_are_modelled_or_why_there_are_none(bundle: Bundle) -> None:
    rows, none = modelled_rows(model_energy(bundle, "int8", 8, 4.0)), no_modelled_rows("why")
    assert {row.source for row in rows.values()} == {"modelled"}
    assert list(rows) == list(none)
    assert all(row.reason == "why" for row in none.values())


def test_a_step_is_bound_by_what_takes_longer(bundle: Bundle) -> None:
    slow_memory = step_bound(bundle, "int8", 8, MachineRates(1.0, 1000.0, 1000.0))
    assert (slow_memory.bound_by, slow_memory.bound_ms) == ("memory", pytest.approx(6.47, abs=0.01))
    slow_sums = step_bound(bundle, "int8", 8, MachineRates(1000.0, 1.0, 1.0))
    assert (slow_sums.bound_by, slow_sums.bound_ms) == ("arithmetic", pytest.approx(39.4, abs=0.1))
    assert slow_sums.to_dict(step_ms=78.8)["achieved"] == pytest.approx(0.5, abs=0.01)
