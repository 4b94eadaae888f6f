"""The benchmark of the losses: each runs in a process of its own, and what it cost is reported."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from asr.errors import AsrError
from training.cli import app
from training.loss_benchmark import LossShape, benchmark_losses

SMALL = LossShape(batch=2, frames=12, tokens=4, vocab=8, dim=16, repeat=1)


def test_from_the_command_to_the_report(tmp_path: Path) -> None:
    report = tmp_path / "loss.json"
    options = ["--batch", "2", "--frames", "120", "--tokens", "30", "--repeat", "1"]
    done = CliRunner().invoke(app, ["bench-loss", *options, "--report", str(report)])
    assert done.exit_code == 0, done.output
    content = json.loads(report.read_text())
    assert (content["schema_version"], content["kind"]) == (1, "loss")
    assert content["machine"]["usable_cpus"] >= 1
    full, pruned = content["variants"]
    assert (full["name"], pruned["name"]) == ("full", "pruned")
    assert (full["batch"], full["frames"], full["tokens"]) == (2, 120, 30)
    # What pruning is for: the full joint output alone has 2 * 120 * 31 * 256 floats, 7.6 MB.
    assert full["peak_mb"] > pruned["peak_mb"]
    assert full["peak_mb"] > 7.6
    assert min(full["seconds"], pruned["seconds"]) > 0


def test_a_loss_that_fails_is_named() -> None:
    with pytest.raises(AsrError, match="the other loss failed: KeyError"):
        benchmark_losses(SMALL, ["other"], watch=lambda name: None)


@pytest.mark.parametrize("change", [{"vocab": 2}, {"batch": 0}, {"tokens": 300}])
def test_a_shape_without_a_lattice_is_refused(change: dict[str, int]) -> None:
    with pytest.raises(AsrError, match="no more tokens than frames"):
        LossShape(**change)
