"""Runs a recipe: prepare, pre-train on phones, train the transducer; each resumes where it was."""

import functools
import logging
import os
from dataclasses import replace
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

from asr.errors import AsrError, RecipeError
from training.batching import BatchPlan, Draw, StepSampler
from training.callbacks import (
    Checkpointer,
    ExponentialAverage,
    Journal,
    WordErrorValidation,
)
from training.checkpoint import averaged_weights, read_state, resumable_step, save_model
from training.dataset import PhoneDataset, Speech, SpeechDataset, collate
from training.model import Transducer, sized
from training.phone_task import PhoneTask
from training.preparation import Prepared, prepare
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
    model.quiet_heads()
    if recipe.pretrain:
        _load_pretrained_encoder(recipe, recipe.pretrain, prepared, model, folder, console)
    _train(recipe, prepared, model, folder)
    if _is_first():
        save_model(folder / "final", model, prepared.tokenizer)
    return folder / "final"


def _prepare_once(recipe: Recipe, data: Path, work: Path, console: Console) -> Prepared:
    """Let the first of several processes prepare, and the others find what it made."""
    if _world_size() == 1:
        return prepare(recipe, data, work, console)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, timeout=PREPARATION_TIMEOUT)
    fault: AsrError | None = None
    if _is_first():
        try:
            prepared = prepare(recipe, data, work, console)
        except AsrError as error:
            fault = error
    failed = [fault is not None]
    torch.distributed.broadcast_object_list(failed)
    if fault:
        raise fault
    if failed[0]:
        raise SystemExit(2)  # the first process says why
    return prepared if _is_first() else prepare(recipe, data, work, Console(quiet=True))


def _load_pretrained_encoder(
    recipe: Recipe,
    schedule: ScheduleConfig,
    prepared: Prepared,
    model: Transducer,
    folder: Path,
    console: Console,
) -> None:
    finished = folder / "pretrain" / "encoder.pt"
    if not finished.exists():
        console.print(f"pre-training on {prepared.phones.hours:.1f} h of synthetic speech")
        plan = _plan(prepared.phones, recipe, schedule)
        clock = StepClock(plan.step_seconds())
        lower = _lower_blocks(model)
        task = PhoneTask(lower, schedule, recipe.streaming, clock, recipe.seed)
        dataset = functools.partial(
            PhoneDataset, cache=prepared.cache, mean=prepared.mean, seed=recipe.seed
        )
        speech = prepared.phones
        train = dataset(speech, augmentation=recipe.augmentation.without_masks())
        # Some of the training speech, as it is: only whether this stage learns is asked.
        dev = dataset(speech.every(max(1, len(speech.cuts) // 64)))
        journal = Journal(finished.parent / "journal.jsonl")
        _fit(task, plan, train, [dev], recipe, finished.parent, [journal])
        if _is_first():
            torch.save(task.phonetic_state(), finished.with_suffix(".partial"))
            finished.with_suffix(".partial").replace(finished)
        model.load_state_dict(task.phonetic_state(), strict=False)
        return
    try:
        model.load_state_dict(read_state(finished), strict=False)
    except RuntimeError as error:
        raise RecipeError(
            f"{finished} was not trained with size {recipe.size!r}, which the recipe asks for; "
            "remove it to pre-train again, or give the recipe another name"
        ) from error


def _lower_blocks(model: Transducer) -> Transducer:
    """Return a model that has only the blocks of `model` below its phone head."""
    config = model.config
    lower = Transducer(replace(config, layers=min(config.layers, config.phone_layers)))
    encoder = model.encoder
    lower.set_feature_statistics(encoder.feature_mean, 1 / encoder.feature_inverse_std)
    return lower


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
    train = dataset(speech, augmentation=recipe.augmentation)
    dev = [dataset(speech) for speech in prepared.dev.values()]
    references = {
        name: {cut.id: cut.supervisions[0].text for cut in speech.cuts}
        for name, speech in prepared.dev.items()
    }
    journal = Journal(folder / "journal.jsonl")
    validation = WordErrorValidation(references, folder, journal)
    _fit(task, plan, train, dev, recipe, folder, [journal, validation])


def _plan(speech: Speech, recipe: Recipe, schedule: ScheduleConfig) -> BatchPlan:
    return BatchPlan(
        speech.durations, speech.weights, schedule.batch_seconds, recipe.seed, _world_size()
    )


def _world_size() -> int:
    """Processes that train together; torchrun says how many it started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _is_first() -> bool:
    """Whether this process is the one that writes what all of them have."""
    return int(os.environ.get("RANK", "0")) == 0


def _fit(
    task: Task,
    plan: BatchPlan,
    train: SpeechDataset,
    dev: list[SpeechDataset],
    recipe: Recipe,
    folder: Path,
    callbacks: list[lightning.Callback],
) -> None:
    """Train `task` to the end of its schedule, from its last checkpoint if there is one.

    It holds the averaged weights then. Raises SystemExit if SIGTERM stops it before.
    """
    schedule = task.schedule
    total = task.clock.steps(schedule.hours)
    checkpoint = folder / "last.ckpt"
    settings = _fixed_settings(recipe, task)
    first_step = resumable_step(checkpoint, settings)
    if first_step >= total:
        # Lightning would do nothing: not even put the averaged weights in place.
        task.load_state_dict(averaged_weights(checkpoint))
        return
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
        val_check_interval=min(total, task.clock.steps(schedule.validate_every_hours)),
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
            Checkpointer(checkpoint, schedule.checkpoint_minutes, settings),
        ],
    )
    rank = trainer.global_rank
    trainer.fit(
        task,
        loader(train, StepSampler(plan, first_step, total, rank)),
        [loader(part, validation_batches(len(part), rank, plan.world_size)) for part in dev],
        ckpt_path=checkpoint if first_step else None,
        weights_only=True,
    )


def validation_batches(count: int, rank: int, world_size: int) -> list[list[Draw]]:
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


def lightning_precision(precision: str) -> Any:
    """`auto` is bfloat16 where the hardware multiplies it: elsewhere it is emulated, and slower."""
    if precision == "auto":
        fast = torch.cuda.is_available() or (
            torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        )
        precision = "bf16" if fast else "32"
    return "bf16-mixed" if precision == "bf16" else "32-true"
