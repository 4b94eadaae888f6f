"""Runs a recogniser over utterances, as a program would run it: block by block, in a stream."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from asr.audio import Blocks, read_blocks
from asr.budget import Budget, OperatingPoint
from asr.errors import AsrError, BudgetError, BudgetExceeded
from asr.evaluation.alignment import align
from asr.evaluation.envelope import EvaluationEnvelope, write_result
from asr.evaluation.manifest import Skipped, Utterance
from asr.evaluation.meters import RtfMeter, peak_rss_mb
from asr.evaluation.wer import WordErrors, bootstrap_interval
from asr.features import Samples
from asr.supervisor import BudgetReport, PointTime
from asr.text import normalize

REPORT_SCHEMA_VERSION = 1


class FinalText(Protocol):
    """What a finished stream gives; `asr.results.Final` is one."""

    @property
    def text(self) -> str: ...


class SpeechStream(Protocol):
    """What is evaluated; `asr.stream.Stream` is one."""

    @property
    def meter(self) -> RtfMeter: ...

    def accept(self, samples: Samples, sample_rate: int) -> object: ...

    def finish(self) -> FinalText: ...

    def report(self) -> BudgetReport: ...


class SpeechRecognizer(Protocol):
    """Anything that opens streams; `asr.recognizer.Recognizer` is one."""

    def stream(self, budget: Budget | None = None) -> SpeechStream: ...


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """What was said, what was recognised, and the difference."""

    id: str
    reference: str  # normalised
    hypothesis: str  # normalised
    errors: WordErrors


@dataclass(frozen=True, slots=True)
class BudgetUse:
    """What a budget led to, in all streams of an evaluation together."""

    budget: Budget
    moves: int  # from one operating point to another
    overruns: int  # a budget was broken, and told so
    ended: int  # streams that memory ended early: what they hadn't heard counts as deleted words
    points: tuple[PointTime, ...]  # best first

    @classmethod
    def of(cls, budget: Budget, reports: Sequence[BudgetReport], ended: int) -> "BudgetUse":
        """Add up the reports of streams that were held to `budget`."""
        points: dict[OperatingPoint, float] = {}
        for item in (item for report in reports for item in report.points):
            points[item.point] = points.get(item.point, 0.0) + item.audio_s
        return cls(
            budget,
            moves=sum(len(report.moves) for report in reports),
            overruns=sum(len(report.overruns) for report in reports),
            ended=ended,
            points=tuple(PointTime(point, points[point]) for point in sorted(points)),
        )


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures of one evaluation."""

    scores: tuple[UtteranceScore, ...]  # at least one
    skipped: tuple[Skipped, ...]  # rows that could not be used and recordings that failed
    audio_s: float  # audio that was given to the streams
    rtf: float  # wall time inside the streams over audio time; reading the files is not in it
    peak_rss_mb: float  # of the whole process, in MB of 10^6 bytes
    complete: bool = True  # every utterance had its turn
    budget: BudgetUse | None = None  # None: the streams had none

    @property
    def errors(self) -> WordErrors:
        """Word counts of the whole set."""
        return WordErrors.total(score.errors for score in self.scores)

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the WER over utterances, as fractions."""
        return bootstrap_interval([score.errors for score in self.scores])

    def to_dict(self, envelope: EvaluationEnvelope) -> dict[str, Any]:
        """The report as plain data; rates are fractions. `rows` has one entry an utterance."""
        errors = self.errors
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            **asdict(envelope),
            "complete": self.complete,
            "wer": errors.rate,
            "ci95": list(self.interval()),
            **_counts(errors),
            "words": errors.words,
            "utterances": len(self.scores),
            "rtf": self.rtf,
            "peak_rss_mb": self.peak_rss_mb,
            "audio_s": self.audio_s,
            "budget": asdict(self.budget) if self.budget else None,
            "skipped": [{"id": item.id, "reason": item.reason} for item in self.skipped],
            "rows": [
                {
                    "id": score.id,
                    "reference": score.reference,
                    "hypothesis": score.hypothesis,
                    **_counts(score.errors),
                }
                for score in self.scores
            ],
        }

    def write(self, path: str | Path, envelope: EvaluationEnvelope) -> None:
        """Write `to_dict(envelope)` as JSON; the file appears whole or not at all."""
        write_result(path, self.to_dict(envelope))


class Evaluation:
    """Recognises utterances one by one; a report can be had after any of them."""

    def __init__(
        self,
        recognizer: SpeechRecognizer,
        *,
        skipped: Iterable[Skipped] = (),
        budget: Budget | None = None,
        read: Callable[[Path], Blocks] = read_blocks,
    ) -> None:
        """Take what is evaluated; rows left out before, to be named in the report as well; a budget
        that each stream is held to; and what gives the blocks of an audio file."""
        self._recognizer = recognizer
        self._read = read
        self._recognized: list[tuple[Utterance, str]] = []
        self._skipped = list(skipped)
        self._budget = budget
        self._budget_reports: list[BudgetReport] = []
        self._ended = 0
        self._meter = RtfMeter()

    @property
    def recognized(self) -> int:
        """Utterances that can be scored."""
        return len(self._recognized)

    def add(self, utterance: Utterance) -> None:
        """Recognise an utterance in a stream of its own.

        A recording that the recogniser refuses with an AsrError is skipped and named in the report,
        and one for which memory is too short by now, too. One that a budget of memory ended early
        is scored: that is what the budget costs.

        Raises BudgetError for a budget that can't be held at all.
        """
        try:
            stream = self._recognizer.stream(self._budget)
        except BudgetError as error:
            if not self._recognized:
                raise
            self._skipped.append(Skipped(utterance.id, str(error)))
            return
        try:
            for samples, sample_rate in self._read(utterance.audio):
                stream.accept(samples, sample_rate)
            self._recognized.append((utterance, stream.finish().text))
        except BudgetExceeded as exceeded:
            self._recognized.append((utterance, exceeded.text))
            self._ended += 1
        except AsrError as error:
            self._skipped.append(Skipped(utterance.id, str(error)))
        finally:
            self._meter.add(stream.meter)
            if self._budget is not None:
                self._budget_reports.append(stream.report())

    def report(self, complete: bool = True) -> EvaluationReport:
        """Score what was recognised. `complete` says whether every utterance had its turn.

        Raises AsrError if there is nothing to score.
        """
        peak_mb = peak_rss_mb()  # before the alignments: their tables are not the recogniser's
        if not self._recognized:
            first = "".join(f"; the first: {s.id}: {s.reason}" for s in self._skipped[:1])
            raise AsrError(
                f"nothing to score: 0 usable utterances, {len(self._skipped)} skipped{first}"
            )
        scores = tuple(_score(utterance, text) for utterance, text in self._recognized)
        meter, skipped = self._meter, tuple(self._skipped)
        budget = None
        if self._budget is not None:
            budget = BudgetUse.of(self._budget, self._budget_reports, self._ended)
        return EvaluationReport(
            scores, skipped, meter.audio_s, meter.rtf, peak_mb, complete, budget
        )


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


def _score(utterance: Utterance, text: str) -> UtteranceScore:
    reference, hypothesis = normalize(utterance.text), normalize(text)
    alignment = align(reference.split(), hypothesis.split())
    return UtteranceScore(utterance.id, reference, hypothesis, WordErrors.of(alignment))


def _counts(errors: WordErrors) -> dict[str, int]:
    return {"ins": errors.insertions, "del": errors.deletions, "sub": errors.substitutions}
