"""A trained model on disk: `model.safetensors`, `tokens.txt` and `bpe.model` in one folder."""

import json
import os
import shutil
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from asr.errors import ExportError
from training.model import ModelConfig, Transducer
from training.tokenizer import Tokenizer

WEIGHTS, TOKENS, PIECES = "model.safetensors", "tokens.txt", "bpe.model"


def save_model(folder: Path, model: Transducer, tokenizer: Tokenizer, half: bool = True) -> None:
    """Write the weights (float16 if `half`), dimensions and tokens of a model.

    The heads that only training uses are kept: fine-tuning starts from them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = torch.float16 if half else torch.float32
    weights = {name: value.to(dtype).contiguous() for name, value in model.state_dict().items()}
    partial = folder / (WEIGHTS + ".partial")
    save_file(weights, partial, metadata={"config": json.dumps(model.config.to_dict())})
    os.replace(partial, folder / WEIGHTS)
    lines = "".join(f"{piece} {number}\n" for number, piece in enumerate(tokenizer.pieces))
    (folder / TOKENS).write_text(lines, encoding="utf-8")
    if tokenizer.model_path.resolve() != (folder / PIECES).resolve():
        shutil.copyfile(tokenizer.model_path, folder / PIECES)


def load_model(path: Path) -> tuple[Transducer, list[str]]:
    """Read a model and its token table from a folder, or from the weights file in it.

    Raises ExportError if a file is missing, damaged, or does not fit the others.
    """
    folder = path if path.is_dir() else path.parent
    weights_path = folder / WEIGHTS if path.is_dir() else path
    for needed in (weights_path, folder / TOKENS):
        if not needed.is_file():
            raise ExportError(f"{needed}: no such file; expected the folder of a trained model")
    try:
        with safe_open(weights_path, framework="pt") as file:
            config = ModelConfig(**json.loads((file.metadata() or {})["config"]))
            weights = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, KeyError, ValueError, TypeError) as error:
        raise ExportError(f"{weights_path}: not the weights of a model ({error})") from error
    model = Transducer(config)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ExportError(f"{weights_path}: weights and dimensions differ: {error}") from error
    lines = (folder / TOKENS).read_text(encoding="utf-8").splitlines()
    tokens = [line.rsplit(" ", 1)[0] for line in lines]
    if len(tokens) != config.vocab_size:
        raise ExportError(
            f"{folder / TOKENS} has {len(tokens)} tokens; the model has {config.vocab_size}"
        )
    return model.eval(), tokens
