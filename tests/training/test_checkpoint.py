"""A saved model comes back as it was, or the error says what is wrong with its files."""

import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from asr.errors import AsrError, ExportError
from training.checkpoint import (
    LANGUAGE_MODEL,
    TrainedModel,
    average_models,
    load_model,
    save_model,
)
from training.cli import app
from training.model import ModelConfig, Transducer
from training.tokenizer import Tokenizer, train_tokenizer

CONFIG = ModelConfig(vocab_size=30, dim=32, layers=1, conv_kernel=7)
TEXTS = ["the rain in spain stays mainly in the plain", "a stream of words ran past the door"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    return train_tokenizer(TEXTS, CONFIG.vocab_size, tmp_path_factory.mktemp("bpe") / "bpe.model")


@pytest.fixture
def model() -> Transducer:
    torch.manual_seed(0)
    model = Transducer(CONFIG)
    model.set_feature_statistics(torch.randn(80) - 8, torch.rand(80) + 2)
    return model


@pytest.mark.parametrize("half", [True, False])
def test_a_model_comes_back(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path, half: bool
) -> None:
    save_model(tmp_path, model, tokenizer, half)
    loaded, tokens = load_model(tmp_path)
    assert not loaded.training
    assert loaded.config == model.config
    assert tokens == tokenizer.pieces
    expected = model.state_dict()
    assert loaded.state_dict().keys() == expected.keys(), "heads for fine-tuning are kept"
    for name, value in loaded.state_dict().items():
        assert value.dtype == torch.float32
        tolerance = 1e-3 if half else 0.0
        torch.testing.assert_close(value, expected[name], rtol=tolerance, atol=tolerance)
    assert torch.equal(loaded.encoder.feature_mean, model.encoder.feature_mean)


def test_hours_heard_travel_with_the_weights(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path, model, tokenizer, heard_hours=50.3)
    assert TrainedModel.load(tmp_path).heard_hours == 50.3
    weights = tmp_path / "model.safetensors"
    with safe_open(weights, framework="pt") as file:
        older = {"config": file.metadata()["config"]}
    save_file(load_file(weights), weights, metadata=older)
    assert math.isnan(TrainedModel.load(weights).heard_hours), "older files don't say"
    save_file(load_file(weights), weights, metadata={**older, "heard_hours": "many"})
    with pytest.raises(ExportError, match="heard_hours in its header is no number: 'many'"):
        TrainedModel.load(tmp_path)


def test_half_weights_take_half_the_room(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "half", model, tokenizer)
    save_model(tmp_path / "full", model, tokenizer, half=False)
    sizes = [(tmp_path / kind / "model.safetensors").stat().st_size for kind in ("half", "full")]
    assert sizes[0] < 0.6 * sizes[1]


def test_an_average_is_the_mean_of_the_weights(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folders = [tmp_path / name for name in ("one", "two", "three")]
    found = []
    for number, folder in enumerate(folders):
        with torch.no_grad():
            for weight in model.parameters():
                weight += 0.1 * number * torch.randn_like(weight)
        save_model(folder, model, tokenizer, half=False, heard_hours=30.0 - number)
        found.append({name: value.clone() for name, value in model.state_dict().items()})
    (folders[-1] / LANGUAGE_MODEL).write_bytes(b"n-grams")
    out = tmp_path / "mean"
    done = CliRunner().invoke(app, ["average", *map(str, folders), "--out", str(out)])
    assert done.exit_code == 0, done.output
    made = TrainedModel.load(out)
    assert made.heard_hours == 30.0
    assert (out / LANGUAGE_MODEL).read_bytes() == b"n-grams"
    for name, value in made.model.state_dict().items():
        expected = sum(weights[name] for weights in found) / 3
        torch.testing.assert_close(value, expected, atol=2e-3, rtol=2e-3)  # float16


def test_models_that_differ_have_no_average(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    save_model(one, model, tokenizer)
    wider = replace(model.config, joiner_dim=2 * model.config.joiner_dim)
    save_model(other, Transducer(wider), tokenizer)
    with pytest.raises(ExportError, match="its dimensions are not those of"):
        average_models([one, other])
    done = CliRunner().invoke(app, ["average", str(one), "--out", str(tmp_path / "mean")])
    assert isinstance(done.exception, AsrError)
    assert "expected two or more to average" in str(done.exception)


def test_the_folder_has_all_that_fine_tuning_needs(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path, model, tokenizer)
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"model.safetensors", "tokens.txt", "bpe.model"}
    assert Tokenizer(tmp_path / "bpe.model").encode("the rain") == tokenizer.encode("the rain")
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        assert not [name for name in file.keys() if ".positions." in name]  # noqa: SIM118


def test_saving_into_the_folder_that_the_tokenizer_is_in(model: Transducer, tmp_path: Path) -> None:
    tokenizer = train_tokenizer(TEXTS, CONFIG.vocab_size, tmp_path / "bpe.model")
    save_model(tmp_path, model, tokenizer)
    assert load_model(tmp_path)[1] == tokenizer.pieces


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("no weights", "model.safetensors: no such file"),
        ("no tokens", "tokens.txt: can't be read"),
        ("truncated", "damaged"),
        ("no header", "'config'"),
        ("other dimensions", "the weight encoder.blocks.1"),
        ("diverged", "the weight predictor.output.bias holds NaN"),
        ("fewer tokens", "29 tokens; the model beside it has 30"),
        ("tokens out of order", "line 3: expected 'piece 2'"),
    ],
)
def test_damage_is_named(
    model: Transducer, tokenizer: Tokenizer, tmp_path: Path, damage: str, message: str
) -> None:
    save_model(tmp_path, model, tokenizer)
    weights, tokens = tmp_path / "model.safetensors", tmp_path / "tokens.txt"
    lines = tokens.read_text(encoding="utf-8").splitlines(keepends=True)
    if damage == "no weights":
        weights.unlink()
    elif damage == "no tokens":
        tokens.unlink()
    elif damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:2000])
    elif damage == "no header":
        save_file(load_file(weights), weights)
    elif damage == "other dimensions":
        header = '{"vocab_size": 30, "dim": 32, "layers": 2, "conv_kernel": 7}'
        save_file(load_file(weights), weights, metadata={"config": header})
    elif damage == "diverged":
        with torch.no_grad():
            model.predictor.output.bias[3] = torch.nan
        save_model(tmp_path, model, tokenizer)
    elif damage == "fewer tokens":
        tokens.write_text("".join(lines[:-1]), encoding="utf-8")
    else:
        tokens.write_text("".join([*lines[:2], *lines[3:], lines[2]]), encoding="utf-8")
    with pytest.raises(ExportError, match=message):
        load_model(tmp_path)
