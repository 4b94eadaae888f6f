"""int8 and int4 are what they say: no layer is left out in silence, and the words survive."""

import copy

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, TensorProto, numpy_helper

from asr.bundle import Bundle
from asr.errors import ExportError
from export.fused import export_graphs, uniform
from export.fused.arithmetic import (
    INT4_BLOCK,
    INT8_LIMIT,
    pack_int4,
    quantize_int4,
    quantize_int8,
)
from export.onnx import Graphs
from export.plain import quantize_plainly
from export.quantize import count_layers, quantize, verify_quantized
from tests.export.conftest import STREAMING
from tests.export.test_fused import open_session
from training.model import Transducer

LINEAR_PER_LAYER = 8  # two feed-forwards of 2, attention 2, convolution module 2


@pytest.fixture(scope="module")
def int4(model: Transducer, exact: Graphs) -> Graphs:
    return quantize(model, exact, STREAMING, "int4")


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_every_linear_layer_is_quantized(
    quantized: Graphs, int4: Graphs, model: Transducer, precision: str
) -> None:
    graphs = quantized if precision == "int8" else int4
    encoder = count_layers(graphs.encoder, precision)
    assert encoder["linear"] == LINEAR_PER_LAYER * model.config.layers + 2
    assert count_layers(graphs.predictor, precision) == {"linear": 1, "embedding": 1}
    assert count_layers(graphs.joiner, precision) == {"linear": 1, "embedding": 0}
    for _, graph in graphs.items():
        onnx.checker.check_model(graph)


def test_weights_keep_to_seven_bits(quantized: Graphs) -> None:
    """With eight, processors without VNNI saturate and the text is wrong there."""
    for _, graph in quantized.items():
        matrices = [
            numpy_helper.to_array(tensor)
            for tensor in graph.graph.initializer
            if tensor.data_type == TensorProto.INT8
        ]
        assert matrices
        assert max(int(np.abs(matrix).max()) for matrix in matrices) == 64


def test_weights_have_a_scale_per_channel(quantized: Graphs, model: Transducer) -> None:
    """One scale for a whole matrix doubled the errors of other recognisers."""
    encoder = stored(quantized.encoder)
    scales = [name for name in encoder if name.endswith(".scale")]
    assert len(scales) == count_layers(quantized.encoder, "int8")["linear"]
    for name in scales:
        numbers = encoder[name.replace(".scale", ".weight")]
        assert encoder[name].shape == numbers.shape[1:]
        # Each channel uses the whole range, however small its weights are.
        assert (np.abs(numbers).max(axis=0) == INT8_LIMIT).all(), name
    numbers, scale = encoder["encoder.output.weight"], encoder["encoder.output.scale"]
    expected = model.encoder.output.weight.detach().numpy().T
    assert (np.abs(numbers * scale - expected) <= 0.501 * scale).all()


def test_the_file_shrinks(exact: Graphs, quantized: Graphs, int4: Graphs) -> None:
    for name, graph in exact.items():
        eight, four = (getattr(graphs, name).ByteSize() for graphs in (quantized, int4))
        assert four < eight < 0.6 * graph.ByteSize(), name


def test_a_layer_left_in_float_is_refused(exact: Graphs) -> None:
    for name, graph in exact.items():
        with pytest.raises(ExportError, match=f"the {name} is not quantized"):
            verify_quantized(name, graph, graph, "int8")


def test_a_layer_that_went_missing_is_refused(exact: Graphs, quantized: Graphs) -> None:
    graph = copy.deepcopy(quantized.encoder)
    linear = next(node for node in graph.graph.node if node.op_type == "DynamicQuantizeMatMul")
    graph.graph.node.remove(linear)
    with pytest.raises(ExportError, match="the encoder is not quantized"):
        verify_quantized("encoder", exact.encoder, graph, "int8")


def test_a_float_layer_beside_the_quantized_ones_is_refused(
    exact: Graphs, quantized: Graphs
) -> None:
    """The count of what became int8 is right then."""
    graph = copy.deepcopy(quantized.joiner)
    linear = next(node for node in exact.joiner.graph.node if node.op_type == "MatMul")
    weight = next(item for item in exact.joiner.graph.initializer if item.name == linear.input[1])
    graph.graph.node.append(linear)
    graph.graph.initializer.append(weight)
    weight = graph.graph.initializer[-1]
    graph.graph.node[-1].input[1] = weight.name = "left"
    with pytest.raises(ExportError, match=r"the joiner is not quantized: .*'linear': 1.* did not"):
        verify_quantized("joiner", exact.joiner, graph, "int8")


def test_one_layer_alone_can_be_quantized(model: Transducer, exact: Graphs) -> None:
    mixed = export_graphs(
        model, STREAMING, lambda name: "int8" if name == "encoder.output" else "fp32"
    )
    assert count_layers(mixed.encoder, "int8")["linear"] == 1
    left = count_layers(exact.encoder, "fp32")["linear"] - 1
    assert count_layers(mixed.encoder, "fp32")["linear"] == left


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ExportError, match="'int2'; expected one of fp32, int8, int4"):
        uniform("int2")


