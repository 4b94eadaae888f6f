"""Two processes learn what one would learn from both their batches."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

import training.fit
import training.run
from tests.training.test_run import TINY, recipe
from training.batching import Draw, StepSampler
from training.callbacks import Journal
from training.model.config import SIZES
from training.recipe import AugmentationConfig, Recipe, StreamingTrainingConfig
from training.run import run_recipe

WORKER = "import sys; from tests.training import test_data_parallel as t; t.work(*sys.argv[1:])"


def one_step() -> Recipe:
    """A recipe whose first step has 6 and 2 utterances, left as they are."""
    base = recipe(1)
    return replace(
        base,
        train=replace(base.train, batch_seconds=13.0),
        precision="32",
        augmentation=AugmentationConfig.none(),
        streaming=StreamingTrainingConfig(full_probability=1.0),  # each rank draws its own chunks
    )


class Recorder(Journal):
    """Writes the gradients of the first step, averaged over the processes, and ends the run."""

    def on_before_optimizer_step(self, trainer, task, optimizer) -> None:  # type: ignore[no-untyped-def]
        gradients = {name: p.grad for name, p in task.named_parameters() if p.grad is not None}
        torch.save(gradients, self.path.with_name(f"gradients-{trainer.global_rank}"))
        raise SystemExit

    def on_train_batch_start(self, trainer, task, batch, index) -> None:  # type: ignore[no-untyped-def]
        ids = {"ids": batch.ids, "tokens": int(batch.target_lengths.sum())}
        torch.save(ids, self.path.with_name(f"batch-{trainer.global_rank}"))


class JoinedBatches(StepSampler):
    """The batches that a step has for all processes, as one."""

    def __iter__(self) -> Iterator[list[Draw]]:
        for batches in self.plan.epoch(0):
            yield [draw for batch in batches for draw in batch]


def work(corpora: str, folder: str) -> None:
    """Take one step, as one of the processes that the environment speaks of."""
    SIZES["xs"] = TINY
    training.run.Journal = Recorder  # type: ignore[misc]
    run_recipe(one_step(), Path(corpora), Path(folder), Console(quiet=True))


@pytest.fixture
def processes(tones: Path, tmp_path: Path) -> Iterator[list[subprocess.Popen]]:
    """Two processes at work in the folder `two`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    world = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(tones), str(tmp_path / "two")],
            env={
                **os.environ,
                **world,
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "LOCAL_WORLD_SIZE": "2",
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    yield started
    for process in started:
        process.kill()
        process.communicate()


def test_gradients_are_those_of_one_process_with_both_batches(
    processes: list[subprocess.Popen],
    tones: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(SIZES, "xs", TINY)
    monkeypatch.setattr(training.run, "Journal", Recorder)
    monkeypatch.setattr(training.run, "world_size", lambda: 2)  # for the plan of the batches
    monkeypatch.setattr(training.fit, "StepSampler", JoinedBatches)
    with pytest.raises(SystemExit):
        run_recipe(one_step(), tones, tmp_path / "one", Console(quiet=True))
    for process in processes:
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors

    joined = torch.load(tmp_path / "one" / "tiny" / "batch-0")
    shares = [torch.load(tmp_path / "two" / "tiny" / f"batch-{rank}") for rank in range(2)]
    assert sorted(joined["ids"]) == sorted(shares[0]["ids"] + shares[1]["ids"])
    assert shares[0]["tokens"] != shares[1]["tokens"], "equal shares would need no weighting"

    expected = torch.load(tmp_path / "one" / "tiny" / "gradients-0")
    for rank in range(2):
        found = torch.load(tmp_path / "two" / "tiny" / f"gradients-{rank}")
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            error, scale = (found[name] - gradient).norm(), gradient.norm()
            assert error <= 1e-5 * scale, f"{name}: {error:.2e} of {scale:.2e}"
