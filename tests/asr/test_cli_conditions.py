"""`asr conditions` measures each condition as `asr eval` does it alone."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from asr.cli import app
from asr.evaluation.conditions import OFFLINE_MS, Condition, conditions
from asr.evaluation.noise import is_held_out

SAMPLES = "data/samples/manifest.jsonl"


@pytest.fixture
def noises(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number in range(20):
        soundfile.write(tmp_path / f"{number}.wav", generator.normal(0, 0.1, 8000), 16_000)
    return tmp_path


def test_the_conditions_are_all_chunks_of_all_precisions_then_noise() -> None:
    rows = conditions(["int8", "fp32"], [160, 320], 320, [10.0, 0.0])
    assert rows == [
        *(Condition("int8", chunk) for chunk in (160, 320, OFFLINE_MS)),
        *(Condition("fp32", chunk) for chunk in (160, 320, OFFLINE_MS)),
        Condition("int8", 320, 10.0),
        Condition("int8", 320, 0.0),
    ]
    assert [str(row) for row in rows[-4:]] == [
        "fp32, 320 ms",
        "fp32, offline (10.24 s)",
        "int8, 320 ms, noise at 10 dB",
        "int8, 320 ms, noise at 0 dB",
    ]


def test_the_figures_are_those_of_asr_eval(noises: Path, tmp_path: Path) -> None:
    report = tmp_path / "conditions.json"
    options = ["--chunk-ms", "640", "--noise", str(noises), "--snr-db", "5", "--limit", "2"]
    done = CliRunner().invoke(app, ["conditions", SAMPLES, *options, "--report", str(report)])
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    written, speechless = content["rows"], content["speechless"]
    assert speechless["noises"] == sum(is_held_out(noise) for noise in noises.glob("*.wav"))
    minutes = speechless["audio_s"] / 60
    assert f" in {minutes:.1f} minutes in which nobody speaks: " in done.output
    rows = {row["condition"]: row["wer"] for row in written}
    assert list(rows) == ["int8, 640 ms", "int8, offline (10.24 s)", "int8, 320 ms, noise at 5 dB"]
    for condition, alone in {
        "int8, 640 ms": ["--chunk-ms", "640"],
        "int8, 320 ms, noise at 5 dB": ["--noise", str(noises), "--snr-db", "5"],
    }.items():
        one = tmp_path / "eval.json"
        arguments = ["eval", SAMPLES, "--limit", "2", *alone, "--report", str(one)]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        assert json.loads(one.read_text())["wer"] == rows[condition], condition
        assert f"| {condition} | {rows[condition]:.1%} |" in done.output
    assert [row["snr_db"] for row in written] == [None, None, 5.0]
    for row in written:
        errors = sum(row[kind] for kind in ("insertions", "deletions", "substitutions"))
        assert errors / row["words"] == pytest.approx(row["wer"])
        kinds = f"{row['insertions']} / {row['deletions']} / {row['substitutions']} |"
        assert kinds in done.output


def test_a_noise_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    """The recordings as they are were heard: only a condition with noise lacks some."""
    name = next(f"{number}.wav" for number in range(99) if is_held_out(Path(f"{number}.wav")))
    (tmp_path / name).write_bytes(b"no sound")
    good = next(
        f"{n}.wav" for n in range(99) if is_held_out(Path(f"{n}.wav")) and f"{n}.wav" != name
    )
    soundfile.write(tmp_path / good, np.random.default_rng(0).normal(0, 0.1, 8000), 16_000)
    options = ["--chunk-ms", "640", "--noise", str(tmp_path), "--snr-db", "5", "--limit", "2"]
    done = CliRunner().invoke(app, ["conditions", SAMPLES, *options])
    assert done.exit_code == 0, done.output
    assert name in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--snr-db", "5"], "Give --noise FOLDER"),
        (["--noise", "data/golden"], "none is held out"),
        (["--precision", "fp32"], "fp32"),
        (["--chunk-ms", "50"], "50"),
    ],
)
def test_what_cannot_be_measured_is_said_first(options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["conditions", SAMPLES, *options])
    assert done.exit_code == 2
    assert message in done.stderr
