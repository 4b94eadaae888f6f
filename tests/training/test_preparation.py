"""What can't be trained on stops a run before it begins, with the reason."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from asr.errors import CorpusError
from tests.training.conftest import write_corpus
from training.preparation import prepare
from training.recipe import DataConfig, DevSetConfig, Recipe, ScheduleConfig, SourceConfig


def recipe(**changes: object) -> Recipe:
    data = DataConfig(
        train=(SourceConfig("train/*.jsonl"),), dev=(DevSetConfig("held", "dev/*.jsonl"),)
    )
    settings = {"name": "r", "data": data, "train": ScheduleConfig(hours=1), "vocab_size": 20}
    return Recipe(**(settings | changes))  # type: ignore[arg-type]


def write_corpora(root: Path) -> None:
    write_corpus(root / "train", "train", ["red green", "blue white black"])
    write_corpus(root / "dev", "dev", ["red", "blue"])


def spoil(folder: Path) -> None:
    for audio in folder.glob("*.flac"):
        audio.write_bytes(b"this is not audio")


@pytest.mark.parametrize(
    ("part", "message"),
    [("train", "no usable utterance to train on"), ("dev", "no usable .* in the dev set held")],
)
def test_a_set_that_can_not_be_decoded(tmp_path: Path, part: str, message: str) -> None:
    write_corpora(tmp_path)
    spoil(tmp_path / part)
    with pytest.raises(CorpusError, match=message + ".*skipped 2 .audio that can't be decoded"):
        prepare(recipe(), tmp_path, tmp_path / "work", Console(quiet=True))


def test_two_recordings_of_one_id_are_refused(tmp_path: Path) -> None:
    """Their features would be taken for each other."""
    write_corpora(tmp_path)
    manifest = tmp_path / "dev" / "manifest.jsonl"
    row = json.loads(manifest.read_text().splitlines()[0]) | {"id": "train-0"}
    manifest.write_text(json.dumps(row) + "\n")
    with pytest.raises(CorpusError, match="have the same id 'train-0'"):
        prepare(recipe(), tmp_path, tmp_path / "work", Console(quiet=True))


def test_pre_training_without_phone_times_is_refused(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    manifest = tmp_path / "train" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    rows[1].pop("phones")
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = DataConfig(
        train=(SourceConfig("train/*.jsonl"),),
        dev=(DevSetConfig("held", "dev/*.jsonl"),),
        phones=(SourceConfig("train/*.jsonl"),),
    )
    settings = recipe(data=data, pretrain=ScheduleConfig(hours=1))
    with pytest.raises(CorpusError, match="train-1: no phone times"):
        prepare(settings, tmp_path, tmp_path / "work", Console(quiet=True))
