"""What `asr eval` shows: tables of figures, and the worst utterances word by word."""

from collections.abc import Iterator, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from asr.evaluation.accuracy.alignment import Edit, EditKind
from asr.evaluation.accuracy.scoring import Figures, Group, UtteranceScore
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.evaluate import BudgetUse, EvaluationReport

_SKIPPED_SHOWN = 5
_GROUPS_SHOWN = 20

_STYLES = {
    EditKind.HIT: "",
    EditKind.SUBSTITUTION: "yellow",
    EditKind.INSERTION: "cyan",
    EditKind.DELETION: "red",
}
_LABELS = ("REF: ", "HYP: ")


def figures_table(report: EvaluationReport) -> Table:
    """The figures of the whole set."""
    figures = report.figures
    errors, (low, high) = figures.errors, figures.ci95
    table = Table(show_header=False)
    table.add_column(style="bold")
    table.add_column(justify="right")
    for name, value in [
        ("WER", f"{errors.rate:.2%}"),
        ("95 % interval", f"{low:.2%} to {high:.2%}"),
        ("insertions", f"{errors.insertions}"),
        ("deletions", f"{errors.deletions}"),
        ("substitutions", f"{errors.substitutions}"),
        ("words", f"{errors.words}"),
        ("WER, Open ASR leaderboard", _percent(figures.wer_open_asr)),
        ("character error rate", _percent(figures.cer)),
        ("sentence error rate", _percent(figures.ser)),
        ("utterances", f"{len(report.scores)}{'' if report.complete else ' (interrupted)'}"),
        ("skipped", f"{len(report.skipped)}"),
        ("audio", f"{report.audio_s / 60:.1f} min"),
        ("RTF", f"{report.rtf:.4f}"),
        ("peak memory", f"{report.peak_rss_mb:.0f} MB"),
        *(_budget_rows(report.budget) if report.budget else []),
    ]:
        table.add_row(name, value)
    return table


def groups_table(name: str, groups: Sequence[Group]) -> Table:
    """The groups of one field, the worst first."""
    table = Table(title=f"by {name}", title_justify="left")
    table.add_column(name, overflow="fold")
    for column in ("WER", "ins", "del", "sub", "words", "utterances"):
        table.add_column(column, justify="right")
    for group in groups[:_GROUPS_SHOWN]:
        value = Text("(none)", style="dim") if group.value is None else Text(str(group.value))
        errors = group.errors
        counts = (errors.insertions, errors.deletions, errors.substitutions, errors.words)
        table.add_row(value, f"{errors.rate:.2%}", *map(str, counts), str(group.utterances))
    if len(groups) > _GROUPS_SHOWN:
        table.caption = f"and {len(groups) - _GROUPS_SHOWN} more, all in the --report"
    return table


def print_skipped(report: EvaluationReport, console: Console) -> None:
    """Name the first recordings that were left out, and say how many there are."""
    skipped = report.skipped
    lines = [f"skipped {item.id}: {item.reason}" for item in skipped[:_SKIPPED_SHOWN]]
    if len(skipped) > _SKIPPED_SHOWN:
        lines.append(f"... and {len(skipped) - _SKIPPED_SHOWN} more skipped")
    if lines:
        total = len(report.scores) + len(skipped)
        lines.append(f"{len(skipped)} of {total} recordings are not in the figures")
    for line in lines:
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_unavailable(figures: Figures, console: Console) -> None:
    """Say why a figure is missing."""
    for name, reason in figures.unavailable.items():
        line = f"no {name}: {reason}"
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)


def print_worst(scores: Sequence[UtteranceScore], console: Console) -> None:
    """Show utterances with reference and hypothesis one below the other, as sclite does: what is
    wrong is in capitals and coloured, and stars stand where a word is missing."""
    for score in scores:
        title = Text(f"\n{score.id}", style="bold").append(f"  {_summary(score.errors)}")
        console.print(title, soft_wrap=True)
        edits = score.alignment().edits
        for pair in alignment_lines(edits, console.width - len(_LABELS[0])):
            for label, line in zip(_LABELS, pair, strict=True):
                console.print(Text().append(label, "dim").append_text(line), soft_wrap=True)


def alignment_lines(edits: Sequence[Edit], width: int) -> Iterator[tuple[Text, Text]]:
    """Yield pairs of lines of at most `width` characters, where the words allow it."""
    reference, hypothesis = Text(), Text()
    for edit in edits:
        words = edit.reference or "", edit.hypothesis or ""
        if edit.kind is not EditKind.HIT:
            length = max(map(len, words))
            words = words[0].upper() or "*" * length, words[1].upper() or "*" * length
        size = max(map(len, words))
        if reference and len(reference) + size > width:
            yield reference, hypothesis
            reference, hypothesis = Text(), Text()
        for line, word in zip((reference, hypothesis), words, strict=True):
            line.append(word, style=_STYLES[edit.kind]).append(" " * (size - len(word) + 1))
    yield reference, hypothesis


def _summary(errors: WordErrors) -> str:
    return (
        f"WER {errors.rate:.0%}: {errors.insertions} inserted, {errors.deletions} deleted, "
        f"{errors.substitutions} substituted of {errors.words} words"
    )


def _percent(rate: float | None) -> str:
    return "n/a" if rate is None else f"{rate:.2%}"


def _budget_rows(use: BudgetUse) -> list[tuple[str, str]]:
    audio_s = sum(item.audio_s for item in use.points) or 1.0
    shares = [f"{item.point} {item.audio_s / audio_s:.0%}" for item in use.points]
    rows = [("moves", f"{use.moves}"), ("overruns", f"{use.overruns}")]
    if use.ended:
        rows.append(("ended by memory", f"{use.ended}"))
    return [*rows, ("chunks", ", ".join(shares))]
