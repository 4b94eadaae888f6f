"""What a transducer is as three ONNX graphs: the contract that onnxruntime and sherpa-onnx run.

The graphs keep sherpa-onnx's contract for a streaming transducer of type `conformer`: its inputs
are positional, its metadata say how to call them. It is stated here once, as `Interface`;
`export.fused` and `export.plain` write such graphs, `export.verify` holds them against it.
"""

from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from onnx import ModelProto

from asr.bundle import SUBSAMPLING_OVERLAP, GraphFiles, StreamingConfig
from training.model import ModelConfig

OPSET = 18
CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators: each does the work of several standard ones."""

OPSETS = {"": OPSET, CONTRIB: 1}
"""What a graph may need of a runtime: onnxruntime 1.23 has it."""

IR_VERSION = 10
"""onnx writes a newer one by default, which the onnxruntime of many devices refuses."""


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
        return GraphFiles(engine="onnx", precision=precision, **names)


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


def _text_values(metadata: dict[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in metadata.items()}
