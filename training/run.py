"""Runs a recipe: prepare, pre-train on phones, train the transducer; each resumes where it was."""

import functools
import logging
import os
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy
from rich.console import Console
from torch.utils.data import DataLoader

from training.batching import BatchPlan, Draw, StepSampler
from training.callbacks import (
    Checkpointer,
    ExponentialAverage,
    Journal,
    WordErrorValidation,
)
from training.checkpoint import save_model
from training.dataset import PhoneDataset, SpeechDataset, collate
from training.model import Transducer, sized
from training.phone_task import PhoneTask
from training.preparation import Prepared, Speech, prepare
from training.recipe import Recipe, ScheduleConfig
from training.task import StepClock, Task
from training.transducer_task import TransducerTask

VALIDATION_BATCH = 16

PREPARATION_TIMEOUT = timedelta(hours=24)
"""How long the other processes wait for the features of a large corpus."""


def run_recipe(recipe: Recipe, data: Path, work: Path, console: Console) -> Path:
    """Train what the recipe says; return the folder of the finished model.

    data: the folder that the recipe's manifests are relative to; work: where everything made on
    the way is kept. Killed at any moment and started again, it goes on from its last checkpoint.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(recipe.seed, verbose=False)
    if not torch.cuda.is_available():
        # Small matrices gain nothing from more threads, and spinning ones starve each other.
        torch.set_num_threads(1)
    prepared = _prepare_once(recipe, data, work, console)
    folder = work / recipe.name
    model = Transducer(sized(recipe.size, recipe.vocab_size))
    model.set_feature_statistics(torch.from_numpy(prepared.mean), torch.from_numpy(prepared.std))
    if recipe.pretrain:
        encoder = _pretrained_encoder(recipe, recipe.pretrain, prepared, model, folder, console)
        model.encoder.load_state_dict(encoder)
    model.quiet_heads()
    _train(recipe, prepared, model, folder)
    save_model(folder / "final", model, prepared.tokenizer)
    return folder / "final"


def _prepare_once(recipe: Recipe, data: Path, work: Path, console: Console) -> Prepared:
    """Let the first of several processes prepare, and the others find what it made."""
    if _world_size() == 1:
        return prepare(recipe, data, work, console)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, timeout=PREPARATION_TIMEOUT)
    first = torch.distributed.get_rank() == 0
    if first:
        prepared = prepare(recipe, data, work, console)
    torch.distributed.barrier()
    return prepared if first else prepare(recipe, data, work, Console(quiet=True))


def _pretrained_encoder(
    recipe: Recipe,
    schedule: ScheduleConfig,
    prepared: Prepared,
    model: Transducer,
    folder: Path,
    console: Console,
) -> dict[str, torch.Tensor]:
    finished = folder / "pretrain" / "encoder.pt"
    if not finished.exists():
        console.print(f"pre-training on {prepared.phones.hours:.1f} h of synthetic speech")
        plan = _plan(prepared.phones, recipe, schedule)
        clock = StepClock(plan.step_seconds())
        task = PhoneTask(model, schedule, recipe.streaming, clock, recipe.seed)
        dataset = functools.partial(
            PhoneDataset, cache=prepared.cache, mean=prepared.mean, seed=recipe.seed
        )
        speech = prepared.phones
        train = dataset(speech.cuts, speech.tokens, augmentation=recipe.augmentation)
        held = slice(0, len(speech.cuts), max(1, len(speech.cuts) // 64))
        dev = dataset(speech.cuts[held], speech.tokens[held])
        journal = Journal(finished.parent / "journal.jsonl")
        _fit(task, plan, train, [dev], recipe, finished.parent, [journal])
        if not _finished(task):
            raise SystemExit(143)
        torch.save(task.encoder_state(), finished.with_suffix(".partial"))
        finished.with_suffix(".partial").replace(finished)
    state: dict[str, torch.Tensor] = torch.load(finished, weights_only=True)
    return state


def _train(recipe: Recipe, prepared: Prepared, model: Transducer, folder: Path) -> None:
    plan = _plan(prepared.train, recipe, recipe.train)
    clock = StepClock(plan.step_seconds())
    task = TransducerTask(
        model,
        prepared.tokenizer,
        recipe.train,
        recipe.loss,
        recipe.streaming,
        clock,
        recipe.seed,
    )
    dataset = functools.partial(
        SpeechDataset, cache=prepared.cache, mean=prepared.mean, seed=recipe.seed
    )
    speech = prepared.train
    train = dataset(speech.cuts, speech.tokens, augmentation=recipe.augmentation)
    dev = [dataset(speech.cuts, speech.tokens) for speech in prepared.dev.values()]
    references = {
        name: {cut.id: cut.supervisions[0].text for cut in speech.cuts}
        for name, speech in prepared.dev.items()
    }
    journal = Journal(folder / "journal.jsonl")
    validation = WordErrorValidation(references, folder, journal)
    _fit(task, plan, train, dev, recipe, folder, [journal, validation])
    if not _finished(task):
        raise SystemExit(143)


def _finished(task: Task) -> bool:
    return task.global_step >= task.clock.steps(task.schedule.hours)


def _plan(speech: Speech, recipe: Recipe, schedule: ScheduleConfig) -> BatchPlan:
    return BatchPlan(
        speech.durations, speech.weights, schedule.batch_seconds, recipe.seed, _world_size()
    )


def _world_size() -> int:
    """Processes that train together; torchrun says how many it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _fit(
    task: Task,
    plan: BatchPlan,
    train: SpeechDataset,
    dev: list[SpeechDataset],
    recipe: Recipe,
    folder: Path,
    callbacks: list[lightning.Callback],
) -> None:
    schedule = task.schedule
    total = task.clock.steps(schedule.hours)
    checkpoint = folder / "last.ckpt"
    first_step = _step_of(checkpoint)
    workers = recipe.data_workers

    def loader(dataset: SpeechDataset, batches: Any) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            num_workers=workers,
            collate_fn=functools.partial(collate, padding=dataset.padding),
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    trainer = lightning.Trainer(
        default_root_dir=folder,
        accelerator="gpu" if torch.cuda.is_available() else "cpu",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=int(os.environ.get("GROUP_WORLD_SIZE", "1")),
        strategy=DDPStrategy(gradient_as_bucket_view=True) if _world_size() > 1 else "auto",
        precision=lightning_precision(recipe.precision),
        max_steps=total,
        gradient_clip_val=schedule.gradient_clip,
        use_distributed_sampler=False,
        val_check_interval=min(total, max(1, task.clock.steps(schedule.validate_every_hours))),
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        log_every_n_steps=20,
        enable_checkpointing=False,
        enable_model_summary=False,
        logger=TensorBoardLogger(folder, name="tensorboard", version=""),
        callbacks=[
            RichProgressBar(),
            *callbacks,
            ExponentialAverage(schedule.average_decay),
            Checkpointer(checkpoint, schedule.checkpoint_minutes),
        ],
    )
    rank = trainer.global_rank
    trainer.fit(
        task,
        loader(train, StepSampler(plan, first_step, total, rank)),
        [loader(part, _validation_batches(len(part), rank, plan.world_size)) for part in dev],
        ckpt_path=checkpoint if first_step else None,
        weights_only=True,
    )


def _validation_batches(count: int, rank: int, world_size: int) -> list[list[Draw]]:
    share = [Draw(index, 0) for index in range(rank, count, world_size)]
    return [share[i : i + VALIDATION_BATCH] for i in range(0, len(share), VALIDATION_BATCH)]


def _step_of(checkpoint: Path) -> int:
    if not checkpoint.exists():
        return 0
    return int(torch.load(checkpoint, map_location="cpu", weights_only=True)["global_step"])


def lightning_precision(precision: str) -> Any:
    """`auto` is bfloat16 where the hardware multiplies it: elsewhere it is emulated, and slower."""
    if precision == "auto":
        fast = torch.cuda.is_available() or (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
        precision = "bf16" if fast else "32"
    return "bf16-mixed" if precision == "bf16" else "32-true"
