"""`asr peers`: this recogniser beside others, on the same recordings and on this machine."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import (
    EXIT_INTERRUPTED,
    Limit,
    Model,
    Precision,
    Split,
    check_destination,
)
from asr.cli.signals import stop_on_signals
from asr.evaluation.corpora import read_corpora

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console
    from rich.table import Table

    from asr.evaluation.peers.comparison import Comparison, Peer, Ratio

_OURS, _SHERPA, _SPHINX, _EAGER = "Earshot", "sherpa-onnx", "PocketSphinx", "PyTorch"


def peers_command(
    manifests: Annotated[
        list[Path],
        typer.Argument(metavar="MANIFEST...", help="JSON lines: id, audio, duration, text."),
    ],
    split: Split = None,
    limit: Limit = None,
    model: Model = None,
    precision: Precision = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="The model's checkpoint, to run it in eager PyTorch as well."
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="OUT.json", help="Write all figures and hypotheses to this file."),
    ] = None,
) -> None:
    """Compare this recogniser with others: words, time and memory, side by side in one run.

    They are sherpa-onnx with the same bundle, PocketSphinx with its own model, and with
    --checkpoint the model before export, in eager PyTorch. Each has a process and one thread, and
    they take turns at each recording. Needs the extra: pip install 'earshot-asr[peers]'. One that
    isn't installed is named with the reason. Ctrl-C ends it early: what was measured is reported,
    marked as incomplete.
    """
    # Imported here, as everything heavy below, so that the other commands start fast.
    from rich.console import Console

    from asr import load
    from asr.evaluation.envelope import describe_evaluation, write_result
    from asr.evaluation.peers.comparison import compare

    if report is not None:
        check_destination("--report", report, manifests)
    manifest = read_corpora(manifests, split, limit)
    envelope = describe_evaluation(
        load(model, precision=precision, threads=1), manifests, split, limit
    )
    peers = _peers(model, precision, checkpoint)
    console = Console(stderr=True)
    steps = len(peers) + len(manifest.utterances)
    with stop_on_signals() as stopped, _progress(console, steps) as watch:
        result = compare(
            peers, manifest.utterances, skipped=manifest.skipped, watch=watch, stopped=stopped
        )
    for item in result.skipped:
        console.print(f"skipped {item.id}: {item.reason}", highlight=False, soft_wrap=True)
    out = Console(highlight=False, soft_wrap=True)
    for peer_report in result.reports:
        name, facts = peer_report.peer.name, peer_report.facts
        about = f"{facts.model}; {facts.runs_on}" if facts else f"n/a: {peer_report.reason}"
        out.print(f"{name}: {about}", markup=False)
    Console().print(_table(result))
    for name, ratios in result.time_ratios().items():
        out.print(
            f"time of {_OURS} for a block over that of {name}: {_ratio(ratios.wall)}, by CPU time "
            f"{_ratio(ratios.cpu)}"
        )
    if report is not None:
        write_result(report, result.to_dict(envelope))
    if not result.complete:
        console.print("interrupted: the figures are of a part only", style="yellow")
        raise typer.Exit(EXIT_INTERRUPTED)


def _peers(model: Path | None, precision: str | None, checkpoint: Path | None) -> Sequence["Peer"]:
    from asr.evaluation.peers.comparison import Peer

    bundle = {"model": str(model) if model else None, "precision": precision}
    package = "asr.evaluation.peers"
    return (
        Peer(_OURS, f"{package}.earshot", bundle),
        Peer(_SHERPA, f"{package}.sherpa", bundle),
        Peer(_SPHINX, f"{package}.pocketsphinx", {}),
        Peer(
            _EAGER,
            "training.eager",
            {"checkpoint": str(checkpoint)} if checkpoint else {},
            unavailable=None if checkpoint else "its weights were not named: --checkpoint DIR",
        ),
    )


@contextmanager
def _progress(console: "Console", steps: int) -> "Iterator[Callable[[str], None]]":
    """Show what is measured and how much is left. Drawn by who measures and between recordings
    only: a thread that draws would be in the figures."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=20), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, auto_refresh=False, transient=True) as bar:
        task = bar.add_task("", total=steps)
        begun = iter(range(steps))

        def watch(doing: str) -> None:
            bar.update(task, description=doing, completed=next(begun), refresh=True)

        yield watch


def _ratio(ratio: "Ratio") -> str:
    low, high = ratio.ci95
    return f"{ratio.median:.2f} (95 %: {low:.2f} to {high:.2f})"


def _table(result: "Comparison") -> "Table":
    from rich.table import Table

    table = Table()
    table.add_column("", no_wrap=True)
    for column in ("WER", "ins / del / sub", "RTF", "block p50, p95", "load", "peak"):
        table.add_column(column, justify="right")
    for report in result.reports:
        facts = report.to_dict()
        if facts["reason"] is not None:
            continue
        low, high = facts["ci95"]
        table.add_row(
            facts["name"],
            f"{facts['wer']:.1%} ({low:.1%} to {high:.1%})",
            f"{facts['ins']} / {facts['del']} / {facts['sub']}",
            f"{facts['rtf']:.4f}",
            f"{facts['block_ms_p50']:.1f}, {facts['block_ms_p95']:.1f} ms",
            f"{facts['load_s']:.2f} s",
            f"{facts['peak_rss_mb']:.0f} MB",
        )
    return table
