"""A trained model as a program for ExecuTorch, `.pte`; README.md says how a device runs it."""

from importlib.util import find_spec
from pathlib import Path

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
    folder: Path, model: Transducer, streaming: StreamingConfig, precision: str
) -> GraphFiles:
    """Lower a model in a precision, verify it, write `model.PRECISION.pte`; minutes for 12 layers.

    precision: "fp32", or one of `training.compression.quantization.PRECISIONS`.

    Raises ExportError: without ExecuTorch, or for a program that differs from the model, is in more
    pieces than it should be, or can't be loaded.
    """
    require_executorch()
    from export.executorch.lowering import lower, metadata, methods
    from export.executorch.verify import verify_lowering, verify_program, verify_rewrite

    verify_rewrite(model, streaming)
    parts = methods(model, streaming, precision)
    program = lower(parts, metadata(model.config, streaming))
    verify_lowering(program)
    verify_program(program, parts, model, precision)
    name = f"model.{precision}{SUFFIX}"
    (folder / name).write_bytes(program.content)
    return GraphFiles("executorch", precision, encoder=name, predictor=name, joiner=name)
