"""`asr bench` without `--stress`: runs, their tables and their files."""

import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from asr.cli.options import EXIT_INTERRUPTED
from asr.cli.signals import stop_on_signals

if TYPE_CHECKING:
    from rich.table import Table

    from asr.evaluation.bench.bench_rows import BenchSettings
    from asr.evaluation.bench.benchmark import BenchPlan
    from asr.evaluation.bench.operators import OperatorProfile
    from asr.evaluation.bench.rows import Row
    from asr.evaluation.bench.sustained import SustainedSample
    from asr.evaluation.playback import Recording
    from asr.recognizer import Recognizer

_OPERATORS_SHOWN = 12
_SUSTAINED_IDLE_S = 60.0


def plain_bench(
    recognizer: "Recognizer",
    recordings: "Sequence[Recording]",
    sources: Sequence[Path],
    plan: "BenchPlan",
    settings: "BenchSettings",
    per_op: bool,
    report: Path | None,
) -> None:
    """Measure all rows, and show and write them."""
    from asr.evaluation.bench.bench_rows import collect_rows, energy_source
    from asr.evaluation.bench.benchmark import Bench, bench_result
    from asr.evaluation.envelope import describe_run

    envelope = describe_run(recognizer)
    bench = Bench(recognizer, recordings)
    source, no_source = energy_source()
    with _status() as watch:
        rows = collect_rows(
            bench, plan, settings, sources, watch=watch, source=source, no_source=no_source
        )
        content = bench_result(
            envelope, bench, plan, rows, [str(s) for s in sources], settings.threads
        )
        is_profiled = per_op and content["complete"]
        profile = _profile(recognizer, settings.threads, watch) if is_profiled else None
    _show_rows(rows)
    if profile is not None:
        content["operators"] = profile.to_dict()
        _print(_operators(profile))
    _write(report, content)
    _end(content["complete"])


def sustained_bench(
    recognizer: "Recognizer",
    recordings: "Sequence[Recording]",
    sources: Sequence[Path],
    seconds: float,
    threads: int,
    report: Path | None,
) -> None:
    """Recognise for `seconds`, and show and write what came of it."""
    from asr.evaluation.bench.bench_rows import energy_source, measure_idle
    from asr.evaluation.bench.sustained import run_sustained, sustained_result, sustained_rows
    from asr.evaluation.envelope import describe_run

    envelope = describe_run(recognizer)
    source, no_source = energy_source()
    with stop_on_signals() as stopped, _status() as watch:
        idle = measure_idle(source, _SUSTAINED_IDLE_S, watch) if source else None

        def tell(sample: "SustainedSample") -> None:
            rtf = "" if sample.rtf is None else f"  rtf {sample.rtf:.4f}"
            heat = "" if sample.temp_c is None else f"  {sample.temp_c:.0f} C"
            watch(f"{sample.t:.0f} of {seconds:.0f} s{rtf}  {sample.rss_mb:.0f} MB{heat}")

        run = run_sustained(
            recognizer, recordings, seconds, source=source, watch=tell, stopped=stopped
        )
    rows = sustained_rows(run, source, idle, no_source)
    _show_rows(rows)
    names = [str(source) for source in sources]
    _write(report, sustained_result(envelope, run, rows, names, threads))
    _end(run.complete)


def matrix_bench(
    file: Path,
    sources: Sequence[Path] | None,
    samples: Callable[[], Path],
    split: str | None,
    limit: int | None,
    report: Path | None,
    table: Path | None,
) -> None:
    """Compare the variants of a matrix, and show and write what came of it. What is named here goes
    before what the matrix names."""
    from asr.evaluation.bench import matrix
    from asr.evaluation.bench.matrix_file import read_matrix
    from asr.evaluation.bench.matrix_table import check_markers, write_table
    from asr.evaluation.bench.probe import measure
    from asr.evaluation.cost.roofline import measure_rates
    from asr.evaluation.envelope import describe_run
    from asr.evaluation.playback import read_recordings

    plan = read_matrix(file)
    if table is not None:
        check_markers(table)
    if not sources and plan.manifest is not None:
        sources, split = [plan.manifest], split or plan.split
    sources, limit = sources or [samples()], limit or plan.limit
    recordings = read_recordings(sources, one_rate=False, split=split, limit=limit)
    with stop_on_signals() as stopped, _status() as watch:
        runs = []
        for variant in plan.variants:
            watch(f"loading {variant.name}")
            runs.append(matrix.load_variant(variant))
        baseline = runs[plan.baseline]
        envelope = describe_run(baseline.recognizer)
        complete = matrix.run_matrix(runs, recordings, plan.repeat, watch=watch, stopped=stopped)
        results = []
        for run in runs:
            watch(f"loading and memory of {run.variant.name}")
            results.append(matrix.variant_result(run, baseline, recordings, measure))
        watch("what this machine can do")
        roofline = matrix.roofline_result(runs, measure_rates)
    content = matrix.matrix_result(
        envelope, plan, results, roofline, [str(s) for s in sources], baseline.audio_s, complete
    )
    _show_matrix(content)
    _write(report, content)
    if table is not None and complete:
        write_table(table, content)
    _end(complete)


