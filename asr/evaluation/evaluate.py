"""Runs a recogniser over utterances, as a program would run it: block by block, in a stream."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from asr.audio import read_blocks
from asr.errors import AsrError
from asr.evaluation.alignment import align
from asr.evaluation.manifest import Skipped, Utterance
from asr.evaluation.meters import RtfMeter, peak_rss_mb
from asr.evaluation.wer import WordErrors, bootstrap_interval
from asr.text import normalize

REPORT_SCHEMA_VERSION = 1

Blocks = Iterator[tuple[NDArray[np.float32], int]]


class TextResult(Protocol):
    """What a finished stream gives; `asr.results.Result` is one."""

    @property
    def text(self) -> str: ...


class SpeechStream(Protocol):
    """What is evaluated; `asr.stream.Stream` is one."""

    def accept(self, samples: NDArray[np.float32], sample_rate: int) -> object: ...

    def finish(self) -> TextResult: ...


class SpeechRecognizer(Protocol):
    """Anything that opens streams; `asr.recognizer.Recognizer` is one."""

    def stream(self) -> SpeechStream: ...


@dataclass(frozen=True, slots=True)
class UtteranceScore:
    """What was said, what was recognised, and the difference."""

    id: str
    reference: str  # normalised
    hypothesis: str  # normalised
    errors: WordErrors


@dataclass(frozen=True, slots=True)
class EvaluationReport:
    """The figures of one evaluation."""

    scores: tuple[UtteranceScore, ...]  # at least one
    skipped: tuple[Skipped, ...]  # rows that could not be used and recordings that failed
    audio_s: float  # audio that was recognised
    rtf: float  # wall time inside the stream over audio time; reading the files is not in it
    peak_rss_mb: float  # of the whole process, in MB of 10^6 bytes

    @property
    def errors(self) -> WordErrors:
        """Word counts of the whole set."""
        return WordErrors.total(score.errors for score in self.scores)

    def interval(self) -> tuple[float, float]:
        """95 % bootstrap interval of the WER over utterances, as fractions."""
        return bootstrap_interval([score.errors for score in self.scores])

    def to_dict(self) -> dict[str, Any]:
        """The report as plain data; rates are fractions. `rows` has one entry an utterance."""
        errors = self.errors
        return {
            "schema_version": REPORT_SCHEMA_VERSION,
            "wer": errors.rate,
            "ci95": list(self.interval()),
            **_counts(errors),
            "words": errors.words,
            "utterances": len(self.scores),
            "rtf": self.rtf,
            "peak_rss_mb": self.peak_rss_mb,
            "audio_s": self.audio_s,
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

    def write(self, path: str | Path) -> None:
        """Write `to_dict()` as JSON; the file appears whole or not at all."""
        path = Path(path)
        unfinished = path.with_name(path.name + ".tmp")
        unfinished.write_text(json.dumps(self.to_dict(), indent=2) + "\n", encoding="utf-8")
        os.replace(unfinished, path)


def evaluate(
    recognizer: SpeechRecognizer,
    utterances: Sequence[Utterance],
    *,
    skipped: Iterable[Skipped] = (),
    on_progress: Callable[[int, Utterance], None] | None = None,
    read: Callable[[Path], Blocks] = read_blocks,
) -> EvaluationReport:
    """Recognise every utterance in a stream of its own and score it.

    A recording that the recogniser refuses with an AsrError is skipped and named in the report.

    Args:
        recognizer: what is evaluated.
        utterances: with words in their text, as `read_manifest` gives them.
        skipped: rows left out before, to be named in the report as well.
        on_progress: called after each utterance with the number done so far.
        read: gives the blocks `(samples (n,), sample rate in Hz)` of an audio file.

    Raises:
        AsrError: not one utterance could be scored.
    """
    meter = RtfMeter()
    recognized: list[tuple[Utterance, str]] = []
    left_out = list(skipped)
    for done, utterance in enumerate(utterances, start=1):
        try:
            recognized.append((utterance, _recognize(recognizer, read(utterance.audio), meter)))
        except AsrError as error:
            left_out.append(Skipped(utterance.id, str(error)))
        if on_progress:
            on_progress(done, utterance)
    peak_mb = peak_rss_mb()  # before the alignments, whose tables are not the recogniser's memory
    if not recognized:
        first = f"; the first: {left_out[0].id}: {left_out[0].reason}" if left_out else ""
        raise AsrError(f"nothing to score: 0 usable utterances, {len(left_out)} skipped{first}")
    scores = tuple(_score(utterance, text) for utterance, text in recognized)
    return EvaluationReport(scores, tuple(left_out), meter.audio_s, meter.rtf, peak_mb)


def _recognize(recognizer: SpeechRecognizer, blocks: Blocks, meter: RtfMeter) -> str:
    stream = recognizer.stream()
    for samples, sample_rate in blocks:
        with meter.computing():
            stream.accept(samples, sample_rate)
        meter.add_audio(len(samples) / sample_rate)
    with meter.computing():
        return stream.finish().text


def _score(utterance: Utterance, text: str) -> UtteranceScore:
    reference, hypothesis = normalize(utterance.text), normalize(text)
    alignment = align(reference.split(), hypothesis.split())
    return UtteranceScore(utterance.id, reference, hypothesis, WordErrors.of(alignment))


def _counts(errors: WordErrors) -> dict[str, int]:
    return {"ins": errors.insertions, "del": errors.deletions, "sub": errors.substitutions}
