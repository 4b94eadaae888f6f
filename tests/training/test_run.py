"""The chain learns, and a run that is killed goes on as if it had not been."""

import errno
import json
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from lightning import Trainer
from rich.console import Console

import training.pronunciation
from asr.errors import RecipeError
from tests.training.conftest import PHONES
from training.checkpoint import load_model
from training.model.config import SIZES
from training.recipe import (
    AugmentationConfig,
    DataConfig,
    DevSetConfig,
    LossConfig,
    Recipe,
    ScheduleConfig,
    SourceConfig,
    TextConfig,
    resized,
)
from training.run import run_recipe

TINY = {"dim": 64, "layers": 2}


def recipe(steps_of_20_s: int, **schedule: float) -> Recipe:
    hours = steps_of_20_s * 20 / 3600
    return Recipe(
        name="tiny",
        size="xs",
        vocab_size=20,
        data=DataConfig(
            train=(SourceConfig("tones/manifest.jsonl"),),
            dev=(DevSetConfig("tones", "tones/manifest.jsonl"),),
        ),
        train=ScheduleConfig(
            hours=hours,
            batch_seconds=20.0,
            learning_rate=3e-3,
            warmup_hours=hours / 20,
            decay_hours=hours / 4,
            average_decay=0.98,
            validate_every_hours=hours / 2,
            **schedule,
        ),
        augmentation=AugmentationConfig(
            frequency_masks=0, time_masks_per_10s=0, mel_warp=(1.0, 1.0), noise_probability=0
        ),
        loss=LossConfig(ramp_hours=hours / 4),
    )


def journal(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "journal.jsonl").read_text().splitlines()]


def test_a_few_utterances_are_learned_by_heart(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "xs", TINY)
    folder = run_recipe(recipe(250), tones, tmp_path, Console(quiet=True))
    assert [row["wer"] for row in journal(tmp_path / "tiny") if "sets" in row][-1] == 0.0
    model, tokens = load_model(folder)
    assert len(tokens) == model.config.vocab_size == 20
    assert float(model.encoder.feature_mean.abs().sum()) > 0, "statistics travel with the model"


def test_sentences_are_read_beside_recordings(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "xs", {**TINY, "phone_layers": 1})
    monkeypatch.setattr(
        training.pronunciation, "pronounce", lambda text: [PHONES[word] for word in text.split()]
    )
    text = tmp_path / "text.txt"
    text.write_text("Red red blue. Blue green blue. White black white red.")
    settings = recipe(60)
    settings = replace(
        settings,
        data=replace(settings.data, text=TextConfig(str(text))),
        loss=replace(settings.loss, phone_weight=1.0),
    )
    run_recipe(settings, tones, tmp_path, Console(quiet=True))
    steps = [row for row in journal(tmp_path / "tiny") if "loss" in row]
    assert 0 < steps[-1]["text"] < 100, "the phone head has learned enough to cut recordings by"