@dataclass(frozen=True, slots=True)
class Device:
    """Where to run: one of the first two is given."""

    adb: str | None  # serial number
    ssh: str | None  # host
    ssh_options: str
    python: str


def device_bench(
    device: "Device",
    model: Path | None,
    recordings: "Sequence[Recording]",
    arguments: Sequence[str],
    report: Path | None,
) -> None:
    """Run on a device, and show and write what it brought back."""
    from asr.bundle import builtin_bundle_path, open_bundle
    from asr.evaluation.bench.devices import (
        AdbTransport,
        SshTransport,
        Transport,
        run_on_device,
        with_phone_energy,
    )
    from asr.evaluation.envelope import describe_source

    transport: Transport
    if device.adb:
        transport = AdbTransport(device.adb)
    else:
        transport = SshTransport(device.ssh or "", tuple(shlex.split(device.ssh_options)))
    is_long = device.adb is not None and "--sustained" in arguments
    path = (model or builtin_bundle_path()).resolve()  # "." has no name to have there
    open_bundle(path)  # better refused here than there
    with _status() as watch:

        def run() -> dict[str, Any]:
            return run_on_device(transport, path, recordings, arguments, device.python, watch)

        content = with_phone_energy(transport, run) if is_long else run()
    content |= describe_source()  # the sources that ran there are these
    _print(f"on {content['device']}: {content['machine']['processor']}")
    _show_rows(rows_from_dict(content["rows"]))
    _write(report, content)


def rows_from_dict(content: Mapping[str, Any]) -> "dict[str, Row]":
    """Return the rows that a JSON has."""
    from asr.evaluation.bench.rows import Row

    rows = {}
    for name, row in content.items():
        spread = None if row["spread"] is None else tuple(row["spread"])
        rows[name] = Row(**row | {"spread": spread})
    return rows


def _profile(
    recognizer: "Recognizer", threads: int, watch: Callable[[str], None]
) -> "OperatorProfile":
    from asr.evaluation.bench.operators import profile_operators

    watch("operators")
    frames = recognizer.stream().chunk_frames
    return profile_operators(recognizer.bundle, recognizer.graphs, threads, frames)


def _show_rows(rows: "Mapping[str, Row]") -> None:
    width = max(map(len, rows))
    for name, row in rows.items():  # no table: a reason is longer than a column
        _print(f"{name:<{width}}  {row}{f', {row.source}' if row.source else ''}")


def _show_matrix(content: Mapping[str, Any]) -> None:
    from asr.evaluation.bench.matrix_table import markdown

    _print(markdown(content))
    for variant in content["variants"]:
        for key, reason in variant["reasons"].items():
            _print(f"{variant['name']}: no {key}: {reason}")


def _operators(profile: "OperatorProfile") -> "Table":
    from rich.table import Table

    table = Table()
    for title in ("operators", "calls", "ms a step", "share"):
        table.add_column(title, justify="left" if title == "operators" else "right")
    for merged in (profile.by_type(), profile.by_module()):
        for item in merged[:_OPERATORS_SHOWN]:
            table.add_row(item.name, f"{item.calls}", f"{item.ms:.3f}", f"{item.share:.1%}")
        table.add_section()
    return table


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Show what is being done, in a line that changes."""
    from rich.console import Console
    from rich.progress import Progress, TextColumn

    # Drawn when told to: a thread that draws by itself would be in what is measured.
    progress = Progress(
        TextColumn("{task.description}"),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
    with progress:
        task = progress.add_task("", total=None)

        def watch(text: str) -> None:
            progress.update(task, description=text)
            progress.refresh()

        yield watch


def _print(content: "str | Table") -> None:
    from rich.console import Console

    Console().print(content, highlight=False, markup=False, soft_wrap=isinstance(content, str))


def _write(report: Path | None, content: Mapping[str, Any]) -> None:
    from asr.evaluation.envelope import write_result

    if report is not None:
        write_result(report, content)


def _end(complete: bool) -> None:
    if not complete:
        typer.echo("interrupted: the figures are of a part only", err=True)
        raise typer.Exit(EXIT_INTERRUPTED)
