"""`asr eval`: the word error rate of a model on transcribed recordings."""

from collections.abc import Callable, Generator, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import (
    EXIT_INTERRUPTED,
    BudgetLatencyMs,
    BudgetMemoryMb,
    BudgetRtf,
    ChunkMs,
    Engine,
    Jobs,
    Limit,
    Model,
    Noise,
    Precision,
    Search,
    Split,
    check_destination,
    make_budget,
)
from asr.cli.signals import stop_on_signals
from asr.errors import AsrError

if TYPE_CHECKING:
    from rich.console import Console

    from asr.evaluation.accuracy.comparison import OtherReport
    from asr.evaluation.corpora.manifest import Manifest, Utterance
    from asr.evaluation.envelope import EvaluationEnvelope
    from asr.evaluation.evaluate import Evaluation, EvaluationReport
    from asr.evaluation.parallel import LoadOptions, Outcome
    from asr.evaluation.partial import PartialResults
    from asr.evaluation.recognition import ReadUtterance

_EXIT_SKIPPED = 2


def evaluate_command(
    manifests: Annotated[
        list[Path],
        typer.Argument(
            metavar="MANIFEST...",
            help="JSON lines (id, audio, duration, text), lhotse's cuts, or a folder of "
            "LibriSpeech. Several are one set.",
        ),
    ],
    model: Model = None,
    split: Split = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    precision: Precision = None,
    engine: Engine = None,
    chunk_ms: ChunkMs = None,
    search: Search = None,
    budget_rtf: BudgetRtf = None,
    budget_memory_mb: BudgetMemoryMb = None,
    budget_latency_ms: BudgetLatencyMs = None,
    noise: Noise = None,
    snr_db: Annotated[
        float | None,
        typer.Option(metavar="DB", help="Power of an utterance over that noise; default: 10."),
    ] = None,
    by: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FIELD",
            help="Figures by speaker, split or another field of the manifest; may be repeated.",
        ),
    ] = None,
    worst: Annotated[
        int,
        typer.Option(min=0, metavar="N", help="Show the N utterances with the most errors."),
    ] = 0,
    compare: Annotated[
        Path | None,
        typer.Option(
            metavar="OTHER.json",
            help="Say whether the WER differs from that of another --report on the same texts.",
        ),
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT.json", help="Write all figures and hypotheses to this JSON file."
        ),
    ] = None,
    trn: Annotated[
        Path | None,
        typer.Option(metavar="PREFIX", help="Write PREFIX.ref.trn and PREFIX.hyp.trn for sclite."),
    ] = None,
    ctm: Annotated[
        Path | None,
        typer.Option(
            metavar="PREFIX", help="Write PREFIX.stm and, with times, PREFIX.ctm for sclite."
        ),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 2 if a recording was skipped.")
    ] = False,
) -> None:
    """Measure word error rate, real-time factor and memory on transcribed recordings.

    The recordings are streamed block by block, one thread a process, as a program would; what `asr
    tune` chose is left alone. Errors are counted with sclite's alignment after one normalisation of
    both texts. RTF leaves out reading the files; with --jobs it is the computing of all processes
    over the audio, and memory is that of the largest. A row or recording that can't be used is
    skipped, and that is said. With a budget, which takes one job, the table has what it led to.
    --compare draws the utterances of both reports together (paired bootstrap).

    Ctrl-C ends it early: what was measured so far is reported, marked as incomplete. With --report
    it is also kept in OUT.json.partial, however it ends, and the same command goes on from there.
    """
    # Imported here, as everything heavy below, so that the other commands start fast.
    from rich.console import Console

    from asr import load
    from asr.evaluation.corpora import read_corpora
    from asr.evaluation.corpora.recordings import read_utterance
    from asr.evaluation.envelope import describe_evaluation
    from asr.evaluation.evaluate import Evaluation
    from asr.evaluation.noise import NoisyReader
    from asr.evaluation.parallel import LoadOptions

    output = _Output(report, trn, ctm, tuple(by or ()), worst, compare)
    output.check_destinations(manifests)
    budget = make_budget(budget_rtf, budget_memory_mb, budget_latency_ms)
    if budget is not None and jobs > 1:
        raise AsrError(f"a budget and --jobs {jobs}: the jobs would take it from each other; use 1")
    manifest = read_corpora(manifests, split, limit)
    output.check_fields(manifest)
    other = output.read_other(manifest)
    noisy = NoisyReader.of_options(noise, snr_db)
    read = noisy or read_utterance
    recognizer = load(
        model, precision=precision, engine=engine, chunk_ms=chunk_ms, threads=1, search=search
    )
    envelope = describe_evaluation(
        recognizer, manifests, split, limit, jobs, noise, noisy.snr_db if noisy else None
    )
    console = Console(stderr=True)
    evaluation = Evaluation(recognizer, skipped=manifest.skipped, budget=budget, read=read)
    partial = None
    if report is not None and budget is None:  # what a budget leads to belongs to one run
        partial = _open_partial(report, envelope, manifest, console)
    # Each process opens the same graphs as this one, whatever was left to the bundle to choose.
    graphs = recognizer.graphs
    options = LoadOptions(
        model, graphs.precision, graphs.engine, recognizer.chunk_ms, recognizer.search
    )
    processes = _Processes(options, jobs, read) if jobs > 1 else None
    complete = _measure(evaluation, manifest, partial, processes, console)
    result = evaluation.report(complete)
    output.give(result, envelope, other, console)
    if not complete:
        console.print("interrupted: the figures are of a part only", style="yellow")
        if partial is not None:
            console.print(f"{partial.path} has it: the same command goes on", soft_wrap=True)
        raise typer.Exit(EXIT_INTERRUPTED)
    if partial is not None:
        partial.remove()
    if strict and result.skipped:
        raise typer.Exit(_EXIT_SKIPPED)


