"""Runs a recogniser over utterances, and reports what that came to."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from asr.budget import Budget, OperatingPoint
from asr.errors import AsrError, BudgetError
from asr.evaluation.accuracy.comparison import Comparison
from asr.evaluation.accuracy.scoring import Figures, Group, UtteranceScore
from asr.evaluation.accuracy.wer import WordErrors, bootstrap_interval
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.corpora.recordings import read_utterance
from asr.evaluation.envelope import EvaluationEnvelope, write_result
from asr.evaluation.parallel import Outcome
from asr.evaluation.recognition import (
    ReadUtterance,
    Recognized,
    SpeechRecognizer,
    StreamBudget,
    recognize,
)
from asr.supervisor import PointTime

REPORT_SCHEMA_VERSION = 2


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What a budget led to, in all streams of an evaluation together."""

    budget: Budget
    moves: int  # from one operating point to another
    overruns: int  # a budget was broken, and told so
    ended: int  # streams that memory ended early: what they hadn't heard counts as deleted words
    points: tuple[PointTime, ...]  # best first

    @classmethod
    def of(cls, budget: Budget, streams: Sequence[StreamBudget]) -> "BudgetUse":
        """Add up what it led to in each of the streams that were held to it."""
        points: dict[OperatingPoint, float] = {}
        for item in (item for stream in streams for item in stream.report.points):
            points[item.point] = points.get(item.point, 0.0) + item.audio_s
        return cls(
            budget,
            moves=sum(len(stream.report.moves) for stream in streams),
            overruns=sum(len(stream.report.overruns) for stream in streams),
            ended=sum(stream.ended for stream in streams),
            points=tuple(PointTime(point, points[point]) for point in sorted(points)),
        )


