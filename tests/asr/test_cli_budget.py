"""`asr transcribe` with budgets: what is decided is on stderr and in the JSON, what can't be held
is refused, and the text so far is never lost."""

import json
from collections.abc import Callable
from functools import partial
from itertools import chain, count, repeat
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import asr
from asr.budget import CHUNKS_MS, OperatingPoint
from asr.calibration import Profile
from asr.cli import app
from asr.evaluation.meters import RtfMeter
from asr.supervisor import Supervisor

Write = Callable[..., Path]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["transcribe", *map(str, arguments)])


def test_a_budget_that_holds_changes_no_word(tiny_bundle: Path, write_speech: Write) -> None:
    path = write_speech("a.wav")
    options = ["--budget-rtf", 100, "--budget-memory-mb", 1e5, "--budget-latency-ms", 60_000]
    done = invoke(path, "--model", tiny_bundle, "--json", *options)
    assert done.exit_code == 0
    content = json.loads(done.stdout)
    assert content["text"] == asr.load(tiny_bundle).transcribe(path).text
    report = content["budget"]
    assert report["budget"] == {"rtf": 100, "memory_mb": 1e5, "latency_ms": 60_000}
    assert report["points"][0]["point"] == {"chunk_ms": 320}
    assert (report["moves"], report["overruns"], report["lost_audio_s"]) == ([], [], 0)
    assert report["audio_s"] == pytest.approx(3.19, abs=0.05)


def test_without_a_budget_there_is_no_report(tiny_bundle: Path, write_speech: Write) -> None:
    done = invoke(write_speech("a.wav"), "--model", tiny_bundle, "--json")
    assert "budget" not in json.loads(done.stdout)


