"""Both stages train what they should, and a run that is over or was changed is not spoiled."""

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from asr.errors import AsrError, RecipeError
from tests.training.test_run import TINY, journal, recipe
from training.callbacks import Checkpointer
from training.checkpoint import averaged_weights
from training.model import Transducer, sized
from training.model.config import SIZES
from training.recipe import Recipe, SourceConfig
from training.run import run_recipe, validation_batches

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
        run_recipe(two_stages(), tones, work, Console(quiet=True))
    return work


@pytest.fixture
def work(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the finished run, to go on with."""
    monkeypatch.setitem(SIZES, "xs", TINY)
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
        Checkpointer(path, 1.0, {})._save(Diverged())  # type: ignore[arg-type]
    assert path.read_text() == "an earlier state"


@pytest.mark.parametrize(("count", "world_size"), [(40, 1), (40, 3), (1, 2), (2, 5)])
def test_every_process_validates_something_and_all_is_validated(
    count: int, world_size: int
) -> None:
    shares = [validation_batches(count, rank, world_size) for rank in range(world_size)]
    assert all(share and all(share) for share in shares)
    drawn = {draw.index for share in shares for batch in share for draw in batch}
    assert drawn == set(range(count))
