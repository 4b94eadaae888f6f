"""A recogniser in a process of its own is measured as it is, and no failure of it goes further."""

import io
import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from asr.errors import AsrError
from asr.evaluation.corpora.manifest import Segment, Utterance
from asr.evaluation.isolated import (
    AudioUnreadable,
    Heard,
    Isolated,
    Loaded,
    NotInstalled,
    ProcessEnded,
    serve,
)

MODULE = "tests.asr.evaluation.fake_recognizer"


def utterance(path: str | Path) -> Utterance:
    return Utterance("", Path(path), "", None, None, None)


def test_a_recording_is_given_block_by_block(write_speech: Callable[..., Path]) -> None:
    """At 16 kHz, whatever its own rate."""
    path = write_speech("speech.wav", seconds=0.7, rate=8_000)
    with Isolated(MODULE, {}) as process:
        facts = process.load()
        heard = process.recognize(utterance(path), block_ms=320)
        again = process.recognize(utterance(path), block_ms=640)
    assert (facts.runs_on, facts.model, facts.model_mb) == ("fake 1.0", "no model", 7.5)
    assert 0 < facts.base_rss_mb <= facts.load_rss_mb <= heard.peak_rss_mb
    assert heard.text == "5120 5120 960"
    assert again.text == "10240 960"
    assert heard.audio_s == pytest.approx(0.7)
    assert len(heard.block_s) == 3
    assert heard.compute_s == pytest.approx(sum(heard.block_s) + heard.finish_s)


def test_a_segment_of_a_recording(write_speech: Callable[..., Path]) -> None:
    part = replace(utterance(write_speech("speech.wav", 2.0)), segment=Segment(0.5, 0.25))
    with Isolated(MODULE, {}) as process:
        process.load()
        assert process.recognize(part, block_ms=320).text == "4000"


def test_a_recording_that_cannot_be_read_is_no_end(write_speech: Callable[..., Path]) -> None:
    path = write_speech("speech.wav", 0.1)
    with Isolated(MODULE, {}) as process:
        process.load()
        with pytest.raises(AudioUnreadable, match="no such file"):
            process.recognize(utterance("missing.wav"), block_ms=320)
        assert process.recognize(utterance(path), block_ms=320).text == "1600"


@pytest.mark.parametrize(
    ("fail", "error", "words"),
    [
        ("refused", AsrError, "refused: no such model"),
        ("not installed", NotInstalled, "No module named 'rival'"),
    ],
)
def test_what_prevents_loading_is_told(fail: str, error: type[AsrError], words: str) -> None:
    with Isolated(MODULE, {"fail": fail}) as process, pytest.raises(error, match=words) as caught:
        process.load()
    assert type(caught.value) is error


def test_a_process_that_dies_says_its_last_words(write_speech: Callable[..., Path]) -> None:
    path = write_speech("speech.wav", 0.1)
    with Isolated(MODULE, {"fail": "dies"}) as process:
        process.load()
        for _ in range(2):  # also when it is asked again
            with pytest.raises(ProcessEnded, match=r"Segmentation fault$"):
                process.recognize(utterance(path), block_ms=320)


def test_times_are_those_of_the_recogniser(write_speech: Callable[..., Path]) -> None:
    """The clock runs while it loads and computes, not while a recording is read."""
    seconds = itertools.count()

    class Slow:
        def accept(self, samples: object) -> None:
            next(seconds)

        def finish(self) -> Heard:
            return Heard("")

    def load() -> Loaded:
        for _ in range(4):
            next(seconds)
        return Loaded(Slow, "", "")

    path = write_speech("speech.wav", 0.5)
    request = {"audio": str(path), "segment": None, "block_ms": 250}
    answers = io.StringIO()
    serve(load, io.StringIO(json.dumps(request)), answers, clock=lambda: float(next(seconds)))
    facts, heard = map(json.loads, answers.getvalue().splitlines())
    assert facts["load_s"] == 5  # 4, and the clock's own tick
    assert facts["model_mb"] is None
    assert heard["block_s"] == [2, 2]
    assert heard["finish_s"] == 1
