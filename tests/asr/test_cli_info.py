"""`asr info` describes a model and can prove that it computes the right thing here."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

import asr
from asr import __version__
from asr.cli import app


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def info(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["info", *map(str, arguments)])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_info_describes_the_model(tiny_bundle: Path) -> None:
    output = info("--model", tiny_bundle)
    for text in ("tiny (en)", "0.01 M", "2 layers of 4", "12 tokens", "320 ms"):
        assert text in output
    assert "int8 for onnx, 0.0 MB" in output
    assert "dev: 0.5" in output, "the model card is missing"


def test_info_tells_what_this_machine_has_found_out(tiny_bundle: Path) -> None:
    assert "self-test   not run here yet" in info("--model", tiny_bundle)
    recognizer = asr.load(tiny_bundle)
    output = info("--model", tiny_bundle)
    assert "self-test   passed: max error of the encoder" in output
    assert "first load  " in output
    assert "a stream    not measured here yet" in output
    recognizer.stream(asr.Budget(rtf=1000))
    assert "a stream    RTF 0." in info("--model", tiny_bundle)


def test_verify_runs_the_self_test(tiny_bundle: Path) -> None:
    assert "self-test   passed" in info("--model", tiny_bundle, "--verify")


def test_verify_goes_on_behind_a_variant_that_fails(tiny_bundle: Path, tmp_path: Path) -> None:
    """The others may be what this machine can use."""
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    content = json.loads((path / "bundle.json").read_text())
    (graphs,) = content["variants"]
    content["variants"] = [graphs | {"engine": "abacus"}, graphs]
    (path / "bundle.json").write_text(json.dumps(content))
    assert "int8 for abacus" in info("--model", path)
    done = CliRunner().invoke(app, ["info", "--model", str(path), "--verify"])
    assert done.exit_code == 2
    failed, passed = (line for line in done.stdout.splitlines() if "self-test" in line)
    assert "failed, see below" in failed and "passed: max error" in passed
    assert "graphs are for the engine 'abacus'" in done.stderr


def test_what_a_stranger_wrote_is_text_and_no_command(tiny_bundle: Path, tmp_path: Path) -> None:
    path = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    content = json.loads((path / "bundle.json").read_text())
    deep: dict = {}
    for _ in range(300):
        deep = {"a": deep}
    lists = json.loads("[" * 300 + "]" * 300)
    note = "\x1b[2J\nself-test passed \ud800"
    content["card"] = {"note": note, "deep": deep, "lists": lists}
    (path / "bundle.json").write_text(json.dumps(content))
    output = info("--model", path)
    assert r"  note: \x1b[2J\nself-test passed \ud800" in output.splitlines()
    assert "a: ..." in output


def test_an_engine_that_the_model_has_not(tiny_bundle: Path) -> None:
    done = CliRunner().invoke(app, ["info", "--model", str(tiny_bundle), "--engine", "ort"])
    assert done.exit_code == 2
    assert "no int8 graphs for the engine 'ort'; it has them for onnx" in done.stderr


def test_a_bad_model_exits_with_2(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["info", "--model", str(tmp_path)])
    assert done.exit_code == 2
    assert "no bundle.json" in done.stderr


def test_version() -> None:
    assert CliRunner().invoke(app, ["--version"]).stdout == f"earshot-asr {__version__}\n"