@dataclass(frozen=True)
class EvaluationReport:
    """The figures of one evaluation."""

    scores: tuple[UtteranceScore, ...]  # at least one
    skipped: tuple[Skipped, ...]  # rows that could not be used and recordings that failed
    complete: bool = True  # every utterance had its turn
    budget: BudgetUse | None = None  # None: the streams had none

    @property
    def errors(self) -> WordErrors:
        """Word counts of the whole set."""
        return WordErrors.total(score.errors for score in self.scores)

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the WER over utterances, as fractions."""
        return bootstrap_interval([score.errors for score in self.scores])

    @cached_property
    def figures(self) -> Figures:
        """What the scores come to; it takes a moment, once."""
        return Figures.of(self.scores)

    @property
    def audio_s(self) -> float:
        """Audio that was recognised."""
        return sum(score.recognized.audio_s for score in self.scores)

    @property
    def rtf(self) -> float:
        """Wall time inside the streams, of all processes together, over audio time; reading the
        files is not in it. It says what a thread needs, not how long the evaluation took."""
        compute_s = sum(score.recognized.compute_s for score in self.scores)
        return compute_s / self.audio_s if self.audio_s else 0.0

    @property
    def peak_rss_mb(self) -> float:
        """Highest resident memory of the largest process that recognised, in MB of 10^6 bytes."""
        return max(score.recognized.peak_rss_mb for score in self.scores)

    def to_dict(
        self,
        envelope: EvaluationEnvelope,
        groups: Mapping[str, Sequence[Group]] | None = None,
        comparison: Comparison | None = None,
    ) -> dict[str, Any]:
        """The report as plain data; rates are fractions. `rows` has one entry an utterance, and
        `by` the groups of each field."""
        figures = self.figures
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            **asdict(envelope),
            "complete": self.complete,
            "wer": figures.errors.rate,
            "ci95": list(figures.ci95),
            **_counts(figures.errors),
            "words": figures.errors.words,
            "utterances": len(self.scores),
            "cer": figures.cer,
            "ser": figures.ser,
            "wer_open_asr": figures.wer_open_asr,
            "unavailable": dict(figures.unavailable),
            "rtf": self.rtf,
            "peak_rss_mb": self.peak_rss_mb,
            "audio_s": self.audio_s,
            "budget": asdict(self.budget) if self.budget else None,
            "by": {
                name: [_group(group) for group in each] for name, each in (groups or {}).items()
            },
            "comparison": comparison.to_dict() if comparison else None,
            "skipped": [asdict(item) for item in self.skipped],
            "rows": [_row(score) for score in self.scores],
        }

    def write(
        self,
        path: str | Path,
        envelope: EvaluationEnvelope,
        groups: Mapping[str, Sequence[Group]] | None = None,
        comparison: Comparison | None = None,
    ) -> None:
        """Write `to_dict(...)` as JSON; the file appears whole or not at all."""
        write_result(path, self.to_dict(envelope, groups, comparison))


class Evaluation:
    """Collects what was recognised; a report can be had after any utterance."""

    def __init__(
        self,
        recognizer: SpeechRecognizer,
        *,
        skipped: Iterable[Skipped] = (),
        budget: Budget | None = None,
        read: ReadUtterance = read_utterance,
    ) -> None:
        """Take what is evaluated; rows left out before, to be named in the report as well; a budget
        that each stream is held to; and what gives the audio of an utterance."""
        self._recognizer = recognizer
        self._read = read
        self._skipped = list(skipped)
        self._budget = budget
        self._outcomes: dict[int, tuple[Utterance, Outcome]] = {}

    @property
    def recognized(self) -> int:
        """Utterances that can be scored."""
        return sum(isinstance(outcome, Recognized) for _, outcome in self._outcomes.values())

    def add(self, utterance: Utterance) -> None:
        """Recognise an utterance, and `record` what that gives. Raises as `recognize`."""
        self.record(utterance, self.recognize(utterance))

    def recognize(self, utterance: Utterance) -> Outcome:
        """Recognise an utterance in a stream of its own.

        A recording that the recogniser refuses with an AsrError is skipped, to be named in the
        report, and one for which memory is too short by now, too. One that a budget of memory ended
        early is scored: that is what the budget costs.

        Raises BudgetError for a budget that can't be held at all.
        """
        try:
            return recognize(self._recognizer, utterance, budget=self._budget, read=self._read)
        except AsrError as error:
            if isinstance(error, BudgetError) and not self.recognized:
                raise
            return Skipped(utterance.id, str(error))

    def record(self, utterance: Utterance, outcome: Outcome, position: int | None = None) -> None:
        """Keep what came of an utterance. The report has them in the order of `position`, which is
        that of the calls without one."""
        self._outcomes[len(self._outcomes) if position is None else position] = utterance, outcome

    def report(self, complete: bool = True) -> EvaluationReport:
        """Score what was recognised. `complete` says whether every utterance had its turn.

        Raises AsrError if there is nothing to score.
        """
        outcomes = [self._outcomes[position] for position in sorted(self._outcomes)]
        failed = [outcome for _, outcome in outcomes if isinstance(outcome, Skipped)]
        skipped = (*self._skipped, *failed)
        scores = tuple(
            UtteranceScore.of(utterance, outcome)
            for utterance, outcome in outcomes
            if isinstance(outcome, Recognized)
        )
        if not scores:
            first = "".join(f"; the first: {s.id}: {s.reason}" for s in skipped[:1])
            raise AsrError(f"nothing to score: 0 usable utterances, {len(skipped)} skipped{first}")
        budget = None
        if self._budget is not None:
            streams = [score.recognized.budget for score in scores if score.recognized.budget]
            budget = BudgetUse.of(self._budget, streams)
        return EvaluationReport(scores, skipped, complete, budget)


def evaluate(
    recognizer: SpeechRecognizer,
    utterances: Iterable[Utterance],
    *,
    skipped: Iterable[Skipped] = (),
) -> EvaluationReport:
    """Recognise and score all utterances (with words in their text, as `read_manifest` gives them).

    See `Evaluation`; raises AsrError if not one utterance could be scored.
    """
    evaluation = Evaluation(recognizer, skipped=skipped)
    for utterance in utterances:
        evaluation.add(utterance)
    return evaluation.report()


def _row(score: UtteranceScore) -> dict[str, Any]:
    return {
        "id": score.id,
        "speaker": score.utterance.speaker,
        "reference": score.reference,
        "hypothesis": score.hypothesis,
        "reference_as_written": score.utterance.text,
        "hypothesis_as_recognized": score.recognized.text,
        **_counts(score.errors),
        "audio_s": score.recognized.audio_s,
        "compute_s": score.recognized.compute_s,
    }


def _group(group: Group) -> dict[str, Any]:
    return {
        "value": group.value,
        "wer": group.errors.rate,
        **_counts(group.errors),
        "words": group.errors.words,
        "utterances": group.utterances,
    }


def _counts(errors: WordErrors) -> dict[str, int]:
    return {"ins": errors.insertions, "del": errors.deletions, "sub": errors.substitutions}
