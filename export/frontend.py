"""Log-mel features as a graph: for devices where the filter bank need not be written again.

    python -m export.frontend frontend.onnx      # any number of frames a call
    python -m export.frontend frontend.pte       # 16 frames, 160 ms, a call (needs executorch)

Samples `(1, 160 k + 240)`, 16 kHz in [-1, 1], give features `(1, k, 80)`: those of
`asr.features`, which is kaldi-native-fbank, to 1e-3. In a stream the last 240 samples of a call are
the first of the next. The frame t begins 160 t - 120 samples into the stream; before its begin and
behind its end the signal is mirrored, sample -1 being sample 0.

Removing the mean, pre-emphasis, window and Fourier transform of a frame are linear, so that they
are one matrix, and sliding it over the samples is a convolution.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor, nn
from torch.nn import functional

from asr.errors import AsrError
from asr.features import FRAME_SHIFT, SAMPLE_RATE, FeatureConfig
from export.executorch import require_executorch

FRAME_LENGTH = 400
"""Samples under the window (25 ms)."""

OVERLAP = FRAME_LENGTH - FRAME_SHIFT
"""Samples that a call shares with the next."""

MIRRORED = OVERLAP // 2
"""Samples of the first frame that lie before the stream: the first 120, mirrored."""

PROGRAM_FRAMES = 16
"""Frames of a call of the `.pte`, whose shapes are fixed."""

FLOOR = float(np.finfo(np.float32).eps)
"""Least energy of a band, as in Kaldi."""

_POINTS = 512
_OPSET, _IR_VERSION = 18, 10


class FrontEnd(nn.Module):
    """Samples `(1, 160 k + 240)` -> features `(1, k, num_mel_bins)`."""

    analysis: Tensor
    bands: Tensor

    def __init__(self, config: FeatureConfig | None = None) -> None:
        super().__init__()
        config = config or FeatureConfig()
        bands = _mel_bands(config)
        used = bands.any(axis=0)
        self.register_buffer("bands", torch.from_numpy(bands[:, used]).float())
        analysis = _analysis(config)[:, used].reshape(-1, 1, FRAME_LENGTH)
        self.register_buffer("analysis", torch.from_numpy(analysis).float())

    def forward(self, samples: Tensor) -> Tensor:
        # The matrix removes the mean of each frame; a large one would cost digits until then.
        samples = samples.view(1, 1, 1, -1)
        centred = (samples - samples.mean((2, 3), keepdim=True)).squeeze(1)
        waves = functional.conv1d(centred, self.analysis, stride=FRAME_SHIFT)
        squares, bins = waves * waves, self.bands.shape[1]
        power = squares[:, :bins] + squares[:, bins:]
        return functional.linear(power.transpose(1, 2), self.bands).clamp(min=FLOOR).log()


def frontend_graph(config: FeatureConfig | None = None) -> ModelProto:
    """Return the front end as ONNX, for any number of frames."""
    k = torch.export.Dim("k", min=1, max=10_000)
    program = torch.onnx.export(
        FrontEnd(config).eval(),
        (torch.zeros(1, 4 * FRAME_SHIFT + OVERLAP),),
        input_names=["samples"],
        output_names=["features"],
        dynamic_shapes=({1: FRAME_SHIFT * k + OVERLAP},),
        opset_version=_OPSET,
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # it is None only when a file is asked for
    graph = program.model_proto
    for node in graph.graph.node:  # stack traces
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    graph.graph.ClearField("value_info")
    graph.ir_version = _IR_VERSION
    onnx.checker.check_model(graph)
    return graph


def frontend_program(config: FeatureConfig | None = None) -> bytes:
    """Return the front end as a program for ExecuTorch with the method `features`.

    Raises ExportError without ExecuTorch.
    """
    require_executorch()
    from export.executorch.lowering import Method, lower

    samples = torch.zeros(1, PROGRAM_FRAMES * FRAME_SHIFT + OVERLAP)
    return lower({"features": Method(FrontEnd(config).eval(), (samples,))}).content


def _analysis(config: FeatureConfig) -> NDArray[np.float64]:
    """Return what makes real and imaginary parts of the spectrum of a frame,
    `(2, _POINTS / 2, FRAME_LENGTH)`."""
    length = FRAME_LENGTH
    without_mean = np.eye(length) - 1 / length
    emphasis = np.eye(length) - config.preemphasis * np.eye(length, k=-1)
    emphasis[0, 0] -= config.preemphasis  # Kaldi takes the first sample for the one before it
    phase = 2 * np.pi * np.arange(length) / (length - 1)
    window = (0.5 - 0.5 * np.cos(phase)) ** 0.85  # "povey"
    angles = 2 * np.pi / _POINTS * np.outer(np.arange(_POINTS // 2), np.arange(length))
    spectrum = np.stack([np.cos(angles), -np.sin(angles)])
    matrix: NDArray[np.float64] = (spectrum * window) @ emphasis @ without_mean
    return matrix


def _mel_bands(config: FeatureConfig) -> NDArray[np.float64]:
    """Return Kaldi's triangles on the mel scale `(num_mel_bins, _POINTS / 2)`."""

    def mel(hertz: NDArray[Any] | float) -> NDArray[Any]:
        return 1127 * np.log1p(np.asarray(hertz) / 700)

    low, high = mel(config.low_hz), mel(SAMPLE_RATE / 2 + config.high_hz)
    corners = np.linspace(low, high, config.num_mel_bins + 2)
    left, centre, right = corners[:-2, None], corners[1:-1, None], corners[2:, None]
    bins = mel(np.arange(_POINTS // 2) * (SAMPLE_RATE / _POINTS))
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    triangles: NDArray[np.float64] = np.minimum(rising, falling).clip(min=0)
    return triangles


def main(out: Path) -> None:
    """Write the front end as the suffix of `out` says.

    Raises AsrError for any but two, and for `.pte` without ExecuTorch.
    """
    if out.suffix == ".onnx":
        content = frontend_graph().SerializeToString(deterministic=True)
    elif out.suffix == ".pte":
        content = frontend_program()
    else:
        raise AsrError(f"{out}: expected a name that ends with .onnx or .pte")
    out.write_bytes(content)


if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except (IndexError, AsrError) as error:
        sys.exit(f"python -m export.frontend OUT.onnx | OUT.pte: {error}")
