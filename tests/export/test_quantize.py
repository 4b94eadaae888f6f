"""int8 is int8: no layer is left out in silence, and the words survive."""

import copy
from collections import Counter

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper

from asr.bundle import Bundle
from asr.errors import ExportError
from export.onnx import Graphs
from export.quantize import verify_quantized
from training.model import Transducer

LINEAR_PER_LAYER = 9  # two feed-forwards of 2, attention 3, convolution module 2


def operators(graph: ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in graph.graph.node)


def test_every_linear_layer_is_an_integer_product(quantized: Graphs, model: Transducer) -> None:
    layers = model.config.layers
    encoder = operators(quantized.encoder)
    assert encoder["MatMulInteger"] == LINEAR_PER_LAYER * layers + 2
    assert encoder["MatMul"] == 2 * layers, "of attention: queries by keys, weights by values"
    assert operators(quantized.predictor)["MatMulInteger"] == 1
    assert operators(quantized.joiner)["MatMulInteger"] == 2
    assert not operators(quantized.joiner)["Gemm"]
    for _, graph in quantized.items():
        onnx.checker.check_model(graph, full_check=True)


def test_weights_keep_to_seven_bits(quantized: Graphs) -> None:
    """With eight, processors without VNNI saturate and the text is wrong there."""
    for _, graph in quantized.items():
        matrices = [
            numpy_helper.to_array(tensor)
            for tensor in graph.graph.initializer
            if tensor.data_type == TensorProto.INT8 and len(tensor.dims) == 2
        ]
        assert matrices
        assert max(int(np.abs(matrix).max()) for matrix in matrices) <= 64


def test_weights_have_a_scale_per_channel(quantized: Graphs, model: Transducer) -> None:
    scales = [
        tensor.dims[0]
        for tensor in quantized.encoder.graph.initializer
        if tensor.name.endswith("_scale") and tensor.dims
    ]
    assert min(scales) >= model.config.dim


def test_the_file_shrinks(exact: Graphs, quantized: Graphs) -> None:
    for name, graph in exact.items():
        assert getattr(quantized, name).ByteSize() < 0.6 * graph.ByteSize(), name


def test_a_layer_left_in_float_is_refused(exact: Graphs) -> None:
    for name, graph in exact.items():
        with pytest.raises(ExportError, match=f"the {name} is not quantized"):
            verify_quantized(name, graph, graph)


def test_a_layer_that_went_missing_is_refused(exact: Graphs, quantized: Graphs) -> None:
    graph = copy.deepcopy(quantized.encoder)
    graph.graph.node.remove(next(n for n in graph.graph.node if n.op_type == "MatMulInteger"))
    with pytest.raises(ExportError, match="the encoder is not quantized"):
        verify_quantized("encoder", exact.encoder, graph)


def test_int8_stays_near_float(bundle: Bundle) -> None:
    golden = np.load(bundle.path / "golden.npz", allow_pickle=False)
    exact, quantized = golden["encoder_out.fp32"], golden["encoder_out.int8"]
    assert 0 < np.abs(quantized - exact).mean() <= 0.05 * exact.std()
