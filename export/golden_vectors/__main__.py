"""`python -m export.golden_vectors`: see the package."""

import logging
import shutil
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from asr.bundle import StreamingConfig, builtin_bundle_path, open_bundle
from asr.entry import run_command
from asr.errors import AsrError
from asr.evaluation.corpora.manifest import read_manifest

CHECKPOINT = Path("data/model")
SAMPLES = Path("data/samples/manifest.jsonl")

LEAST_RECORDINGS = 30
"""Two engines that round differently differ in single words."""

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def write(
    out: Annotated[Path, typer.Argument(help="Folder to write.")] = Path("data/golden"),
) -> None:
    """Make the golden vectors anew, of the built-in model and the shipped recordings."""
    from export.golden_vectors.model import read_recordings, write_model_vectors
    from export.golden_vectors.scripts import write_script_vectors

    with tempfile.TemporaryDirectory() as scratch:
        exact(Path(scratch, "exact"))
        recordings, references = read_recordings(read_manifest(SAMPLES))
        fresh = Path(scratch, "golden")
        write_model_vectors(
            fresh / "model",
            open_bundle(builtin_bundle_path()),
            open_bundle(Path(scratch, "exact")),
            recordings,
            references,
        )
        write_script_vectors(fresh / "scripts")
        shutil.copytree(fresh, out, dirs_exist_ok=True)
    size = sum(file.stat().st_size for file in out.rglob("*") if file.is_file())
    typer.echo(f"{out}: {size / 1e6:.2f} MB")


@app.command()
def exact(
    out: Annotated[Path, typer.Argument(help="Directory of the bundle; it is replaced.")],
) -> None:
    """Export the shipped weights in fp32: 20 MB, so nothing to ship, and what a comparison to the
    last token needs."""
    from export.bundle import BundleContents, write_bundle
    from export.fused import export_graphs
    from training.checkpoint import load_model

    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    model, tokens = load_model(CHECKPOINT)
    graphs = {"fp32": export_graphs(model, StreamingConfig())}
    write_bundle(out, BundleContents("en", model, tokens, graphs), overwrite=True)


@app.command()
def texts(
    manifest: Annotated[Path, typer.Argument(help="JSON lines of recordings.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    limit: Annotated[int, typer.Option(min=1, help="Recordings: 3,000 words or more.")] = 100,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = "dev",
) -> None:
    """Write recordings of your own and what is heard in them, for `make test-android` to compare
    word error rates with."""
    from export.golden_vectors.model import write_texts

    recordings = read_manifest(manifest, split=split, limit=limit)
    if len(recordings.utterances) < LEAST_RECORDINGS:
        raise AsrError(
            f"{manifest}: {len(recordings.utterances)} recordings"
            f"{f' of the split {split!r}' if split else ''}; expected {LEAST_RECORDINGS} or more, "
            "for the word errors of fewer are chance"
        )
    write_texts(out, open_bundle(builtin_bundle_path()), recordings)


def main() -> None:
    """Run the command."""
    run_command(app, "golden-vectors", extra="export")


if __name__ == "__main__":
    main()
