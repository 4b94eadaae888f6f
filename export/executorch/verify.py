"""Holds a program for ExecuTorch against the model that it came from.

In two steps, so that quantization does not blur the view: the rewritten modules must compute what
the model computes, and the program what the (then quantized) modules compute.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import Any

import numpy as np
import torch
from torch import Tensor

from asr.bundle import StreamingConfig
from asr.engines.executorch import (
    CHUNKS,
    ExecutorchState,
    encoder_method,
    set_threads,
)
from asr.errors import ExportError
from export.executorch.lowering import FLOAT, Method, Program, methods
from training.model import EncoderState, ModelConfig, Transducer, initial_state

MAX_ERROR = 1e-4
"""Of a float output, absolute. (Logarithms of probabilities below 1e-37 are not compared.)"""

MAX_ROUNDING = 0.1
"""Of a quantized output, as a share of its deviation: a value that lies between two steps may be
rounded to either, and moves all that follows."""

MAX_PARTITIONS = 1
"""Pieces of a method that XNNPACK runs. Of the model as it is written, they are about a hundred."""

OUTSIDE = frozenset(
    {
        "aten.add.Tensor",  # of integers: the row of a token in the table
        "aten.embedding.default",
    }
)
"""Operations that may stay outside of XNNPACK: the predictor's table."""


@dataclass(frozen=True)
class Parity:
    """The largest difference found, of each method."""

    errors: dict[str, float]

    @property
    def worst(self) -> float:
        return max(self.errors.values())


@torch.no_grad()
def verify_rewrite(model: Transducer, streaming: StreamingConfig) -> Parity:
    """Compare the rewritten modules with the model itself, in streams. Raises ExportError."""
    parts = methods(model, streaming)
    found = {
        encoder_method(chunk): max(
            _stream_errors(model, streaming, chunk, parts[encoder_method(chunk)].module)
        )
        for chunk in CHUNKS
    }
    contexts, frames = _heads_input(model)
    predicted = model.predictor(contexts).squeeze(1)
    rows = [parts["predictor"].module(row[None]) for row in contexts]
    found["predictor"] = _difference(torch.cat(rows), predicted)
    joined = parts["joiner"].module(frames, predicted)
    found["joiner"] = _difference(joined, model.joiner(frames, predicted).clamp(min=-85))
    for name, error in found.items():
        if not error <= MAX_ERROR:
            raise ExportError(
                f"rewritten for ExecuTorch, {name} differs from the model by {error:.3g}; "
                f"at most {MAX_ERROR:g} was expected"
            )
    return Parity(found)


def verify_lowering(program: Program) -> None:
    """Raise ExportError for a method in more pieces, or with more outside of them, than expected:
    it would run, and be slow."""
    for name, method in program.methods.items():
        unknown = sorted(set(method.outside) - OUTSIDE)
        if method.partitions > MAX_PARTITIONS or unknown:
            raise ExportError(
                f"{name} falls into {method.partitions} pieces for XNNPACK (expected at most "
                f"{MAX_PARTITIONS}), and has not: {', '.join(unknown) or 'none'}; this version of "
                "ExecuTorch lowers the model in another way than expected"
            )


@torch.no_grad()
def verify_program(
    program: Program, parts: dict[str, Method], model: Transducer, precision: str
) -> Parity:
    """Run the methods `parts` of a program and compare them with their modules.

    Each stream is longer than the left context, and has a chunk with padding. Raises ExportError.
    """
    from executorch.extension.pybindings import portable_lib

    set_threads(portable_lib, 1)
    quantized = precision != FLOAT
    loaded = portable_lib._load_program_from_buffer(program.content)
    found = {}
    for name, part in parts.items():
        try:
            method = loaded.load_method(name)
        except RuntimeError as error:
            # Of a graph that was quantized statically, for one: what lowers may not load.
            raise ExportError(
                f"{name} was lowered, but ExecuTorch can't load it: {error}; "
                "only linear layers are quantized, dynamically (training.compression.quantization)"
            ) from error
        pairs: list[tuple[Tensor, Tensor]] = []
        for inputs in _calls(model, name, part):
            expected = part.module(*inputs)
            expected = expected if isinstance(expected, tuple) else (expected,)
            pairs += zip(method.call(inputs), expected, strict=True)
        found[name] = max(_error(a, b, quantized) for a, b in pairs)
        limit = MAX_ROUNDING if quantized else MAX_ERROR
        if not found[name] <= limit:
            raise ExportError(
                f"the program's {name} differs from the module by {found[name]:.3g}; "
                f"at most {limit:g} was expected"
            )
    return Parity(found)


