"""A trained model as one ExecuTorch program, `.pte`, whose arithmetic XNNPACK does.

Methods, for a batch of one (L layers of width D, kernel k, `left` frames of context):

    encoder_160, encoder_320, encoder_640    chunks of C = 4, 8 and 16 encoder frames
        in   x (1, 4C + 3, 80), cache (left, 3LD): rows of the last frames, counts (2,) float: valid
             rows of the cache, real frames of x: C, or less where the rest of x is padding
        out  encoder_out (1, C, joiner_dim), new rows (1, C, 3LD)
    predictor    (1, 2) int64, first [-1, 0]    -> (1, joiner_dim)
    joiner       two (N, joiner_dim), N <= 64   -> log-probabilities (N, vocab_size), blank first

and a method without inputs for each constant of `metadata`. The methods share their weights in the
file. Shapes of the encoder are fixed because XNNPACK runs no slice and no reshape of others.

ExecuTorch's rough edges, and where they are avoided:

- A trained parameter "requires grad", and a program that writes to what follows from it can't be
  exported ("a leaf Variable that requires grad"): `methods` switches gradients off.
- A partition more is two copies and a call more: `LoweredMethod` counts them, `verify` limits them.
- Quantizing the whole graph statically lowers, and then fails when it is loaded: linear layers are
  quantized dynamically, as `training.compression` has it, and nothing else; `verify` loads all.
- Copies of inputs into the planned memory are left out (`alloc_graph_input`).
"""

import operator
import warnings
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import (
    EdgeCompileConfig,
    ExecutorchBackendConfig,
    to_edge_transform_and_lower,
)
from executorch.exir.passes import MemoryPlanningPass
from torch import Tensor, nn

from asr.bundle import StreamingConfig
from asr.engines.executorch import CHUNKS, MAX_JOINED, PROGRAM_VERSION, encoder_method
from asr.errors import ExportError
from export.executorch.rewrite import EncoderStep, JoinerStep, PredictorStep
from training.compression.quantization import quantize_linears
from training.model import ModelConfig, Transducer

FLOAT = "fp32"

_DELEGATE = "executorch_call_delegate"


@dataclass(frozen=True)
class Method:
    """A part of the program before it is lowered."""

    module: nn.Module
    example: tuple[Tensor, ...]
    dynamic: tuple[dict[int, Any], ...] | None = None


@dataclass(frozen=True)
class LoweredMethod:
    """What became of a method."""

    partitions: int  # pieces that XNNPACK runs
    outside: dict[str, int]  # operations that plain kernels run, and how many of each


@dataclass(frozen=True)
class Program:
    """A program and how it was lowered."""

    content: bytes  # of the .pte
    methods: dict[str, LoweredMethod]


def methods(
    model: Transducer, streaming: StreamingConfig, precision: str = FLOAT
) -> dict[str, Method]:
    """Return the parts of a model, rewritten for XNNPACK and quantized.

    precision: `FLOAT`, or one of `training.compression.quantization.PRECISIONS`.

    Raises ExportError for a model in training mode, or whose convolutions see more than the left
    context: the state has rows for no more.
    """
    if model.training:
        raise ExportError("the model is in training mode; call model.eval() before its export")
    config, left = model.config, streaming.left_context_frames
    if left < config.conv_kernel - 1:
        raise ExportError(
            f"left_context_frames is {left}, but the model's convolutions see the last "
            f"{config.conv_kernel - 1} frames; export it with a left context as long"
        )
    parts = {
        encoder_method(chunk): Method(
            EncoderStep(model.encoder, streaming, chunk), _chunk(config, streaming, chunk)
        )
        for chunk in CHUNKS
    }
    context = torch.zeros(1, config.context_size, dtype=torch.int64)
    parts["predictor"] = Method(PredictorStep(model), (context,))
    # Two tensors: torch takes one given twice for a single input.
    frames = torch.zeros(2, config.joiner_dim), torch.zeros(2, config.joiner_dim)
    n = torch.export.Dim("N", min=1, max=MAX_JOINED)
    parts["joiner"] = Method(JoinerStep(model), frames, ({0: n}, {0: n}))
    for part in parts.values():
        part.module.eval().requires_grad_(False)
        if precision != FLOAT:
            quantize_linears(part.module, precision)
    return parts


def lower(parts: dict[str, Method], constants: dict[str, int] | None = None) -> Program:
    """Return the program of some methods.

    Raises ExportError if ExecuTorch can't make one.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about ExecuTorch's own internals
        try:
            exported = {
                name: torch.export.export(
                    part.module, part.example, dynamic_shapes=part.dynamic, strict=False
                )
                for name, part in parts.items()
            }
            edge = to_edge_transform_and_lower(
                exported,
                partitioner=[XnnpackPartitioner()],
                compile_config=EdgeCompileConfig(_check_ir_validity=False),
                constant_methods=constants,
            )
            lowered = {name: _lowered(edge.exported_program(name)) for name in parts}
            program = edge.to_executorch(
                ExecutorchBackendConfig(
                    memory_planning_pass=MemoryPlanningPass(alloc_graph_input=False)
                )
            )
        except (RuntimeError, ValueError, AssertionError) as error:
            raise ExportError(f"ExecuTorch can't lower {', '.join(parts)}: {error}") from error
    return Program(program.buffer, lowered)


def metadata(config: ModelConfig, streaming: StreamingConfig) -> dict[str, int]:
    """Return what a program says of itself."""
    return {
        "program_version": PROGRAM_VERSION,
        "encoder_layers": config.layers,
        "encoder_dim": config.dim,
        "conv_kernel": config.conv_kernel,
        "joiner_dim": config.joiner_dim,
        "context_size": config.context_size,
        "vocab_size": config.vocab_size,
        "num_mel_bins": config.num_mel_bins,
        "left_context_frames": streaming.left_context_frames,
        "subsampling_factor": streaming.subsampling_factor,
    }


def _chunk(config: ModelConfig, streaming: StreamingConfig, chunk: int) -> tuple[Tensor, ...]:
    features = torch.zeros(1, streaming.feature_frames(chunk), config.num_mel_bins)
    cache = torch.zeros(streaming.left_context_frames, 3 * config.layers * config.dim)
    return features, cache, torch.tensor([0.0, float(chunk)])


def _lowered(exported: torch.export.ExportedProgram) -> LoweredMethod:
    names = Counter(
        str(getattr(node.target, "__name__", node.target))
        for node in exported.graph.nodes
        if node.op == "call_function" and node.target is not operator.getitem
    )
    partitions = names.pop(_DELEGATE, 0)
    return LoweredMethod(partitions, dict(names))
