"""Manifests of utterances to evaluate: JSON lines with `id`, `audio`, `duration`, `text`.

`split` and `speaker` are optional; other keys with plain values are kept to break results down by.
`audio` is relative to the manifest. A row that can't be used costs only itself: one that is no such
row, has bytes that are not UTF-8, an id that was there before, no words, no duration or no audio
file is left out and named. A file without a single row is an error.
"""

import codecs
import gzip
import json
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from asr.errors import ManifestError
from asr.schema import is_finite
from asr.text import normalize

Value: TypeAlias = str | int | float | bool
"""Of a field of an utterance."""

_REQUIRED = {"id": "a string", "audio": "a string", "duration": "seconds", "text": "a string"}
_OPTIONAL = {"speaker": "a string", "split": "a string"}


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of an audio file."""

    start_s: float
    duration_s: float
    channel: int | None = None  # from 0; None: the mean of all


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is said in it."""

    id: str
    audio: Path  # resolved against the manifest's folder
    text: str  # as written in the manifest
    duration: float | None  # s; None where the corpus doesn't say
    speaker: str | None
    split: str | None
    segment: Segment | None = None  # None: the whole file
    fields: Mapping[str, Value] = field(default_factory=dict)  # what else is known of it

    def value(self, name: str) -> Value | None:
        """The value of a field, `speaker` and `split` among them; None without it."""
        if name in _OPTIONAL:
            known: str | None = getattr(self, name)
            return known
        return self.fields.get(name)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording that was left out, and why."""

    id: str  # where a row has none: its file and line
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The usable rows of a manifest, no two with one id, and the others."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...]

    def fields(self) -> list[str]:
        """The names of all fields that some usable row has, sorted."""
        names = {name for row in self.utterances for name in row.fields}
        names |= {name for row in self.utterances for name in _OPTIONAL if row.value(name)}
        return sorted(names)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a corpus, as it was found."""

    where: str  # the file and the line
    utterance: Utterance | None  # None: not to be understood at all
    fault: str | None = None  # why it can't be used, as far as its line shows


ParseRow: TypeAlias = Callable[[Mapping[str, Any], Path], Utterance]
"""Makes an utterance of a row and the folder of its manifest; raises ManifestError."""


def read_manifest(path: str | Path, split: str | None = None, limit: int | None = None) -> Manifest:
    """Read the rows of `split` (all without one), up to `limit` usable ones.

    Raises ManifestError for a file that can't be read or has lines but not one row, and for a split
    that no row has.
    """
    return select_rows(read_json_rows(Path(path), parse_row), str(path), split, limit)


