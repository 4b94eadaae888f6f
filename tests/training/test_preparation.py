"""What can't be trained on stops a run before it begins, with the reason."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

import training.preparation
import training.pronunciation
from asr.errors import AsrError, CorpusError
from tests.training.conftest import write_corpus
from training.corpus import Rejections
from training.dataset import Speech
from training.preparation import Prepared, prepare
from training.recipe import (
    DataConfig,
    DevSetConfig,
    LossConfig,
    Recipe,
    ScheduleConfig,
    SourceConfig,
    TextConfig,
)
from training.shards import write_shards
from training.synthesis import SynthesizerRefusal


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


def drop_phones(folder: Path, rows: int) -> None:
    """Take the times of phones from the first rows of a manifest."""
    manifest = folder / "manifest.jsonl"
    content = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in content[:rows]:
        row.pop("phones")
    manifest.write_text("".join(json.dumps(row) + "\n" for row in content))


def test_rows_without_phone_times_are_not_pre_trained_on(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    drop_phones(tmp_path / "train", 1)
    prepared, said = prepared_with_phones(tmp_path)
    assert ids(prepared.train) - ids(prepared.phones) == {"train-0"}
    assert "skipped 1 (pre-training only: no phone times), such as train-0" in said


def test_pre_training_without_phone_times_is_refused(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    drop_phones(tmp_path / "train", 1000)
    with pytest.raises(CorpusError, match=r"to pre-train on.*no phone times"):
        prepared_with_phones(tmp_path)


def prepared_with_phones(root: Path) -> tuple[Prepared, str]:
    """Prepare to pre-train on `train`; return what comes of it, and what the console says."""
    data = DataConfig(
        train=(SourceConfig("train/*.jsonl"),),
        dev=(DevSetConfig("held", "dev/*.jsonl"),),
        phones=(SourceConfig("train/*.jsonl"),),
    )
    console = Console(file=io.StringIO(), width=1000)
    settings = recipe(data=data, pretrain=ScheduleConfig(hours=1))
    prepared = prepare(settings, root, root / "work", console)
    assert isinstance(console.file, io.StringIO)
    return prepared, console.file.getvalue()


def ids(speech: Speech) -> set[str]:
    return {cut.id for cut in speech.cuts}


def test_pre_training_is_validated_on_speech_that_it_does_not_train_on(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    write_corpus(tmp_path / "train", "dev", ["white red", "black"])
    (tmp_path / "dev" / "manifest.jsonl").unlink()
    write_corpus(tmp_path / "dev", "other", ["red"])
    text = (tmp_path / "dev" / "manifest.jsonl").read_text()
    (tmp_path / "dev" / "manifest.jsonl").write_text(text.replace('"other"', '"dev"'))
    prepared, output = prepared_with_phones(tmp_path)
    assert ids(prepared.phones) == {"train-0", "train-1"}
    assert ids(prepared.phones_dev) == {"dev-0", "dev-1"}
    assert "validated on speech that it trains on" not in output


def test_without_a_dev_split_pre_training_says_what_it_is_validated_on(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    prepared, output = prepared_with_phones(tmp_path)
    assert ids(prepared.phones_dev) == ids(prepared.phones)
    assert "validated on speech that it trains on: no dev split" in output


def test_rows_without_a_split_are_not_held_out(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    manifest = tmp_path / "train" / "manifest.jsonl"
    manifest.write_text(manifest.read_text().replace('"split": "train", ', ""))
    _, output = prepared_with_phones(tmp_path)
    assert "validated on speech that it trains on" in output


def test_texts_that_flite_can_not_say_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpora(tmp_path)
    manifest = tmp_path / "train" / "manifest.jsonl"
    rows = [json.loads(line) for line in manifest.read_text().splitlines()]
    for row in rows:
        row.pop("phones")
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def pronounce(text: str) -> list[str]:
        if text == "red green":
            raise SynthesizerRefusal("flite failed with status 1")
        return ["pau", "b", "pau"]

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)
    console = Console(file=io.StringIO(), width=1000)
    settings = recipe(loss=LossConfig(phone_weight=0.3))
    prepared = prepare(settings, tmp_path, tmp_path / "work", console)
    assert sorted(map(len, prepared.train.phones)) == [0, 1]
    assert isinstance(console.file, io.StringIO)
    assert "skipped 1 (phones only: flite can't say it), such as train-0" in console.file.getvalue()


def reading(file: str, **settings: Any) -> Recipe:
    data = dataclasses.replace(recipe().data, text=TextConfig(file, **settings))
    return recipe(data=data, loss=LossConfig(phone_weight=0.3))


def test_what_reading_lacks_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_corpora(tmp_path)
    with pytest.raises(CorpusError, match=r"none.txt: not readable as text"):
        prepare(reading("none.txt"), tmp_path, tmp_path / "work", Console(quiet=True))

    def missing() -> None:
        raise AsrError("forced alignment needs torchaudio")

    monkeypatch.setattr(training.preparation, "require_aligner", missing)
    with pytest.raises(AsrError, match="needs torchaudio"):
        prepare(reading("none.txt"), tmp_path, tmp_path / "work", Console(quiet=True))
    assert not (tmp_path / "work").exists()


def test_how_much_there_is_to_read_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchaudio")
    write_corpora(tmp_path)
    (tmp_path / "text.txt").write_text("Red blue red. Green green white. White black white red.")

    def pronounce(text: str) -> list[str]:
        if text == "red blue red":
            raise SynthesizerRefusal("flite failed with status 1")
        return ["b"] * len(text)

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)
    console = Console(file=io.StringIO(), width=1000)
    settings = reading("text.txt", sentences=5)
    prepared = prepare(settings, tmp_path, tmp_path / "work", console)
    assert prepared.text is not None
    assert [len(phones) for phones in prepared.text.phones] == [17, 21]
    assert isinstance(console.file, io.StringIO)
    told = console.file.getvalue()
    assert "text.txt: 3 sentences to read; 5 were asked for" in told
    assert "skipped 1 (text only: flite can't say it), such as red blue red" in told
    assert "h to train on; 2 sentences to read" in told


def test_shards_train_as_manifests_do(tmp_path: Path) -> None:
    write_corpora(tmp_path)
    write_shards([tmp_path / "train" / "manifest.jsonl"], tmp_path / "shards", 1, Rejections())
    by_manifests = prepare(recipe(), tmp_path, tmp_path / "a", Console(quiet=True))
    data = dataclasses.replace(recipe().data, train=(SourceConfig(shar="shards", weight=2.0),))
    by_shards = prepare(recipe(data=data), tmp_path, tmp_path / "b", Console(quiet=True))
    assert by_shards.train.tokens == by_manifests.train.tokens
    assert by_shards.train.weights == [2.0, 2.0]
    np.testing.assert_array_equal(by_shards.mean, by_manifests.mean)
