"""Protects the evaluation's loop: each utterance streamed and scored, failures only named."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from asr.audio import Blocks
from asr.budget import Budget, OperatingPoint
from asr.errors import AsrError, AudioError, BudgetError, BudgetExceeded
from asr.evaluation.accuracy.scoring import break_down
from asr.evaluation.accuracy.wer import WordErrors
from asr.evaluation.corpora.manifest import Skipped, Utterance
from asr.evaluation.evaluate import Evaluation, EvaluationReport, evaluate
from asr.evaluation.meters import RtfMeter
from asr.evaluation.recognition import Recognized
from asr.features import Samples
from asr.results import Moved, Overrun, Result
from asr.supervisor import BudgetReport, PointTime, ungoverned
from tests.asr.evaluated import ENVELOPE


@dataclass
class FakeFinal:
    result: Result


@dataclass
class FakeStream:
    """Recognises the word that the fake file's samples index, in an eighth of its time."""

    words: list[str]
    meter: RtfMeter = field(default_factory=RtfMeter)
    heard: list[str] = field(default_factory=list)

    def accept(self, samples: Samples, sample_rate: int) -> list[object]:
        assert sample_rate == 8000
        self.heard.append(self.words[int(samples[0])])
        self.meter.add_audio(len(samples) / sample_rate)
        self.meter.compute_s += len(samples) / sample_rate / 8
        return []

    def finish(self) -> FakeFinal:
        return FakeFinal(Result(" ".join(self.heard), (), (), self.meter.audio_s, 0.5))


@dataclass
class FakeRecognizer:
    words: list[str]

    def stream(self, budget: Budget | None = None) -> FakeStream:
        return FakeStream(self.words)


def read_fake(utterance: Utterance) -> Blocks:
    """`0-1` holds words 0 and 1, half a second each; `0-broken` breaks after the first."""
    for index in utterance.id.split("-"):
        if index == "broken":
            raise AudioError(f"{utterance.audio}: truncated")
        yield np.full(4000, float(index), np.float32), 8000


def utterance(name: str, text: str) -> Utterance:
    return Utterance(name, Path(f"{name}.wav"), text, 1.0, None, None)


RECOGNIZER = FakeRecognizer(["Hello,", "world", "3"])


def measure(
    utterances: list[Utterance], skipped: Iterable[Skipped] = (), words: list[str] | None = None
) -> EvaluationReport:
    recognizer = RECOGNIZER if words is None else FakeRecognizer(words)
    evaluation = Evaluation(recognizer, skipped=skipped, read=read_fake)
    for item in utterances:
        evaluation.add(item)
    return evaluation.report()


def test_scores_normalised_texts_and_pools_them() -> None:
    report = measure(
        [utterance("0-1", "hello, World!"), utterance("0-2", "Hello there three cats")]
    )
    assert report.errors == WordErrors(hits=4, deletions=2)
    assert report.audio_s == 2.0
    assert [score.hypothesis for score in report.scores] == ["hello world", "hello three"]
    assert report.rtf == 1 / 8, "not the streams' own figure"
    assert report.complete
    assert report.peak_rss_mb > 10


def test_broken_recordings_are_named_and_not_fatal() -> None:
    report = measure(
        [utterance("0-broken", "hello world"), utterance("1", "world")],
        skipped=[Skipped("lost", "no audio file")],
    )
    assert [score.id for score in report.scores] == ["1"]
    assert report.skipped == (
        Skipped("lost", "no audio file"),
        Skipped("0-broken", "0-broken.wav: truncated"),
    )


FAST, SLOW = OperatingPoint(640), OperatingPoint(320)


class GovernedStream(FakeStream):
    """Moves once, from its first point to the second; the word 3 is too much for its memory."""

    def accept(self, samples: Samples, sample_rate: int) -> list[object]:
        if self.words[int(samples[0])] == "3":
            text = " ".join(self.heard)
            raise BudgetExceeded("no memory", Result(text, (), (), 0.5, 0.0))
        return super().accept(samples, sample_rate)

    def report(self) -> BudgetReport:
        moved = Moved(2.0, SLOW, FAST, "rtf 0.2 of 0.1")
        late = Overrun(2.5, "latency", 700, 600, 0, "stays")
        points = PointTime(SLOW, 2.0), PointTime(FAST, 1.0)
        books = ungoverned(SLOW, lambda: None).report()
        return replace(books, points=points, moves=(moved,), overruns=(late, late))


@dataclass
class GovernedRecognizer(FakeRecognizer):
    budgets: list[Budget | None] = field(default_factory=list)

    def stream(self, budget: Budget | None = None) -> FakeStream:
        self.budgets.append(budget)
        return GovernedStream(self.words)


def test_a_budget_holds_for_each_stream_and_what_it_led_to_is_added_up() -> None:
    recognizer, budget = GovernedRecognizer(RECOGNIZER.words), Budget(rtf=0.1)
    evaluation = Evaluation(recognizer, read=read_fake, budget=budget)
    for item in (utterance("0-1", "hello world"), utterance("0-2-1", "hello three world")):
        evaluation.add(item)
    report = evaluation.report()
    assert recognizer.budgets == [budget, budget]
    use = report.budget
    assert use is not None
    assert (use.budget, use.moves, use.overruns, use.ended) == (budget, 2, 4, 1)
    assert use.points == (PointTime(SLOW, 4.0), PointTime(FAST, 2.0))
    assert report.errors == WordErrors(hits=3, deletions=2), "what was not heard is deleted"
    assert report.skipped == ()
    content = json.loads(json.dumps(report.to_dict(ENVELOPE)))["budget"]
    assert content["points"][0] == {"point": {"chunk_ms": 320}, "audio_s": 4.0}