def read_json_rows(path: Path, parse: ParseRow) -> Iterator[Row]:
    """Yield the rows of a file of JSON lines, gzipped if its name ends in `.gz`.

    Raises ManifestError for a file that can't be read.
    """
    for where, line, fault in read_lines(path):
        try:
            row: Any = json.loads(line)
            if "\\u" in line:  # may write half of a character, which no file can hold
                json.dumps(row, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            reason = fault or f"not JSON ({error}); expected one object a line"
            yield Row(where, None, reason)
            continue
        try:
            if not isinstance(row, dict):
                raise ManifestError(f"expected a JSON object, got {line.strip()[:40]!r}")
            yield Row(where, parse(row, path.parent), fault)
        except ManifestError as error:
            yield Row(where, None, fault or str(error))


def read_lines(path: Path) -> Iterator[tuple[str, str, str | None]]:
    """Yield where each line that isn't blank is, its text, and what is wrong with its bytes, if
    anything is.

    Raises ManifestError for a file that can't be read.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"can't read the manifest {path}: {error}") from error
    # Not splitlines(): a text may have a character that it takes for the end of a line.
    lines = content.removeprefix(codecs.BOM_UTF8).split(b"\n")
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where, fault = f"{path}:{number}", None
        try:
            text = line.decode("utf-8")
        except UnicodeDecodeError as error:
            text = line.decode("utf-8", errors="replace")
            fault = f"{where}: not UTF-8 (byte 0x{line[error.start]:02x}); save it as UTF-8"
        yield where, text, fault


def select_rows(
    rows: Iterable[Row], name: str, split: str | None = None, limit: int | None = None
) -> Manifest:
    """Sort the rows of `split` (all without one) into usable ones, at most `limit`, and others.

    Raises ManifestError where there are lines but no row, and for a split that no row has; `name`
    is that of the corpus.
    """
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    splits: set[str | None] = set()
    first_at: dict[str, str] = {}
    for row in rows:
        if limit is not None and len(utterances) >= limit:
            break
        if row.utterance is None:
            skipped.append(Skipped(row.where, row.fault or "no row"))
            continue
        utterance = row.utterance
        splits.add(utterance.split)
        if split is not None and utterance.split != split:
            continue
        reason = row.fault or _why_unusable(utterance)
        if utterance.id in first_at:
            reason = f"{row.where}: its id was used before, at {first_at[utterance.id]}"
        first_at.setdefault(utterance.id, row.where)
        if reason:
            skipped.append(Skipped(utterance.id, reason))
        else:
            utterances.append(utterance)
    if skipped and not splits:
        first = skipped[0]
        raise ManifestError(f"{name}: no line of it is a row; {first.id}: {first.reason}")
    if split is not None and split not in splits and limit != 0:
        known = ", ".join(sorted(repr(name) for name in splits if name)) or "none at all"
        raise ManifestError(f"{name}: no row has split {split!r}; its splits: {known}")
    return Manifest(tuple(utterances), tuple(skipped))


def join_manifests(manifests: Sequence[Manifest]) -> Manifest:
    """Make one set of several. A row whose id an earlier manifest has is left out and named."""
    utterances: dict[str, Utterance] = {}
    skipped: list[Skipped] = []
    for manifest in manifests:
        skipped += manifest.skipped
        for utterance in manifest.utterances:
            first = utterances.setdefault(utterance.id, utterance)
            if first is not utterance:
                reason = f"an earlier manifest has its id, with {first.audio}"
                skipped.append(Skipped(utterance.id, reason))
    return Manifest(tuple(utterances.values()), tuple(skipped))


def parse_row(row: Mapping[str, Any], folder: Path) -> Utterance:
    """Make an utterance of a row. Raises ManifestError for a missing key or a value of the wrong
    type."""
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise ManifestError(f"missing {', '.join(missing)}; expected {', '.join(_REQUIRED)}")
    for key, kind in {**_REQUIRED, **_OPTIONAL}.items():
        value = row.get(key)
        fits = is_finite(value) if kind == "seconds" else isinstance(value, str)
        if not (fits or (value is None and key in _OPTIONAL)):
            raise ManifestError(f"{key} is {value!r}; expected {kind}")
    return Utterance(
        id=row["id"],
        audio=folder / row["audio"],
        text=row["text"],
        duration=float(row["duration"]),
        speaker=row.get("speaker"),
        split=row.get("split"),
        fields=plain_values(row, without={*_REQUIRED, *_OPTIONAL}),
    )


def plain_values(row: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Value]:
    """Return the entries of a row that are words or numbers, but for some keys."""
    left_out = set(without)
    return {
        key: value
        for key, value in row.items()
        if (isinstance(value, str | bool) or is_finite(value)) and key not in left_out
    }


def _why_unusable(utterance: Utterance) -> str | None:
    if not normalize(utterance.text):
        return f"no words in its text {utterance.text!r}"
    length_s = utterance.duration
    if length_s is not None and length_s <= 0:
        return f"a duration of {length_s} s"
    if not os.path.isfile(utterance.audio):  # Path.is_file() raises for a folder without access
        return f"no audio file {utterance.audio}"
    return None
