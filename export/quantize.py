"""Graphs in less than float: which layers, and the proof that it happened.

How a layer is quantized is in `export.fused.arithmetic`.
"""

from collections import Counter

from onnx import ModelProto, TensorProto

from asr.bundle import StreamingConfig
from asr.errors import ExportError
from export.fused import export_graphs, uniform
from export.onnx import Graphs
from training.model import Transducer

_LINEAR_OPERATORS = {"fp32": "MatMul", "int8": "DynamicQuantizeMatMul", "int4": "MatMulNBits"}
_NUMBERS = {
    "fp32": TensorProto.FLOAT,
    "int8": TensorProto.INT8,
    "int4": TensorProto.UINT8,  # two in each
}


def quantize(
    model: Transducer, exact: Graphs, streaming: StreamingConfig, precision: str
) -> Graphs:
    """Return the graphs of a model with int8 or int4 weights; embeddings are int8 in both.

    `exact` are its float graphs, whose layers are counted. Raises ExportError if a layer can't be
    quantized, or was left out.
    """
    quantized = export_graphs(model, streaming, uniform(precision))
    for name, graph in exact.items():
        verify_quantized(name, graph, getattr(quantized, name), precision)
    return quantized


def verify_quantized(name: str, exact: ModelProto, quantized: ModelProto, precision: str) -> None:
    """Prove by counting that every linear layer and embedding of `exact` became `precision`.

    Raises ExportError with the counts if not.
    """
    expected = count_layers(exact, "fp32")
    found, left = count_layers(quantized, precision), count_layers(quantized, "fp32")
    if found != expected or left.total():
        raise ExportError(
            f"the {name} is not quantized: {dict(expected)} layers with float weights, of which "
            f"{dict(found)} became {precision} and {dict(left)} did not"
        )


def count_layers(graph: ModelProto, precision: str) -> Counter[str]:
    """Count the linear layers and embeddings that compute in a precision."""
    numbers = {tensor.name: tensor.data_type for tensor in graph.graph.initializer}
    table = "fp32" if precision == "fp32" else "int8"
    counts = Counter(linear=0, embedding=0)
    for node in graph.graph.node:
        if node.op_type == _LINEAR_OPERATORS[precision]:
            counts["linear"] += numbers.get(node.input[1]) == _NUMBERS[precision]
        elif node.op_type == "Gather":
            counts["embedding"] += numbers.get(node.input[0]) == _NUMBERS[table]
    return counts
