"""Float graphs to int8: weights per output channel ahead of time, activations as they come.

onnxruntime's dynamic quantization is the fastest one-thread variant for these sizes (uint8 weights
and quantized convolutions are slower; static quantization is not faster). Convolutions stay float:
they hold a few percent of the weights.

Weights use 7 of the 8 bits, because an x86 processor without VNNI adds pairs of products in 16 bits
and saturates. Mean error of a half-trained encoder of size `s` against float, its outputs having a
deviation of 0.68 (`qemu-x86_64-static -cpu Haswell` for the processor without VNNI):

    weights   with VNNI   without
    8 bits      0.0061    0.0128
    7 bits      0.0076    0.0076, the same to the last bit

The quantizer says nothing about a layer that it leaves out, so the result is counted.
"""

import tempfile
from collections import Counter
from pathlib import Path

import onnx
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

from asr.errors import ExportError
from export.onnx import IR_VERSION, Graphs

_QUANTIZED = {
    "encoder": ("MatMul",),
    "predictor": ("MatMul", "Gather"),  # Gather: the embedding
    "joiner": ("MatMul", "Gemm"),
}
_INT8: set[int] = {TensorProto.INT8, TensorProto.UINT8}  # the embedding becomes unsigned


def quantize(graphs: Graphs) -> Graphs:
    """Return the graphs with int8 weights.

    Raises ExportError if a linear layer or the embedding kept its float weights.
    """
    quantized = {name: _quantize(name, graph) for name, graph in graphs.items()}
    for name, graph in graphs.items():
        verify_quantized(name, graph, quantized[name])
    return Graphs(**quantized)


def verify_quantized(name: str, original: ModelProto, quantized: ModelProto) -> None:
    """Prove by counting that every linear layer and embedding of `original` became int8.

    Raises ExportError with the counts if not.
    """
    expected = _weighted(original)
    found = Counter(
        {
            "linear": _count(quantized, "MatMulInteger", weight=1, types=_INT8),
            "embedding": _count(quantized, "Gather", weight=0, types=_INT8),
        }
    )
    left = _weighted(quantized)
    if found != expected or left.total():
        raise ExportError(
            f"the {name} is not quantized: {dict(expected)} layers with float weights, of which "
            f"{dict(found)} became int8 and {dict(left)} did not; this version of onnxruntime "
            "rewrites the graph in another way than expected"
        )


def _quantize(name: str, graph: ModelProto) -> ModelProto:
    with tempfile.TemporaryDirectory() as folder:
        prepared, result = Path(folder, "prepared.onnx"), Path(folder, "int8.onnx")
        # No optimisation: it fuses MatMul and Add into what the quantizer then leaves out.
        quant_pre_process(graph, prepared, skip_optimization=True, skip_symbolic_shape=True)
        quantize_dynamic(
            prepared,
            result,
            op_types_to_quantize=list(_QUANTIZED[name]),
            per_channel=True,
            weight_type=QuantType.QInt8,
            reduce_range=True,
        )
        quantized = onnx.load(result)
    quantized.graph.ClearField("value_info")
    metadata = {item.key: item.value for item in graph.metadata_props}
    onnx.helper.set_model_props(quantized, metadata)  # without the quantizer's own notes
    quantized.ir_version = IR_VERSION
    return quantized


def _weighted(model: ModelProto) -> Counter[str]:
    """Count the linear layers and embeddings whose weights are float."""
    floats: set[int] = {TensorProto.FLOAT}
    return Counter(
        {
            "linear": sum(_count(model, op, weight=1, types=floats) for op in ("MatMul", "Gemm")),
            "embedding": _count(model, "Gather", weight=0, types=floats),
        }
    )


def _count(model: ModelProto, op_type: str, weight: int, types: set[int]) -> int:
    """Count the nodes of a type whose input number `weight` is a stored matrix of such a type."""
    matrices = {
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type in types and len(tensor.dims) == 2
    }
    return sum(
        node.op_type == op_type and node.input[weight] in matrices for node in model.graph.node
    )
