"""Manifests that state when each word was said.

Their rows have `words`, a list of `{"word": ..., "start_s": ..., "end_s": ...}`; `asr-train align`
writes such a manifest.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import ManifestError
from asr.evaluation.corpora.manifest import (
    Skipped,
    Utterance,
    parse_row,
    read_json_rows,
    select_rows,
)
from asr.schema import is_finite
from asr.text import normalize


@dataclass(frozen=True, slots=True)
class TimedWord:
    """A word of a reference, in seconds since the recording began."""

    text: str  # normalised, one word
    start_s: float
    end_s: float


@dataclass(frozen=True, slots=True)
class TimedUtterance:
    """A recording and the times of its words."""

    utterance: Utterance
    words: tuple[TimedWord, ...]  # at least one


@dataclass(frozen=True, slots=True)
class TimedManifest:
    """The recordings of a manifest that state when their words were said, and the others."""

    utterances: tuple[TimedUtterance, ...]
    skipped: tuple[Skipped, ...]


def read_timed_manifest(path: Path) -> TimedManifest:
    """Read the rows of a manifest with their words.

    Raises ManifestError as `read_manifest` does, and for `words` that can't be read.
    """
    stated: dict[str, Any] = {}

    def parse(row: Mapping[str, Any], folder: Path) -> Utterance:
        utterance = parse_row(row, folder)
        stated.setdefault(utterance.id, row.get("words"))  # of two rows, the first one counts
        return utterance

    rows = select_rows(read_json_rows(path, parse), str(path))
    timed: list[TimedUtterance] = []
    skipped = list(rows.skipped)
    for row in rows.utterances:
        words = _read_words(stated[row.id] or [], f"{path}: {row.id}")
        if words:
            timed.append(TimedUtterance(row, words))
        else:
            skipped.append(Skipped(row.id, "it doesn't say when its words were said"))
    return TimedManifest(tuple(timed), tuple(skipped))


def _read_words(words: Any, where: str) -> tuple[TimedWord, ...]:
    expected = "expected objects with word, start_s and end_s, in the order of time"
    if not isinstance(words, list):
        raise ManifestError(f"{where}: words is {words!r}; {expected}")
    timed: list[TimedWord] = []
    for word in words:
        try:
            text, start_s, end_s = word["word"], word["start_s"], word["end_s"]
        except (TypeError, KeyError) as error:
            raise ManifestError(f"{where}: words has {word!r}; {expected}") from error
        fits = isinstance(text, str) and is_finite(start_s) and is_finite(end_s)
        if not (fits and start_s <= end_s and (not timed or timed[-1].start_s <= start_s)):
            raise ManifestError(f"{where}: words has {word!r}; {expected}")
        parts = normalize(text).split()  # "21" is two words, said within the same time
        timed += [TimedWord(part, float(start_s), float(end_s)) for part in parts]
    return tuple(timed)
