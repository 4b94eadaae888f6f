"""Protects the evaluation's loop: each utterance streamed and scored, failures only named."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from asr.errors import AsrError, AudioError
from asr.evaluation.evaluate import evaluate
from asr.evaluation.manifest import Skipped, Utterance
from asr.evaluation.wer import WordErrors

Samples = NDArray[np.float32]


@dataclass
class FakeResult:
    text: str


@dataclass
class FakeStream:
    """Recognises the word that the fake file's samples index."""

    words: list[str]
    heard: list[str] = field(default_factory=list)

    def accept(self, samples: Samples, sample_rate: int) -> list[object]:
        assert sample_rate == 8000
        self.heard.append(self.words[int(samples[0])])
        return []

    def finish(self) -> FakeResult:
        return FakeResult(" ".join(self.heard))


@dataclass
class FakeRecognizer:
    words: list[str]

    def stream(self) -> FakeStream:
        return FakeStream(self.words)


def read_fake(path: Path) -> Iterator[tuple[Samples, int]]:
    """`0-1.wav` holds words 0 and 1, half a second each; `broken` breaks after the first block."""
    for index in path.stem.split("-"):
        if index == "broken":
            raise AudioError(f"{path}: truncated")
        yield np.full(4000, float(index), np.float32), 8000


def utterance(name: str, text: str) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), text, 1.0, None, None)


RECOGNIZER = FakeRecognizer(["Hello,", "world", "3"])


def test_scores_normalised_texts_and_pools_them() -> None:
    done: list[int] = []
    report = evaluate(
        RECOGNIZER,
        [utterance("0-1", "hello, World!"), utterance("0-2", "Hello there three cats")],
        on_progress=lambda count, _: done.append(count),
        read=read_fake,
    )
    assert done == [1, 2]
    assert report.errors == WordErrors(hits=4, deletions=2)
    assert report.audio_s == 2.0
    assert [score.hypothesis for score in report.scores] == ["hello world", "hello three"]
    assert report.rtf > 0
    assert report.peak_rss_mb > 10


def test_broken_recordings_are_named_and_not_fatal() -> None:
    report = evaluate(
        RECOGNIZER,
        [utterance("0-broken", "hello world"), utterance("1", "world")],
        skipped=[Skipped("lost", "no audio file")],
        read=read_fake,
    )
    assert [score.id for score in report.scores] == ["1"]
    assert report.skipped == (
        Skipped("lost", "no audio file"),
        Skipped("0-broken", "0-broken.wav: truncated"),
    )


def test_mistakes_in_the_program_are_fatal() -> None:
    """Only bad input may be skipped: a defect that costs every utterance must not look like it."""
    with pytest.raises(IndexError):
        evaluate(FakeRecognizer([]), [utterance("0", "hello")], read=read_fake)


def test_nothing_to_score_says_why() -> None:
    with pytest.raises(AsrError, match=r"0 usable.* 1 skipped; the first: broken: .*truncated"):
        evaluate(RECOGNIZER, [utterance("broken", "hello")], read=read_fake)
    with pytest.raises(AsrError, match="0 skipped"):
        evaluate(RECOGNIZER, [])


def test_report_as_json(tmp_path: Path) -> None:
    report = evaluate(
        RECOGNIZER,
        [utterance("0-1", "hello world"), utterance("1", "word"), utterance("broken", "x")],
        read=read_fake,
    )
    path = tmp_path / "report.json"
    path.write_text("an older report")
    report.write(path)
    content = json.loads(path.read_text())
    assert list(tmp_path.iterdir()) == [path]
    assert content["wer"] == pytest.approx(1 / 3)
    assert content["ci95"][0] <= content["wer"] <= content["ci95"][1]
    figures = ("ins", "del", "sub", "words", "utterances", "audio_s")
    assert [content[key] for key in figures] == [0, 0, 1, 3, 2, 1.5]
    assert {"rtf", "peak_rss_mb"} <= content.keys()
    assert content["skipped"] == [{"id": "broken", "reason": "broken.wav: truncated"}]
    assert content["rows"][1] == {
        "id": "1",
        "reference": "word",
        "hypothesis": "world",
        "ins": 0,
        "del": 0,
        "sub": 1,
    }