@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_quantization_aware_training_leaves_a_model_like_any_other(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    """Its export reads it, another run goes on from it, and its norms were not trained."""
    monkeypatch.setitem(SIZES, "xs", TINY)
    folder = run_recipe(
        replace(recipe(3), quantize=precision), tones, tmp_path, Console(quiet=True)
    )
    model, _ = load_model(folder)
    assert not any(type(module).__name__ == "FakeQuantizedLinear" for module in model.modules())
    norm = model.encoder.blocks[0].feedforward_in.norm
    assert norm.weight.eq(1).all() and norm.bias.eq(0).all()
    assert journal(tmp_path / "tiny"), "it was trained"


def test_a_run_from_a_model_keeps_a_share_of_its_weights(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "xs", TINY)

    def weights(folder: Path) -> dict[str, torch.Tensor]:
        return dict(load_model(folder)[0].named_parameters())

    def tune(share: float) -> dict[str, torch.Tensor]:
        settings = replace(recipe(3), name=f"share-{share}", initial_share=share)
        return weights(run_recipe(settings, tones, tmp_path, Console(quiet=True), first))

    with pytest.raises(RecipeError, match="give its folder with --from"):
        run_recipe(replace(recipe(3), initial_share=0.5), tones, tmp_path, Console(quiet=True))
    first = run_recipe(recipe(3), tones, tmp_path, Console(quiet=True))
    initial, tuned, half = weights(first), tune(0.0), tune(0.5)
    for name, weight in initial.items():
        if name == "joiner.blank.bias":
            continue  # calibrated at the end
        middle = (weight + tuned[name]) / 2
        torch.testing.assert_close(half[name], middle, rtol=1e-3, atol=1e-3)  # of float16
    moved = [(tuned[name] - weight).abs().max() for name, weight in initial.items()]
    assert max(moved) > 1e-2, "training went somewhere"


def test_a_model_of_another_size_is_refused(tones: Path, tmp_path: Path) -> None:
    settings = resized(recipe(3), "s")
    with pytest.raises(RecipeError, match=r"has the dimensions .*; size 's' and vocab_size 20"):
        run_recipe(settings, tones, tmp_path, Console(quiet=True), Path("data/model"))


KILLED_RUN = """
    import json, os, signal, sys
    from pathlib import Path
    import torch
    from rich.console import Console
    from tests.training.test_run import TINY, recipe
    import training.run as run
    from training.model.config import SIZES

    SIZES["xs"] = TINY
    corpora, work, kill_at = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])

    class Recorder(run.Journal):
        def on_train_batch_end(self, trainer, task, outputs, batch, index):
            if trainer.global_step > kill_at:
                os.kill(os.getpid(), getattr(signal, sys.argv[4]))
            if trainer.global_step <= kill_at:
                self.write(step=trainer.global_step, ids=batch.ids, loss=outputs["loss"].item())

    run.Journal = Recorder
    settings = recipe(24, checkpoint_minutes=float(sys.argv[5]))
    run.run_recipe(settings, corpora, work, Console(quiet=True))
"""


def run_until(corpora: Path, work: Path, kill_at: int, sig: str, minutes: float) -> int:
    """Train in a process of its own; after step `kill_at` it gets a signal."""
    return subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(KILLED_RUN),
            *map(str, (corpora, work, kill_at, sig, minutes)),
        ],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        check=False,
        timeout=120,
    ).returncode


def recorded(work: Path) -> list[tuple[int, list[str], float]]:
    return [(r["step"], r["ids"], r["loss"]) for r in journal(work / "tiny") if "ids" in r]


def test_a_killed_run_goes_on_with_the_same_utterances_and_losses(
    tones: Path, tmp_path: Path
) -> None:
    assert run_until(tones, tmp_path / "whole", 20, "SIGKILL", 60) == -signal.SIGKILL
    whole = recorded(tmp_path / "whole")
    assert [step for step, _, _ in whole] == list(range(1, 21))

    # A checkpoint after each step, killed in the middle of the eleventh, then started again.
    killed = tmp_path / "killed"
    assert run_until(tones, killed, 10, "SIGKILL", 0) == -signal.SIGKILL
    assert len(recorded(killed)) == 10
    assert run_until(tones, killed, 20, "SIGKILL", 60) == -signal.SIGKILL
    again = recorded(killed)
    assert [row[:2] for row in again] == [row[:2] for row in whole]
    assert [row[2] for row in again] == pytest.approx([row[2] for row in whole], rel=1e-5)


@pytest.mark.parametrize("sig", ["SIGTERM", "SIGINT"])
def test_a_signal_saves_before_it_stops(tones: Path, tmp_path: Path, sig: str) -> None:
    # The interval is an hour: only the signal can have written the checkpoint.
    assert run_until(tones, tmp_path, 5, sig, 60) == 128 + signal.Signals[sig]
    checkpoint = torch.load(tmp_path / "tiny" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 6
    assert not list((tmp_path / "tiny").glob("*.partial"))


def test_a_checkpoint_that_a_full_disk_cuts_short_is_named_and_removed(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left there, it would keep the disk full."""
    monkeypatch.setitem(SIZES, "xs", TINY)

    def run_full(trainer: Trainer, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/tmp/a", None, str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "save_checkpoint", run_full)
        with pytest.raises(OSError, match="No space left") as full:
            run_recipe(recipe(4), tones, tmp_path, Console(quiet=True))
    folder = tmp_path / "tiny"
    assert full.value.filename == str(folder / "last.ckpt")
    assert not list(folder.glob("*.partial"))
    assert not (folder / "last.ckpt").exists()
    assert (run_recipe(recipe(4), tones, tmp_path, Console(quiet=True)) / "bpe.model").is_file()
