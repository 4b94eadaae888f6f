"""Both stages train what they should, and a run that is over or was changed is not spoiled."""

import dataclasses
import io
import re
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from asr.errors import AsrError, CorpusError, ExportError, RecipeError
from tests.training.test_run import TINY, journal, recipe
from training.blank_bias import USUAL_SHIFT
from training.callbacks import Checkpointer, Journal
from training.checkpoint import PIECES, WEIGHTS, averaged_weights
from training.fit import validation_batches
from training.model import Transducer, sized
from training.model.config import SIZES
from training.recipe import Recipe, SourceConfig
from training.run import run_recipe
from training.task import Task

STEPS = 7


def two_stages(hours_factor: float = 1.0) -> Recipe:
    base = recipe(STEPS)
    train = dataclasses.replace(
        base.train,
        hours=base.train.hours * hours_factor,
        validate_every_hours=base.train.hours * 3 / STEPS,
    )
    phones = (SourceConfig("tones/manifest.jsonl"),)
    data = dataclasses.replace(base.data, phones=phones)
    return dataclasses.replace(base, train=train, pretrain=train, data=data)


@pytest.fixture(scope="module")
def finished(tones: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    work = tmp_path_factory.mktemp("work")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SIZES, "xs", TINY)
        patch.setattr(Journal.__init__, "__defaults__", (2,))  # a line every other step
        run_recipe(two_stages(), tones, work, Console(quiet=True))
    return work


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to go on with."""
    monkeypatch.setitem(SIZES, "xs", TINY)
    monkeypatch.setattr(Journal.__init__, "__defaults__", (2,))
    return Path(shutil.copytree(finished, tmp_path / "work"))


def last_step(work: Path) -> int:
    state = torch.load(work / "tiny" / "last.ckpt", weights_only=True)
    return int(state["global_step"])


def test_the_second_stage_trains_what_the_first_froze(work: Path) -> None:
    state = torch.load(work / "tiny" / "last.ckpt", weights_only=True)
    trained = len(state["optimizer_states"][0]["state"])
    model = Transducer(sized("xs", 20))
    model.phones.requires_grad_(False)  # the recipe gives its loss no weight
    assert trained == sum(p.requires_grad for p in model.parameters())


def test_the_finished_model_is_scored(work: Path) -> None:
    scored = [row["step"] for row in journal(work / "tiny") if "sets" in row]
    assert scored[-1] == last_step(work)
    assert last_step(work) % scored[0], "the test must not be met by the interval alone"


def test_a_finished_run_gives_the_same_model_again(work: Path, tones: Path) -> None:
    weights = work / "tiny" / "final" / "model.safetensors"
    expected = load_file(weights)
    weights.unlink()
    run_recipe(two_stages(), tones, work, Console(quiet=True))
    again = load_file(weights)
    assert all(torch.equal(again[name], value) for name, value in expected.items())
    averaged = averaged_weights(work / "tiny" / "last.ckpt")["model.ctc.weight"]
    assert torch.equal(again["ctc.weight"], averaged.half())


def test_a_run_can_be_prolonged(work: Path, tones: Path) -> None:
    before = last_step(work)
    run_recipe(two_stages(hours_factor=1.5), tones, work, Console(quiet=True))
    assert last_step(work) == pytest.approx(1.5 * before, abs=1)


def test_a_run_can_be_prolonged_from_before_its_decay(work: Path, tones: Path) -> None:
    folder = work / "tiny"
    total = last_step(work)
    state = torch.load(folder / "before-decay.ckpt", weights_only=True)
    assert total / 2 < state["global_step"] < total
    assert state["lr_schedulers"][0]["_last_lr"] == [3e-3] * 3
    assert torch.load(folder / "last.ckpt")["lr_schedulers"][0]["_last_lr"] == [0.0] * 3

    before = journal(folder)
    shutil.copyfile(folder / "before-decay.ckpt", folder / "last.ckpt")
    run_recipe(two_stages(hours_factor=1.5), tones, work, Console(quiet=True))
    rows = [row for row in journal(folder) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(2, last_step(work) + 1, 2))
    kept = [row for row in before if row["step"] <= state["global_step"]]
    assert journal(folder)[: len(kept)] == kept
    rates = [
        {row["step"]: row["learning_rate"] for row in part if "loss" in row}
        for part in (before, rows)
    ]
    late = total - total % 2
    assert rates[0][late] < rates[1][late] == 3e-3


def test_a_run_goes_on_from_a_finished_model(work: Path, tones: Path, tmp_path: Path) -> None:
    initial = work / "tiny" / "final"
    again = dataclasses.replace(
        two_stages(), name="again", train=dataclasses.replace(recipe(1).train, learning_rate=1e-9)
    )
    folder = run_recipe(again, tones, tmp_path, Console(quiet=True), initial)
    assert not (tmp_path / "again" / "pretrain").exists(), "a trained model needs none"
    before, after = load_file(initial / WEIGHTS), load_file(folder / WEIGHTS)
    assert before.keys() == after.keys()
    before["joiner.blank.bias"] -= USUAL_SHIFT  # for a few words of development
    for name, value in before.items():
        assert torch.allclose(after[name], value, atol=1e-3), name
    assert (folder / PIECES).read_bytes() == (initial / PIECES).read_bytes()


def test_another_model_than_the_recipe_asks_for_is_refused(
    work: Path, tones: Path, tmp_path: Path
) -> None:
    larger = dataclasses.replace(two_stages(), size="s")
    with pytest.raises(RecipeError, match=r"dim=64.*size 's'.*dim=128"):
        run_recipe(larger, tones, tmp_path, Console(quiet=True), work / "tiny" / "final")
    with pytest.raises(ExportError, match=r"nowhere.*no such file"):
        run_recipe(two_stages(), tones, tmp_path, Console(quiet=True), tmp_path / "nowhere")


def test_going_on_from_another_model_under_the_same_name_is_refused(
    work: Path, tones: Path
) -> None:
    pieces = work / "tiny" / PIECES
    pieces.write_bytes(pieces.read_bytes() + b"\0")
    with pytest.raises(CorpusError, match="other word pieces"):
        run_recipe(two_stages(), tones, work, Console(quiet=True), work / "tiny" / "final")


def test_training_in_bfloat16_clips_gradients(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Lightning refuses to clip for an optimiser that it takes for one with a gradient scaler.
    monkeypatch.setitem(SIZES, "xs", TINY)
    settings = dataclasses.replace(recipe(2), precision="bf16")
    assert settings.train.gradient_clip > 0
    run_recipe(settings, tones, tmp_path, Console(quiet=True))
    assert last_step(tmp_path) >= 2


def test_a_run_says_what_it_will_do_and_how_fast_it_was(work: Path, tones: Path) -> None:
    folder = work / "tiny"
    shutil.copyfile(folder / "before-decay.ckpt", folder / "last.ckpt")
    console = Console(file=io.StringIO(), width=200)
    run_recipe(two_stages(), tones, work, console)
    assert isinstance(console.file, io.StringIO)
    output = console.file.getvalue()
    assert re.search(r"size xs, 0\.\d million parameters; 1 process, precision (32|bf16)\n", output)
    assert "to hear: 0.0388889 h of synthetic speech, then 0.0388889 h of speech\n" in output
    size = (next((work / "features").glob("*/features.f16"))).stat().st_size
    assert f"features: {size / 1e6:.0f} MB in {work}/features/" in output
    assert re.search(r"trained on 0\.0 h, \d+ s of audio per second\n", output)


def test_a_repeated_step_is_in_the_journal_once(
    work: Path, tones: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = work / "tiny"
    whole = [(row["step"], row.keys()) for row in journal(folder)]
    shutil.copyfile(folder / "before-decay.ckpt", folder / "last.ckpt")
    with (folder / "journal.jsonl").open("a") as file:
        file.write('{"step": 9')  # killed here
    run_recipe(two_stages(), tones, work, Console(quiet=True))
    assert [(row["step"], row.keys()) for row in journal(folder)] == whole


def test_a_validation_that_was_done_is_neither_lost_nor_repeated(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIZES, "xs", TINY)
    # The checkpoint of the very step after which there is a validation.
    monkeypatch.setattr(Task, "decay_start", 3)
    settings = dataclasses.replace(two_stages(), pretrain=None)
    step_hours = settings.train.validate_every_hours / 5
    schedule = dataclasses.replace(settings.train, validate_every_hours=3 * step_hours)
    settings = dataclasses.replace(settings, train=schedule)
    run_recipe(settings, tones, tmp_path, Console(quiet=True))
    folder = tmp_path / "tiny"
    whole = [row["step"] for row in journal(folder)]
    assert 3 in whole
    shutil.copyfile(folder / "before-decay.ckpt", folder / "last.ckpt")
    run_recipe(settings, tones, tmp_path, Console(quiet=True))
    assert [row["step"] for row in journal(folder)] == whole


def test_validations_have_lines_of_their_own(work: Path) -> None:
    folder = work / "tiny" / "pretrain"
    validated = [row for row in journal(folder) if "frame_accuracy" in row]
    steps = torch.load(folder / "last.ckpt", weights_only=True)["global_step"]
    assert validated[-1]["step"] == steps, "the finished model is scored"
    assert all("loss" not in row for row in validated)
    for row in journal(work / "tiny"):
        assert ("loss" in row) != ("wer" in row)
        assert ("loss" in row) or not [name for name in row if name.startswith("wer/")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": "s"}, "was not trained with size 's'"),
        ({"learning_rate": 1e-4}, r"written with learning_rate 0\.003, now it is 0\.0001"),
        ({"batch_seconds": 10.0}, "written with seconds of speech in a step"),
    ],
    ids=str,
)
def test_a_changed_recipe_is_refused(work: Path, tones: Path, change: dict, message: str) -> None:
    settings = two_stages()
    if "size" in change:
        settings = dataclasses.replace(settings, **change)
    else:
        settings = dataclasses.replace(
            settings, train=dataclasses.replace(settings.train, **change)
        )
    with pytest.raises(RecipeError, match=message):
        run_recipe(settings, tones, work, Console(quiet=True))


def test_a_damaged_checkpoint_is_named(work: Path, tones: Path) -> None:
    checkpoint = work / "tiny" / "last.ckpt"
    for damaged in (checkpoint.read_bytes()[:5000], b""):
        checkpoint.write_bytes(damaged)
        with pytest.raises(AsrError, match=r"last\.ckpt: the checkpoint is damaged; remove it"):
            run_recipe(two_stages(), tones, work, Console(quiet=True))


def test_diverged_weights_do_not_replace_a_checkpoint(tmp_path: Path) -> None:
    class Diverged:
        global_step = 5
        lightning_module = torch.nn.Linear(2, 2)

    torch.nn.init.constant_(Diverged.lightning_module.bias, torch.nan)
    path = tmp_path / "last.ckpt"
    path.write_text("an earlier state")
    with pytest.raises(AsrError, match="NaN or Inf at step 5"):
        Checkpointer(path, 1.0, {}, 0)._save(Diverged())  # type: ignore[arg-type]
    assert path.read_text() == "an earlier state"


@pytest.mark.parametrize(("count", "world_size"), [(40, 1), (40, 3), (1, 2), (2, 5)])
def test_every_process_validates_something_and_all_is_validated(
    count: int, world_size: int
) -> None:
    shares = [validation_batches(count, rank, world_size) for rank in range(world_size)]
    assert all(share and all(share) for share in shares)
    drawn = {draw.index for share in shares for batch in share for draw in batch}
    assert drawn == set(range(count))
