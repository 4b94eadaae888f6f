"""Several processes that train together, started by `asr-train`, and what they exit with."""

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
import torch

from tests.training.conftest import sentences
from tests.training.test_run import journal
from training.batching import BatchPlan
from training.recipe import Recipe
from training.task import StepClock

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
train: {hours: HOURS, batch_seconds: 4, checkpoint_minutes: MINUTES}
"""


def write_recipe(folder: Path, hours: float, minutes: float = 60) -> Path:
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("HOURS", str(hours)).replace("MINUTES", str(minutes)))
    return recipe


def start(folder: Path, corpora: Path, hours: float, minutes: float = 60) -> subprocess.Popen:
    recipe = write_recipe(folder, hours, minutes)
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


def children(process: subprocess.Popen) -> dict[int, int]:
    """Return the process ids of the ranks that a command has started."""
    ids = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    ranks = {}
    for pid in ids:
        variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
        rank = [text.removeprefix("RANK=") for text in variables if text.startswith("RANK=")]
        if rank:
            ranks[int(rank[0])] = int(pid)
    return ranks


def expected_steps(hours: float) -> int:
    words = [len(text.split()) for text in sentences(24)]
    durations = [(1600 + 6400 * count) / 16_000 for count in words]
    plan = BatchPlan(durations, [1.0] * 24, 4.0, Recipe.seed, world_size=2)
    return StepClock(plan.step_seconds()).steps(hours)


def test_a_killed_process_ends_the_others_and_the_run_goes_on(tones: Path, tmp_path: Path) -> None:
    hours = 0.02
    checkpoint = tmp_path / "work" / "pair" / "last.ckpt"
    process = start(tmp_path, tones, hours, minutes=0)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.1)
    os.kill(children(process)[1], signal.SIGKILL)
    killed = time.monotonic()
    _, errors = process.communicate(timeout=100)
    assert time.monotonic() - killed < 60, "it must not wait for a process that is gone"
    assert process.returncode == 128 + signal.SIGKILL, errors
    assert "asr-train: process 1 was killed by SIGKILL" in errors
    assert "asr-train: another process of this run ended" in errors
    assert "Traceback" not in errors
    before = torch.load(checkpoint, weights_only=True)["global_step"]
    total = expected_steps(hours)
    assert 0 < before < total

    process = start(tmp_path, tones, hours)
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 0, errors
    assert torch.load(checkpoint, weights_only=True)["global_step"] == total
    assert "pre-training" not in errors, "that was done"


def test_a_signal_to_any_process_stops_all_with_a_checkpoint(tones: Path, tmp_path: Path) -> None:
    process = start(tmp_path, tones, 10)
    encoder = tmp_path / "work" / "pair" / "pretrain" / "encoder.pt"
    while not encoder.exists() and process.poll() is None:
        time.sleep(0.2)
    time.sleep(8)
    os.kill(children(process)[1], signal.SIGTERM)  # as of a node that is taken away
    _, errors = process.communicate(timeout=100)
    assert process.returncode == 128 + signal.SIGTERM, errors
    state = torch.load(tmp_path / "work" / "pair" / "last.ckpt", weights_only=True)
    assert state["global_step"] > 0


def start_nodes(recipes: list[Path], corpora: Path, folder: Path) -> list[subprocess.Popen]:
    """Start torchrun on "nodes" of one process, each with a work folder of its own."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nnodes", str(len(recipes))]
    torchrun += ["--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{free_port()}"]
    torchrun += ["--nproc-per-node", "1", "-m", "training.cli", "--data", str(corpora)]
    return [
        subprocess.Popen(
            [*torchrun, "--recipe", str(recipe), "--work", str(folder / f"node-{number}")],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number, recipe in enumerate(recipes)
    ]


def test_nodes_need_no_common_work_folder(tones: Path, tmp_path: Path) -> None:
    recipe = write_recipe(tmp_path, 0.008)
    for hours in (0.008, 0.016):
        write_recipe(tmp_path, hours)
        nodes = start_nodes([recipe, recipe], tones, tmp_path)
        outputs = [node.communicate(timeout=250)[1] for node in nodes]
        assert [node.returncode for node in nodes] == [0, 0], outputs
        assert len(list(tmp_path.glob("node-*/features/*/features.f16"))) == 2
    # What only the first had written, the other was given when the run went on.
    assert len(list(tmp_path.glob("node-*/pair/pretrain/encoder.pt"))) == 2
    assert len(list(tmp_path.glob("node-*/pair/last.ckpt"))) == 2
    journals = list(tmp_path.glob("node-*/pair/journal.jsonl"))
    assert len(journals) == 2
    scored = [
        [row["step"] for row in journal(path.parent) if "sets" in row]
        for path in sorted(journals, key=lambda path: path.stat().st_mtime_ns)
    ]
    assert scored[-1][-1] == expected_steps(0.016) > scored[0][0]
    assert scored[-1][0] == scored[0][0], "the learning curve goes on too, whichever is the first"
    assert not list(tmp_path.glob("node-*/.process-*"))


@pytest.mark.parametrize("fault", ["other recipe", "no recipe"])
def test_nodes_that_differ_end_with_a_message(tones: Path, tmp_path: Path, fault: str) -> None:
    (tmp_path / "other").mkdir()
    recipes = [write_recipe(tmp_path, 1), tmp_path / "other" / "recipe.yaml"]
    if fault == "other recipe":
        write_recipe(tmp_path / "other", 2)
    nodes = start_nodes(recipes, tones, tmp_path)
    outputs = [node.communicate(timeout=150)[1] for node in nodes]
    assert 0 not in [node.returncode for node in nodes]
    if fault == "no recipe":
        # The other node may end with torchrun, whose rendezvous was on this one.
        assert re.search("asr-train: .*recipe can't be read", outputs[1]), outputs[1]
        return
    for output in outputs:
        found = re.search(r"asr-train: .*recipe: [0-9a-f]+, but [0-9a-f]+ in the first", output)
        assert found, output


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


PATIENT = """
    import sys
    import time
    from datetime import timedelta
    from pathlib import Path
    import torch
    from training import processes
    processes.TRAINING_TIMEOUT = timedelta(seconds=2)
    def make():
        time.sleep(5)
        return "made"
    made = processes.one_per_file_system(make, lambda: "found", Path(sys.argv[1]))
    print(made, flush=True)
    if processes.is_first():
        time.sleep(5)
    torch.distributed.barrier()
"""


def test_others_wait_long_for_the_preparation_and_not_for_a_step(tmp_path: Path) -> None:
    port = str(free_port())
    addresses = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(PATIENT), str(tmp_path)],
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
