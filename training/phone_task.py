"""Stage one: classify the phone of each encoder frame, on synthetic speech with exact times.

A transducer that starts from nothing predicts only blanks for the first tens of hours; one whose
encoder already tells phones apart does not.
"""

from torch import Tensor, nn
from torch.nn import functional

from training.dataset import IGNORED_LABEL, Batch
from training.model import Transducer
from training.recipe import ScheduleConfig, StreamingTrainingConfig
from training.task import StepClock, Task


class PhoneTask(Task):
    """Cross entropy of frame-wise phones; trains the lower blocks of the encoder and its head."""

    def __init__(
        self,
        model: Transducer,
        schedule: ScheduleConfig,
        streaming: StreamingTrainingConfig,
        clock: StepClock,
        seed: int,
    ) -> None:
        super().__init__(model, schedule, streaming, clock, seed)
        model.requires_grad_(False)
        for part in self._trained():
            part.requires_grad_(True)

    def _trained(self) -> list[nn.Module]:
        return [self.model.encoder.subsampling, self.model.encoder.blocks, self.model.phones]

    def losses(
        self, batch: Batch, chunk_frames: Tensor, left_frames: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        logits, labels = self._logits(batch, chunk_frames, left_frames)
        total = functional.cross_entropy(
            logits, labels, ignore_index=IGNORED_LABEL, reduction="sum"
        )
        return total, (labels != IGNORED_LABEL).sum().float(), {}

    def _logits(
        self, batch: Batch, chunk_frames: int | Tensor, left_frames: int | Tensor
    ) -> tuple[Tensor, Tensor]:
        out = self.model.encode(batch.features, batch.feature_lengths, chunk_frames, left_frames)
        padding = out.phonetic.size(1) - batch.targets.size(1)  # of the whole batch, see `collate`
        labels = functional.pad(batch.targets, (0, padding), value=IGNORED_LABEL)
        return self.model.phones(out.phonetic).float().flatten(0, 1), labels.flatten()

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        streaming = self.streaming
        logits, labels = self._logits(
            batch, streaming.validation_chunk_frames, streaming.validation_left_frames
        )
        real = labels != IGNORED_LABEL
        accuracy = (logits.argmax(-1) == labels)[real].float().mean()
        weight = int(real.sum())
        self.log("frame_accuracy", accuracy, batch_size=weight, sync_dist=True, prog_bar=True)

    def phonetic_state(self) -> dict[str, Tensor]:
        """Return the weights of what was trained, by their names in the model."""
        trained = {name for name, value in self.model.named_parameters() if value.requires_grad}
        return {k: v.clone() for k, v in self.model.state_dict().items() if k in trained}
