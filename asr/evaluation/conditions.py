"""One model under several conditions: precision, how much it hears at once, and through what."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from asr.evaluation.corpora.manifest import Manifest
from asr.evaluation.corpora.recordings import read_utterance
from asr.evaluation.evaluate import Evaluation, EvaluationReport
from asr.evaluation.noise import NoisyReader
from asr.evaluation.parallel import LoadOptions, recognize_in_processes
from asr.evaluation.recognition import ReadUtterance
from asr.recognizer import load

OFFLINE_MS = 10_240
"""The longest chunk: most utterances are heard whole before a word is written."""


@dataclass(frozen=True, slots=True)
class Condition:
    """How a model is heard to."""

    precision: str
    chunk_ms: int
    snr_db: float | None = None  # None: as recorded

    def __str__(self) -> str:
        heard = "offline (10.24 s)" if self.chunk_ms == OFFLINE_MS else f"{self.chunk_ms} ms"
        noise = "" if self.snr_db is None else f", noise at {self.snr_db:g} dB"
        return f"{self.precision}, {heard}{noise}"


def conditions(
    precisions: Sequence[str], chunks_ms: Sequence[int], chunk_ms: int, snrs_db: Sequence[float]
) -> list[Condition]:
    """Return each precision with each chunk length and offline, then the first through noise.

    chunk_ms: how much is heard at once through noise.
    """
    clean = [
        Condition(precision, chunk)
        for precision in precisions
        for chunk in (*chunks_ms, OFFLINE_MS)
    ]
    return [*clean, *(Condition(precisions[0], chunk_ms, snr_db) for snr_db in snrs_db)]


def evaluate_under(
    condition: Condition,
    model: Path | None,
    manifest: Manifest,
    noise: Path | None,
    jobs: int,
    search: str | None = None,
) -> EvaluationReport:
    """Evaluate a model under one condition, in `jobs` processes.

    Raises AsrError for a model, a precision or a folder of noises that can't be used.
    """
    read: ReadUtterance = read_utterance
    if condition.snr_db is not None:
        assert noise is not None
        read = NoisyReader.of_folder(noise, condition.snr_db)
    precision, chunk_ms = condition.precision, condition.chunk_ms
    recognizer = load(model, precision=precision, chunk_ms=chunk_ms, threads=1, search=search)
    evaluation = Evaluation(recognizer, skipped=manifest.skipped, read=read)
    engine = recognizer.graphs.engine
    options = LoadOptions(model, precision, engine, chunk_ms, recognizer.search)
    numbered = list(enumerate(manifest.utterances))
    for position, outcome in recognize_in_processes(options, numbered, jobs, read):
        evaluation.record(manifest.utterances[position], outcome, position)
    return evaluation.report()


def figures_of(condition: Condition, report: EvaluationReport) -> dict[str, Any]:
    """Return what was measured under a condition, as a report keeps it."""
    errors = report.errors
    return {
        "condition": str(condition),
        **asdict(condition),
        "wer": errors.rate,
        "ci95": list(report.figures.ci95),
        "words": errors.words,
        "insertions": errors.insertions,
        "deletions": errors.deletions,
        "substitutions": errors.substitutions,
        "utterances": len(report.scores),
        "skipped": len(report.skipped),
    }


HEAD = "| condition | WER | 95 % | ins / del / sub |\n|---|---|---|---|"
"""The first lines of a table in Markdown."""


def markdown_row(condition: Condition, report: EvaluationReport) -> str:
    """Return its line for a condition: the WER, its interval and the kinds of errors."""
    low, high = report.figures.ci95
    errors = report.errors
    kinds = f"{errors.insertions} / {errors.deletions} / {errors.substitutions}"
    return f"| {condition} | {errors.rate:.1%} | {low:.1%} to {high:.1%} | {kinds} |"
