"""From a trained model to a verified bundle."""

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from asr.bundle import Bundle, StreamingConfig
from asr.errors import ExportError, ManifestError
from asr.evaluation.corpora.manifest import Manifest, read_manifest
from export.bundle import (
    BundleContents,
    Judge,
    check_destination,
    check_engines,
    write_bundle,
)
from export.executorch import require_executorch
from export.fused import export_graphs
from export.onnx import Graphs
from export.plain import PRECISIONS as PLAIN_PRECISIONS
from export.plain import plain_graphs, quantize_plainly
from export.quantize import quantize
from export.verify import (
    MAX_WER_DELTA,
    describe_words,
    recognize_in_each,
    verify_interface,
    verify_parity,
    verify_words,
)
from training.checkpoint import find_language_model, load_model


@dataclass(frozen=True)
class ExportOptions:
    """What to export, and how far to check it."""

    checkpoint: Path  # folder of a trained model, or its weights file
    out: Path  # directory of the bundle, or its .zip
    precisions: Sequence[str] = ("int8",)  # of `export.fused.PRECISIONS`, the preferred one first
    name: str = "en"
    card: Path | None = None  # JSON object: the model card
    manifest: Path | None = None  # recordings whose words are compared between precisions
    limit: int | None = None  # rows of the manifest
    max_wer_delta: float = MAX_WER_DELTA  # points of WER that a variant may lose there
    overwrite: bool = False  # replace a bundle at `out`
    engines: Sequence[str] = ("onnx",)  # formats of the graphs: of `export.bundle.ENGINES`
    plain: bool = False  # the baseline of `export.plain` instead


def export_bundle(options: ExportOptions, report: Callable[[str], None]) -> Bundle:
    """Export a model, verify the graphs, write the bundle; tell `report` about each step.

    Raises:
        ExportError: the checkpoint can't be used, a graph differs from the model, a variant costs
            too many words, the options don't go together, or the bundle can't be written.
        ManifestError: the manifest can't be read, or has nothing to recognise.
    """
    # All that can be refused now, and not after minutes.
    check_destination(options.out, options.overwrite)
    check_engines(options.engines, options.precisions)
    if "executorch" in options.engines:
        if options.plain:
            raise ExportError(
                "the plain graphs are ONNX: --plain and --engine executorch exclude each other"
            )
        require_executorch()
    card = _read_card(options.card)
    manifest = _read_manifest(options, report)
    contents = verified_contents(
        options.checkpoint, options.name, report, options.precisions, options.plain
    )
    judge = None
    if manifest is not None:
        judge = _judge_words(contents, manifest, options.max_wer_delta, report)
    made = contents.card["export"]
    versions = {**made["versions"], **_versions(options.engines)}
    written = replace(
        contents.with_precisions(options.precisions),
        card={**card, "export": {**made, "versions": versions}},
        engines=options.engines,
    )
    return write_bundle(options.out, written, options.overwrite, judge, report)


def verified_contents(
    checkpoint: Path,
    name: str,
    report: Callable[[str], None],
    precisions: Sequence[str] = ("int8",),
    plain: bool = False,
) -> BundleContents:
    """Export a model in these precisions, and in float; the card says how they were checked.

    Raises ExportError: the checkpoint can't be used, a graph differs from the model, or a layer
    that was to be quantized was not.
    """
    for precision in precisions:
        if plain and precision not in PLAIN_PRECISIONS:
            raise ExportError(f"the plain graphs have no precision {precision!r}; expected 'int8'")
    model, tokens = load_model(checkpoint)
    streaming = StreamingConfig()
    report(f"exporting {checkpoint} to ONNX")
    exact = plain_graphs(model, streaming) if plain else export_graphs(model, streaming)
    verify_interface(exact, model.config, streaming)
    parity = verify_parity(model, exact, streaming)
    report(
        "float graphs equal the model: "
        + ", ".join(f"{name} within {error:.1e}" for name, error in asdict(parity).items())
    )
    graphs = {}
    for precision in dict.fromkeys(precisions):
        if precision == "fp32":
            continue
        quantized = (
            quantize_plainly(exact) if plain else quantize(model, exact, streaming, precision)
        )
        verify_interface(quantized, model.config, streaming)
        sizes = f"{_megabytes(exact):.1f} MB became {_megabytes(quantized):.1f} MB"
        report(f"quantized to {precision}: {sizes}")
        graphs[precision] = quantized
    checks = {"max_abs_error": asdict(parity), "versions": _versions(["onnx"])}
    return BundleContents(
        name,
        model,
        tokens,
        graphs={**graphs, "fp32": exact},
        streaming=streaming,
        card={"export": checks},
        language_model=find_language_model(checkpoint),
    )


def _read_manifest(options: ExportOptions, report: Callable[[str], None]) -> Manifest | None:
    if options.manifest is None:
        return None
    manifest = read_manifest(options.manifest, limit=options.limit)
    if manifest.skipped:
        first = manifest.skipped[0]
        report(
            f"{options.manifest}: rows left out: {len(manifest.skipped)}; the first: {first.id}: "
            f"{first.reason}"
        )
    if not manifest.utterances:
        raise ManifestError(f"{options.manifest}: no usable row, so there are no words to compare")
    return manifest


def _judge_words(
    contents: BundleContents,
    manifest: Manifest,
    max_wer_delta: float,
    report: Callable[[str], None],
) -> Judge:
    """Return what recognises the manifest in each variant that is written, and in float."""

    def judge(bundle: Bundle) -> dict[str, Any]:
        reports = recognize_in_each(bundle, manifest)
        if "fp32" not in reports:
            with tempfile.TemporaryDirectory() as folder:
                exact = write_bundle(Path(folder, "exact"), contents.with_precisions(["fp32"]))
                reports |= recognize_in_each(exact, manifest)
        for variant, found in reports.items():
            report(f"{variant}: {describe_words(found.errors)}")
        verify_words({name: found.errors for name, found in reports.items()}, max_wer_delta)
        words = {
            "wer": {variant: found.errors.rate for variant, found in reports.items()},
            "wer_utterances": len(reports["fp32"].scores),
        }
        return {"export": {**bundle.card["export"], **words}}

    return judge


def _read_card(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        # NaN is no JSON, and half of a character no text.
        json.dumps(card, allow_nan=False, ensure_ascii=False).encode()
    except (OSError, ValueError, RecursionError) as error:
        raise ExportError(f"can't read the model card {path}: {error}") from error
    if not isinstance(card, dict):
        raise ExportError(f"the model card {path} holds no JSON object")
    return card


def _megabytes(graphs: Graphs) -> float:
    return sum(graph.ByteSize() for _, graph in graphs.items()) / 1e6


def _versions(engines: Sequence[str]) -> dict[str, str]:
    """Return the versions of what made the graphs for these engines."""
    makers = ["torch", "onnx", "onnxruntime"]
    if "executorch" in engines:
        makers += ["executorch", "torchao"]
    return {name: version(name) for name in makers}
