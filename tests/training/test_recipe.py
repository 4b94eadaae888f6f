"""A recipe that is not understood must never train something else silently."""

from pathlib import Path

import pytest

from asr.errors import RecipeError
from training.recipe import load_recipe, resized

MINIMAL = """
name: test
data:
  train: [{manifests: "a/*.jsonl", weight: 2}]
  dev: [{name: a, manifests: "a/*.jsonl"}]
train: {hours: 1}
"""


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_what_is_not_said_has_a_default(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert recipe.pretrain is None
    assert recipe.size == "s"
    assert recipe.train.hours == 1.0
    assert isinstance(recipe.data.train[0].weight, float)


@pytest.mark.parametrize("path", sorted(Path("training/recipes").glob("*.yaml")), ids=str)
def test_shipped_recipes_are_valid(path: Path) -> None:
    assert load_recipe(path).name == path.stem


@pytest.mark.parametrize(
    ("addition", "message"),
    [
        ("sise: m", r"unknown key 'sise'; did you mean 'size'\?"),
        ("loss: {ctc_wieght: 1}", r"unknown key 'loss.ctc_wieght'; did you mean 'ctc_weight'\?"),
        ("size: xl", "size is 'xl'; expected one of xs, s, m, l"),
        ("quantize: int3", "quantize is 'int3'; expected one of int8, int4"),
        ("precision: fp8", "expected auto, 32 or bf16"),
        ("seed: one", "seed is 'one'; expected a value of type int"),
        ("augmentation: {stretch: [1.0]}", r"stretch has 1 values; expected 2"),
        ("augmentation: {stretch: 1.0}", r"stretch is 1.0; expected a list"),
        ("loss: 3", "loss is 3; expected keys and values"),
        ("vocab_size: 0", "vocab_size is 0; expected more than 0"),
        ("pretrain: {hours: 0}", "pretrain: hours is 0.0; expected more than 0"),
        ("augmentation: {stretch: [1.1, 0.9]}", "augmentation: stretch is from 1.1 to 0.9"),
        ("augmentation: {mel_warp: [0, 1]}", r"mel_warp is \(0.0, 1.0\); expected factors above 0"),
        ("augmentation: {noise_snr_db: [9, 3]}", "noise_snr_db is from 9.0 to 3.0"),
        ("augmentation: {noise_probability: 30}", "noise_probability is 30.0; expected 0 to 1"),
        ("augmentation: {frequency_mask_bins: 81}", "mask_bins is 81; expected 0 to 80"),
        ("augmentation: {time_masks_per_10s: -1}", "per_10s is -1.0; expected 0 or more"),
        ("loss: {band: 1}", "loss: band is 1; expected 2 or more"),
        ("streaming: {chunk_frames: []}", r"chunk_frames is \[\]; expected one or more"),
        ("streaming: {left_frames: [0]}", r"left_frames is \[0\]; expected one or more"),
        ("initial_share: 1.5", "initial_share is 1.5; expected 0 to 1"),
        ("streaming: {full_probability: 1.5}", "full_probability is 1.5; expected 0 to 1"),
        ("pretrain: {hours: 1}", "pretrain needs data.phones"),
        ("pretrain: {hours: 1, average_decay: 1}", "average_decay is 1.0; expected 0 to 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, addition: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, MINIMAL + addition + "\n"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('manifests: "a/*.jsonl", w', "w", r"data.train\[0\]: expected either manifests or shar"),
        ("weight: 2", "shar: b", r"data.train\[0\]: expected either manifests or shar"),
        ("weight: 2", "weight: 0", r"data.train\[0\]: weight is 0.0; expected more than 0"),
        ("  dev:", "  text: {file: a.txt}\n  dev:", "data.text needs loss.phone_weight"),
        ("  dev:", "  text: {file: a, share: 0}\n  dev:", "data.text: share is 0.0; expected more"),
        ("  dev:", "  text: {file: a, share: .inf}\n  dev:", "text: share is inf; expected 0 to 4"),
        ("name: test", "name: ../test", "name is '../test'; expected the name of one folder"),
        ("dev: [", "dev: [{name: a, manifests: b}, ", "dev has sets named a, a"),
        ('  dev: [{name: a, manifests: "a/*.jsonl"}]', "  dev: []", "data: dev is empty"),
    ],
)
def test_what_can_not_be_trained_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in MINIMAL
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, MINIMAL.replace(old, new)))


def test_another_size_has_a_folder_of_its_own(tmp_path: Path) -> None:
    recipe = load_recipe(write(tmp_path, MINIMAL))
    assert resized(recipe, None) == resized(recipe, "s") == recipe
    large = resized(recipe, "l")
    assert (large.size, large.name) == ("l", "test-l")
    with pytest.raises(RecipeError, match="size is 'xl'; expected one of xs, s, m, l"):
        resized(recipe, "xl")


def test_single_values_are_set_in_place_of_the_recipes(tmp_path: Path) -> None:
    path = write(tmp_path, MINIMAL)
    changes = ["train.hours=1e1", "loss.ctc_weight=0", "name=b", "data.rooms=", "size=m", "seed=2"]
    recipe = load_recipe(path, changes)
    assert (recipe.train.hours, recipe.loss.ctc_weight, recipe.name) == (10.0, 0.0, "b")
    assert (recipe.data.rooms, recipe.size, recipe.seed) == (None, "m", 2)
    assert recipe.data.train == load_recipe(path).data.train
    augmented = load_recipe(path, ["augmentation={stretch: [1, 1]}", "data.train=[{shar: a}]"])
    assert augmented.augmentation.stretch == (1.0, 1.0)
    assert augmented.data.train[0].shar == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("train.hours", "--set 'train.hours'; expected KEY=VALUE, as in train.hours=10"),
        ("train.hour=1", r"unknown key 'train.hour'; did you mean 'hours'\?"),
        ("trian.hours=1", r"unknown key 'trian'; did you mean 'train'\?"),
        ("data.train.weight=1", "data.train holds no keys; set all of it"),
        ("name.first=1", "name holds no keys"),
        ("train.hours=[", "the value is not YAML"),
        ("train.hours=long", "train.hours is 'long'; expected a value of type float"),
        ("=1", "unknown key ''"),
    ],
)
def test_a_value_that_can_not_be_set_is_named(tmp_path: Path, change: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, MINIMAL), [change])


def test_noise_is_not_drawn_from_nothing(tmp_path: Path) -> None:
    for kind in ("recorded_noise", "enclosing_noise", "noise_alone"):
        change = f"augmentation.{kind}_probability=0.5"
        with pytest.raises(RecipeError, match=f"{kind}_probability needs data.noise"):
            load_recipe(write(tmp_path, MINIMAL), [change])
        load_recipe(write(tmp_path, MINIMAL), [change, 'data.noise="*.opus"'])


def test_a_number_may_have_an_exponent_and_no_point(tmp_path: Path) -> None:
    text = MINIMAL.replace("hours: 1", "hours: 1, learning_rate: 1e-3")
    assert load_recipe(write(tmp_path, text)).train.learning_rate == 1e-3


def test_missing_keys_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="key 'data' is missing"):
        load_recipe(write(tmp_path, "name: a\ntrain: {hours: 1}\n"))
    with pytest.raises(RecipeError, match=r"key 'train\.hours' is missing"):
        load_recipe(write(tmp_path, MINIMAL.replace("hours: 1", "batch_seconds: 1")))
    with pytest.raises(RecipeError, match=r"absent\.yaml: the recipe can't be read"):
        load_recipe(tmp_path / "absent.yaml")
    with pytest.raises(RecipeError, match="not a YAML file"):
        load_recipe(write(tmp_path, "a: [1"))
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe")
    with pytest.raises(RecipeError, match="not a YAML file"):
        load_recipe(tmp_path / "binary.yaml")
