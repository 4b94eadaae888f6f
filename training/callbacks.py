"""What happens beside the steps: checkpoints that survive a kill, validation, the journal."""

import json
import os
import signal
import time
from pathlib import Path
from types import FrameType
from typing import Any

import lightning
import torch
import torch.distributed
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from asr.errors import AsrError
from asr.evaluation.alignment import align
from asr.evaluation.wer import WordErrors
from training.checkpoint import save_model
from training.task import Task
from training.transducer_task import TransducerTask


class Checkpointer(lightning.Callback):
    """Writes the state of the whole run every few minutes, and on SIGTERM before stopping.

    The file is renamed into place when it is complete, so a kill at any moment leaves a checkpoint.
    settings: kept in it, for `training.checkpoint.resumable_step` to compare.
    """

    def __init__(self, path: Path, minutes: float, settings: dict[str, Any]) -> None:
        self.path, self.seconds, self.settings = path, minutes * 60, settings
        self._last = time.monotonic()
        self._terminated = False

    def on_train_start(self, trainer: Trainer, task: lightning.LightningModule) -> None:
        signal.signal(signal.SIGTERM, self._terminate)
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, task: lightning.LightningModule, *_: Any
    ) -> None:
        due = time.monotonic() - self._last >= self.seconds
        terminated, due = trainer.strategy.broadcast((self._terminated, due))
        # The last step too: after it the averaged weights take the place of the trained ones.
        if terminated or due or trainer.global_step == trainer.max_steps:
            self._save(trainer)
        if terminated:
            # At once: stopped by its own flag, Lightning validates first, and torchrun kills
            # what still runs after 30 s.
            raise SystemExit(128 + signal.SIGTERM)

    def state_dict(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def _save(self, trainer: Trainer) -> None:
        if not all(bool(p.isfinite().all()) for p in trainer.lightning_module.parameters()):
            raise AsrError(
                f"the weights are NaN or Inf at step {trainer.global_step}: training diverged; "
                f"{self.path} still has an earlier state; give the recipe a lower learning rate "
                "and another name"
            )
        partial = self.path.with_suffix(".partial")
        trainer.save_checkpoint(partial)
        if trainer.is_global_zero:
            os.replace(partial, self.path)
        self._last = time.monotonic()

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        self._terminated = True


class ExponentialAverage(WeightAveraging):
    """Exponential moving average of the weights, which validation and export use.

    Young averages forget faster, or a short run would still hold its random first weights.
    """

    def __init__(self, decay: float) -> None:
        def average(averaged: list[Tensor], current: list[Tensor], updates: Tensor | int) -> None:
            kept = min(decay, (1 + int(updates)) / (10 + int(updates)))
            torch._foreach_lerp_(averaged, current, 1 - kept)

        super().__init__(use_buffers=False, multi_avg_fn=average)


class Journal(lightning.Callback):
    """Appends a JSON line every few steps: the learning curve of the run."""

    def __init__(self, path: Path, every_steps: int = 20) -> None:
        self.path, self.every_steps = path, every_steps
        self._started = time.monotonic()
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, task: lightning.LightningModule) -> None:
        self._started, self._first_step = time.monotonic(), trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, task: lightning.LightningModule, *_: Any
    ) -> None:
        if trainer.global_step % self.every_steps or not trainer.is_global_zero:
            return
        assert isinstance(task, Task)
        done = task.clock.hours(trainer.global_step - self._first_step)
        row = {name: float(value) for name, value in trainer.callback_metrics.items()}
        self.write(
            step=trainer.global_step,
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            audio_per_second=round(done * 3600 / (time.monotonic() - self._started), 1),
            **row,
        )

    def write(self, **row: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


class WordErrorValidation(lightning.Callback):
    """Scores the hypotheses of a validation by dev set, and keeps the model if it is the best.

    Listed before the weight averaging, so that the averaged weights are still in place when the
    model is written.
    """

    def __init__(
        self, references: dict[str, dict[str, str]], folder: Path, journal: Journal
    ) -> None:
        self.references, self.folder, self.journal = references, folder, journal
        self.best = float("inf")

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = state["best"]

    def on_validation_epoch_end(self, trainer: Trainer, task: lightning.LightningModule) -> None:
        assert isinstance(task, TransducerTask)
        hypotheses = _gather(task.hypotheses)
        task.hypotheses = {}
        rates = {}
        for name, references in self.references.items():
            errors = sum(
                (_errors(text, hypotheses.get(key, "")) for key, text in references.items()),
                start=WordErrors(),
            )
            rates[name] = errors.rate
            task.log(f"wer/{name}", errors.rate, prog_bar=True, rank_zero_only=True)
        mean = sum(rates.values()) / len(rates)
        task.log("wer", mean, rank_zero_only=True)
        if not trainer.is_global_zero:
            return
        hours = task.clock.hours(trainer.global_step)
        self.journal.write(step=trainer.global_step, hours=round(hours, 2), wer=mean, sets=rates)
        if mean < self.best:
            self.best = mean
            save_model(self.folder / "best", task.model, task.tokenizer)


def _errors(reference: str, hypothesis: str) -> WordErrors:
    return WordErrors.of(align(reference.split(), hypothesis.split()))


def _gather(hypotheses: dict[str, str]) -> dict[str, str]:
    """Join what all processes recognised."""
    if not torch.distributed.is_initialized():
        return hypotheses
    shares: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, hypotheses)
    return {key: text for share in shares for key, text in share.items()}
