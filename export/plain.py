"""The baseline: what torch's exporter and onnxruntime's quantizer make of the model, untouched.

`asr-export --plain` writes it, so that the graphs of `export.fused` can be measured against it in
one run. Nothing is tuned here, and nothing should be.
"""

import copy
import tempfile
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, TensorProto
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process
from torch import Tensor, nn

from asr.bundle import MAX_CHUNK_FRAMES, SUBSAMPLING_OVERLAP, StreamingConfig
from asr.errors import ExportError
from export.onnx import IR_VERSION, OPSET, Graphs, Interface, interfaces
from training.model import EncoderState, Transducer, initial_state
from training.model.attention import RotaryPositions

PRECISIONS = ("fp32", "int8")

_QUANTIZED = {
    "encoder": ("MatMul",),
    "predictor": ("MatMul", "Gather"),  # Gather: the embedding
    "joiner": ("MatMul", "Gemm"),
}
_INT8: set[int] = {TensorProto.INT8, TensorProto.UINT8}  # the embedding becomes unsigned


def plain_graphs(model: Transducer, streaming: StreamingConfig) -> Graphs:
    """Return the float graphs of a model in evaluation mode, on the CPU.

    Raises ExportError if the model is in training mode, or torch can't export it.
    """
    if model.training:
        raise ExportError("the model is in training mode; call model.eval() before its export")
    config = model.config
    contract = interfaces(config, streaming)
    # Sizes that nothing else in the graph has; the exporter takes 1 for a constant.
    batch, chunk = 2, streaming.chunk_frames
    features = torch.zeros(batch, streaming.feature_frames(chunk), config.num_mel_bins)
    state = initial_state(config, batch, streaming.left_context_frames)
    n = torch.export.Dim("N")
    c = torch.export.Dim("C", min=1, max=MAX_CHUNK_FRAMES)
    t = streaming.subsampling_factor * c + SUBSAMPLING_OVERLAP

    encoder = _export(
        _EncoderGraph(model, streaming.left_context_frames),
        (features, *state),
        contract["encoder"],
        ({0: n, 1: t}, {2: n}, {2: n}, {0: n}),
    )
    context = torch.zeros(batch, config.context_size, dtype=torch.int64)
    predictor = _export(_PredictorGraph(model), (context,), contract["predictor"], ({0: n},))
    # Two tensors: torch takes one given twice for a single input.
    frames = (torch.zeros(batch, config.joiner_dim), torch.zeros(batch, config.joiner_dim))
    joiner = _export(model.joiner, frames, contract["joiner"], ({0: n}, {0: n}))
    return Graphs(encoder, predictor, joiner)


def quantize_plainly(graphs: Graphs) -> Graphs:
    """Return the graphs with int8 weights, per output channel, of 7 bits (see `export.fused`).

    The quantizer says nothing about a layer that it leaves out, so the result is counted.

    Raises ExportError if a linear layer or the embedding kept its float weights.
    """
    quantized = {name: _quantize(name, graph) for name, graph in graphs.items()}
    for name, graph in graphs.items():
        _verify_quantized(name, graph, quantized[name])
    return Graphs(**quantized)


class _EncoderGraph(nn.Module):
    """The encoder with its state as positional tensors."""

    def __init__(self, model: Transducer, left_context_frames: int) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(model.encoder)
        # The graph holds the whole table, so it is cut to what a call can need.
        self.encoder.positions = RotaryPositions(left_context_frames + MAX_CHUNK_FRAMES)

    def forward(
        self, x: Tensor, attn_cache: Tensor, conv_cache: Tensor, processed_frames: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        out = self.encoder(x, EncoderState(attn_cache, conv_cache, processed_frames))
        return out.frames, out.state.attention, out.state.conv


class _PredictorGraph(nn.Module):
    """The predictor for one position: `(N, context_size)` -> `(N, joiner_dim)`."""

    def __init__(self, model: Transducer) -> None:
        super().__init__()
        self.predictor = model.predictor

    def forward(self, y: Tensor) -> Tensor:
        out: Tensor = self.predictor(y).squeeze(1)
        return out


def _export(
    module: nn.Module, example: tuple[Tensor, ...], interface: Interface, dynamic: tuple[Any, ...]
) -> ModelProto:
    with warnings.catch_warnings(), torch.no_grad():
        # About its own internals and the names of dimensions, which are set below.
        warnings.simplefilter("ignore")
        try:
            program = torch.onnx.export(
                module.eval(),
                example,
                input_names=list(interface.inputs),
                output_names=list(interface.outputs),
                dynamic_shapes=dynamic,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            raise ExportError(f"torch can't export the {type(module).__name__}: {error}") from error
    assert program is not None  # it is None only when a file is asked for
    graph = program.model_proto
    _strip(graph)
    _declare(graph, interface)
    return graph


def _strip(model: ModelProto) -> None:
    """Remove what no engine reads: stack traces made a quarter of an int8 file."""
    for node in model.graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.ClearField("metadata_props")
        value.ClearField("doc_string")
    model.graph.ClearField("metadata_props")
    # Intermediate shapes: onnxruntime infers them, and the quantizer trips over stale ones.
    model.graph.ClearField("value_info")


def _declare(model: ModelProto, interface: Interface) -> None:
    """Write the interface into a graph: names of dimensions, metadata, version."""
    declared = {**interface.inputs, **interface.outputs}
    for value in (*model.graph.input, *model.graph.output):
        for dimension, size in zip(
            value.type.tensor_type.shape.dim, declared[value.name], strict=True
        ):
            if isinstance(size, str):
                dimension.dim_param = size
    onnx.helper.set_model_props(model, interface.metadata)
    model.ir_version = IR_VERSION


def _verify_quantized(name: str, original: ModelProto, quantized: ModelProto) -> None:
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
