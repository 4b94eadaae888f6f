"""asr report writes one page, and asr tune and asr peers what it needs, as a user runs them."""

import json
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner, Result

import asr.cli.peers as peers_cli
from asr.bundle import open_bundle
from asr.cli import app
from asr.evaluation.peers.comparison import Peer
from asr.tuned import read_tuned
from tests.asr.evaluation.report.fake_results import write_results


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def manifest(write_speech: Callable[..., Path], tmp_path: Path) -> Path:
    path = tmp_path / "manifest.jsonl"
    rows = []
    for name, seconds in (("one", 1.3), ("two", 1.0)):
        audio = write_speech(f"{name}.wav", seconds)
        rows.append({"id": name, "audio": audio.name, "duration": seconds, "text": "so me word"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_a_page_and_its_tables(tmp_path: Path) -> None:
    page, tables = tmp_path / "out.html", tmp_path / "out.md"
    result = run("report", page, *write_results(tmp_path), "--markdown", tables)
    assert result.exit_code == 0, result.output
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert tables.read_text(encoding="utf-8").startswith("# How good is it?")


@pytest.mark.parametrize(
    ("page", "file", "message"),
    [
        ("out.html", "missing.json", "missing.json: can't be read as JSON"),
        ("no/such/out.html", "eval.json", "there is no directory"),
        ("out.json", "eval.json", "expected a name that ends in .html"),
        ("out.html", "bad.json", "bad.json: not as this version writes it"),
        ("out.html", "nan.json", "nan.json: can't be read as JSON: NaN is no number"),
    ],
)
def test_a_mistake_is_one_line(page: str, file: str, message: str, tmp_path: Path) -> None:
    (known,) = write_results(tmp_path, "eval")
    for name, wer in (("bad", "much"), ("nan", float("nan"))):
        content = json.loads(known.read_text()) | {"wer": wer}
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    result = run("report", tmp_path / page, known, tmp_path / file)
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / page).exists()


def test_tune_keeps_its_choice_and_forgets_it(
    manifest: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    report, plot = tmp_path / "tune.json", tmp_path / "front.svg"
    space = ("--chunk-ms", 320, "--chunk-ms", 2560, "--threads", 1)
    common = ("tune", manifest, "--model", tiny_bundle, *space)
    result = run(*common, "--report", report, "--plot", plot, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "chosen, and not kept: int8, 320 ms, 1 thread" in result.stderr
    bundle = open_bundle(tiny_bundle)
    assert read_tuned(bundle) is None
    trials = json.loads(report.read_text())["trials"]
    assert [trial["chunk_ms"] for trial in trials] == [320, 2560]
    assert "latency of 2598 ms" in trials[1]["given_up"]
    assert ElementTree.parse(plot).getroot().tag.endswith("svg")
    assert run(*common).exit_code == 0
    point = read_tuned(bundle)
    assert point is not None and point.chunk_ms == 320
    page = tmp_path / "out.html"
    assert run("report", page, report).exit_code == 0
    assert "its chunk alone makes" in page.read_text(encoding="utf-8")
    forgotten = run("tune", "--forget", "--model", tiny_bundle)
    assert "forgotten: int8, chunks of 320 ms, 1 thread" in forgotten.stdout
    assert read_tuned(bundle) is None
    assert "nothing was chosen here" in run("tune", "--forget", "--model", tiny_bundle).stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-memory-mb", 1], "no operating point is within the budget; int8, 320 ms"),
        (["--plot", "front.png"], "expected a name that ends in .svg"),
        (["--budget-rtf", -1], "a budget of rtf=-1"),
    ],
)
def test_tune_refuses_what_can_not_be(
    options: list, message: str, manifest: Path, tiny_bundle: Path
) -> None:
    space = ("--model", tiny_bundle, "--chunk-ms", 320, "--threads", 1)
    result = run("tune", manifest, *space, *options)
    assert result.exit_code == 2
    assert message in result.stderr
    assert run("tune").exit_code == 2


def test_peers_are_compared_and_reported(
    manifest: Path, tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a fake in place of the others: they are tested where they are."""
    ours = Peer("Earshot", "asr.evaluation.peers.earshot", {"model": str(tiny_bundle)})
    fake = Peer("fake", "tests.asr.evaluation.fake_recognizer", {})
    absent = Peer("absent", "", {}, unavailable="not here")
    monkeypatch.setattr(peers_cli, "_peers", lambda *_: (ours, fake, absent))
    report, page = tmp_path / "peers.json", tmp_path / "out.html"
    result = run("peers", manifest, "--model", tiny_bundle, "--report", report)
    assert result.exit_code == 0, result.output
    assert "not here" in result.stdout
    assert "time of Earshot for a block over that of fake:" in result.stdout
    content = json.loads(report.read_text())
    assert [peer["name"] for peer in content["peers"]] == ["Earshot", "fake", "absent"]
    assert content["peers"][1]["rows"][0]["hypothesis"] != ""
    assert content["manifests"] == [str(manifest)]
    assert run("report", page, report).exit_code == 0
    assert "n/a: not here" in page.read_text(encoding="utf-8")