def test_inputs_that_fill_no_blocks_are_refused() -> None:
    with pytest.raises(ExportError, match="33 inputs can't be int4: expected a multiple of 32"):
        quantize_int4(np.ones((33, 4), np.float32))


@given(seed=st.integers(0, 1000), outputs=st.integers(1, 5), scale=st.floats(1e-6, 1e6))
@settings(max_examples=30, deadline=None)
def test_numbers_are_within_half_a_step(seed: int, outputs: int, scale: float) -> None:
    weight = np.random.default_rng(seed).standard_normal((2 * INT4_BLOCK, outputs)) * scale
    weight = weight.astype(np.float32)
    numbers, steps = quantize_int8(weight)
    assert (np.abs(numbers * steps - weight) <= 0.501 * steps).all()
    assert (np.abs(numbers).max(axis=0) == INT8_LIMIT).all()
    numbers, steps = quantize_int4(weight)
    error = np.abs(numbers * steps[..., None] - weight.T.reshape(numbers.shape))
    whole_range = np.abs(weight.T.reshape(numbers.shape)).max(axis=2) / 8
    # A smaller range is taken only where the sum of squares gains by it.
    assert (np.square(error).sum(axis=2) <= INT4_BLOCK * np.square(whole_range)).all()


def test_a_channel_of_zeros_stays_zero() -> None:
    weight = np.zeros((INT4_BLOCK, 2), np.float32)
    weight[:, 0] = 1.0
    for numbers, scale in (quantize_int8(weight), quantize_int4(weight)):
        assert np.isfinite(scale).all()
        assert not np.moveaxis(numbers, -1 if numbers.ndim == 2 else 0, 0)[1].any()


def test_onnxruntime_reads_int4_as_it_was_packed(model: Transducer, int4: Graphs) -> None:
    """The order of the two numbers in a byte, and which of the sixteen is zero."""
    graph = int4.joiner
    numbers, steps = quantize_int4(
        np.concatenate([model.joiner.blank.weight.detach(), model.joiner.labels.weight.detach()]).T
    )
    weights = stored(graph)
    np.testing.assert_array_equal(weights["joiner.weight"], pack_int4(numbers))
    # Through tanh, which is linear enough here, one input at a time: a row of the matrix.
    dense = (numbers * steps[..., None]).reshape(len(numbers), -1).T
    frames = np.zeros((3, dense.shape[0]), np.float32)
    for row, column in enumerate((0, 1, 37)):
        frames[row, column] = 20.0
    out = open_session(graph).run(
        None, {"encoder_out": frames, "predictor_out": np.zeros_like(frames)}
    )[0]
    scores = dense[[0, 1, 37]] + weights["joiner.bias"]
    labels = scores[:, 1:]
    expected = labels - np.log(np.exp(labels).sum(axis=1, keepdims=True))
    found = out[:, 1:] - np.log(np.exp(out[:, 1:]).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_int8_stays_near_float(bundle: Bundle) -> None:
    golden = np.load(bundle.path / "golden.npz", allow_pickle=False)
    exact, quantized = golden["encoder_out.fp32"], golden["encoder_out.int8"]
    assert 0 < np.abs(quantized - exact).mean() <= 0.05 * exact.std()


class TestBaseline:
    """onnxruntime's own quantizer, which says nothing about what it leaves out."""

    def test_every_linear_layer_is_an_integer_product(
        self, plain: Graphs, model: Transducer
    ) -> None:
        graphs = quantize_plainly(plain)
        assert operators(graphs.encoder, "MatMulInteger") == 9 * model.config.layers + 2
        assert operators(graphs.predictor, "MatMulInteger") == 1
        assert operators(graphs.joiner, "MatMulInteger") == 2
        assert not operators(graphs.joiner, "Gemm")
        # 7 bits, for processors without VNNI, and a scale for each channel.
        weights = stored(graphs.encoder)
        numbers = [each for each in weights.values() if each.dtype == np.int8 and each.ndim == 2]
        assert len(numbers) == 9 * model.config.layers + 2
        for each in numbers:
            assert (np.abs(each.astype(int)).max(axis=0) // 2 == 32).all()

    def test_what_it_leaves_out_is_an_error(
        self, plain: Graphs, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "export.plain._QUANTIZED", {name: ("Conv",) for name, _ in plain.items()}
        )
        with pytest.raises(ExportError, match="the encoder is not quantized"):
            quantize_plainly(plain)


def stored(graph: ModelProto) -> dict[str, np.ndarray]:
    """The weights of a graph by their names."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.graph.initializer}


def operators(graph: ModelProto, operator: str) -> int:
    return sum(node.op_type == operator for node in graph.graph.node)