def test_a_budget_that_can_no_longer_be_held_keeps_what_was_measured() -> None:
    @dataclass
    class FullRecognizer(GovernedRecognizer):
        room: int = 0

        def stream(self, budget: Budget | None = None) -> FakeStream:
            if len(self.budgets) == self.room:
                raise BudgetError("memory_mb=90 can't be held")
            return super().stream(budget)

    items = [utterance(name, "hello world") for name in ("0-1", "1-0")]
    evaluation = Evaluation(
        FullRecognizer(RECOGNIZER.words, room=1), read=read_fake, budget=Budget(memory_mb=90)
    )
    for item in items:
        evaluation.add(item)
    report = evaluation.report()
    assert [score.id for score in report.scores] == ["0-1"]
    assert report.skipped == (Skipped("1-0", "memory_mb=90 can't be held"),)
    none = Evaluation(FullRecognizer([]), read=read_fake, budget=Budget(memory_mb=90))
    with pytest.raises(BudgetError):
        none.add(items[0])


def test_mistakes_in_the_program_are_fatal() -> None:
    """Only bad input may be skipped: a defect that costs every utterance must not look like it."""
    with pytest.raises(IndexError):
        measure([utterance("0", "hello")], words=[])


def test_nothing_to_score_says_why() -> None:
    with pytest.raises(AsrError, match=r"0 usable.* 1 skipped; the first: broken: .*truncated"):
        measure([utterance("broken", "hello")])
    with pytest.raises(AsrError, match="0 skipped"):
        evaluate(RECOGNIZER, [])


def test_report_as_json(tmp_path: Path) -> None:
    spoken = replace(utterance("1", "Word."), speaker="s")
    report = measure([utterance("0-1", "hello world"), spoken, utterance("broken", "x")])
    path = tmp_path / "report.json"
    path.write_text("an older report")
    report.write(path, ENVELOPE, {"speaker": break_down(report.scores, "speaker")})
    content = json.loads(path.read_text())
    assert list(tmp_path.iterdir()) == [path]
    assert content["complete"] is True
    assert content["model"] == {"name": "tiny", "sha256": "ab12", "parameters": 345}
    assert content["machine"] == {
        "platform": "Linux-x86_64",
        "processor": "a processor",
        "cpus": 2,
        "usable_cpus": 2,
    }
    keys = ("version", "date", "precision", "chunk_ms", "manifests", "split", "limit")
    assert [content[key] for key in keys] == [
        "1.2.3",
        "2026-01-01T00:00:00+00:00",
        "int8",
        320,
        ["a.jsonl"],
        "dev",
        None,
    ]
    assert content["wer"] == pytest.approx(1 / 3)
    assert content["ci95"][0] <= content["wer"] <= content["ci95"][1]
    assert content["budget"] is None
    figures = ("ins", "del", "sub", "words", "utterances", "audio_s")
    assert [content[key] for key in figures] == [0, 0, 1, 3, 2, 1.5]
    assert {"rtf", "peak_rss_mb", "cer", "wer_open_asr"} <= content.keys()
    assert (content["schema_version"], content["jobs"], content["ser"]) == (2, 1, 0.5)
    assert content["unavailable"] == {}
    assert content["skipped"] == [{"id": "broken", "reason": "broken.wav: truncated"}]
    assert content["rows"][1] == {
        "id": "1",
        "speaker": "s",
        "reference": "word",
        "hypothesis": "world",
        "reference_as_written": "Word.",
        "hypothesis_as_recognized": "world",
        "ins": 0,
        "del": 0,
        "sub": 1,
        "audio_s": 0.5,
        "compute_s": 0.0625,
    }
    assert content["comparison"] is None
    assert content["by"] == {
        "speaker": [
            {
                "value": "s",
                "wer": 1.0,
                "ins": 0,
                "del": 0,
                "sub": 1,
                "words": 1,
                "utterances": 1,
            },
            {
                "value": None,
                "wer": 0.0,
                "ins": 0,
                "del": 0,
                "sub": 0,
                "words": 2,
                "utterances": 1,
            },
        ]
    }


def test_what_processes_recognised_is_reported_in_the_order_of_the_set() -> None:
    """RTF is the computing of all over the audio, memory that of the largest."""
    evaluation = Evaluation(RECOGNIZER)
    recognized = Recognized("world", (), 2.0, 0.5, 80.0)
    evaluation.record(utterance("c", "world"), recognized, position=2)
    evaluation.record(utterance("b", "world"), Skipped("b", "its process died"), position=1)
    larger = replace(recognized, peak_rss_mb=90.0, compute_s=0.1, audio_s=1.0)
    evaluation.record(utterance("a", "hello"), larger, position=0)
    report = evaluation.report()
    assert [score.id for score in report.scores] == ["a", "c"]
    assert report.skipped == (Skipped("b", "its process died"),)
    assert report.rtf == pytest.approx(0.6 / 3.0)
    assert (report.audio_s, report.peak_rss_mb) == (3.0, 90.0)
