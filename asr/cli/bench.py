"""`asr bench`: what a model does on this machine, or on a device."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import asr
from asr.cli.options import (
    BudgetRtf,
    ChunkMs,
    Engine,
    Limit,
    Model,
    Precision,
    Split,
    Threads,
    check_destination,
)
from asr.errors import AsrError
from asr.profile import usable_cpus

if TYPE_CHECKING:
    from asr.evaluation.playback import Recording
    from asr.evaluation.under_load.stress import StressPlan
    from asr.recognizer import Recognizer

_SAMPLES = Path("data/samples/manifest.jsonl")  # in the repository; the package is without them
_HOGS_PER_CPU = 2  # see asr/evaluation/under_load/stress.py


def bench_command(
    sources: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[MANIFEST.jsonl or FILE]...",
            help="What to recognise; default: the samples of the repository.",
        ),
    ] = None,
    split: Split = None,
    limit: Limit = None,
    repeat: Annotated[
        int, typer.Option(min=1, metavar="N", help="Passes over the recordings.")
    ] = 3,
    warmup: Annotated[
        int, typer.Option(min=0, metavar="N", help="Passes before them that don't count.")
    ] = 1,
    cooldown: Annotated[
        float, typer.Option(min=0, metavar="S", help="Rest before each pass.")
    ] = 0.0,
    growth_minutes: Annotated[
        float,
        typer.Option(min=0, metavar="MIN", help="Audio of one stream whose memory is watched."),
    ] = 5.0,
    per_op: Annotated[
        bool, typer.Option("--per-op", help="Also: what each operator of the networks takes.")
    ] = False,
    sustained: Annotated[
        float | None,
        typer.Option(
            min=0.01,
            metavar="MIN",
            help="Instead: recognise for so many minutes, and look every second.",
        ),
    ] = None,
    matrix: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.yaml",
            help="Instead: variants side by side; data/matrix.yaml is an example.",
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(metavar="FILE.md", help="With --matrix: renew the table in this file."),
    ] = None,
    adb: Annotated[
        str | None,
        typer.Option(metavar="SERIAL", help="Run on this Android device (adb devices)."),
    ] = None,
    ssh: Annotated[
        str | None, typer.Option(metavar="HOST", help="Run on this Linux machine.")
    ] = None,
    ssh_options: Annotated[
        str, typer.Option(metavar="OPTIONS", help='For ssh, such as "-p 2222 -i KEY".')
    ] = "",
    device_python: Annotated[
        str,
        typer.Option(metavar="PYTHON", help="Of the device, with the dependencies of earshot-asr."),
    ] = "python3",
    stress: Annotated[
        bool,
        typer.Option(
            "--stress", help="Instead: hold a budget in real time, beside processes that compute."
        ),
    ] = False,
    seconds: Annotated[
        float, typer.Option(min=1, metavar="S", help="Stress: length of the run with the budget.")
    ] = 180,
    probe_seconds: Annotated[
        float,
        typer.Option(
            min=0.1,
            metavar="S",
            help="Stress: how long each operating point runs before it, without a budget.",
        ),
    ] = 30,
    budget_rtf: BudgetRtf = None,
    budget_factor: Annotated[
        float | None,
        typer.Option(
            metavar="F",
            help="Instead of --budget-rtf: F times what the cheapest operating point needs beside "
            "the hogs; default: 1.3.",
        ),
    ] = None,
    hogs: Annotated[
        int | None,
        typer.Option(
            min=0, metavar="N", help="Stress: processes that compute; default: two per CPU."
        ),
    ] = None,
    model: Model = None,
    precision: Precision = None,
    engine: Engine = None,
    chunk_ms: ChunkMs = None,
    threads: Threads = None,
    report: Annotated[
        Path | None,
        typer.Option(metavar="OUT.json", help="Write all figures to this JSON file."),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.png", help="Stress: draw RTF, operating point and queue over time."
        ),
    ] = None,
) -> None:
    """Measure what a model does on this machine.

    Accuracy, sizes, real-time factor, stages, latency, stability of partials, loading, memory and
    energy; a figure that can't be had here says why. Medians over the passes, with quartiles.
    Ctrl-C ends it early: what was measured is reported, marked as incomplete.

    --stress plays recordings in real time beside processes that keep the CPUs busy: first to each
    operating point without a budget, then to a stream with one. Exit code 0: nothing was lost and
    the last minute was within the budget; 1: that was not so; 2: the budget is refused, because no
    operating point can hold it.
    """
    modes = {"--stress": stress, "--sustained": sustained, "--matrix": matrix, "--per-op": per_op}
    chosen = [option for option, value in modes.items() if value]
    if len(chosen) > 1:
        raise AsrError(f"{' and '.join(chosen)}: each is a run of its own; choose one")
    on_device = [option for option, value in {"--adb": adb, "--ssh": ssh}.items() if value]
    if len(on_device) > 1 or (on_device and (stress or matrix)):
        refused = "--adb" if len(on_device) > 1 else chosen[0]
        raise AsrError(f"{refused} and {on_device[-1]} don't go together; choose one")
    of_variant = _options(
        model=model, precision=precision, engine=engine, chunk_ms=chunk_ms, threads=threads
    )
    if matrix is not None and of_variant:
        raise AsrError(f"--matrix and {of_variant[0]}: each variant of {matrix} says that itself")
    if table is not None and matrix is None:
        raise AsrError("--table is written by --matrix only; name a FILE.yaml")
    if plot is not None and not stress:
        raise AsrError("--plot is drawn by --stress only; asr report draws the other results")
    if sustained is not None and not math.isfinite(sustained):
        raise AsrError(f"--sustained {sustained}; expected minutes")
    if report is not None:
        inputs = [*(sources or ()), *([matrix] if matrix is not None else ())]
        check_destination("--report", report, inputs)

    # Imported here, as everything heavy below, so that the other commands start fast.
    if matrix is not None:
        from asr.cli.bench_view import matrix_bench

        return matrix_bench(matrix, sources, _samples, split, limit, report, table)
    from asr.evaluation.playback import read_recordings

    variant = _Variant(model, precision, engine, chunk_ms, 1 if threads is None else threads)
    named = sources or [_samples()]
    recordings = read_recordings(named, one_rate=stress, split=split, limit=limit)
    if stress:
        if budget_rtf is not None and budget_factor is not None:
            raise AsrError("both --budget-rtf and --budget-factor; expected one of them")
        from asr.evaluation.under_load.stress import BUDGET_FACTOR, StressPlan

        stress_plan = StressPlan(
            seconds=seconds,
            probe_s=probe_seconds,
            hogs=_HOGS_PER_CPU * usable_cpus() if hogs is None else hogs,
            budget_rtf=budget_rtf,
            budget_factor=BUDGET_FACTOR if budget_factor is None else budget_factor,
        )
        return _stress(named, recordings, stress_plan, variant, report, plot)
    from asr.cli.bench_view import Device, device_bench, plain_bench, sustained_bench

    if adb or ssh:
        device = Device(adb, ssh, ssh_options, device_python)
        options = _options(
            repeat=repeat,
            warmup=warmup,
            cooldown=cooldown,
            growth_minutes=growth_minutes,
            per_op=per_op,
            sustained=sustained,
        )
        return device_bench(device, model, recordings, [*variant.options(), *options], report)
    from asr.evaluation.bench.bench_rows import BenchSettings
    from asr.evaluation.bench.benchmark import BenchPlan

    plan = BenchPlan(repeat, warmup, cooldown)
    settings = BenchSettings(threads=variant.threads, growth_s=60 * growth_minutes)
    recognizer = variant.load()
    if sustained is not None:
        return sustained_bench(
            recognizer, recordings, named, 60 * sustained, variant.threads, report
        )
    plain_bench(recognizer, recordings, named, plan, settings, per_op, report)


@dataclass(frozen=True, slots=True)
class _Variant:
    """What is measured. All that is None is the model's own choice; what was tuned for this machine
    is left alone, for figures of machines are to be compared."""

    model: Path | None
    precision: str | None
    engine: str | None
    chunk_ms: int | None
    threads: int

    def load(self) -> "Recognizer":
        return asr.load(
            self.model,
            precision=self.precision,
            engine=self.engine,
            chunk_ms=self.chunk_ms,
            threads=self.threads,
        )

    def options(self) -> list[str]:
        """The options that name it elsewhere, where the model lies in another place."""
        return _options(
            precision=self.precision,
            engine=self.engine,
            chunk_ms=self.chunk_ms,
            threads=self.threads,
        )


def _options(**values: object) -> list[str]:
    """Return the options that set these values: none for None and False."""
    options: list[str] = []
    for name, value in values.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value is not None and value is not False:
            options += [option, str(value)]
    return options


def _stress(
    sources: list[Path],
    recordings: "tuple[Recording, ...]",
    plan: "StressPlan",
    variant: _Variant,
    report: Path | None,
    plot: Path | None,
) -> None:
    from asr.cli.bench_stress import check_plot, stress_bench

    if plot is not None:
        check_plot(plot)
    stress_bench(variant.load(), recordings, plan, sources, report, plot)


def _samples() -> Path:
    path = Path(asr.__file__).parents[1] / _SAMPLES
    if not path.is_file():
        raise AsrError(
            "an installed package has no recordings; name some: a MANIFEST.jsonl, or audio files"
        )
    return path
