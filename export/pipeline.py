"""From a trained model to a verified bundle."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from asr.bundle import Bundle, StreamingConfig
from asr.errors import ExportError
from asr.evaluation.evaluate import EvaluationReport
from asr.evaluation.manifest import Manifest, read_manifest
from export.bundle import BundleContents, check_destination, write_bundle
from export.onnx import Graphs, export_graphs
from export.quantize import quantize
from export.verify import verify_interface, verify_parity, verify_words
from training.checkpoint import load_model


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how far to check it."""

    checkpoint: Path  # folder of a trained model, or its weights file
    out: Path  # directory of the bundle
    precisions: Sequence[str] = ("int8",)  # "int8", "fp32" or both
    name: str = "en"
    card: Path | None = None  # JSON object: the model card
    manifest: Path | None = None  # recordings whose words are compared between precisions
    limit: int | None = None  # rows of the manifest
    overwrite: bool = False  # replace a bundle at `out`


def export_bundle(options: ExportOptions, report: Callable[[str], None]) -> Bundle:
    """Export a model, verify the graphs, write the bundle; tell `report` about each step.

    Raises:
        ExportError: the checkpoint can't be used, a graph differs from the model, int8 costs too
            many words, or the bundle can't be written.
        ManifestError: the manifest can't be read.
    """
    check_destination(options.out, options.overwrite)
    card = _read_card(options.card)
    manifest = read_manifest(options.manifest, limit=options.limit) if options.manifest else None
    contents = verified_contents(options.checkpoint, options.name, report)
    checks = dict(contents.card["export"])
    if manifest:
        reports = _compare_words(contents, manifest)
        checks["wer"] = {precision: found.errors.rate for precision, found in reports.items()}
        checks["wer_utterances"] = len(reports["int8"].scores)
        for precision, found in reports.items():
            report(f"{precision}: WER {found.errors.rate:.2%} of {found.errors.words} words")
    contents = contents.with_precisions(options.precisions)
    contents = replace(contents, card={**card, "export": checks})
    return write_bundle(options.out, contents, options.overwrite)


def verified_contents(checkpoint: Path, name: str, report: Callable[[str], None]) -> BundleContents:
    """Export a model in float and in int8; the card says how the graphs were checked.

    Raises ExportError: the checkpoint can't be used, or a graph differs from the model.
    """
    model, tokens = load_model(checkpoint)
    streaming = StreamingConfig()
    report(f"exporting {checkpoint} to ONNX")
    exact = export_graphs(model, streaming)
    verify_interface(exact, model.config, streaming)
    parity = verify_parity(model, exact, streaming)
    report(
        "float graphs equal the model: "
        + ", ".join(f"{name} within {error:.1e}" for name, error in asdict(parity).items())
    )
    quantized = quantize(exact)
    verify_interface(quantized, model.config, streaming)
    report(f"quantized to int8: {_megabytes(exact):.1f} MB became {_megabytes(quantized):.1f} MB")
    graphs = {"int8": quantized, "fp32": exact}
    checks = {"max_abs_error": asdict(parity), "versions": _versions()}
    return BundleContents(name, model, tokens, graphs, streaming, {"export": checks})


def _compare_words(contents: BundleContents, manifest: Manifest) -> dict[str, EvaluationReport]:
    with tempfile.TemporaryDirectory() as folder:
        return verify_words(write_bundle(Path(folder, "bundle"), contents).path, manifest)


def _read_card(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ExportError(f"can't read the model card {path}: {error}") from error
    if not isinstance(card, dict):
        raise ExportError(f"the model card {path} holds no JSON object")
    return card


def _megabytes(graphs: Graphs) -> float:
    return sum(graph.ByteSize() for _, graph in graphs.items()) / 1e6


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("torch", "onnx", "onnxruntime")}
