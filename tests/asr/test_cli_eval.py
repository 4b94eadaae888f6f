"""Protects `asr eval` from arguments to table and report; the model is a fake."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer
from typer.testing import CliRunner

import asr
from asr.budget import Budget
from asr.bundle import open_bundle
from asr.cli.eval import evaluate_command
from asr.errors import AsrError, ManifestError
from asr.evaluation.meters import RtfMeter
from asr.results import Final, Result, Word
from tests.asr.signals import noise

APP = typer.Typer()
APP.command("eval")(evaluate_command)

Run = Callable[..., Any]


class FakeStream:
    """Hears "hello world" in everything."""

    def __init__(self) -> None:
        self.meter = RtfMeter()

    def accept(self, samples: Any, sample_rate: int) -> None:
        assert sample_rate == 16_000
        self.meter.add_audio(len(samples) / sample_rate)

    def finish(self) -> Final:
        words = Word("hello", 0.2, 0.4, 0.9), Word("world", 0.5, 0.7, 0.8)
        return Final(1.0, words, Result("hello world", words, (), 1.0, 0.85))


class FakeRecognizer:
    """Of its first `patience` streams, each hears "hello world"; the next is interrupted."""

    precision, chunk_ms, search = "int8", 320, "greedy"

    def __init__(self, bundle: Path, patience: int = 10_000) -> None:
        self.bundle, self.patience = open_bundle(bundle), patience
        self.graphs = self.bundle.graphs("int8")

    def stream(self, budget: Budget | None = None) -> FakeStream:
        self.patience -= 1
        if self.patience < 0:
            raise KeyboardInterrupt
        return FakeStream()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> list[tuple[Any, ...]]:
    """The arguments of every `asr.load`, which gives a recogniser that hears "hello world"."""
    calls: list[tuple[Any, ...]] = []

    def load(
        path: Path | None,
        *,
        precision: str | None,
        engine: str | None,
        chunk_ms: int | None,
        threads: int,
        search: str | None,
    ) -> FakeRecognizer:
        assert threads == 1, "named, so that what asr tune chose is left alone"
        calls.append((path, precision, engine, chunk_ms, search))
        return FakeRecognizer(tiny_bundle)

    monkeypatch.setattr(asr, "load", load, raising=False)
    return calls


def manifest(folder: Path, *texts: str) -> Path:
    folder.mkdir()
    soundfile.write(folder / "a.wav", np.zeros(16_000, np.float32), 16_000)
    (folder / "broken.wav").touch()
    row = {"audio": "a.wav", "duration": 1.0, "split": "dev"}
    rows = [row | {"id": f"{folder.name}{n}", "text": text} for n, text in enumerate(texts)]
    rows.append(row | {"id": "broken", "text": "hello", "audio": "broken.wav", "split": "train"})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def run(*arguments: str | Path) -> Any:
    return CliRunner().invoke(APP, [str(argument) for argument in arguments])


def test_pools_manifests_prints_figures_and_writes_the_report(
    tmp_path: Path, loaded: list[tuple[Any, ...]]
) -> None:
    paths = [manifest(tmp_path / "a", "Hello, world!"), manifest(tmp_path / "b", "hello", "low")]
    options: list[str | Path] = ["--precision", "fp32", "--chunk-ms", "160", "--engine", "onnx"]
    options += ["--model", tmp_path, "--search", "beam"]
    report = tmp_path / "out.json"
    result = run(*paths, *options, "--report", report)
    assert result.exit_code == 0, result.output
    assert loaded == [(tmp_path, "fp32", "onnx", 160, "beam")]
    lines = {line.strip("│ ").replace(" ", "") for line in result.stdout.splitlines()}
    assert {"WER│75.00%", "insertions│2", "substitutions│1", "words│4", "skipped│2"} <= lines
    assert {"sentenceerrorrate│66.67%", "WER,OpenASRleaderboard│75.00%"} <= lines
    assert "skipped broken: " in result.stderr
    assert "an empty file" in result.stderr
    content = json.loads(report.read_text())
    assert content["utterances"] == 3
    assert content["complete"] is True


def test_strict_makes_skipped_recordings_an_error(
    tmp_path: Path, loaded: list[tuple[Any, ...]]
) -> None:
    path, report = manifest(tmp_path / "a", "hello world"), tmp_path / "out.json"
    for options, exit_code in (([], 0), (["--strict"], 2)):
        result = run(path, *options, "--report", report)
        assert result.exit_code == exit_code
        assert "1 of 2 recordings are not in the figures" in result.stderr
        assert "0.00%" in result.stdout
        assert report.exists()
        report.unlink()
    whole = run(path, "--split", "dev", "--strict")
    assert whole.exit_code == 0
    assert "not in the figures" not in whole.stderr


def test_a_budget_is_evaluated_and_its_use_is_shown(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path, report = manifest(tmp_path / "a", "hello", "world"), tmp_path / "out.json"
    options = ["--model", tiny_bundle, "--split", "dev", "--report", report]
    result = run(path, *options, "--budget-rtf", "1000", "--budget-latency-ms", "60000")
    assert result.exit_code == 0, result.output
    lines = {line.strip("│ ").replace(" ", "") for line in result.stdout.splitlines()}
    assert {"moves│0", "overruns│0", "chunks│320ms100%"} <= lines
    content = json.loads(report.read_text())["budget"]
    assert content["budget"] == {"rtf": 1000, "memory_mb": None, "latency_ms": 60_000}
    assert (content["moves"], content["ended"]) == (0, 0)
    refused = run(path, *options, "--budget-rtf", "1e-9")
    assert isinstance(refused.exception, AsrError)
    assert "rtf=1e-09 can't be held" in str(refused.exception)


def test_split_and_limit(tmp_path: Path, loaded: list[tuple[Any, ...]]) -> None:
    path = manifest(tmp_path / "a", "hello world", "nonsense")
    result = run(path, "--split", "dev", "--limit", "1")
    assert "0.00%" in result.stdout
    assert "skipped " not in result.stderr
    assert loaded == [(None, None, None, None, None)]


def test_the_report_says_what_was_measured_with_what(
    tmp_path: Path, loaded: list[tuple[Any, ...]], tiny_bundle: Path
) -> None:
    path, report = manifest(tmp_path / "a", "hello"), tmp_path / "out.json"
    assert run(path, "--split", "dev", "--limit", "1", "--report", report).exit_code == 0
    content = json.loads(report.read_text())
    digest = hashlib.sha256((tiny_bundle / "bundle.json").read_bytes()).hexdigest()
    assert content["model"] == {"name": "tiny", "sha256": digest, "parameters": 12_345}
    assert content["machine"].keys() == {"platform", "processor", "cpus", "usable_cpus"}
    assert content["engine"].startswith("onnxruntime ")
    assert (content["precision"], content["chunk_ms"], content["search"]) == ("int8", 320, "greedy")
    assert content["manifests"] == [str(path)]
    assert (content["split"], content["limit"]) == ("dev", 1)
    assert content["version"] == asr.__version__
    assert content["date"].endswith("+00:00")


@pytest.mark.parametrize("patience", [0, 2])
def test_an_interrupt_keeps_what_was_measured(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, patience: int
) -> None:
    recognizer = FakeRecognizer(tiny_bundle, patience)
    monkeypatch.setattr(asr, "load", lambda *_, **__: recognizer, raising=False)
    path, report = manifest(tmp_path / "a", "hello", "world", "more"), tmp_path / "out.json"
    result = run(path, "--split", "dev", "--report", report)
    assert result.exit_code == 130
    assert report.exists() == (patience > 0)
    if patience:
        assert "2 (interrupted)" in result.stdout
        content = json.loads(report.read_text())
        assert (content["complete"], content["utterances"]) == (False, 2)


def speech_rows(folder: Path, count: int) -> Path:
    """A manifest of noises that a model hears something in."""
    folder.mkdir(exist_ok=True)
    rows = []
    for number in range(count):
        name, length_s = f"{number}.wav", 0.6 + 0.1 * (number % 4)
        soundfile.write(folder / name, noise(length_s, 16_000), 16_000)
        rows.append({"id": f"u{number}", "audio": name, "duration": length_s, "text": "so me"})
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_one_bad_row_of_each_kind_among_a_thousand(
    tmp_path: Path, loaded: list[tuple[Any, ...]]
) -> None:
    """Named, counted, and the rest evaluated; an error only with --strict."""
    path = manifest(tmp_path / "a", *["hello world"] * 1000, "caf?", "")
    rows = path.read_bytes().replace(b"?", b"\xe9").split(b"\n")
    again, lost = json.loads(rows[7]), json.loads(rows[8]) | {"id": "lost", "audio": "lost.wav"}
    lines = [*rows, json.dumps(again).encode(), json.dumps(lost).encode(), b"{oops"]
    path.write_bytes(b"\n".join(lines))
    report = tmp_path / "out.json"
    result = run(path, "--report", report)
    assert result.exit_code == 0, result.output
    assert "6 of 1006 recordings are not in the figures" in result.stderr
    content = json.loads(report.read_text())
    assert (content["utterances"], content["wer"]) == (1000, 0.0)
    reasons = {item["id"]: item["reason"] for item in content["skipped"]}
    expected = {
        "a1000": "not UTF-8 (byte 0xe9)",
        "a1001": "no words in its text ''",
        "a7": f"its id was used before, at {path}:8",
        "lost": "no audio file",
        f"{path}:1006": "not JSON",
        "broken": "an empty file",
    }
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name]
    assert run(path, "--strict").exit_code == 2


def test_shows_groups_and_the_worst_utterances(
    tmp_path: Path, loaded: list[tuple[Any, ...]]
) -> None:
    path = manifest(tmp_path / "a", "hello world", "jello there world")
    report = tmp_path / "out.json"
    options = ["--split", "dev", "--by", "split", "--worst", "3", "--report", report]
    result = run(path, *options)
    lines = [line.strip() for line in result.stdout.splitlines()]
    assert "by split" in lines
    assert "│ dev   │ 40.00% │   0 │   1 │   1 │     5 │          2 │" in lines
    assert lines[-3:] == [
        "a1  WER 67%: 0 inserted, 1 deleted, 1 substituted of 3 words",
        "REF: JELLO THERE world",
        "HYP: ***** HELLO world",
    ]
    (group,) = json.loads(report.read_text())["by"]["split"]
    assert (group["value"], group["wer"]) == ("dev", pytest.approx(0.4))
    error = run(path, "--by", "speaker").exception
    assert "--by speaker: no utterance has this field; known: split" in str(error)


def test_writes_what_sclite_reads(tmp_path: Path, loaded: list[tuple[Any, ...]]) -> None:
    path = manifest(tmp_path / "a", "Hello, low world")
    names = ["--trn", tmp_path / "t", "--ctm", tmp_path / "c"]
    assert run(path, "--split", "dev", *names).exit_code == 0
    assert (tmp_path / "t.ref.trn").read_text() == "hello low world (unknown-a0)\n"
    assert (tmp_path / "t.hyp.trn").read_text() == "hello world (unknown-a0)\n"
    first, second = (tmp_path / "c.ctm").read_text().splitlines()
    assert first == "unknown-a0 1 0.20 0.20 hello 0.900"
    assert second == "unknown-a0 1 0.50 0.20 world 0.800"
    assert "0.00 1.00 hello low world" in (tmp_path / "c.stm").read_text()


def test_compares_with_another_report(tmp_path: Path, loaded: list[tuple[Any, ...]]) -> None:
    path = manifest(tmp_path / "a", *["hello world"] * 9)
    reports = [tmp_path / "one.json", tmp_path / "two.json"]
    assert run(path, "--report", reports[0]).exit_code == 0
    content = json.loads(reports[0].read_text())
    for row in content["rows"]:
        row["sub"] = 1
    reports[0].write_text(json.dumps(content))
    result = run(path, "--compare", reports[0], "--report", reports[1])
    assert "It is better here: WER 0.00% here, 50.00% in" in result.stdout
    comparison = json.loads(reports[1].read_text())["comparison"]
    assert (comparison["utterances"], comparison["difference"]) == (9, -0.5)
    assert comparison["is_real"] is True
    loads = len(loaded)
    content["rows"][3]["reference"] = "another"
    reports[0].write_text(json.dumps(content))
    refused = run(path, "--compare", reports[0]).exception
    assert isinstance(refused, AsrError)
    assert "a3 has the reference 'another', here it is 'hello world'" in str(refused)
    assert len(loaded) == loads


def test_goes_on_where_it_was_interrupted(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, report = manifest(tmp_path / "a", *["hello world"] * 5), tmp_path / "out.json"
    partial = tmp_path / "out.json.partial"
    recognizers = [FakeRecognizer(tiny_bundle, patience) for patience in (2, 1, 10, 10, 10)]
    loads = iter(recognizers)
    monkeypatch.setattr(asr, "load", lambda *_, **__: next(loads), raising=False)
    options: list[str | Path] = ["--split", "dev", "--report", report]
    first = run(path, *options)
    assert first.exit_code == 130
    assert f"{partial} has it: the same command goes on" in first.stderr
    second = run(path, *options)
    assert f"going on from {partial}: 2 of 5 utterances are done" in second.stderr
    assert json.loads(report.read_text())["utterances"] == 3
    refused = run(path, *options, "--limit", "4").exception
    assert isinstance(refused, AsrError)
    assert "is what another command has measured" in str(refused)
    last = run(path, *options, "--worst", "1")
    assert last.exit_code == 0, "what is shown may differ"
    assert recognizers[3].patience == 10 - 2
    content = json.loads(report.read_text())
    assert (content["complete"], content["utterances"], content["wer"]) == (True, 5, 0.0)
    assert [row["id"] for row in content["rows"]] == [f"a{number}" for number in range(5)]
    assert not partial.exists()


def test_two_jobs_give_the_report_of_one(tmp_path: Path, tiny_bundle: Path) -> None:
    path = speech_rows(tmp_path / "a", 6)
    (tmp_path / "a" / "3.wav").write_bytes(b"RIFF")
    contents = []
    for jobs in ("1", "2"):
        report = tmp_path / f"{jobs}.json"
        result = run(path, "--model", tiny_bundle, "--jobs", jobs, "--report", report)
        assert result.exit_code == 0, result.output
        contents.append(json.loads(report.read_text()))
    one, two = contents
    assert (one["jobs"], two["jobs"]) == (1, 2)
    assert (two["rtf"] > 0, two["peak_rss_mb"] > 10) == (True, True)
    same = ("wer", "ci95", "ins", "del", "sub", "cer", "ser", "words", "audio_s", "skipped")
    assert [two[key] for key in same] == [one[key] for key in same]
    rows = [[row | {"compute_s": 0} for row in each["rows"]] for each in contents]
    assert rows[0] == rows[1]
    assert [row["id"] for row in rows[0]] == ["u0", "u1", "u2", "u4", "u5"]
    assert any(row["hypothesis"] for row in rows[0])


def test_jobs_with_a_budget_are_refused(tmp_path: Path, loaded: list[tuple[Any, ...]]) -> None:
    path = manifest(tmp_path / "a", "hello world")
    refused = run(path, "--jobs", "2", "--budget-rtf", "1").exception
    assert "a budget and --jobs 2" in str(refused)
    assert loaded == []


def test_ctrl_c_ends_all_processes_and_keeps_what_they_did(
    tmp_path: Path, tiny_bundle: Path
) -> None:
    """As a terminal sends it: to the whole group."""
    soundfile.write(tmp_path / "long.wav", noise(20.0, 16_000), 16_000)
    row = {"audio": "long.wav", "duration": 20.0, "text": "so me"}
    path, report = tmp_path / "manifest.jsonl", tmp_path / "out.json"
    path.write_text("\n".join(json.dumps(row | {"id": str(n)}) for n in range(1000)))
    options = ["--model", tiny_bundle, "--jobs", "2", "--report", report]
    process = subprocess.Popen(
        [sys.executable, "-m", "asr", "eval", path, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    partial = tmp_path / "out.json.partial"
    while not (partial.exists() and partial.read_bytes().count(b"\n") > 3):
        assert process.poll() is None
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)  # until nobody holds its stderr: all have ended
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    content = json.loads(report.read_text())
    assert content["complete"] is False
    kept = [json.loads(line)["id"] for line in partial.read_text().splitlines()[1:]]
    assert sorted(kept) == sorted(row["id"] for row in content["rows"])


def test_bad_input_is_refused_before_the_model_is_loaded(
    tmp_path: Path, loaded: list[tuple[Any, ...]]
) -> None:
    """As AsrError: the `asr` command prints those and exits with code 2."""
    path = manifest(tmp_path / "a", "hello")
    assert isinstance(run(path, "--split", "test").exception, ManifestError)
    missing = run(path, "--report", tmp_path / "no" / "out.json")
    assert isinstance(missing.exception, AsrError)
    assert "make it first" in str(missing.exception)
    assert "expected a file name" in str(run(path, "--report", tmp_path).exception)
    # A device or a pipe would be replaced by a file, a name that is too long noticed at the end.
    os.mkfifo(tmp_path / "pipe")
    assert "expected a file name" in str(run(path, "--report", tmp_path / "pipe").exception)
    assert "can't be written: File name" in str(run(path, "--report", "x" * 300).exception)
    assert "read here, and would be lost" in str(run(path, "--report", path).exception)
    assert run(path, "--limit", "0").exit_code == 2
    assert loaded == []


def test_help_loads_no_inference_engine() -> None:
    code = "import sys, asr.cli.eval; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
