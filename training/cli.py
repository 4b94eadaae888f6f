"""The `asr-train` command."""

import logging
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from asr.entry import run_command
from asr.errors import AsrError
from training.corpora.cli import prepare

if TYPE_CHECKING:
    from training.splicing import SplicingReport
    from training.synthesis.corpus import SynthesisReport

app = typer.Typer(add_completion=False, no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(prepare, name="prepare")


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
    size: Annotated[
        str | None,
        typer.Option(help="xs, s, m or l, in place of the recipe's: the run is NAME-SIZE then."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="A value in place of the recipe's: train.hours=10. May be repeated; "
            "name=NAME gives the run a folder of its own.",
        ),
    ] = None,
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
    from training.recipe import load_recipe, resized

    settings = resized(load_recipe(recipe, changes or []), size)
    started = "WORLD_SIZE" in os.environ  # by torchrun, one of several processes
    if not started and (count := _process_count(settings.processes)) > 1:
        return _run_processes(count)
    from training.processes import is_first, join, naming_lost_processes
    from training.run import run_recipe

    console = Console(stderr=True, quiet=not is_first())
    with naming_lost_processes():
        join()
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

    # What a process has said of its end is enough.
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)
    options = ["--standalone", f"--nproc-per-node={count}", "-m", "training.cli"]
    try:
        torchrun.run(torchrun.parse_args([*options, *sys.argv[1:]]))
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        code = failure.exitcode
        if code < 0:
            print(
                f"asr-train: process {rank} was killed by {signal.Signals(-code).name}, "
                "and the others ended with it (SIGKILL is often the system's, short of memory); "
                "started again, the run goes on from its last checkpoint",
                file=sys.stderr,
            )
        raise SystemExit(code if code > 0 else 128 - code) from None
    except SignalException as stop:
        raise SystemExit(128 + int(stop.sigval)) from None


