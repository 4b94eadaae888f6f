"""One utterance recognised, as a program would do it: block by block, in a stream of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from asr.audio import Blocks
from asr.budget import Budget
from asr.errors import BudgetExceeded
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.corpora.recordings import read_utterance
from asr.evaluation.meters import RtfMeter, peak_rss_mb
from asr.features import Samples
from asr.results import Result, Word
from asr.supervisor import BudgetReport


class FinalResult(Protocol):
    """What a finished stream gives; `asr.results.Final` is one."""

    @property
    def result(self) -> Result: ...


class SpeechStream(Protocol):
    """What is evaluated; `asr.stream.Stream` is one."""

    @property
    def meter(self) -> RtfMeter: ...

    def accept(self, samples: Samples, sample_rate: int) -> object: ...

    def finish(self) -> FinalResult: ...

    def report(self) -> BudgetReport: ...


class SpeechRecognizer(Protocol):
    """Anything that opens streams; `asr.recognizer.Recognizer` is one."""

    def stream(self, budget: Budget | None = None) -> SpeechStream: ...


ReadUtterance: TypeAlias = Callable[[Utterance], Blocks]


@dataclass(frozen=True, slots=True)
class StreamBudget:
    """What a budget led to in one stream."""

    report: BudgetReport
    ended: bool  # memory ended the stream early: what it hadn't heard counts as deleted words


@dataclass(frozen=True, slots=True)
class Recognized:
    """What a stream gave, and what it cost."""

    text: str  # as it was recognised, not normalised
    words: tuple[Word, ...]
    audio_s: float  # that was given to the stream
    compute_s: float  # wall time inside the stream; reading the file is not in it
    peak_rss_mb: float  # of the process that recognised it, since that began; MB of 10^6 bytes
    budget: StreamBudget | None = None  # None: it had none


Outcome: TypeAlias = Recognized | Skipped
"""What comes of an utterance."""


def recognize(
    recognizer: SpeechRecognizer,
    utterance: Utterance,
    *,
    budget: Budget | None = None,
    read: ReadUtterance = read_utterance,
) -> Recognized:
    """Recognise an utterance in a stream that is held to `budget`.

    Raises BudgetError if it can't be held, and any other AsrError for a recording that can't be
    read or is refused.
    """
    stream = recognizer.stream(budget)
    ended = False
    try:
        for samples, sample_rate in read(utterance):
            stream.accept(samples, sample_rate)
        result = stream.finish().result
    except BudgetExceeded as exceeded:
        result, ended = exceeded.result, True
    return Recognized(
        result.text,
        result.words,
        stream.meter.audio_s,
        stream.meter.compute_s,
        peak_rss_mb(),
        None if budget is None else StreamBudget(stream.report(), ended),
    )
