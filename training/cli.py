"""The `asr-train` command."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from asr.entry import run_command

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)


@app.callback(invoke_without_command=True)
def train(
    context: typer.Context,
    recipe: Annotated[Path | None, typer.Option(help="What to train: a YAML file.")] = None,
    data: Annotated[
        Path, typer.Option(help="The folder that the recipe's manifests are relative to.")
    ] = Path("data/corpora"),
    work: Annotated[
        Path, typer.Option(help="Where features, checkpoints and models are kept.")
    ] = Path("work"),
    initial: Annotated[
        Path | None,
        typer.Option(
            "--from", help="A trained model to go on from, in place of pre-training: its folder."
        ),
    ] = None,
) -> None:
    """Train a recogniser; started again after a kill, it goes on where it was."""
    if context.invoked_subcommand is not None:
        return
    if recipe is None:
        raise typer.BadParameter("give a recipe, for example training/recipes/en-small.yaml")
    from training.recipe import load_recipe

    settings = load_recipe(recipe)
    if "WORLD_SIZE" not in os.environ and (count := _process_count(settings.processes)) > 1:
        return _run_processes(count)
    from training.run import run_recipe

    console = Console(stderr=True, quiet=os.environ.get("RANK", "0") != "0")
    folder = run_recipe(settings, data, work, console, initial)
    console.print(f"the model is in {folder}")


def _process_count(processes: int) -> int:
    """One process for each GPU, or as many as the recipe says on a CPU."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else processes


def _run_processes(count: int) -> None:
    """Run this command in `count` processes; end as they do.

    torchrun itself would end with 1 and a traceback, whatever they ended with.
    """
    from torch.distributed import run as torchrun
    from torch.distributed.elastic.multiprocessing import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    options = ["--standalone", f"--nproc-per-node={count}", "-m", "training.cli"]
    try:
        torchrun.run(torchrun.parse_args([*options, *sys.argv[1:]]))
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        code = failure.exitcode
        raise SystemExit(code if code > 0 else 128 - code) from None
    except SignalException as stop:
        raise SystemExit(128 + int(stop.sigval)) from None


@app.command()
def synthesize(
    text: Annotated[Path, typer.Argument(help="Text, plain or .xz, a paragraph a line.")],
    out: Annotated[Path, typer.Argument(help="Folder of the corpus to make.")],
    hours: Annotated[float, typer.Option(help="Hours of speech.")] = 12.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same corpus.")] = 1,
    jobs: Annotated[int, typer.Option(help="Synthesisers that run at once.")] = 2,
) -> None:
    """Make synthetic speech with the time of each phone (needs flite)."""
    from training.synthesis import synthesize as make

    report = make(out, text, hours, seed, jobs)
    Console(stderr=True).print(str(report))


@app.command()
def align(
    manifest: Annotated[Path, typer.Argument(help="JSON lines: id, audio, duration, text.")],
    out: Annotated[Path, typer.Argument(help="The same rows with the times of their words.")],
    model: Annotated[
        Path, typer.Option(help="Folder of a trained model; its CTC head aligns.")
    ] = Path("data/model"),
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first usable rows.")] = None,
) -> None:
    """Write when each word of a manifest was said, to an encoder frame of 40 ms."""
    from rich.progress import Progress

    from training.align import align_manifest
    from training.checkpoint import TrainedModel

    console = Console(stderr=True)
    trained = TrainedModel.load(model)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("aligning")
        report = align_manifest(
            manifest,
            out,
            trained,
            limit,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    for item in report.skipped:
        console.print(f"skipped {item.id}: {item.reason}", markup=False, soft_wrap=True)
    console.print(f"{report.rows} rows in {out}", soft_wrap=True)


@app.command("bench-loss")
def bench_loss(
    batch: Annotated[int, typer.Option(min=1, help="Utterances.")] = 8,
    frames: Annotated[int, typer.Option(min=1, help="Encoder frames of 40 ms of each.")] = 250,
    tokens: Annotated[int, typer.Option(min=1, help="Word pieces of each.")] = 40,
    vocab: Annotated[int, typer.Option(min=3, help="Word pieces that there are.")] = 256,
    repeat: Annotated[int, typer.Option(min=1, help="Measured passes.")] = 3,
    report: Annotated[Path | None, typer.Option(help="Write the figures to this JSON.")] = None,
) -> None:
    """Measure time and memory of the full and of the pruned transducer loss."""
    from asr.evaluation.envelope import write_result
    from training.loss_benchmark import LossShape, benchmark_losses, loss_result

    console = Console(stderr=True)
    shape = LossShape(batch, frames, tokens, vocab, repeat=repeat)
    costs = benchmark_losses(shape, watch=lambda name: console.print(f"measuring {name}"))
    for cost in costs:
        low, high = cost.spread
        typer.echo(
            f"{cost.name:<8}{cost.seconds:.3f} s ({low:.3f} to {high:.3f}), {cost.peak_mb:.0f} MB"
        )
    if report is not None:
        write_result(report, loss_result(shape, costs))


def main() -> None:
    """Run the command; the entry point of the package."""
    run_command(app, "asr-train", extra="train")


if __name__ == "__main__":
    main()
