"""Corpora as lhotse cuts, read from JSONL manifests; what can't be used is counted and named."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lhotse import CutSet, MonoCut, Recording, SupervisionSegment
from lhotse.audio import AudioSource
from lhotse.supervision import AlignmentItem

from asr.errors import CorpusError
from asr.features import SAMPLE_RATE
from asr.text import normalize, unspoken_letters

MIN_DURATION_S, MAX_DURATION_S = 0.2, 30.0


@dataclass
class Rejections:
    """Utterances that were left out: how many for each reason, and the first few by name."""

    names: dict[str, set[str]] = field(default_factory=dict)  # by reason

    def add(self, reason: str, name: str) -> None:
        """Count an utterance; once, however many sources of a recipe it is in."""
        self.names.setdefault(reason, set()).add(name)

    @property
    def counts(self) -> Counter[str]:
        """Utterances by reason."""
        return Counter({reason: len(names) for reason, names in self.names.items()})

    def lines(self) -> Iterator[str]:
        """One line a reason, for the log."""
        for reason, count in self.counts.most_common():
            examples = ", ".join(sorted(self.names[reason])[:3])
            yield f"skipped {count} ({reason}), such as {examples}"


def read_cuts(
    root: Path,
    pattern: str,
    split: str,
    rejections: Rejections,
    min_duration: float = MIN_DURATION_S,
    max_duration: float = MAX_DURATION_S,
) -> CutSet:
    """Read all manifests that match `pattern` under `root`; texts come out normalised.

    Rows of another split are passed over. Rows that are malformed, or whose audio is missing, or
    whose text or duration is impossible, go to `rejections`. Raises CorpusError if no manifest
    matches or no row is left.
    """
    manifests = sorted(root.glob(pattern))
    if not manifests:
        raise CorpusError(
            f"no manifest matches {pattern!r} in {root}; give the folder of your corpora as --data"
        )
    cuts = []
    for manifest in manifests:
        for number, line in numbered_lines(manifest):
            name = f"{manifest.parent.name}/{manifest.name}:{number}"
            try:
                row = json.loads(line)
                if row.get("split", split) != split:
                    continue
                audio = manifest.parent / row["audio"]
                duration, text = float(row["duration"]), normalize(row["text"])
                identifier = str(row["id"])
                reason = row_fault(row["text"], text, audio, duration, min_duration, max_duration)
                if reason:
                    rejections.add(reason, identifier)
                else:
                    cuts.append(as_cut(row, identifier, audio, duration, text))
            except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
                rejections.add(f"malformed row: {type(error).__name__} {error}", name)
    if not cuts:
        raise CorpusError(
            f"no usable utterance of split {split!r} in {len(manifests)} manifests matching "
            f"{pattern!r} in {root}: " + ("; ".join(rejections.lines()) or "the split is empty")
        )
    return CutSet.from_cuts(cuts)


def numbered_lines(manifest: Path) -> list[tuple[int, str]]:
    """Return the rows of a manifest with their line numbers. Raises CorpusError."""
    try:
        # Not splitlines(): a text may hold a character that it takes for the end of a line.
        lines = manifest.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{manifest}: can't be read as a manifest: {error}") from error
    return [(number, line) for number, line in enumerate(lines, 1) if line.strip()]


def row_fault(
    text: str,
    spoken: str,
    audio: Path | None,
    duration: float,
    min_duration: float = MIN_DURATION_S,
    max_duration: float = MAX_DURATION_S,
) -> str | None:
    """Return why a recording can't be trained on, as far as its row shows; None: it can.

    text: as written; spoken: what `asr.text.normalize` makes of it; audio: None if it is no file
    of its own.
    """
    if unspoken_letters(text):
        # They are in the recording: trained without them, a model learns to pass over words.
        return "text with letters that are not English"
    if not spoken:
        return "empty text"
    if not min_duration <= duration <= max_duration:
        return f"duration outside {min_duration:g} to {max_duration:g} s"
    if audio is not None and not audio.is_file():
        return "missing audio"
    return None


def as_cut(
    row: dict[str, Any], identifier: str, audio: Path, duration: float, text: str
) -> MonoCut:
    """Return a row of a manifest as a cut: all of a recording, with its phones if it has them."""
    recording = Recording(
        id=identifier,
        sources=[AudioSource(type="file", channels=[0], source=str(audio))],
        sampling_rate=SAMPLE_RATE,
        num_samples=round(duration * SAMPLE_RATE),
        duration=duration,
    )
    supervision = SupervisionSegment(
        id=identifier,
        recording_id=identifier,
        start=0.0,
        duration=duration,
        text=text,
        speaker=row.get("speaker"),
        alignment={"phone": _phone_items(row["phones"])} if "phones" in row else None,
    )
    return MonoCut(
        id=identifier,
        start=0.0,
        duration=duration,
        channel=0,
        recording=recording,
        supervisions=[supervision],
    )


def _phone_items(phones: list[tuple[str, float]]) -> list[AlignmentItem]:
    starts = [0.0, *(end for _, end in phones[:-1])]
    return [
        AlignmentItem(symbol, start, end - start)
        for (symbol, end), start in zip(phones, starts, strict=True)
    ]


def has_phones(cut: MonoCut) -> bool:
    """Whether the times of its phones are known, because it was synthesised."""
    return "phone" in (cut.supervisions[0].alignment or {})


def phones_of(cut: MonoCut) -> list[tuple[str, float]]:
    """Return the phones of a synthetic utterance with their end times in seconds."""
    alignment = cut.supervisions[0].alignment
    if not has_phones(cut):
        raise CorpusError(f"{cut.id}: no phone times; pre-training needs synthetic speech")
    return [(item.symbol, item.start + item.duration) for item in alignment["phone"]]