def describe_lowering(program: Program, parity: Parity) -> dict[str, dict[str, Any]]:
    """Return what became of each method: its partitions, the operations outside of them, and the
    largest error (of a quantized one as a share of the deviation of its outputs)."""
    return {
        name: {
            "partitions": method.partitions,
            "outside": sorted(method.outside),
            "max_error": parity.errors[name],
        }
        for name, method in program.methods.items()
    }


def _stream_errors(
    model: Transducer, streaming: StreamingConfig, chunk: int, step: torch.nn.Module
) -> Iterator[float]:
    left = streaming.left_context_frames
    state = initial_state(model.config, 1, left)
    own = ExecutorchState.initial(left, 3 * model.config.layers * model.config.dim)
    for frames in chain(repeat(chunk, left // chunk + 2), [chunk // 2 + 1, chunk]):
        x = _features(model, streaming.feature_frames(frames))
        out = model.encoder(x, EncoderState(*state))
        padded = torch.nn.functional.pad(x, (0, 0, 0, 4 * (chunk - frames)))
        found, rows = step(padded, *_state_inputs(own, frames))
        own, state = own.append(rows[0, :frames].numpy()), out.state
        yield _difference(found[:, :frames], out.frames)
        attention, convolution = model_caches(own, model.config)
        yield _difference(attention, state.attention)
        yield _difference(convolution, state.conv)


def model_caches(state: ExecutorchState, config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Return a state as the model keeps it: the tensors of `training.model.EncoderState`."""
    layers, width = config.layers, config.dim
    rows = _rows(state).view(-1, layers, 3 * width).transpose(0, 1)
    attention = rows[:, :, None, : 2 * width]
    inputs = rows[:, 1 - config.conv_kernel :, 2 * width :].reshape(layers, -1, 1, 2 * width)
    counts = torch.full((layers, 1, 1, 2 * width), float(state.valid))
    return attention, torch.cat([counts, inputs], dim=1)


def _rows(state: ExecutorchState) -> Tensor:
    return torch.from_numpy(np.concatenate(state.blocks))


def _state_inputs(state: ExecutorchState, frames: int) -> tuple[Tensor, Tensor]:
    """Return the encoder's second and third input, for a chunk of so many real frames."""
    return _rows(state), torch.tensor([float(state.valid), float(frames)])


def _calls(model: Transducer, name: str, part: Method) -> Iterator[tuple[Tensor, ...]]:
    torch.manual_seed(0)
    if name == "predictor":
        yield from ((row[None],) for row in _heads_input(model)[0])
    elif name == "joiner":
        for rows in (1, 8):
            encoder_out, predictor_out = torch.randn(2, rows, model.config.joiner_dim)
            yield encoder_out, predictor_out
    else:
        x, cache, counts = part.example
        (left, width), chunk = cache.shape, int(counts[1])
        state = ExecutorchState.initial(left, width)
        for frames in chain(repeat(chunk, left // chunk + 2), [chunk // 2 + 1, chunk]):
            given = _features(model, x.size(1)), *_state_inputs(state, frames)
            yield given
            _, rows = part.module(*given)
            state = state.append(rows[0, :frames].numpy())


def _features(model: Transducer, frames: int) -> Tensor:
    """Return noise `(1, frames, num_mel_bins)` in the range of the model's features."""
    noise = torch.randn(1, frames, model.config.num_mel_bins)
    return model.encoder.feature_mean + noise / model.encoder.feature_inverse_std


def _heads_input(model: Transducer) -> tuple[Tensor, Tensor]:
    """Return contexts `(V + 1, 2)` with the start and every token, and as many noisy frames."""
    tokens = torch.arange(model.config.vocab_size)
    contexts = torch.cat([torch.tensor([[-1, 0]]), torch.stack([tokens.roll(1), tokens], dim=1)])
    return contexts, torch.randn(len(contexts), model.config.joiner_dim)


def _difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max())


def _error(found: Tensor, expected: Tensor, quantized: bool) -> float:
    if not quantized:
        return _difference(found, expected)
    return float((found - expected).abs().mean() / expected.std().clamp(min=1e-3))