@app.command()
def synthesize(
    text: Annotated[
        Path,
        typer.Argument(
            help="Text, plain or .xz, a paragraph a line; or a manifest (.jsonl), of which the "
            "transcripts to train on are spoken."
        ),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the corpus to make.")],
    hours: Annotated[float, typer.Option(help="Hours of speech.")] = 12.0,
    seed: Annotated[int, typer.Option(help="The same seed makes the same corpus.")] = 1,
    jobs: Annotated[int, typer.Option(help="Synthesisers that run at once.")] = 2,
    voices: Annotated[
        str,
        typer.Option(
            help="Who speaks, and how often: flite, festival or espeak-ng, or one of their voices, "
            "such as espeak-ng=60,festival=30,flite:slt=10."
        ),
    ] = "flite",
    choice: Annotated[
        str,
        typer.Option(
            help="random, or coverage: first the sentences whose words are frequent in the text "
            "but not yet in what was said."
        ),
    ] = "random",
    spoken_forms: Annotated[
        float,
        typer.Option(
            help="Share of digits, dates, times, amounts, spelled words and orders, made up."
        ),
    ] = 0.0,
    audio: Annotated[
        str, typer.Option("--format", help="flac, or opus: a fifth of the room, slower.")
    ] = "flac",
) -> None:
    """Make synthetic speech, with the times of phones or words; started again, it goes on."""
    from asr.cli.signals import stop_on_signals
    from training.synthesis import SynthesisSettings, parse_voices
    from training.synthesis import synthesize as make

    settings = SynthesisSettings(
        text=text,
        seed=seed,
        groups=parse_voices(voices),
        choice=choice,
        spoken_forms=spoken_forms,
        format=audio,
    )
    with stop_on_signals() as stopped:
        report = make(out, settings, hours, jobs, stopped)
    console = Console(stderr=True)
    if report.skipped:
        console.print(f"skipped {len(report.skipped)} sentences, named above")
    _tell_made(console, report)


@app.command()
def language_model(
    texts: Annotated[
        list[Path],
        typer.Argument(
            help="Text, plain or .xz, a paragraph a line; or manifests (.jsonl): their transcripts "
            "to train on count three times. One or more."
        ),
    ],
    model: Annotated[
        Path,
        typer.Option(help="Folder of the trained model whose tokens spell it, and gets it."),
    ] = Path("data/model"),
    cutoffs: Annotated[
        str,
        typer.Option(
            help="How often a word, two words ... must have been read to be kept: their number is "
            "the order, higher ones make it smaller."
        ),
    ] = "2,2,3",
    spoken_forms: Annotated[
        int,
        typer.Option(
            min=0,
            help="So many sentences of digits, dates, times, amounts, spelled words and orders are "
            "made up and counted, too.",
        ),
    ] = 50_000,
    mixed: Annotated[
        Path | None,
        typer.Option(
            "--mix",
            help="A language model of words that counts as much as the texts: ARPA, plain or .gz, "
            "or CMU Sphinx's .lm.bin.",
        ),
    ] = None,
    most: Annotated[
        int,
        typer.Option(
            "--ngrams", min=1, help="So many are kept, words included: those that matter most."
        ),
    ] = 1_300_000,
) -> None:
    """Count words of text, by which the search of a bundle knows what is likely to be said."""
    from training.checkpoint import LANGUAGE_MODEL, TrainedModel
    from training.language_model import parse_cutoffs, write_language_model

    out = model / LANGUAGE_MODEL
    tokenizer = TrainedModel.load(model).tokenizer
    kept = write_language_model(
        texts, tokenizer, out, parse_cutoffs(cutoffs), spoken_forms, mixed, most
    )
    console = Console(stderr=True)
    console.print(
        f"{out}: {kept} n-grams of words, {out.stat().st_size / 1e6:.1f} MB", soft_wrap=True
    )


@app.command()
def average(
    models: Annotated[
        list[Path],
        typer.Argument(
            help="Folders of trained models, two or more, each trained on from another."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder of the model to make.")],
) -> None:
    """Average the weights of models: of the ends of several runs, it often hears best."""
    from training.checkpoint import average_models, keep_language_model, save_model

    if len(models) < 2:
        raise AsrError(f"one model, {models[0]}; expected two or more to average")
    made = average_models(models)
    save_model(out, made.model, made.tokenizer, heard_hours=made.heard_hours)
    keep_language_model(models[-1], out)
    console = Console(stderr=True)
    console.print(f"{out}: the mean of {len(models)} models", soft_wrap=True)


@app.command()
def shard(
    manifests: Annotated[
        list[Path], typer.Argument(help="JSON lines: id, audio, duration, text; one or more files.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the shards to write.")],
    utterances: Annotated[int, typer.Option(min=1, help="How many a shard has.")] = 1000,
) -> None:
    """Write recordings into lhotse Shar shards: few large files, to train from a disk or a URL."""
    from training.corpus import Rejections
    from training.shards import write_shards

    rejections = Rejections()
    shards = write_shards(manifests, out, utterances, rejections)
    console = Console(stderr=True)
    for line in rejections.lines():
        console.print(line, style="yellow", markup=False)
    total = sum(shard.utterances or 0 for shard in shards)
    console.print(f"{total} utterances in {len(shards)} shards in {out}", soft_wrap=True)


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


@app.command()
def splice(
    manifests: Annotated[
        list[Path],
        typer.Argument(help="What `asr-train align` wrote: JSON lines with `words`; one or more."),
    ],
    out: Annotated[Path, typer.Argument(help="Folder of the corpus to make.")],
    rounds: Annotated[
        int, typer.Option(min=1, help="How often each recording is cut and joined, each otherwise.")
    ] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed makes the same corpus.")] = 1,
    alone: Annotated[
        bool,
        typer.Option(
            "--alone", help="Join no recording with another: who speaks in them is not known."
        ),
    ] = False,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
) -> None:
    """Cut recordings between words and join the pieces of each speaker in new orders, so that they
    can't be learned by heart; started again, it goes on."""
    from asr.cli.signals import stop_on_signals
    from training.splicing import SplicingSettings
    from training.splicing import splice as make

    with stop_on_signals() as stopped:
        report = make(out, SplicingSettings(tuple(manifests), rounds, seed, alone), jobs, stopped)
    console = Console(stderr=True)
    for line in report.rejections.lines():
        console.print(line, style="yellow", markup=False, soft_wrap=True)
    _tell_made(console, report)


def _tell_made(console: Console, report: "SynthesisReport | SplicingReport") -> None:
    """Say how much there is of a corpus; exit with 130 if it was stopped."""
    made = f"{report.utterances} utterances, {report.hours:.2f} hours"
    if report.stopped:
        console.print(f"stopped after {made}; the same command goes on", soft_wrap=True)
        raise typer.Exit(130)
    console.print(f"{made}: {report.manifest}", soft_wrap=True)


@app.command("augment-demo")
def augment_demo(
    recording: Annotated[Path, typer.Argument(help="Any recording of speech.")],
    out: Annotated[Path, typer.Argument(help="Folder for the WAV files and the picture.")],
    recipe: Annotated[Path, typer.Option(help="Whose augmentation.")] = Path(
        "training/recipes/en-small.yaml"
    ),
    data: Annotated[Path, typer.Option(help="Folder with the noises and rooms it names.")] = Path(
        "data/corpora"
    ),
    seed: Annotated[int, typer.Option(help="Another seed draws anew.")] = 1,
) -> None:
    """Write what training makes of a recording: one WAV an augmentation, and spectrograms."""
    import tempfile

    from training.acoustics import Acoustics
    from training.augmentation_demo import demonstrate, write_demonstrations
    from training.corpus import Rejections
    from training.feature_cache import FeatureCache
    from training.recipe import load_recipe

    settings, rejections, console = load_recipe(recipe), Rejections(), Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="augment-demo-") as cache:
        acoustics = Acoustics.load(
            data,
            settings.data.noise,
            settings.data.rooms,
            FeatureCache(Path(cache)),
            rejections,
            os.cpu_count() or 1,
        )
        made = demonstrate(recording, settings.augmentation, acoustics, seed)
    for line in rejections.lines():
        console.print(line, style="yellow", markup=False)
    picture = write_demonstrations(made, out)
    console.print(f"{len(made)} recordings and {picture.name} in {out}", soft_wrap=True)


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
