"""A progress bar in hours of audio: that is what recipes count in."""

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import RichProgressBar
from lightning.pytorch.callbacks.progress.rich_progress import CustomTimeColumn
from rich.progress import BarColumn, ProgressColumn, Task
from rich.text import Text

from training.task import StepClock


class AudioProgressBar(RichProgressBar):
    """Shows the hours of audio seen, of all that will be, and the seconds of it per second."""

    def __init__(self, clock: StepClock) -> None:
        super().__init__()
        self._clock = clock

    @property
    def total_train_batches(self) -> int:
        # Lightning's are those that remain, against all that were done, before a restart too.
        return self.trainer.max_steps

    def configure_columns(self, trainer: Trainer) -> list[ProgressColumn]:
        return [_AudioColumn(self, self._clock), BarColumn(20), CustomTimeColumn(style="dim")]


class _AudioColumn(ProgressColumn):
    """Lightning's bars count steps; this one shows them as audio."""

    def __init__(self, bar: RichProgressBar, clock: StepClock) -> None:
        super().__init__()
        self._bar, self._clock = bar, clock

    def render(self, task: Task) -> Text:
        if task.id != self._bar.train_progress_bar_id:
            count = f"batch {task.completed:.0f} of {task.total:.0f}"
            return Text(f"validation, {count}", no_wrap=True)
        seen, total = (self._clock.hours(int(n)) for n in (task.completed, task.total or 0))
        rate = (task.speed or 0.0) * self._clock.step_seconds
        return Text(f"{seen:.1f} of {total:.1f} h, {rate:.0f} s/s", no_wrap=True)
