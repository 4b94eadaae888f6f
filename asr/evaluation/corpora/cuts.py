"""Rows of lhotse's cut manifests, as utterances; lhotse itself is not needed.

A cut that can be read here is a `MonoCut`: a part of one channel of a file, with one supervision.
What was made of several cuts, or is to be computed (speed, volume, resampling), is refused by name,
since its audio isn't what the file has. The format: https://lhotse.readthedocs.io/en/latest/cuts.html
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from asr.errors import ManifestError
from asr.evaluation.corpora.manifest import Segment, Utterance, plain_values
from asr.schema import is_finite

_SLACK_S = 0.1  # by which a text may pass the cut: times are rounded
_WHOLE_S = 1e-3  # a cut that is shorter than its recording by less than this is the whole of it


def is_cut(row: Mapping[str, Any]) -> bool:
    """Whether a row is one of lhotse's."""
    return str(row.get("type", "")).endswith("Cut") and "audio" not in row


def parse_cut(row: Mapping[str, Any], folder: Path) -> Utterance:
    """Make an utterance of a cut. A relative path is taken from the manifest's folder, or if that
    has no such file from the current one, as lhotse takes it.

    Its fields are what its supervision says (language, gender, ...), and what is custom.

    Raises ManifestError for a cut that is not a part of one file with one text.
    """
    name = f"the cut {row.get('id')!r}"
    if row["type"] != "MonoCut":
        raise ManifestError(f"{name} is a {row['type']}; expected a MonoCut")
    supervision = _only(row.get("supervisions"), f"{name}: supervisions")
    recording = row.get("recording")
    if not isinstance(recording, dict):
        raise ManifestError(f"{name} has no recording; expected cuts with audio")
    for what, holder in (("its recording", recording), ("it", row)):
        if holder.get("transforms"):
            raise ManifestError(f"{name}: {what} has transforms; save the audio first")
    start_s = _seconds(supervision, "start", f"{name}: supervision")
    end_s = start_s + _seconds(supervision, "duration", f"{name}: supervision")
    if start_s < -_SLACK_S or end_s > _seconds(row, "duration", name) + _SLACK_S:
        raise ManifestError(f"{name}: its text is of more than it: {start_s:g} s to {end_s:g} s")
    text = supervision.get("text")
    if not isinstance(row.get("id"), str) or not isinstance(text, str):
        raise ManifestError(f"{name} with the text {text!r}; expected strings")
    speaker = supervision.get("speaker")
    custom = {**_custom(row), **_custom(supervision)}
    split = custom.pop("split", None)
    left_out = ("id", "recording_id", "start", "duration", "channel", "text", "speaker")
    return Utterance(
        id=row["id"],
        audio=_find(_source(recording, name), folder),
        text=text,
        duration=_seconds(row, "duration", name),
        speaker=speaker if isinstance(speaker, str) else None,
        split=split if isinstance(split, str) else None,
        segment=_segment(row, recording, name),
        fields=plain_values({**supervision, **custom}, without=left_out),
    )


def _segment(row: Mapping[str, Any], recording: Mapping[str, Any], name: str) -> Segment | None:
    """Return the part of the file that the cut is, None for the whole."""
    source = recording["sources"][0]
    channels = source.get("channels")
    if not isinstance(channels, list) or row.get("channel", 0) not in channels:
        raise ManifestError(f"{name}: no channel {row.get('channel')!r} in {channels}")
    start_s, duration_s = (_seconds(row, key, name) for key in ("start", "duration"))
    is_whole = start_s + _seconds(recording, "duration", name) - duration_s < _WHOLE_S
    if is_whole and len(channels) == 1:
        return None
    channel = channels.index(row.get("channel", 0)) if len(channels) > 1 else None
    return Segment(start_s, duration_s, channel)


def _source(recording: Mapping[str, Any], name: str) -> str:
    source = _only(recording.get("sources"), f"{name}: sources")
    if source.get("type") != "file":
        raise ManifestError(f"{name}: a source of type {source.get('type')!r}; expected 'file'")
    if not isinstance(source.get("source"), str):
        raise ManifestError(f"{name}: the source {source.get('source')!r}; expected a path")
    path: str = source["source"]
    return path


def _find(source: str, folder: Path) -> Path:
    beside = folder / source
    return Path(source) if not os.path.isfile(beside) and os.path.isfile(source) else beside


def _only(items: Any, what: str) -> Mapping[str, Any]:
    if not isinstance(items, list) or len(items) != 1 or not isinstance(items[0], dict):
        count = len(items) if isinstance(items, list) else 0
        raise ManifestError(f"{what}: {count}; expected one")
    item: Mapping[str, Any] = items[0]
    return item


def _seconds(holder: Mapping[str, Any], key: str, name: str) -> float:
    value = holder.get(key)
    if not is_finite(value):
        raise ManifestError(f"{name}: {key} is {value!r}; expected seconds")
    assert value is not None
    return float(value)


def _custom(holder: Mapping[str, Any]) -> dict[str, Any]:
    custom = holder.get("custom")
    return dict(custom) if isinstance(custom, dict) else {}
