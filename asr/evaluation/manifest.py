"""Manifests of utterances to evaluate: JSON lines with `id`, `audio`, `duration`, `text`.

`split` and `speaker` are optional; other keys are left alone. `audio` is relative to the manifest.
A line that is not such a row is an error that names it. A row that can't be scored (no audio file,
no words, no duration) is skipped and reported, so that one lost recording doesn't cost the run.
"""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import ManifestError
from asr.text import normalize

_REQUIRED = {"id": "a string", "audio": "a string", "duration": "seconds", "text": "a string"}
_OPTIONAL = {"speaker": "a string", "split": "a string"}


@dataclass(frozen=True, slots=True)
class Utterance:
    """One recording and what is said in it."""

    id: str
    audio: Path  # resolved against the manifest's folder
    text: str  # as written in the manifest
    duration: float  # s
    speaker: str | None
    split: str | None


@dataclass(frozen=True, slots=True)
class Skipped:
    """A recording that was left out, and why."""

    id: str
    reason: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """The usable rows of a manifest, and the others."""

    utterances: tuple[Utterance, ...]
    skipped: tuple[Skipped, ...]


def read_manifest(path: str | Path, split: str | None = None, limit: int | None = None) -> Manifest:
    """Read the rows of `split` (all without one), up to `limit` usable ones.

    Raises ManifestError for a file that can't be read, a line that is not a JSON object, a missing
    key, a value of the wrong type, or a split that no row has.
    """
    path = Path(path)
    try:
        # Not splitlines(): a text may have a character that it takes for the end of a line.
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"can't read the manifest {path}: {error}") from error
    utterances: list[Utterance] = []
    skipped: list[Skipped] = []
    splits: set[str | None] = set()
    for number, line in enumerate(lines, start=1):
        if limit is not None and len(utterances) >= limit:
            break
        if not line.strip():
            continue
        utterance = _parse_row(line, path.parent, where=f"{path}:{number}")
        splits.add(utterance.split)
        if split is not None and utterance.split != split:
            continue
        reason = _why_unusable(utterance)
        if reason:
            skipped.append(Skipped(utterance.id, reason))
        else:
            utterances.append(utterance)
    if split is not None and split not in splits and limit != 0:
        known = ", ".join(sorted(repr(name) for name in splits if name)) or "none at all"
        raise ManifestError(f"{path}: no row has split {split!r}; its splits: {known}")
    return Manifest(tuple(utterances), tuple(skipped))


def read_manifests(
    paths: Sequence[str | Path], split: str | None = None, limit: int | None = None
) -> Manifest:
    """Read several manifests as one set; `limit` holds for each of them. Raises as one does."""
    manifests = [read_manifest(path, split, limit) for path in paths]
    return Manifest(
        tuple(utterance for manifest in manifests for utterance in manifest.utterances),
        tuple(skipped for manifest in manifests for skipped in manifest.skipped),
    )


def _parse_row(line: str, folder: Path, where: str) -> Utterance:
    try:
        row: Any = json.loads(line)
    except json.JSONDecodeError as error:
        raise ManifestError(f"{where}: not JSON ({error}); expected one object a line") from error
    if not isinstance(row, dict):
        raise ManifestError(f"{where}: expected a JSON object, got {line.strip()[:40]!r}")
    missing = [key for key in _REQUIRED if key not in row]
    if missing:
        raise ManifestError(
            f"{where}: missing {', '.join(missing)}; expected {', '.join(_REQUIRED)}"
        )
    for key, kind in {**_REQUIRED, **_OPTIONAL}.items():
        value = row.get(key)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        fits = is_number if kind == "seconds" else isinstance(value, str)
        if not (fits or (value is None and key in _OPTIONAL)):
            raise ManifestError(f"{where}: {key} is {value!r}; expected {kind}")
    return Utterance(
        id=row["id"],
        audio=folder / row["audio"],
        text=row["text"],
        duration=float(row["duration"]),
        speaker=row.get("speaker"),
        split=row.get("split"),
    )


def _why_unusable(utterance: Utterance) -> str | None:
    if not normalize(utterance.text):
        return f"no words in its text {utterance.text!r}"
    if not (math.isfinite(utterance.duration) and utterance.duration > 0):
        return f"a duration of {utterance.duration} s"
    if not os.path.isfile(utterance.audio):  # Path.is_file() raises for a folder without access
        return f"no audio file {utterance.audio}"
    return None
