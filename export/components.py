"""What each part of a model costs in words, bytes and time when it alone is quantized.

    python -m export.components CHECKPOINT MANIFEST... [--split dev] [--precision int8] [--limit N]

Where a quantized model has lost words, this says which part lost them.
"""

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from asr.bundle import StreamingConfig
from asr.cli.options import Limit, Split
from asr.engines import Engine, Floats, open_engine
from asr.entry import run_command
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.corpora import read_corpora
from asr.evaluation.corpora.manifest import Manifest
from asr.evaluation.envelope import write_result
from asr.evaluation.evaluate import evaluate
from asr.features import FeatureConfig
from asr.recognizer import load
from export.bundle import BundleContents, write_bundle
from export.cli import Precision
from export.fused import Arithmetic, export_graphs
from training.checkpoint import load_model
from training.model import Transducer

TIMED_CALLS = 200


@dataclass(frozen=True)
class ComponentCost:
    """One row: the model with only `component` quantized."""

    component: str
    errors: WordErrors
    megabytes: float  # of the three graphs
    encoder_ms: float  # median of a call with 320 ms
    joiner_ms: float  # the same, with the frames of such a call


def components(model: Transducer) -> dict[str, Callable[[str], bool]]:
    """Return what is quantized in each row: a predicate on the names of layers."""
    layers = model.config.layers
    third = -(-layers // 3)
    rows: dict[str, Callable[[str], bool]] = {
        "nothing": lambda name: False,
        "encoder: subsampling": lambda name: name.startswith("encoder.subsampling"),
    }
    for first in range(0, layers, third):
        last = min(first + third, layers) - 1
        blocks = tuple(f"encoder.blocks.{number}." for number in range(first, last + 1))
        rows[f"encoder: blocks {first} to {last}"] = partial(_is_in, blocks)
    rows |= {
        "encoder: output": lambda name: name == "encoder.output",
        "encoder": lambda name: name.startswith("encoder."),
        "predictor": lambda name: name.startswith("predictor."),
        "joiner": lambda name: name == "joiner",
        "all": lambda name: True,
    }
    return rows


def component_costs(
    checkpoint: Path, manifest: Manifest, precision: str, streaming: StreamingConfig
) -> Iterator[ComponentCost]:
    """Export, time and evaluate the model once for each row of `components`."""
    model, tokens = load_model(checkpoint)
    for component, chosen in components(model).items():
        graphs = export_graphs(model, streaming, _partly(precision, chosen))
        contents = BundleContents("partly", model, tokens, {precision: graphs}, streaming=streaming)
        with tempfile.TemporaryDirectory() as folder:
            bundle = write_bundle(Path(folder, "bundle"), contents)
            encoder_ms, joiner_ms = _step_ms(open_engine(bundle), streaming)
            report = evaluate(load(bundle.path), manifest.utterances, skipped=manifest.skipped)
            size = bundle.megabytes(bundle.graphs())
        yield ComponentCost(component, report.errors, size, encoder_ms, joiner_ms)


def _partly(precision: str, chosen: Callable[[str], bool]) -> Arithmetic:
    return lambda name: precision if chosen(name) else "fp32"


def _is_in(prefixes: tuple[str, ...], name: str) -> bool:
    return name.startswith(prefixes)


def _step_ms(engine: Engine, streaming: StreamingConfig) -> tuple[float, float]:
    """Return the median time of an encoder call and of a joiner call for its frames."""
    frames = streaming.feature_frames(streaming.chunk_frames)
    noise = np.random.default_rng(0).standard_normal((frames, FeatureConfig().num_mel_bins))
    features: Floats = noise.astype(np.float32)
    predicted = engine.predict(np.array([[-1, 0]]))
    state, encoder_s, joiner_s = engine.initial_state(), [], []
    for _ in range(TIMED_CALLS):
        begin = time.perf_counter()
        encoder_out, state = engine.encode(features, state)
        middle = time.perf_counter()
        engine.join(encoder_out, predicted)
        joiner_s.append(time.perf_counter() - middle)
        encoder_s.append(middle - begin)
    return 1e3 * statistics.median(encoder_s), 1e3 * statistics.median(joiner_s)


app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command()
def measure(
    checkpoint: Annotated[Path, typer.Argument(help="Folder of a trained model.")],
    manifests: Annotated[list[Path], typer.Argument(metavar="MANIFEST...")],
    split: Split = None,
    limit: Limit = None,
    precision: Annotated[Precision, typer.Option()] = Precision.int8,
    report: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Quantize one part of a model at a time, and say what that costs."""
    manifest = read_corpora(manifests, split, limit)
    costs = component_costs(checkpoint, manifest, precision, StreamingConfig())
    rows = list(track(costs, total=None, description="rows", console=Console(stderr=True)))
    table = Table(
        "quantized", "WER", "points", "ins", "del", "sub", "MB", "encoder ms", "joiner ms"
    )
    exact = rows[0].errors.rate
    for row in rows:
        found = row.errors
        table.add_row(
            row.component,
            f"{found.rate:.2%}",
            f"{100 * (found.rate - exact):+.2f}",
            *(str(n) for n in (found.insertions, found.deletions, found.substitutions)),
            f"{row.megabytes:.2f}",
            f"{row.encoder_ms:.2f}",
            f"{row.joiner_ms:.3f}",
        )
    Console().print(table)
    if report is not None:
        write_result(report, {"precision": precision, "rows": [asdict(row) for row in rows]})


if __name__ == "__main__":
    run_command(app, "export.components", extra="export")