def test_moves_are_told(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow machine, with a profile of better days: each step takes 1.6 s by its clock."""
    points = list(map(OperatingPoint, CHUNKS_MS))
    profile = Profile(dict.fromkeys(points, 0.01), growth_mb=dict.fromkeys(points, 0.0))
    ticks = count()
    monkeypatch.setattr("asr.calibration.calibrate", lambda *_: profile)
    monkeypatch.setattr("asr.stream.RtfMeter", lambda: RtfMeter(lambda: 1.6 * next(ticks)))
    done = invoke(write_speech("a.wav", 9.0), "--model", tiny_bundle, "--budget-rtf", 5, "--json")
    assert done.exit_code == 0
    (move,) = json.loads(done.stdout)["budget"]["moves"]
    assert move["from_point"] == {"chunk_ms": 320}
    line = f"{move['time_s']:.1f} s: 320 ms -> {move['to_point']['chunk_ms']} ms (rtf "
    assert line in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-rtf", "1e-9"], "error: rtf=1e-09 can't be held: the lowest"),
        (["--budget-memory-mb", "5"], "error: memory_mb=5 can't be held: this process holds"),
        (["--budget-latency-ms", "50"], "error: latency_ms=50 can't be held"),
        (["--budget-rtf", "0"], "error: a budget of rtf=0.0; expected a positive number"),
    ],
)
def test_what_can_not_be_held_is_refused(
    tiny_bundle: Path, write_speech: Write, options: list[str], message: str
) -> None:
    done = invoke(write_speech("a.wav"), "--model", tiny_bundle, *options)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


@pytest.mark.parametrize("realtime", [[], ["--realtime"]])
def test_memory_that_runs_out_leaves_the_text_so_far(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch, realtime: list[str]
) -> None:
    held_mb = chain([50.0] * 4, repeat(99.0))
    supervisor = partial(Supervisor, resident=lambda: next(held_mb))
    monkeypatch.setattr("asr.recognizer.Supervisor", supervisor)
    monkeypatch.setattr("asr.calibration.resident_mb", lambda: 50.0)
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    path = write_speech("a.wav", 5.0)
    done = invoke(path, "--model", tiny_bundle, "--budget-memory-mb", 80, "--json", *realtime)
    assert done.exit_code == 2
    content = json.loads(done.stdout)
    whole = asr.load(tiny_bundle).transcribe(path).text
    assert content["text"]
    assert whole.startswith(content["text"])
    assert len(content["text"]) < len(whole)
    assert "99.0 MB of memory with a budget of 80 MB" in content["error"]
    assert content["budget"]["overruns"][-1]["budget"] == "memory"


def test_memory_that_runs_out_at_the_end_loses_no_text_and_no_other_file(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last chunk is computed when the audio is over."""
    path = write_speech("a.wav", 3.0)
    chunks = 9  # of 320 ms, before the last
    held_mb = chain([50.0] * chunks, [99.0] * 2, repeat(50.0))
    supervisor = partial(Supervisor, resident=lambda: next(held_mb))
    monkeypatch.setattr("asr.recognizer.Supervisor", supervisor)
    monkeypatch.setattr("asr.calibration.resident_mb", lambda: 50.0)
    done = invoke(path, path, "--model", tiny_bundle, "--budget-memory-mb", 80, "--json")
    assert done.exit_code == 2
    first, second = map(json.loads, done.stdout.splitlines())
    assert first["text"]
    assert "99.0 MB of memory with a budget of 80 MB" in first["error"]
    assert second["error"] is None
    assert second["text"].startswith(first["text"])
    assert second["text"] == asr.load(tiny_bundle).transcribe(path).text


def test_a_file_for_which_there_is_no_memory_any_more_is_an_error_of_its_own(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget held for the first file; something in the process has grown since."""
    now_mb = [50.0]
    monkeypatch.setattr("asr.calibration.resident_mb", lambda: now_mb[0])
    monkeypatch.setattr("asr.recognizer.Supervisor", partial(Supervisor, resident=lambda: 50.0))
    finish = asr.Stream.finish
    grown_mb = chain([90.0], repeat(50.0))

    def grow(stream: asr.Stream) -> asr.Final:
        now_mb[0] = next(grown_mb)
        return finish(stream)

    monkeypatch.setattr(asr.Stream, "finish", grow)
    path = write_speech("a.wav", 3.0)
    options = ["--model", tiny_bundle, "--budget-memory-mb", 80]
    done = invoke(path, path, path, *options, "--json")
    assert done.exit_code == 2
    first, second, third = map(json.loads, done.stdout.splitlines())
    assert (first["error"], second["text"]) == (None, "")
    assert second["error"].startswith("memory_mb=80 can't be held: this process holds 90 MB")
    assert third["error"] is None and third["text"] == first["text"] != ""
    assert f"error: {second['error']}" in done.stderr
    assert "6.0 s of audio in " in done.stderr, "the summary is of the others"


def test_what_is_decided_at_the_end_is_told(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_mb = chain([50.0] * 9, [99.0], repeat(60.0))
    supervisor = partial(Supervisor, resident=lambda: next(held_mb))
    monkeypatch.setattr("asr.recognizer.Supervisor", supervisor)
    monkeypatch.setattr("asr.calibration.resident_mb", lambda: 50.0)
    path = write_speech("a.wav", 3.0)
    done = invoke(path, "--model", tiny_bundle, "--budget-memory-mb", 80)
    assert done.exit_code == 0
    assert "memory 99 of 80; 0.0 s behind; gave back 39.0 MB" in done.stderr


def test_memory_that_runs_out_leaves_the_open_segment(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_mb = chain([50.0] * 4, repeat(99.0))
    supervisor = partial(Supervisor, resident=lambda: next(held_mb))
    monkeypatch.setattr("asr.recognizer.Supervisor", supervisor)
    monkeypatch.setattr("asr.calibration.resident_mb", lambda: 50.0)
    options = ["--model", tiny_bundle, "--budget-memory-mb", 80, "--endpoints"]
    path = write_speech("a.wav", 5.0)
    printed = invoke(path, *options)
    assert printed.exit_code == 2
    assert "over budget: memory 99 of 80" in printed.stderr
    held_mb = chain([50.0] * 4, repeat(99.0))
    content = json.loads(invoke(path, *options, "--json").stdout)
    segments = content["segments"]
    assert content["text"] == " ".join(segment["text"] for segment in segments)
    assert segments[-1]["reason"] == "the memory passed its budget"
    assert [line.partition("] ")[2] for line in printed.stdout.splitlines()] == [
        segment["text"] for segment in segments
    ]


def test_realtime_goes_through_the_queue(
    tiny_bundle: Path, write_speech: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # so that the player runs ahead
    path = write_speech("a.wav", 40.0)
    done = invoke(path, "--model", tiny_bundle, "--realtime", "--json", "--budget-rtf", 1000)
    content = json.loads(done.stdout)
    assert content["text"] == asr.load(tiny_bundle).transcribe(path).text
    assert 0 < content["budget"]["max_queue_s"] <= 30
    assert content["budget"]["lost_audio_s"] == 0
