"""A release of Common Voice becomes manifests in which nobody of dev or test is trained on."""

import json
from pathlib import Path

import pytest
from rich.console import Console

from asr.errors import CorpusError
from tests.training.corpora.folders import write_table
from training.corpora.common_voice import prepare_common_voice
from training.corpus import Rejections, read_cuts

QUIET = Console(quiet=True)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "cv-corpus-21.0" / "en"
    train = [("ann", "1", 'She said "Go.'), ("bob", "2", "It rains."), ("bob", "3", "Ten men.")]
    dev, test = [("cid", "4", "It was late.")], [("dan", "5", "We left.")]
    others = [("eve", "6", "It was LATE!"), ("cid", "7", "Nobody said this.")]
    write_table(folder, "train", *train[:2])
    write_table(folder, "dev", *dev)
    write_table(folder, "test", *test)
    write_table(folder, "validated", *train, *dev, *test, *others)
    return folder


def rows(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


def test_each_table_becomes_a_manifest_that_training_reads(release: Path) -> None:
    written = prepare_common_voice(release, QUIET)
    assert [(item.path.parent.name, item.utterances) for item in written] == [
        *(("dev", 1), ("test", 1), ("train", 2), ("validated", 3))
    ]
    first = rows(release / "validated" / "manifest.jsonl")[0]
    assert first == {
        "id": "common_voice_en_1",
        "split": "train",
        "speaker": "ann",
        "audio": "../clips/common_voice_en_1.mp3",
        "duration": pytest.approx(1.0, abs=0.1),
        "text": 'She said "Go.',
    }
    for table, split in (("validated", "train"), ("dev", "dev"), ("test", "test")):
        assert read_cuts(release, f"{table}/manifest.jsonl", split, Rejections())


def test_nobody_and_nothing_of_dev_and_test_is_trained_on(release: Path) -> None:
    prepare_common_voice(release, QUIET)
    kept = {row["id"][-1] for row in rows(release / "validated" / "manifest.jsonl")}
    assert kept == {"1", "2", "3"}
    assert (release / "validated" / "skipped.tsv").read_text().splitlines() == [
        "common_voice_en_4\tits speaker is in dev or test",
        "common_voice_en_5\tits speaker is in dev or test",
        "common_voice_en_6\tits sentence is in dev or test",
        "common_voice_en_7\tits speaker is in dev or test",
    ]


def test_durations_of_the_release_are_believed_and_the_rest_is_measured(release: Path) -> None:
    table = "clip\tduration[ms]\ncommon_voice_en_1.mp3\t4608\ncommon_voice_en_2.mp3\tnone\n"
    (release / "clip_durations.tsv").write_text(table)
    prepare_common_voice(release, QUIET)
    durations = [row["duration"] for row in rows(release / "validated" / "manifest.jsonl")]
    assert durations == [4.608, pytest.approx(1.0, abs=0.1), pytest.approx(1.0, abs=0.1)]


def test_a_delta_release_has_only_validated_clips(release: Path) -> None:
    for table in ("train", "dev", "test"):
        (release / f"{table}.tsv").unlink()
    (written,) = prepare_common_voice(release, QUIET)
    assert written.utterances == 7


def test_what_can_not_be_used_is_counted_and_listed(release: Path) -> None:
    with (release / "validated.tsv").open("a", encoding="utf-8") as table:
        table.write("fay\tcommon_voice_en_8.mp3\t0\tThe clip is gone.\t2\n")
        table.write("fay\tcommon_voice_en_2.mp3\t0\t\t2\n")
        table.write("fay\tcommon_voice_en_3.mp3\t0\tЖук\t2\n")
        table.write("fay\n")
    written = prepare_common_voice(release, QUIET)[-1]
    listed = (release / "validated" / "skipped.tsv").read_text().splitlines()
    assert "common_voice_en_8\tmissing audio" in listed
    assert "common_voice_en_2\tempty text" in listed
    assert "common_voice_en_3\ttext with letters that are not English" in listed
    assert "\tmissing audio" in listed, "a row that ends early"
    assert written.utterances == 3


def test_a_folder_or_a_table_that_is_something_else_is_named(release: Path) -> None:
    with pytest.raises(CorpusError, match=r"no validated.tsv or train.tsv in it; expected"):
        prepare_common_voice(release.parent, QUIET)
    (release / "dev.tsv").write_text("clip\ttext\n")
    with pytest.raises(CorpusError, match=r"dev.tsv: no column client_id; it has clip, text"):
        prepare_common_voice(release, QUIET)
    (release / "dev.tsv").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match=r"dev.tsv: can't be read as a table"):
        prepare_common_voice(release, QUIET)
