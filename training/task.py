"""What both stages of training share: the optimiser, its schedule, and the clock it runs by."""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import lightning
import numpy as np
import torch
import torch.distributed
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from training.dataset import Batch
from training.model import ConformerBlock, Transducer
from training.optimizer import MuonAdamW
from training.recipe import ScheduleConfig, StreamingTrainingConfig
from training.streaming_draw import draw_streaming


@dataclass(frozen=True)
class StepClock:
    """Converts audio seen to optimiser steps: recipes count hours, Lightning counts steps."""

    step_seconds: float  # audio in one step of all processes, on average

    def steps(self, hours: float) -> int:
        """Return the steps, at least one, in which so much audio is seen."""
        return max(1, round(hours * 3600 / self.step_seconds))

    def hours(self, steps: int) -> float:
        return steps * self.step_seconds / 3600


def learning_rate_factor(step: int, warmup: int, decay: int, total: int) -> float:
    """Rise from zero, stay at one, fall to zero over the last `decay` steps.

    The flat middle lets a run be prolonged: the state at its end is kept as `before-decay.ckpt`.
    Copy that over `last.ckpt`, raise the hours of the recipe, and start it again. There is none
    where the fall begins with the first step.
    """
    return min(1.0, (step + 1) / max(1, warmup), max(0.0, (total - step) / max(1, decay)))


class Task(lightning.LightningModule):
    """A stage of training; subclasses turn a batch into the sum of its losses and its weight."""

    def __init__(
        self,
        model: Transducer,
        schedule: ScheduleConfig,
        streaming: StreamingTrainingConfig,
        clock: StepClock,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.schedule, self.streaming, self.clock, self.seed = schedule, streaming, clock, seed
        for module in model.modules():
            if isinstance(module, ConformerBlock):
                module.skip_probability = schedule.skip_probability
        self.step_values: dict[str, Tensor] = {}
        """Losses of the last step, for the journal."""

    @property
    def decay_start(self) -> int:
        """The step up to which the learning rate is whole."""
        schedule = self.schedule
        return self.clock.steps(schedule.hours) - self.clock.steps(schedule.decay_hours)

    @abstractmethod
    def losses(
        self, batch: Batch, chunk_frames: Tensor, left_frames: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return the summed loss of a batch, what to divide it by, and parts for the log.

        chunk_frames, left_frames: as in `training.model.attention.attention_mask`.
        """

    @abstractmethod
    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None: ...

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        generator = np.random.default_rng([self.seed, self.global_step, self.global_rank])
        chunk_frames, left_frames = draw_streaming(self.streaming, generator, len(batch.ids))
        device = batch.features.device
        total, weight, parts = self.losses(batch, chunk_frames.to(device), left_frames.to(device))
        # Divide by the mean weight of all processes, so that averaged gradients are those of the
        # joined batch however uneven its shares are.
        if torch.distributed.is_initialized():
            torch.distributed.all_reduce(weight)
            weight = weight / torch.distributed.get_world_size()
        loss = total / weight
        self.step_values = {name: value.detach() / weight for name, value in parts.items()}
        self.step_values["loss"] = loss.detach()
        for name, value in self.step_values.items():
            self.log(name, value, prog_bar=name == "loss")
        self.log("hours", self.clock.hours(self.global_step))
        return loss

    def on_train_batch_end(self, *_: Any) -> None:
        # Told to stop, Lightning validates first: the finished model is always scored.
        if self.trainer.global_step == self.trainer.max_steps:
            self.trainer.should_stop = True

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        return batch.to(device)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        hidden = {name: p for name, p in trained.items() if p.ndim == 2 and ".blocks." in name}
        # Embeddings, heads and convolution kernels: no matrices from hidden to hidden width.
        others = [p for name, p in trained.items() if p.ndim > 1 and name not in hidden]
        vectors = [p for p in trained.values() if p.ndim <= 1]
        optimizer = MuonAdamW(
            [
                {"params": list(hidden.values()), "orthogonal": True},
                {"params": others},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=self.schedule.learning_rate,
            weight_decay=self.schedule.weight_decay,
        )
        warmup = self.clock.steps(self.schedule.warmup_hours)
        decay = self.clock.steps(self.schedule.decay_hours)
        total = self.clock.steps(self.schedule.hours)
        scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, warmup, decay, total)
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
