"""Bad rows are counted and named, and never stop a run or slip into it."""

import json
from pathlib import Path

import pytest

from asr.errors import CorpusError
from tests.training.conftest import write_corpus
from training.corpus import Rejections, phones_of, read_cuts
from training.dataset import trainable
from training.feature_cache import FeatureCache
from training.tokenizer import BLANK, UNKNOWN, train_tokenizer


def add_rows(manifest: Path, *rows: object) -> None:
    with manifest.open("a", encoding="utf-8") as file:
        for row in rows:
            file.write((row if isinstance(row, str) else json.dumps(row)) + "\n")


def test_rows_become_cuts_with_normalised_texts(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "a", "train", ["red"])
    add_rows(
        manifest,
        {
            "id": "x",
            "audio": "train-0.flac",
            "duration": 0.5,
            "text": "Blue, 2!",
            "speaker": "s",
            "phones": [["b", 0.2], ["l", 0.5]],
        },
    )
    rejections = Rejections()
    _, cut = read_cuts(tmp_path, "a/*.jsonl", "train", rejections)
    assert not rejections.counts
    assert cut.supervisions[0].text == "blue two"
    assert cut.supervisions[0].speaker == "s"
    assert phones_of(cut) == [("b", 0.2), ("l", 0.5)]


def test_bad_rows_are_counted_by_reason_and_named(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "a", "train", ["red"])
    good = {"audio": "train-0.flac", "duration": 0.5, "text": "red"}
    add_rows(
        manifest,
        {"id": "no-audio", **good, "audio": "absent.flac"},
        {"id": "no-text", **good, "text": "..."},
        {"id": "foreign", **good, "text": "red жук"},
        {"id": "endless", **good, "duration": 1e6},
        {"id": "negative", **good, "duration": -1},
        {"id": "no-key", "audio": "train-0.flac"},
        {"id": "no-times", **good, "phones": [["b"]]},
        "{not json",
        "[1, 2]",
        {"id": "other-split", **good, "split": "test"},
        "",
    )
    rejections = Rejections()
    cuts = read_cuts(tmp_path, "a/*.jsonl", "train", rejections)
    assert [cut.id for cut in cuts] == ["train-0"]
    report = "\n".join(rejections.lines())
    assert sum(rejections.counts.values()) == 9, "another split or an empty line is no fault"
    assert "skipped 1 (missing audio), such as no-audio" in report
    assert "skipped 1 (empty text), such as no-text" in report
    assert "skipped 1 (text with letters that are not English), such as foreign" in report
    assert "skipped 2 (duration outside 0.2 to 30 s), such as endless, negative" in report
    assert "a/manifest.jsonl:7" in report, "a row without id is named by its line"


def test_a_text_may_hold_a_separator_of_lines(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "a", "train", ["red"])
    row = {"id": "x", "audio": "train-0.flac", "duration": 0.5, "text": "red\u2028blue"}
    add_rows(manifest, json.dumps(row, ensure_ascii=False))
    rejections = Rejections()
    _, cut = read_cuts(tmp_path, "a/*.jsonl", "train", rejections)
    assert not rejections.counts
    assert cut.supervisions[0].text == "red blue"


def test_an_utterance_in_two_sources_is_counted_once() -> None:
    rejections = Rejections()
    for name in ("a", "b", "a"):
        rejections.add("missing audio", name)
    assert list(rejections.lines()) == ["skipped 2 (missing audio), such as a, b"]


def test_a_manifest_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_bytes(b"\xff\xfe")
    with pytest.raises(CorpusError, match=r"bad\.jsonl: can't be read as a manifest"):
        read_cuts(tmp_path, "bad.jsonl", "train", Rejections())


def test_nothing_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"no manifest matches 'b/\*.jsonl'"):
        read_cuts(tmp_path, "b/*.jsonl", "train", Rejections())
    write_corpus(tmp_path / "a", "train", ["red"])
    with pytest.raises(CorpusError, match="no usable utterance of split 'dev'"):
        read_cuts(tmp_path, "a/*.jsonl", "dev", Rejections())


def test_undecodable_audio_and_too_many_tokens_are_left_out(tmp_path: Path) -> None:
    manifest = write_corpus(tmp_path / "a", "train", ["red green", "blue white black"])
    (tmp_path / "a" / "noise.flac").write_bytes(b"this is not audio")
    add_rows(
        manifest,
        {"id": "broken", "audio": "noise.flac", "duration": 1.0, "text": "red"},
        {"id": "dense", "audio": "train-0.flac", "duration": 0.9, "text": "red green blue " * 9},
        {"id": "cut-off", "audio": "train-0.flac", "duration": 9.0, "text": "red green"},
    )
    rejections = Rejections()
    cuts = read_cuts(tmp_path, "a/*.jsonl", "train", rejections)
    cache = FeatureCache(tmp_path / "features")
    cache.add(cuts, rejections, processes=1)
    texts = [cut.supervisions[0].text for cut in cuts]
    tokenizer = train_tokenizer(texts, 24, tmp_path / "bpe.model")
    kept, tokens = trainable(cuts, tokenizer, cache, fastest=1.2, rejections=rejections)
    assert [cut.id for cut in kept] == ["train-0", "train-1"]
    assert tokenizer.decode(tokens[0]) == "red green"
    assert rejections.counts["audio that can't be decoded"] == 1
    assert rejections.counts["fewer frames than tokens"] == 1
    assert rejections.counts["audio shorter or longer than its row says"] == 1
    assert "(audio that can't be decoded), such as broken" in "\n".join(rejections.lines())


def test_blank_and_unknown_come_first(tmp_path: Path) -> None:
    tokenizer = train_tokenizer(["red green blue"] * 3, 16, tmp_path / "bpe.model")
    assert tokenizer.pieces[:2] == [BLANK, UNKNOWN]
    assert len(tokenizer.pieces) == 16
    assert tokenizer.decode(tokenizer.encode("green red")) == "green red"
    with pytest.raises(CorpusError, match="no tokenizer of 5000 pieces"):
        train_tokenizer(["red green blue"], 5000, tmp_path / "other.model")
