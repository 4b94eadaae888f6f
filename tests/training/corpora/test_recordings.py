"""A folder of somebody's own recordings is divided so that what is measured was not trained on."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from asr.errors import CorpusError
from asr.evaluation.corpora.manifest import Utterance
from tests.training.corpora.folders import record
from training.corpora.recordings import _divide, prepare_recordings
from training.corpus import Rejections, read_cuts

QUIET = Console(quiet=True)


def rows(folder: Path) -> dict[str, dict]:
    lines = (folder / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(json.loads, lines)}


def test_recordings_with_a_text_beside_each(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    for number in range(20):
        record(folder, f"take{number:02d}", f"\ufeffSentence\nnumber {number}.\n")
    record(folder, "ann/take00", "Hello!", ".flac")
    written = prepare_recordings(folder, QUIET)
    assert written.utterances == 21 and not written.skipped.counts
    assert not (folder / "skipped.tsv").exists()
    found = rows(folder)
    assert found["mine/take07"] == {
        "id": "mine/take07",
        "split": found["mine/take07"]["split"],
        "speaker": "mine",
        "audio": "take07.wav",
        "duration": 1.0,
        "text": "Sentence number 7.",
    }
    assert found["mine/ann/take00"]["speaker"] == "ann"
    assert sum(row["split"] == "dev" for row in found.values()) == 2
    for split, count in (("train", 19), ("dev", 2)):
        assert len(read_cuts(folder, "manifest.jsonl", split, Rejections())) == count
    before = (folder / "manifest.jsonl").read_text()
    prepare_recordings(folder, QUIET)
    assert (folder / "manifest.jsonl").read_text() == before, "the same division each time"


@pytest.mark.parametrize(("name", "separator"), [("all.csv", ","), ("all.tsv", "\t")])
def test_recordings_with_a_table(tmp_path: Path, name: str, separator: str) -> None:
    for number in range(4):
        record(tmp_path, f"clips/{number}")
    cells = [
        ("audio", "speaker", "text"),
        ("clips/0.wav", "ann", '"Well, go"'),
        ("clips/1.wav", "", "Stay"),
        ("clips/2.wav", "bob", "Wait"),
        ("clips/9.wav", "bob", "Gone"),
        ("", "", "Nothing"),
    ]
    table = tmp_path / name
    table.write_text("".join(separator.join(row) + "\n" for row in cells))
    written = prepare_recordings(tmp_path, QUIET, 0.3, table)
    found = {row["audio"]: (row["speaker"], row["text"]) for row in rows(tmp_path).values()}
    assert found == {
        "clips/0.wav": ("ann", "Well, go"),
        "clips/1.wav": ("clips", "Stay"),
        "clips/2.wav": ("bob", "Wait"),
    }
    assert written.skipped.counts == {"missing audio": 1, "no audio in its row": 1}


def test_what_can_not_be_used_is_counted_and_listed(tmp_path: Path) -> None:
    record(tmp_path, "a", "One")
    record(tmp_path, "b", "Two")
    record(tmp_path, "no-text")
    record(tmp_path, "empty", "...")
    record(tmp_path, "foreign", "naïve жук")
    record(tmp_path, "twice", "Three")
    record(tmp_path, "twice", suffix=".flac")
    (tmp_path / "phone.m4a").write_bytes(b"not to be decoded")
    (tmp_path / "phone.txt").write_text("Call me")
    (tmp_path / "alone.txt").write_text("A note")
    record(tmp_path, "latin", "")
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    name = tmp_path.name
    for _ in range(2):  # the list of the first time is not taken for something to train on
        written = prepare_recordings(tmp_path, QUIET)
        assert written.utterances == 3
        assert (tmp_path / "skipped.tsv").read_text().splitlines() == sorted(
            [
                "alone.txt\ta text without a recording",
                f"{name}/no-text\tno text beside it",
                f"{name}/empty\tempty text",
                f"{name}/foreign\ttext with letters that are not English",
                f"{name}/twice\tan earlier one has its id",
                f"{name}/phone\taudio that can't be decoded",
                f"{name}/latin\tits text is not UTF-8",
            ]
        )


def test_too_few_recordings_are_refused(tmp_path: Path) -> None:
    record(tmp_path, "a", "The same")
    record(tmp_path, "b", "The same!")
    record(tmp_path, "c")
    with pytest.raises(CorpusError, match=r"2 usable recordings; .*: skipped 1 \(no text beside"):
        prepare_recordings(tmp_path, QUIET)
    assert not (tmp_path / "manifest.jsonl").exists()
    with pytest.raises(CorpusError, match="no such folder"):
        prepare_recordings(tmp_path / "absent", QUIET)


def test_a_table_that_is_none_is_named(tmp_path: Path) -> None:
    table = tmp_path / "all.csv"
    table.write_text("file,text\na.wav,Go\n")
    with pytest.raises(CorpusError, match="no column 'audio' in its first line, which has 'file'"):
        prepare_recordings(tmp_path, QUIET, table=table)
    with pytest.raises(CorpusError, match="can't be read as a table"):
        prepare_recordings(tmp_path, QUIET, table=tmp_path / "absent.csv")
    with pytest.raises(CorpusError, match=r"expected a table named .csv or .tsv"):
        prepare_recordings(tmp_path, QUIET, table=tmp_path / "all.xlsx")


@settings(max_examples=50)
@given(st.lists(st.sampled_from("abcdefghij"), min_size=2), st.floats(0.0, 0.9))
def test_a_sentence_is_on_one_side_in_any_order(texts: list[str], share: float) -> None:
    recordings = [
        Utterance(str(number), Path("x.wav"), text, 1.0, None, None)
        for number, text in enumerate(texts)
    ]
    divided = _divide(recordings, share, {})
    assert sorted(item.id for item in divided) == sorted(item.id for item in recordings)
    sides = {(item.text, item.split) for item in divided}
    assert len(sides) == len(set(texts))
    expected = max(1, min(round(share * len(sides)), len(sides) - 1))
    assert sum(split == "dev" for _, split in sides) == expected
    assert sides == {(item.text, item.split) for item in _divide(recordings[::-1], share, {})}


@settings(max_examples=50)
@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=2, unique=True),
    st.lists(st.sampled_from("abcdefghijklmn"), min_size=2, unique=True),
    st.floats(0.0, 0.9),
)
def test_a_sentence_stays_on_its_side(before: list[str], after: list[str], share: float) -> None:
    def divided(texts: list[str], earlier: dict[str, str]) -> dict[str, str]:
        recordings = [Utterance(text, Path("x.wav"), text, 1.0, None, None) for text in texts]
        return {item.text: str(item.split) for item in _divide(recordings, share, earlier)}

    first = divided(before, {})
    if set(after) <= set(before) and len({first[text] for text in after}) == 1:
        with pytest.raises(CorpusError, match="none is left; remove it to divide all anew"):
            divided(after, first)
        return
    second = divided(after, first)
    assert all(second[text] == side for text, side in first.items() if text in second)
    assert set(second.values()) == {"dev", "train"}


def test_recordings_that_are_added_leave_the_measured_ones(tmp_path: Path) -> None:
    for number in range(20):
        record(tmp_path, f"take{number:02d}", f"Sentence {number}.")
    prepare_recordings(tmp_path, QUIET)
    before = rows(tmp_path)
    for number in range(20, 60):
        record(tmp_path, f"take{number:02d}", f"Sentence {number}.")
    prepare_recordings(tmp_path, QUIET)
    after = rows(tmp_path)
    assert all(after[name]["split"] == row["split"] for name, row in before.items())
    assert sum(row["split"] == "dev" for row in after.values()) == 6
    (tmp_path / "manifest.jsonl").write_text('{"text": "Sentence 1", "split": "test"}\n')
    with pytest.raises(CorpusError, match="has rows of split test"):
        prepare_recordings(tmp_path, QUIET)
    (tmp_path / "manifest.jsonl").write_text('{"text": 1}\n')
    with pytest.raises(CorpusError, match="what was kept from training, but can't be read"):
        prepare_recordings(tmp_path, QUIET)
