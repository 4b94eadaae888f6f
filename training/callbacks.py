"""What happens beside the steps: checkpoints that survive a kill, validation, the journal."""

import json
import shutil
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
from asr.evaluation.accuracy.wer import WordErrors
from asr.whole_files import errors_naming, put_in_place, write_whole
from training.checkpoint import save_model
from training.task import Task
from training.transducer_task import TransducerTask


class Checkpointer(lightning.Callback):
    """Writes the state of the whole run every few minutes, and on a signal before stopping.

    The file is renamed into place when it is complete, so a kill at any moment leaves a checkpoint.
    settings: kept in it, for `training.checkpoint.resumable_step` to compare; kept_step: the state
    after this step is kept beside it, as `before-decay.ckpt`.
    """

    def __init__(
        self, path: Path, minutes: float, settings: dict[str, Any], kept_step: int
    ) -> None:
        self.path, self.seconds, self.settings = path, minutes * 60, settings
        self.kept_step = kept_step
        self._last = time.monotonic()
        self._signal = 0  # that told this process to stop

    def on_train_start(self, trainer: Trainer, task: lightning.LightningModule) -> None:
        for signum in (
            signal.SIGTERM,
            signal.SIGINT,
        ):  # in the end Lightning puts back the old ones
            signal.signal(signum, self._stop)
        self._last = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, task: lightning.LightningModule, *_: Any
    ) -> None:
        due = time.monotonic() - self._last >= self.seconds
        signum, due = self._of_all(trainer, due)
        kept = trainer.global_step == self.kept_step
        # The last step too: after it the averaged weights take the place of the trained ones.
        if signum or due or kept or trainer.global_step == trainer.max_steps:
            self._save(trainer, kept)
        if signum:
            # At once: stopped by its own flag, Lightning validates first, and torchrun kills
            # what still runs after 30 s.
            raise SystemExit(128 + signum)

    def _of_all(self, trainer: Trainer, due: bool) -> tuple[int, bool]:
        """Return a signal that any process got, and whether the first one's time is up."""
        if not torch.distributed.is_initialized():
            return self._signal, due
        state = torch.tensor(
            [self._signal, due and trainer.is_global_zero], device=trainer.strategy.root_device
        )
        torch.distributed.all_reduce(state, torch.distributed.ReduceOp.MAX)
        signum, due = state.tolist()
        return signum, bool(due)

    def state_dict(self) -> dict[str, Any]:
        return {"settings": self.settings}

    def _save(self, trainer: Trainer, kept: bool = False) -> None:
        if not all(bool(p.isfinite().all()) for p in trainer.lightning_module.parameters()):
            raise AsrError(
                f"the weights are NaN or Inf at step {trainer.global_step}: training diverged; "
                f"{self.path} still has an earlier state; give the recipe a lower learning rate "
                "and another name"
            )
        partial = self.path.with_suffix(".partial")
        try:
            with errors_naming(self.path, partial):
                trainer.save_checkpoint(partial)
            if trainer.is_global_zero:
                if kept:  # first: a run killed in between comes to this step again
                    before_decay = self.path.with_name("before-decay.ckpt")
                    write_whole(before_decay, lambda copy: shutil.copyfile(partial, copy))
                put_in_place(partial, self.path)
        finally:
            if trainer.is_global_zero:
                partial.unlink(missing_ok=True)
        self._last = time.monotonic()

    def _stop(self, signum: int, frame: FrameType | None) -> None:
        self._signal = signum


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
    """Appends a JSON line every few steps: the learning curve of the run.

    Validations have lines of their own. A run that goes on from a checkpoint first drops the lines
    of the steps that it is going to repeat.
    """

    def __init__(self, path: Path, every_steps: int = 20) -> None:
        self.path, self.every_steps = path, every_steps
        self._started = time.monotonic()
        self._first_step = 0

    def on_train_start(self, trainer: Trainer, task: lightning.LightningModule) -> None:
        self._started, self._first_step = time.monotonic(), trainer.global_step
        if trainer.is_global_zero and self.path.exists():
            # A step is written before its checkpoint, so the line of this one stays.
            self._drop_after(trainer.global_step)

    def on_train_batch_end(
        self, trainer: Trainer, task: lightning.LightningModule, *_: Any
    ) -> None:
        if trainer.global_step % self.every_steps or not trainer.is_global_zero:
            return
        assert isinstance(task, Task)
        done = task.clock.hours(trainer.global_step - self._first_step)
        self.write(
            step=trainer.global_step,
            hours=round(task.clock.hours(trainer.global_step), 3),
            learning_rate=trainer.optimizers[0].param_groups[0]["lr"],
            audio_per_second=round(done * 3600 / (time.monotonic() - self._started), 1),
            **{name: float(value) for name, value in task.step_values.items()},
        )

    def write(self, **row: Any) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def _drop_after(self, step: int) -> None:
        complete = self.path.read_text(encoding="utf-8").split("\n")[:-1]
        kept = [line for line in complete if json.loads(line)["step"] <= step]
        text = "".join(line + "\n" for line in kept)
        write_whole(self.path, lambda partial: partial.write_text(text, encoding="utf-8"))


class FrameAccuracyValidation(lightning.Callback):
    """Writes what each validation of pre-training measured."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal

    def on_validation_end(self, trainer: Trainer, task: lightning.LightningModule) -> None:
        assert isinstance(task, Task)
        if trainer.is_global_zero:
            self.journal.write(
                step=trainer.global_step,
                hours=round(task.clock.hours(trainer.global_step), 3),
                frame_accuracy=float(trainer.callback_metrics["frame_accuracy"]),
            )


class WordErrorValidation(lightning.Callback):
    """Scores the hypotheses of a validation by dev set, and keeps the model if it is the best.

    heard_before: hours of audio that the model had heard when the run began; NaN: not known.
    Listed before the weight averaging, so that the averaged weights are still in place when the
    model is written.
    """

    def __init__(
        self,
        references: dict[str, dict[str, str]],
        folder: Path,
        journal: Journal,
        heard_before: float,
    ) -> None:
        self.references, self.folder, self.journal = references, folder, journal
        self.heard_before = heard_before
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
            errors = WordErrors.total(
                WordErrors.between(text, hypotheses.get(key, ""))
                for key, text in references.items()
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
            heard = self.heard_before + hours
            save_model(self.folder / "best", task.model, task.tokenizer, heard_hours=heard)


def _gather(hypotheses: dict[str, str]) -> dict[str, str]:
    """Join what all processes recognised."""
    if not torch.distributed.is_initialized():
        return hypotheses
    shares: list[dict[str, str]] = [{}] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(shares, hypotheses)
    return {key: text for share in shares for key, text in share.items()}
