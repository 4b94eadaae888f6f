"""Several processes that train together, started by `asr-train`, and what they exit with."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
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
        start_new_session=True,
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
    assert "2 processes, precision" in errors
    for irrelevant in ("deprecated", "sync_dist", "weights_only", "workers", "resumable"):
        assert irrelevant not in errors
    folder = tmp_path / "work" / "pair"
    assert (folder / "final" / "model.safetensors").exists()
    assert not list(folder.rglob("*.partial"))
    assert [row["sets"].keys() for row in journal(folder) if "sets" in row] == [{"one"}]


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=lambda s: s.name)
def test_a_signal_stops_all_processes_with_a_checkpoint(
    tones: Path, tmp_path: Path, signum: signal.Signals
) -> None:
    process = start(tmp_path, tones, 10)
    encoder = tmp_path / "work" / "pair" / "pretrain" / "encoder.pt"
    while not encoder.exists() and process.poll() is None:
        time.sleep(0.2)
    time.sleep(8)
    if signum == signal.SIGINT:
        os.killpg(process.pid, signum)  # as a terminal does: every process gets it
    else:
        process.send_signal(signum)
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signum, errors
    state = torch.load(tmp_path / "work" / "pair" / "last.ckpt", weights_only=True)
    assert state["global_step"] > 0


PATIENT = """
    import time
    from datetime import timedelta
    import torch
    from training import processes
    processes.TRAINING_TIMEOUT = timedelta(seconds=2)
    def make():
        time.sleep(5)
        return "made"
    print(processes.first_alone(make, find=lambda: "found"), flush=True)
    if processes.is_first():
        time.sleep(5)
    torch.distributed.barrier()
"""


def test_others_wait_long_for_the_preparation_and_not_for_a_step(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PATIENT)],
            env={**os.environ, **addresses, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    (first, _), (second, errors) = (rank.communicate(timeout=100) for rank in ranks)
    assert (first, second) == ("made\n", "found\n")
    assert ranks[1].returncode != 0
    assert "Timed out" in errors
