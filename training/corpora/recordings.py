"""A folder of recordings with their texts: beside each a .txt file, or all in one table."""

import csv
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from asr.errors import CorpusError
from asr.evaluation.corpora.manifest import Row, Utterance
from asr.text import normalize
from training.corpora.manifest import MANIFEST, WrittenManifest, usable, write_manifest
from training.corpus import Rejections, numbered_lines

AUDIO = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".mp3"}
    # These are not to be passed over: where one can't be decoded, that is said.
    | {".aac", ".aif", ".aiff", ".amr", ".caf", ".m4a", ".mp4", ".webm", ".wma"}
)
"""Suffixes of what is taken for a recording."""

DELIMITERS = {".csv": ",", ".tsv": "\t"}


def prepare_recordings(
    folder: Path, console: Console, dev_share: float = 0.1, table: Path | None = None
) -> WrittenManifest:
    """Write FOLDER/manifest.jsonl of the recordings in `folder` and in the folders in it.

    table: a CSV or TSV file with the columns audio (relative to `folder`), text and, if wanted,
    speaker; without it each recording has its text in a .txt file of the same name. dev_share: how
    many of 100 sentences, divided by 100, are kept from training to measure on. The choice goes by
    the sentence: one that was recorded twice is on one side, and the same recordings are divided in
    the same way each time. When recordings are added, a sentence stays on the side where the
    manifest of before has it, whatever `dev_share` is now, and new ones fill up the share: what a
    model was trained on is not measured with. Without that manifest all is divided anew.

    Raises CorpusError if there are fewer than two sentences, if the table can't be read, or if the
    manifest of before can't be gone on with.
    """
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one with recordings")
    rows = _table_rows(folder, table) if table else _paired_rows(folder)
    skipped = Rejections()
    divided = _divide(list(usable(rows, skipped)), dev_share, _earlier_sides(folder / MANIFEST))
    if len({utterance.split for utterance in divided}) < 2:
        count = f"{len(divided)} usable recordings"
        reasons = "; ".join(skipped.lines())
        raise CorpusError(
            f"{folder}: {count}; expected two sentences at least, one to train on and one to "
            f"measure on, as name.wav and name.txt{': ' if reasons else ''}{reasons}"
        )
    written = write_manifest(folder, divided, skipped)
    written.report(console)
    return written


def _earlier_sides(manifest: Path) -> dict[str, str]:
    """Return the split of each sentence of the manifest that is to be renewed; {} if none is."""
    if not manifest.exists():
        return {}
    try:
        rows = [json.loads(line) for _, line in numbered_lines(manifest)]
        sides = {normalize(row["text"]): row["split"] for row in rows}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{manifest}: its rows say what was kept from training, but can't be read "
            f"({type(error).__name__} {error}); mend it, or remove it to divide all anew"
        ) from error
    if others := {str(side) for side in sides.values()} - {"dev", "train"}:
        raise CorpusError(
            f"{manifest}: has rows of split {', '.join(sorted(others))}; expected a manifest that "
            "this command wrote, with train and dev; move it away to divide all anew"
        )
    return sides


def _divide(
    utterances: Sequence[Utterance], dev_share: float, earlier: Mapping[str, str]
) -> list[Utterance]:
    """Give each utterance its split: by its sentence, as it was, or drawn by the sentence's hash.

    So many are drawn that `dev` has its share; one at least is left to train on, if it can be.
    Raises CorpusError if all sentences are of one side of before.
    """
    sentences: dict[str, list[Utterance]] = defaultdict(list)
    for utterance in utterances:
        sentences[normalize(utterance.text)].append(utterance)
    dev = {text for text in sentences if earlier.get(text) == "dev"}
    new = [text for text in sentences if text not in earlier]
    if sentences and not new and len(dev) in (0, len(sentences)):
        gone = "measure on" if not dev else "train on"
        raise CorpusError(
            f"of the recordings that {MANIFEST} kept to {gone} none is left; remove it to divide "
            "all anew, and don't measure a model that has heard them"
        )
    new.sort(key=lambda text: hashlib.sha256(text.encode()).digest())
    wanted = max(1, min(round(dev_share * len(sentences)), len(sentences) - 1))
    dev.update(new[: max(0, wanted - len(dev))])
    return [
        replace(utterance, split="dev" if text in dev else "train")
        for text, group in sentences.items()
        for utterance in group
    ]


def _paired_rows(folder: Path) -> Iterator[Row]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    recordings = {path.with_suffix(""): path for path in files if path.suffix.lower() in AUDIO}
    for path in files:
        text = path.with_suffix(".txt")
        if path.suffix.lower() in AUDIO:
            yield _paired_row(folder, path, text)
        elif path == text and path.with_suffix("") not in recordings:
            yield Row(str(path.relative_to(folder)), None, "a text without a recording")


def _paired_row(folder: Path, audio: Path, text: Path) -> Row:
    try:
        # utf-8-sig: some editors begin a file with a byte order mark.
        content, fault = text.read_text(encoding="utf-8-sig"), None
    except FileNotFoundError:
        content, fault = "", "no text beside it"
    except UnicodeDecodeError:
        content, fault = "", "its text is not UTF-8"
    utterance = _utterance(folder, audio.relative_to(folder), " ".join(content.split()))
    return Row(utterance.id, utterance, fault)


def _table_rows(folder: Path, table: Path) -> Iterator[Row]:
    if table.suffix not in DELIMITERS:
        raise CorpusError(f"{table}: expected a table named .csv or .tsv")
    delimiter = DELIMITERS[table.suffix]
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, delimiter=delimiter, restval="")
            columns = reader.fieldnames or ()
            if missing := [name for name in ("audio", "text") if name not in columns]:
                raise CorpusError(
                    f"{table}: no column {missing[0]!r} in its first line, which has "
                    f"{', '.join(map(repr, columns))}; expected audio, text and perhaps speaker"
                )
            for cells in reader:
                where = f"{table.name}:{reader.line_num}"
                if not cells["audio"]:
                    yield Row(where, None, "no audio in its row")
                    continue
                utterance = _utterance(folder, Path(cells["audio"]), cells["text"])
                speaker = cells.get("speaker") or utterance.speaker
                yield Row(where, replace(utterance, speaker=speaker))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"{table}: can't be read as a table: {error}") from error


def _utterance(folder: Path, name: Path, text: str) -> Utterance:
    """Make an utterance of the recording FOLDER/NAME, whose speaker is the folder that it is in.

    The name of `folder` is in the id, so that recordings of two folders are not confused.
    """
    audio = folder / name
    return Utterance(
        id=f"{folder.resolve().name}/{name.with_suffix('').as_posix()}",
        audio=audio,
        text=text,
        duration=None,
        speaker=audio.resolve().parent.name,
        split=None,
    )
