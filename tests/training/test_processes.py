"""Several processes that train together, started by `asr-train`, and what they exit with."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.training.test_run import journal

pytestmark = pytest.mark.slow  # each starts three processes that import PyTorch

RECIPE = """
name: pair
size: xs
vocab_size: 20
processes: 2
data:
  train: [{manifests: "tones/*.jsonl"}]
  phones: [{manifests: "tones/*.jsonl"}]
  dev: [{name: one, manifests: "tones/*.jsonl", limit: 1}]
pretrain: {hours: 0.008, batch_seconds: 4}
train: {hours: HOURS, batch_seconds: 4, checkpoint_minutes: 60}
"""


def start(folder: Path, corpora: Path, hours: float) -> subprocess.Popen:
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("HOURS", str(hours)))
    options = ["--recipe", recipe, "--data", corpora, "--work", folder / "work"]
    return subprocess.Popen(
        [sys.executable, "-m", "training.cli", *map(str, options)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_wrong_folder_is_a_message_and_exit_code_2(tmp_path: Path) -> None:
    process = start(tmp_path, tmp_path / "absent", 1)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 2, errors
    assert errors.count("asr-train: no manifest matches 'tones/*.jsonl'") == 1, errors
    assert "Traceback" not in errors


def test_two_processes_train_both_stages(tones: Path, tmp_path: Path) -> None:
    process = start(tmp_path, tones, 0.008)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    folder = tmp_path / "work" / "pair"
    assert (folder / "final" / "model.safetensors").exists()
    assert not list(folder.rglob("*.partial"))
    assert [row["sets"].keys() for row in journal(folder) if "sets" in row] == [{"one"}]


def test_sigterm_stops_all_processes_with_a_checkpoint(tones: Path, tmp_path: Path) -> None:
    process = start(tmp_path, tones, 10)
    encoder = tmp_path / "work" / "pair" / "pretrain" / "encoder.pt"
    while not encoder.exists() and process.poll() is None:
        time.sleep(0.2)
    time.sleep(8)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, errors
    state = torch.load(tmp_path / "work" / "pair" / "last.ckpt", weights_only=True)
    assert state["global_step"] > 0
