"""A trained model on disk: `model.safetensors`, `tokens.txt` and `bpe.model` in one folder, with
`language_model.npz` if there is one for its tokens.

And the other kind of checkpoint: `last.ckpt`, the whole state of a run that goes on, and
`before-decay.ckpt`, which `training.task.learning_rate_factor` says more of.
"""

import json
import math
import pickle
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from asr.errors import AsrError, ExportError, RecipeError
from asr.whole_files import write_whole
from training.model import ModelConfig, Transducer
from training.tokenizer import Tokenizer

WEIGHTS, TOKENS, PIECES = "model.safetensors", "tokens.txt", "bpe.model"
LANGUAGE_MODEL = "language_model.npz"
HEARD_HOURS = "heard_hours"  # key in the header of the weights


def save_model(
    folder: Path,
    model: Transducer,
    tokenizer: Tokenizer,
    half: bool = True,
    heard_hours: float = math.nan,
) -> None:
    """Write the weights (float16 if `half`), dimensions and tokens of a model.

    heard_hours: audio that its transducer training has heard so far, the runs before included;
    NaN: not known. The heads that only training uses are kept: fine-tuning starts from them. The
    statistics of the features stay float32. Each file appears whole or not at all, the weights
    last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    statistics = {name for name, _ in model.named_buffers()}
    weights = {
        name: value.detach().to(torch.float32 if name in statistics else dtype).contiguous()
        for name, value in model.state_dict().items()
    }
    metadata = {
        "config": json.dumps(model.config.to_dict()),
        HEARD_HOURS: f"{heard_hours:.2f}",
    }
    lines = "".join(f"{piece} {number}\n" for number, piece in enumerate(tokenizer.pieces))
    write_whole(folder / TOKENS, lambda path: path.write_text(lines, encoding="utf-8"))
    if tokenizer.model_path.resolve() != (folder / PIECES).resolve():
        write_whole(folder / PIECES, lambda path: shutil.copyfile(tokenizer.model_path, path))
    write_whole(folder / WEIGHTS, lambda path: path.write_bytes(save(weights, metadata)))


def find_language_model(folder: Path) -> Path | None:
    """Return the language model in the folder of a trained model; None if it has none."""
    path = (folder if folder.is_dir() else folder.parent) / LANGUAGE_MODEL
    return path if path.is_file() else None


def keep_language_model(before: Path, folder: Path) -> None:
    """Give a trained model the language model of another, if that has one for the same tokens."""
    found = find_language_model(before)
    if found and (found.parent / PIECES).read_bytes() == (folder / PIECES).read_bytes():
        write_whole(folder / LANGUAGE_MODEL, lambda path: shutil.copyfile(found, path))


def load_model(path: Path) -> tuple[Transducer, list[str]]:
    """Read a model, in evaluation mode, and its token table.

    `path` is the folder that `save_model` wrote, or the weights file in it.

    Raises ExportError if a file is missing, damaged, not finite, or does not fit the others.
    """
    folder = path if path.is_dir() else path.parent
    weights_path = folder / WEIGHTS if path.is_dir() else path
    config, weights = _read_weights(weights_path)
    model = Transducer(config)
    _check_weights(weights_path, weights, model.state_dict())
    model.load_state_dict(weights)
    return model.eval(), _read_tokens(folder / TOKENS, config.vocab_size)


@dataclass(frozen=True)
class TrainedModel:
    """What `save_model` wrote, to go on training from."""

    model: Transducer
    tokenizer: Tokenizer
    heard_hours: float  # audio heard in training so far; NaN: its file doesn't say

    @staticmethod
    def load(folder: Path) -> "TrainedModel":
        """Raise ExportError if a file is missing, damaged, or does not fit the others."""
        model, tokens = load_model(folder)
        pieces = folder / PIECES if folder.is_dir() else folder.parent / PIECES
        if not pieces.is_file():
            raise ExportError(f"{pieces}: no such file; expected the word pieces of the model")
        try:
            tokenizer = Tokenizer(pieces)
        except RuntimeError as error:
            raise ExportError(f"{pieces}: not a SentencePiece model, or damaged") from error
        if tokenizer.pieces != tokens:
            raise ExportError(f"{pieces}: its pieces are not those of {TOKENS} beside it")
        weights = folder / WEIGHTS if folder.is_dir() else folder
        return TrainedModel(model, tokenizer, _read_heard_hours(weights))

    def feature_statistics(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the mean and deviation `(F,)` of the features it was trained on."""
        encoder = self.model.encoder
        return encoder.feature_mean.numpy(), (1 / encoder.feature_inverse_std).numpy()


