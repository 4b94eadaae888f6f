"""The figures of a set of recognised utterances."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from asr.errors import AsrError
from asr.evaluation.accuracy.alignment import Alignment, align
from asr.evaluation.accuracy.edit_distance import edit_distance
from asr.evaluation.accuracy.open_asr import open_asr_wer
from asr.evaluation.accuracy.wer import WordErrors, bootstrap_interval
from asr.evaluation.corpora.manifest import Utterance, Value
from asr.evaluation.recognition import Recognized
from asr.text import normalize


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """What was said, what was recognised, and the difference."""

    utterance: Utterance
    recognized: Recognized
    reference: str  # normalised
    hypothesis: str  # normalised
    errors: WordErrors

    @classmethod
    def of(cls, utterance: Utterance, recognized: Recognized) -> "UtteranceScore":
        """Compare what was recognised with what was said."""
        reference, hypothesis = normalize(utterance.text), normalize(recognized.text)
        errors = WordErrors.between(reference, hypothesis)
        return cls(utterance, recognized, reference, hypothesis, errors)

    @property
    def id(self) -> str:
        """The id of the utterance."""
        return self.utterance.id

    def alignment(self) -> Alignment:
        """The words side by side."""
        return align(self.reference.split(), self.hypothesis.split())


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What a set of utterances comes to. Rates are fractions."""

    errors: WordErrors  # of all words, with sclite's alignment
    ci95: tuple[float, float]  # of the word error rate: `bootstrap_interval` over utterances
    cer: float  # edit distance over the characters of the normalised references, spaces included
    ser: float  # share of the utterances with any error
    wer_open_asr: float | None  # `open_asr_wer` of the texts as they were written
    unavailable: Mapping[str, str] = field(default_factory=dict)  # why a figure is None, by name

    @classmethod
    def of(cls, scores: Sequence[UtteranceScore]) -> "Figures":
        """The figures of at least one utterance."""
        wer_open_asr, unavailable = None, {}
        try:
            wer_open_asr = open_asr_wer(
                (score.utterance.text, score.recognized.text) for score in scores
            )
        except AsrError as error:
            unavailable["wer_open_asr"] = str(error)
        errors = [score.errors for score in scores]
        wrong_characters = sum(edit_distance(score.reference, score.hypothesis) for score in scores)
        return cls(
            errors=WordErrors.total(errors),
            ci95=bootstrap_interval(errors),
            cer=wrong_characters / sum(len(score.reference) for score in scores),
            ser=sum(counts.errors > 0 for counts in errors) / len(scores),
            wer_open_asr=wer_open_asr,
            unavailable=unavailable,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The utterances that have the same value of a field."""

    value: Value | None  # None: those without the field
    utterances: int
    errors: WordErrors


def break_down(scores: Iterable[UtteranceScore], by: str) -> tuple[Group, ...]:
    """Return the groups of a field (`speaker`, `split` or another of the manifest), the one with
    the highest word error rate first."""
    found: dict[Value | None, list[WordErrors]] = defaultdict(list)
    for score in scores:
        found[score.utterance.value(by)].append(score.errors)
    groups = [Group(value, len(each), WordErrors.total(each)) for value, each in found.items()]
    return tuple(sorted(groups, key=lambda group: (-group.errors.rate, str(group.value))))


def worst(scores: Iterable[UtteranceScore], count: int) -> list[UtteranceScore]:
    """Return the utterances with the most errors, those of the higher rate first among equals;
    none without an error."""
    wrong = [score for score in scores if score.errors.errors]
    order = sorted(wrong, key=lambda score: (-score.errors.errors, -score.errors.rate, score.id))
    return order[:count]
