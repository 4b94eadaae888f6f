"""A trained model as a program for ExecuTorch, `.pte`; README.md says how a device runs it."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from asr.bundle import GraphFiles, StreamingConfig
from asr.errors import ExportError
from training.model import Transducer

SUFFIX = ".pte"


def require_executorch() -> None:
    """Raise ExportError unless the extra `executorch` is installed."""
    missing = [name for name in ("executorch", "torchao") if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"a program for ExecuTorch needs {' and '.join(missing)} to be installed: "
            "pip install 'earshot-asr[executorch]'"
        )


def save_program(
    folder: Path,
    model: Transducer,
    streaming: StreamingConfig,
    precision: str,
    report: Callable[[str], None],
) -> tuple[GraphFiles, dict[str, Any]]:
    """Lower a model in a precision, verify it, write `model.PRECISION.pte`; minutes for 12 layers.

    precision: "fp32", or one of `training.compression.quantization.PRECISIONS`. `report` is told
    how each method was lowered. Returns the files, and the same for the model card.

    Raises ExportError: without ExecuTorch, or for a program that differs from the model, is in more
    pieces than it should be, or can't be loaded.
    """
    require_executorch()
    from export.executorch.lowering import lower, metadata, methods
    from export.executorch.verify import (
        describe_lowering,
        verify_lowering,
        verify_program,
        verify_rewrite,
    )

    report(f"lowering to ExecuTorch in {precision}: minutes")
    verify_rewrite(model, streaming)
    parts = methods(model, streaming, precision)
    program = lower(parts, metadata(model.config, streaming))
    verify_lowering(program)
    parity = verify_program(program, parts, model, precision)
    lowered = describe_lowering(program, parity)
    for method, facts in lowered.items():
        report(
            f"{method}: XNNPACK partitions: {facts['partitions']}, outside of them: "
            f"{', '.join(facts['outside']) or 'nothing'}; within {facts['max_error']:.1e}"
        )
    name = f"model.{precision}{SUFFIX}"
    (folder / name).write_bytes(program.content)
    graphs = GraphFiles("executorch", precision, encoder=name, predictor=name, joiner=name)
    return graphs, lowered