def average_models(folders: Sequence[Path]) -> TrainedModel:
    """Return the mean of the weights of several models, each of which a run from the one before has
    made: it often hears better than any of them (arXiv 2203.05482). It has heard what the one that
    has heard most did.

    Raises ExportError as `TrainedModel.load` does, and if their dimensions or tokens differ.
    """
    first, *others = (TrainedModel.load(folder) for folder in folders)
    weights = first.model.state_dict()
    for folder, other in zip(folders[1:], others, strict=True):
        if other.model.config != first.model.config:
            raise ExportError(f"{folder}: its dimensions are not those of {folders[0]}")
        if other.tokenizer.pieces != first.tokenizer.pieces:
            raise ExportError(f"{folder}: its tokens are not those of {folders[0]}")
        for name, value in other.model.state_dict().items():
            weights[name] = weights[name] + value
    first.model.load_state_dict({name: value / len(folders) for name, value in weights.items()})
    heard_hours = max(each.heard_hours for each in (first, *others))
    return TrainedModel(first.model, first.tokenizer, heard_hours)


def resumable_step(path: Path, settings: dict[str, Any]) -> int:
    """Return the steps done when `last.ckpt` was written, 0 if there is none.

    Raises RecipeError if it was written with other `settings`: its optimiser would go on with the
    old ones, and its step would be another place in the data. Raises AsrError if it is damaged.
    """
    if not path.exists():
        return 0
    state = read_state(path)
    before = state["callbacks"].get("Checkpointer", {}).get("settings", {})
    for key, now in settings.items():
        if before.get(key, now) != now:
            raise RecipeError(
                f"{path} was written with {key} {before[key]!r}, now it is {now!r}; put it back, "
                "or give the recipe another name to train anew"
            )
    return int(state["global_step"])


def averaged_weights(path: Path) -> dict[str, Tensor]:
    """Return the averaged weights in `last.ckpt`. Raises AsrError if it is damaged."""
    weights: dict[str, Tensor] = read_state(path)["state_dict"]
    return weights


def read_state(path: Path) -> dict[str, Any]:
    """Read what `torch.save` wrote while training. Raises AsrError if it is damaged."""
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, pickle.UnpicklingError) as error:
        raise AsrError(
            f"{path}: the checkpoint is damaged; remove it to start this stage anew ({error})"
        ) from error
    return state


def _read_weights(path: Path) -> tuple[ModelConfig, dict[str, Tensor]]:
    if not path.is_file():
        raise ExportError(f"{path}: no such file; expected the weights of a trained model")
    try:
        with safe_open(path, framework="pt") as file:
            config = ModelConfig(**json.loads((file.metadata() or {})["config"]))
            return config, {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except KeyError as error:
        raise ExportError(
            f"{path}: no {error} in its header; asr-train wrote no such file"
        ) from error
    except (OSError, SafetensorError, ValueError, TypeError) as error:
        raise ExportError(f"{path}: not the weights of a model, or damaged: {error}") from error


def _read_heard_hours(path: Path) -> float:
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get(HEARD_HOURS, "nan")
    try:
        return float(text)
    except ValueError as error:
        raise ExportError(f"{path}: {HEARD_HOURS} in its header is no number: {text!r}") from error


def _check_weights(path: Path, found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    for name in sorted(expected.keys() | found.keys()):
        shapes = [list(side[name].shape) if name in side else None for side in (found, expected)]
        if shapes[0] != shapes[1]:
            raise ExportError(
                f"{path}: the weight {name} has shape {shapes[0]}; the dimensions in its header "
                f"make it {shapes[1]} (None: not there); it was written by another version"
            )
        if not torch.isfinite(found[name]).all():
            raise ExportError(
                f"{path}: the weight {name} holds NaN or Inf: its training diverged; "
                "use an earlier model"
            )


def _read_tokens(path: Path, vocab_size: int) -> list[str]:
    try:
        # Not splitlines(): a piece may be a character that it takes for the end of a line.
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ExportError(f"{path}: can't be read: {error}") from error
    tokens = []
    for number, line in enumerate(lines):
        piece, _, token_id = line.rpartition(" ")
        if not piece or token_id != str(number):
            raise ExportError(f"{path}, line {number + 1}: expected 'piece {number}', got {line!r}")
        tokens.append(piece)
    if len(tokens) != vocab_size:
        raise ExportError(f"{path}: {len(tokens)} tokens; the model beside it has {vocab_size}")
    return tokens
