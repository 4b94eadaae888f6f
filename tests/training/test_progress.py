"""The progress bar counts in hours of audio, after a restart too."""

from types import SimpleNamespace

from rich.progress import Progress

from training.progress import AudioProgressBar
from training.task import StepClock


def test_audio_seen_of_all_that_will_be() -> None:
    bar = AudioProgressBar(StepClock(step_seconds=60.0))
    trainer = SimpleNamespace(
        max_steps=600, max_epochs=-1, global_step=300, num_training_batches=600
    )
    bar._trainer = trainer  # type: ignore[assignment]
    assert bar.total_train_batches == 600, "of the whole run, not of what is left of it"
    progress = Progress()
    bar.train_progress_bar_id = progress.add_task("Epoch 0/-2", total=bar.total_train_batches)
    validation = progress.add_task("Validation", total=4)
    progress.update(bar.train_progress_bar_id, completed=330)
    progress.update(validation, completed=1)
    column = bar.configure_columns(trainer)[0]  # type: ignore[arg-type]
    texts = [str(column.render(task)) for task in progress.tasks]
    assert texts[0].startswith("5.5 of 10.0 h, ")
    assert texts[1] == "validation, batch 1 of 4"
