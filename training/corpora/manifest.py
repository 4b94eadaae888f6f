"""What can be used of a corpus, as one manifest; the rest is counted, named and kept in a list."""

import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import soundfile
from rich.console import Console

from asr.audio import read_blocks
from asr.containers import mp3_states_length
from asr.errors import AudioError, CorpusError
from asr.evaluation.corpora.manifest import Row, Utterance
from asr.text import normalize
from asr.whole_files import write_whole
from training.corpus import Rejections, row_fault

MANIFEST, SKIPPED = "manifest.jsonl", "skipped.tsv"

READERS = 8
"""Threads that read headers: on a network disk they mostly wait."""

_BATCH = 1024  # rows looked at together, so that a corpus of millions needs little memory
_UNKNOWN_FRAMES = 2**63 - 1  # libsndfile's word for it


@dataclass(frozen=True)
class WrittenManifest:
    """A manifest, and what is not in it."""

    path: Path
    utterances: int
    hours: float
    skipped: Rejections

    def report(self, console: Console) -> None:
        """Say what was written and what was skipped, and why."""
        summary = f"{self.path}: {self.utterances} utterances, {self.hours:.2f} h"
        console.print(summary, markup=False, soft_wrap=True)
        for line in self.skipped.lines():
            console.print(f"  {line}", style="yellow", markup=False, soft_wrap=True)
        if self.skipped.counts:
            console.print(f"  all of them: {self.path.with_name(SKIPPED)}", soft_wrap=True)


def usable(rows: Iterable[Row], skipped: Rejections) -> Iterator[Utterance]:
    """Yield the utterances that can be trained on, with their durations; others go to `skipped`.

    A duration that the corpus doesn't give is read from the header of the audio.
    """
    seen: set[str] = set()
    remaining = iter(rows)
    with ThreadPoolExecutor(READERS) as pool:
        while batch := list(islice(remaining, _BATCH)):
            for row, (utterance, fault) in zip(batch, pool.map(_checked, batch), strict=True):
                if utterance is None:
                    skipped.add(fault, row.utterance.id if row.utterance else row.where)
                elif utterance.id in seen:
                    skipped.add("an earlier one has its id", utterance.id)
                else:
                    seen.add(utterance.id)
                    yield utterance


def write_manifest(
    folder: Path, utterances: Iterable[Utterance], skipped: Rejections
) -> WrittenManifest:
    """Write `manifest.jsonl` into `folder`, and `skipped.tsv` with every id in `skipped`.

    `skipped` may fill up while `utterances` are drawn. Both files appear whole or not at all.
    Raises CorpusError if there are no utterances.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count, seconds = 0, 0.0

    def write(partial: Path) -> None:
        nonlocal count, seconds
        with partial.open("w", encoding="utf-8") as file:
            for utterance in utterances:
                file.write(_line(utterance, folder.resolve()))
                count += 1
                seconds += utterance.duration or 0.0
        if not count:
            reasons = "; ".join(skipped.lines()) or "it is empty"
            raise CorpusError(f"{folder}: nothing that can be used: {reasons}")
        _write_skipped(folder / SKIPPED, skipped)

    write_whole(folder / MANIFEST, write)
    return WrittenManifest(folder / MANIFEST, count, seconds / 3600, skipped)


def _checked(row: Row) -> tuple[Utterance | None, str]:
    """Return the utterance of a row with its duration, or why it can't be used."""
    utterance = row.utterance
    if row.fault or utterance is None:
        return None, row.fault or "malformed row"
    if not utterance.audio.is_file():
        return None, "missing audio"
    if utterance.duration is None:
        try:
            utterance = replace(utterance, duration=_duration(utterance.audio))
        except AudioError:
            return None, "audio that can't be decoded"
    assert utterance.duration is not None
    said = normalize(utterance.text)
    fault = row_fault(utterance.text, said, utterance.audio, utterance.duration)
    return (None, fault) if fault else (utterance, "")


def _duration(audio: Path) -> float:
    """Return the seconds of a recording: by its header, or by its samples if that only guesses.

    Raises AudioError.
    """
    try:
        header = soundfile.info(os.fsencode(audio))
        guessed = header.format == "MP3" and not mp3_states_length(audio)
        if not guessed and 0 < header.frames < _UNKNOWN_FRAMES:
            return float(header.frames / header.samplerate)
    except (soundfile.SoundFileError, OSError) as error:
        raise AudioError(f"{audio}: {error}") from error
    return sum(len(samples) / rate for samples, rate in read_blocks(audio))


def _line(utterance: Utterance, folder: Path) -> str:
    row = {
        "id": utterance.id,
        "split": utterance.split,
        "speaker": utterance.speaker,
        "audio": Path(os.path.relpath(utterance.audio, folder)).as_posix(),
        "duration": round(utterance.duration or 0.0, 4),
        "text": utterance.text,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _write_skipped(path: Path, skipped: Rejections) -> None:
    if not skipped.names:
        path.unlink(missing_ok=True)  # of an earlier time
        return
    lines = [
        f"{name}\t{reason}\n" for reason in sorted(skipped.names) for name in skipped.names[reason]
    ]
    write_whole(path, lambda partial: partial.write_text("".join(sorted(lines)), encoding="utf-8"))
