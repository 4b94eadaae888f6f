"""Mozilla Common Voice: the folder of a language in a release, such as cv-corpus-21.0/en.

It holds clips/*.mp3 and tables of them. Each table TABLE.tsv gives TABLE/manifest.jsonl. Beside the
official split into train, dev and test, which has each sentence once, there is `validated`: every
clip that listeners approved. Here those of speakers and sentences of dev and test are left out of
it: it is for training. https://commonvoice.mozilla.org, CC0.
"""

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path

from rich.console import Console

from asr.errors import CorpusError
from asr.evaluation.corpora.manifest import Row, Utterance
from asr.text import normalize
from training.corpora.manifest import WrittenManifest, usable, write_manifest
from training.corpus import Rejections

TABLES = {"dev": "dev", "test": "test", "train": "train", "validated": "train"}
"""The split of each table's clips."""

_COLUMNS = ("client_id", "path", "sentence")
_DURATIONS = "clip_durations.tsv"  # in releases since 16


def prepare_common_voice(
    folder: Path, console: Console, out: Path | None = None
) -> list[WrittenManifest]:
    """Write OUT/TABLE/manifest.jsonl for each table of TABLES that is in `folder`.

    out: where to write if not into `folder` itself. A speaker is the `client_id`. Raises
    CorpusError if there is no table, a column is missing, or a table has nothing usable.
    """
    tables = [table for table in TABLES if (folder / f"{table}.tsv").is_file()]
    if not tables:
        raise CorpusError(
            f"{folder}: no validated.tsv or train.tsv in it; expected the folder of a language of "
            "Common Voice, such as cv-corpus-21.0/en"
        )
    durations = _read_durations(folder / _DURATIONS)
    held_out = [row for table in ("dev", "test") for row in _cells(folder / f"{table}.tsv")]
    speakers = {row["client_id"] for row in held_out}
    sentences = {normalize(row["sentence"]) for row in held_out}
    written = []
    for table in tables:
        skipped = Rejections()
        rows = _rows(folder, table, durations)
        if table == "validated":
            rows = _not_held_out(rows, speakers, sentences)
        with console.status(f"reading {table}.tsv"):
            utterances = usable(rows, skipped)
            written.append(write_manifest((out or folder) / table, utterances, skipped))
        written[-1].report(console)
    return written


def _rows(folder: Path, table: str, durations: Mapping[str, float]) -> Iterator[Row]:
    for number, cells in enumerate(_cells(folder / f"{table}.tsv"), 2):
        utterance = Utterance(
            id=Path(cells["path"]).stem,
            audio=folder / "clips" / cells["path"],
            text=cells["sentence"],
            duration=durations.get(cells["path"]),
            speaker=cells["client_id"],
            split=TABLES[table],
        )
        yield Row(f"{table}.tsv:{number}", utterance)


def _not_held_out(rows: Iterator[Row], speakers: set[str], sentences: set[str]) -> Iterator[Row]:
    for row in rows:
        utterance = row.utterance
        assert utterance is not None
        fault = None
        if utterance.speaker in speakers:
            fault = "its speaker is in dev or test"
        elif normalize(utterance.text) in sentences:
            fault = "its sentence is in dev or test"
        yield Row(row.where, utterance, fault)


def _cells(table: Path, columns: tuple[str, ...] = _COLUMNS) -> Iterator[dict[str, str]]:
    """Yield the cells of each row of a table, none if there is no such table.

    Cells that a row lacks are empty. Raises CorpusError for a table that can't be read.
    """
    if not table.is_file():
        return
    try:
        # Quotes are part of a sentence here; some are never closed.
        with table.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE, restval="")
            if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
                raise CorpusError(
                    f"{table}: no column {missing[0]}; it has {', '.join(reader.fieldnames or ())}"
                )
            yield from reader
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: can't be read as a table: {error}") from error


def _read_durations(table: Path) -> dict[str, float]:
    """Return the seconds of clips by name; nothing if the release has no such table."""
    clip, milliseconds = "clip", "duration[ms]"
    return {
        cells[clip]: float(cells[milliseconds]) / 1000
        for cells in _cells(table, (clip, milliseconds))
        if cells[milliseconds].isdecimal()  # else the clip's header says it
    }