@dataclass(frozen=True, slots=True)
class _Processes:
    """Those that recognise beside each other."""

    options: "LoadOptions"
    count: int
    read: "ReadUtterance"


@dataclass(frozen=True, slots=True)
class _Output:
    """What is shown and written in the end."""

    report: Path | None
    trn: Path | None
    ctm: Path | None
    by: tuple[str, ...]
    worst: int
    compare: Path | None

    def check_destinations(self, manifests: list[Path]) -> None:
        """Raise AsrError where no file can be written, or it would replace what is read."""
        from asr.evaluation.accuracy.nist import ctm_paths, trn_paths

        inputs = manifests if self.compare is None else [*manifests, self.compare]
        if self.report is not None:
            check_destination("--report", self.report, inputs)
        for path in trn_paths(self.trn) if self.trn is not None else ():
            check_destination("--trn", path, inputs)
        for path in ctm_paths(self.ctm) if self.ctm is not None else ():
            check_destination("--ctm", path, inputs)

    def check_fields(self, manifest: "Manifest") -> None:
        """Raise AsrError for a field that no utterance has."""
        known = manifest.fields()
        for name in self.by:
            if manifest.utterances and name not in known:
                fields = ", ".join(known) or "none"
                raise AsrError(f"--by {name}: no utterance has this field; known: {fields}")

    def read_other(self, manifest: "Manifest") -> "OtherReport | None":
        """Return the report to compare with. Raises AsrError if it is of other references."""
        from asr.evaluation.accuracy.comparison import read_other_report

        if self.compare is None:
            return None
        other = read_other_report(self.compare)
        other.check(manifest.utterances)
        return other

    def give(
        self,
        result: "EvaluationReport",
        envelope: "EvaluationEnvelope",
        other: "OtherReport | None",
        console: "Console",
    ) -> None:
        """Show the result, what went wrong on `console`, and write it."""
        from rich.console import Console

        from asr.cli import eval_view
        from asr.evaluation.accuracy.comparison import compare
        from asr.evaluation.accuracy.nist import write_ctm, write_trn
        from asr.evaluation.accuracy.scoring import break_down, worst

        groups = {name: break_down(result.scores, name) for name in self.by}
        comparison = compare(result.scores, other) if other is not None else None
        out = Console()
        eval_view.print_skipped(result, console)
        eval_view.print_unavailable(result.figures, console)
        out.print(eval_view.figures_table(result))
        for name, each in groups.items():
            out.print(eval_view.groups_table(name, each))
        eval_view.print_worst(worst(result.scores, self.worst), out)
        if comparison is not None:
            out.print(str(comparison), markup=False, highlight=False, soft_wrap=True)
        if self.report is not None:
            result.write(self.report, envelope, groups, comparison)
        if self.trn is not None:
            write_trn(self.trn, result.scores)
        if self.ctm is not None:
            write_ctm(self.ctm, result.scores)


def _open_partial(
    report: Path, envelope: "EvaluationEnvelope", manifest: "Manifest", console: "Console"
) -> "PartialResults":
    from asr.evaluation.partial import PartialResults, measured_with, partial_path

    partial = PartialResults(partial_path(report), measured_with(envelope, manifest.utterances))
    if partial.recognized:
        count = f"{len(partial.recognized)} of {len(manifest.utterances)} utterances"
        console.print(f"going on from {partial.path}: {count} are done", soft_wrap=True)
    return partial


def _measure(
    evaluation: "Evaluation",
    manifest: "Manifest",
    partial: "PartialResults | None",
    processes: _Processes | None,
    console: "Console",
) -> bool:
    """Recognise what isn't in `partial`, here or in processes, and keep it there. Return whether
    every utterance had its turn: Ctrl-C ends it after an utterance, a second one at once."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    done = partial.recognized if partial is not None else {}
    pending: list[tuple[int, Utterance]] = []
    for position, utterance in enumerate(manifest.utterances):
        if utterance.id in done:
            evaluation.record(utterance, done[utterance.id], position)
        else:
            pending.append((position, utterance))
    total = len(manifest.utterances)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        auto_refresh=False,  # a thread that draws would be in the figures
        transient=True,
    )
    left = len(pending)
    with bar, suppress(KeyboardInterrupt), stop_on_signals() as stopped:
        task = bar.add_task("utterances", total=total, completed=total - left)
        bar.refresh()
        for position, outcome in _outcomes(evaluation, pending, processes, stopped):
            utterance = manifest.utterances[position]
            evaluation.record(utterance, outcome, position)
            if partial is not None:
                partial.add(utterance.id, outcome)
            bar.advance(task)
            bar.refresh()
            left -= 1
    if partial is not None:
        partial.close()
    if left and not evaluation.recognized:
        raise typer.Exit(EXIT_INTERRUPTED)
    return left == 0


def _outcomes(
    evaluation: "Evaluation",
    pending: "list[tuple[int, Utterance]]",
    processes: _Processes | None,
    stopped: Callable[[], bool],
) -> "Iterator[tuple[int, Outcome]]":
    """Yield what comes of each numbered utterance, until it is to stop."""
    from asr.evaluation.corpora.manifest import Skipped
    from asr.evaluation.parallel import recognize_in_processes

    outcomes: Generator[tuple[int, Outcome], None, None]
    if processes is None:
        outcomes = ((position, evaluation.recognize(each)) for position, each in pending)
    else:
        outcomes = recognize_in_processes(
            processes.options, pending, processes.count, processes.read
        )
    with closing(outcomes):
        for position, outcome in outcomes:
            if stopped() and isinstance(outcome, Skipped):
                return  # its process may have got the signal as well
            yield position, outcome
            if stopped():
                return
