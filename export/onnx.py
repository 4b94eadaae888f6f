"""A trained transducer as three ONNX graphs that onnxruntime and sherpa-onnx run.

The graphs keep sherpa-onnx's contract for a streaming transducer of type `conformer`: its inputs
are positional, its metadata say how to call them. The contract is stated here once, as `Interface`;
`export.verify` holds finished graphs against it.
"""

import copy
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from asr.bundle import SUBSAMPLING_OVERLAP, GraphFiles, StreamingConfig
from asr.errors import ExportError
from export.graph_passes import fold_scales, widen_depthwise_convolutions
from training.model import EncoderState, ModelConfig, Transducer, initial_state
from training.model.attention import RotaryPositions

OPSET = 18
IR_VERSION = 10
"""onnx writes a newer one by default, which the onnxruntime of many devices refuses."""

MAX_CHUNK_FRAMES = 256
"""The longest encoder call, 10.24 s: the tables of positions in the graph end there."""


@dataclass(frozen=True)
class Graphs:
    """The three graphs of a transducer, in one precision."""

    encoder: ModelProto
    predictor: ModelProto
    joiner: ModelProto

    def items(self) -> Iterator[tuple[str, ModelProto]]:
        """Yield the name and the graph of each."""
        for item in fields(self):
            yield item.name, getattr(self, item.name)

    def save(self, folder: Path, precision: str) -> GraphFiles:
        """Write `encoder.PRECISION.onnx` and the others; return the names."""
        names = {name: f"{name}.{precision}.onnx" for name, _ in self.items()}
        for name, graph in self.items():
            (folder / names[name]).write_bytes(graph.SerializeToString(deterministic=True))
        return GraphFiles(engine="onnx", **names)


@dataclass(frozen=True)
class Interface:
    """What a graph takes and gives, in order, and the metadata that tell sherpa-onnx so.

    A dimension is a number, or a name where any size will do.
    """

    inputs: dict[str, tuple[int | str, ...]]
    outputs: dict[str, tuple[int | str, ...]]
    metadata: dict[str, str]


def interfaces(config: ModelConfig, streaming: StreamingConfig) -> dict[str, Interface]:
    """Return the contract of each graph."""
    joined = ("N", config.joiner_dim)
    attention = (config.layers, streaming.left_context_frames, "N", 2 * config.dim)
    convolution = (config.layers, config.conv_rows, "N", 2 * config.dim)
    encoder = {
        "model_type": "conformer",
        "num_encoder_layers": config.layers,
        "T": streaming.feature_frames(streaming.chunk_frames),
        "decode_chunk_len": streaming.subsampling_factor * streaming.chunk_frames,
        "left_context": streaming.left_context_frames,
        "encoder_dim": 2 * config.dim,  # the width of a cache row, keys and values
        "pad_length": SUBSAMPLING_OVERLAP,
        "cnn_module_kernel": config.conv_rows + 1,  # sherpa-onnx makes one row less
    }
    predictor = {"vocab_size": config.vocab_size, "context_size": config.context_size}
    return {
        "encoder": Interface(
            inputs={
                "x": ("N", "T", config.num_mel_bins),
                "attn_cache": attention,
                "conv_cache": convolution,
                "processed_frames": ("N",),
            },
            outputs={
                "encoder_out": ("N", "C", config.joiner_dim),
                "next_attn_cache": attention,
                "next_conv_cache": convolution,
            },
            metadata=_text_values(encoder),
        ),
        "predictor": Interface(
            inputs={"y": ("N", config.context_size)},
            outputs={"predictor_out": joined},
            metadata=_text_values(predictor),
        ),
        "joiner": Interface(
            inputs={"encoder_out": joined, "predictor_out": joined},
            outputs={"log_probs": ("N", config.vocab_size)},
            metadata=_text_values({"joiner_dim": config.joiner_dim}),
        ),
    }


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


def export_graphs(model: Transducer, streaming: StreamingConfig) -> Graphs:
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
    fold_scales(encoder)
    widen_depthwise_convolutions(encoder)
    context = torch.zeros(batch, config.context_size, dtype=torch.int64)
    predictor = _export(_PredictorGraph(model), (context,), contract["predictor"], ({0: n},))
    # Two tensors: torch takes one given twice for a single input.
    frames = (torch.zeros(batch, config.joiner_dim), torch.zeros(batch, config.joiner_dim))
    joiner = _export(model.joiner, frames, contract["joiner"], ({0: n}, {0: n}))
    return Graphs(encoder, predictor, joiner)


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


def _text_values(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in metadata.items()}
