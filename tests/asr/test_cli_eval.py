"""Protects `asr eval` from arguments to table and report; the model is a fake."""

import hashlib
import json
import os
import subprocess
import sys
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

APP = typer.Typer()
APP.command("eval")(evaluate_command)

Run = Callable[..., Any]


class FakeStream:
    text = "hello world"

    def __init__(self) -> None:
        self.meter = RtfMeter()

    def accept(self, samples: Any, sample_rate: int) -> None:
        assert sample_rate == 16_000

    def finish(self) -> "FakeStream":
        return self


class FakeRecognizer:
    """Of its first `patience` streams, each hears "hello world"; the next is interrupted."""

    precision, chunk_ms = "int8", 320

    def __init__(self, bundle: Path, patience: int = 1000) -> None:
        self.bundle, self.patience = open_bundle(bundle), patience

    def stream(self, budget: Budget | None = None) -> FakeStream:
        self.patience -= 1
        if self.patience < 0:
            raise KeyboardInterrupt
        return FakeStream()


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path) -> list[tuple[Any, ...]]:
    """The arguments of every `asr.load`, which gives a recogniser that hears "hello world"."""
    calls: list[tuple[Any, ...]] = []

    def load(path: Path | None = None, *, precision: str, chunk_ms: int | None) -> FakeRecognizer:
        calls.append((path, precision, chunk_ms))
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
    options: list[str | Path] = ["--precision", "fp32", "--chunk-ms", "160", "--model", tmp_path]
    report = tmp_path / "out.json"
    result = run(*paths, *options, "--report", report)
    assert result.exit_code == 0, result.output
    assert loaded == [(tmp_path, "fp32", 160)]
    lines = {line.strip("│ ").replace(" ", "") for line in result.stdout.splitlines()}
    assert {"WER│75.00%", "insertions│2", "substitutions│1", "words│4", "skipped│2"} <= lines
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
    assert loaded == [(None, "int8", None)]


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
    assert (content["precision"], content["chunk_ms"]) == ("int8", 320)
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
    assert run(path, "--limit", "0").exit_code == 2
    assert loaded == []


def test_help_loads_no_inference_engine() -> None:
    code = "import sys, asr.cli.eval; print('onnxruntime' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
