"""One stage of training, from its last checkpoint to its end: loaders and Lightning's trainer."""

import functools
import os
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.plugins.environments import TorchElasticEnvironment
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from torch.utils.data import DataLoader

from training.batching import BatchPlan, Draw, StepSampler
from training.callbacks import Checkpointer, ExponentialAverage
from training.checkpoint import averaged_weights, resumable_step
from training.dataset import SpeechDataset, collate
from training.processes import spread_newest, world_size
from training.progress import AudioProgressBar
from training.recipe import Recipe
from training.task import Task

VALIDATION_BATCH = 16

IRRELEVANT_WARNINGS = (
    ".*treespec, LeafSpec.* is deprecated",  # Lightning with this PyTorch; nothing of ours
    ".*does not have many workers",  # features are cached: one process loads them fast enough
    ".*your dataloader is not resumable",  # StepSampler starts at the step of the checkpoint
    ".*recommended to use .*sync_dist=True",  # losses of one process are enough for a curve
    ".*smaller than the logging interval",  # a very short run; the journal has it all
    ".*weights_only",  # what is loaded is our own, and loaded so
)
"""Start of messages that would have a newcomer look for a fault that is none."""


def fit(
    task: Task,
    plan: BatchPlan,
    train: SpeechDataset,
    dev: Sequence[SpeechDataset],
    recipe: Recipe,
    folder: Path,
    callbacks: list[lightning.Callback],
    console: Console,
) -> None:
    """Train `task` to the end of its schedule, from its last checkpoint if there is one.

    It holds the averaged weights then. Raises SystemExit if SIGTERM or SIGINT stops it before.
    """
    total = task.clock.steps(task.schedule.hours)
    checkpoint = folder / "last.ckpt"
    settings = _fixed_settings(recipe, task)
    for path in (checkpoint, folder / "journal.jsonl"):
        spread_newest(path)
    first_step = resumable_step(checkpoint, settings)
    if first_step >= total:
        # Lightning would do nothing: not even put the averaged weights in place.
        task.load_state_dict(averaged_weights(checkpoint))
        return
    schedule = task.schedule
    callbacks = [
        AudioProgressBar(task.clock),
        *callbacks,
        ExponentialAverage(schedule.average_decay),
        Checkpointer(checkpoint, schedule.checkpoint_minutes, settings, task.decay_start),
    ]
    trainer = _trainer(task, recipe, folder, total, callbacks)
    rank = trainer.global_rank
    started = time.monotonic()
    with warnings.catch_warnings():
        for message in IRRELEVANT_WARNINGS:
            warnings.filterwarnings("ignore", message)
        trainer.fit(
            task,
            _loader(train, StepSampler(plan, first_step, total, rank), recipe.data_workers),
            [
                _loader(
                    part,
                    validation_batches(len(part), rank, plan.world_size),
                    recipe.data_workers,
                )
                for part in dev
            ],
            ckpt_path=checkpoint if first_step else None,
            weights_only=True,
        )
    hours = task.clock.hours(total - first_step)
    rate = hours * 3600 / (time.monotonic() - started)
    console.print(f"trained on {hours:.1f} h, {rate:.0f} s of audio per second")


def _trainer(
    task: Task, recipe: Recipe, folder: Path, total: int, callbacks: list[lightning.Callback]
) -> lightning.Trainer:
    schedule = task.schedule
    return lightning.Trainer(
        default_root_dir=folder,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        strategy=_data_parallel() if world_size() > 1 else "auto",
        precision=_lightning_precision(resolved_precision(recipe.precision)),
        max_steps=total,
        gradient_clip_val=schedule.gradient_clip,
        use_distributed_sampler=False,
        val_check_interval=min(total, task.clock.steps(schedule.validate_every_hours)),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        callbacks=callbacks,
    )


class _UnevenNodes(TorchElasticEnvironment):
    """torchrun's world, whose nodes may have different numbers of processes."""

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        pass  # Lightning's own check takes every node to be like this one


def _data_parallel() -> DDPStrategy:
    return DDPStrategy(cluster_environment=_UnevenNodes(), gradient_as_bucket_view=True)


def _loader(dataset: SpeechDataset, batches: Any, workers: int) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        num_workers=workers,
        collate_fn=functools.partial(collate, padding=dataset.padding),
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def validation_batches(count: int, rank: int, world_size: int) -> list[list[Draw]]:
    """Return the batches of one process."""
    # Lightning wants a batch for each process: they share the utterances of a very small set.
    share = [Draw(index, 0) for index in range(rank % count, count, world_size)]
    return [share[i : i + VALIDATION_BATCH] for i in range(0, len(share), VALIDATION_BATCH)]


def _fixed_settings(recipe: Recipe, task: Task) -> dict[str, Any]:
    """What must not change while a stage trains: a checkpoint means nothing else with it."""
    return {
        "size": recipe.size,
        "vocab_size": recipe.vocab_size,
        "seed": recipe.seed,
        "learning_rate": task.schedule.learning_rate,
        "weight_decay": task.schedule.weight_decay,
        "seconds of speech in a step (by data, batch_seconds and processes)": round(
            task.clock.step_seconds, 6
        ),
    }


def resolved_precision(precision: str) -> str:
    """`auto` is bfloat16 where the hardware multiplies it: elsewhere it is emulated, and slower."""
    if precision != "auto":
        return precision
    fast = torch.cuda.is_available() or (
        torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    )
    return "bf16" if fast else "32"


def _lightning_precision(precision: str) -> Any:
    return "bf16-mixed" if precision == "bf16" else "32-true"
