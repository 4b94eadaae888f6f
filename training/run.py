"""Runs a recipe: prepare, pre-train on phones, train the transducer; each resumes where it was."""

import functools
import hashlib
import logging
import os
from dataclasses import replace
from pathlib import Path

import lightning
import torch
from rich.console import Console
from torch import Tensor

from asr.errors import RecipeError
from asr.whole_files import write_whole
from training.batching import BatchPlan
from training.blank_bias import calibrate_blank
from training.callbacks import FrameAccuracyValidation, Journal, WordErrorValidation
from training.checkpoint import TrainedModel, keep_language_model, read_state, save_model
from training.compression.quantization import fake_quantize
from training.dataset import PhoneDataset, Speech, SpeechDataset
from training.fit import fit, resolved_precision
from training.model import Transducer, sized
from training.phone_task import PhoneTask
from training.preparation import Prepared, prepare
from training.processes import agree, is_first, one_per_file_system, spread_newest, world_size
from training.recipe import Recipe, ScheduleConfig
from training.task import StepClock
from training.text_injection import TextInjection
from training.transducer_task import TransducerTask


def run_recipe(
    recipe: Recipe, data: Path, work: Path, console: Console, initial: Path | None = None
) -> Path:
    """Train what the recipe says; return the folder of the finished model.

    data: the folder that the recipe's manifests are relative to; work: where everything made on
    the way is kept; initial: folder of a trained model to go on from, in place of pre-training.
    Killed at any moment and started again, it goes on from its last checkpoint.
    """
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    lightning.seed_everything(recipe.seed, verbose=False)
    if not torch.cuda.is_available():
        # Small matrices gain nothing from more threads, and spinning ones starve each other.
        torch.set_num_threads(1)
        # Batches have hundreds of shapes, and each asks for kernels of its own. With the usual 1024
        # many are made again and again; with 20,000 they fill the memory.
        os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "3000")
    if initial:
        # What pre-training is for, a trained model has.
        recipe = replace(recipe, pretrain=None)
    elif recipe.initial_share:
        raise RecipeError("initial_share is for a trained model: give its folder with --from")

    def ready(found: bool) -> tuple[TrainedModel | None, Prepared]:
        trained = _load_initial(recipe, initial) if initial else None
        say = Console(quiet=True) if found else console
        return trained, prepare(recipe, data, work, say, trained, found)

    trained, prepared = one_per_file_system(
        make=lambda: ready(found=False), find=lambda: ready(found=True), folder=work
    )
    agree(_facts(recipe, prepared))
    folder = work / recipe.name
    model = trained.model.train() if trained else _new_model(recipe, prepared)
    if recipe.quantize:
        fake_quantize(model, recipe.quantize)
    console.print(_summary(recipe, prepared, model))
    if recipe.pretrain:
        _load_pretrained_encoder(recipe, recipe.pretrain, prepared, model, folder, console)
    heard_before = trained.heard_hours if trained else 0.0
    heard = heard_before + _train(recipe, prepared, model, folder, console, heard_before)
    if is_first():
        save_model(folder / "final", model, prepared.tokenizer, heard_hours=heard)
        for trained_here in (folder / "final", folder / "best"):
            if initial and trained_here.is_dir():
                keep_language_model(initial, trained_here)
    return folder / "final"


def _load_initial(recipe: Recipe, folder: Path) -> TrainedModel:
    trained = TrainedModel.load(folder)
    expected = sized(recipe.size, recipe.vocab_size)
    if trained.model.config != expected:
        raise RecipeError(
            f"{folder} has the dimensions {trained.model.config}; size {recipe.size!r} and "
            f"vocab_size {recipe.vocab_size} of the recipe make {expected}"
        )
    return trained


def _facts(recipe: Recipe, prepared: Prepared) -> dict[str, str]:
    """What the processes of a run must have alike: batches are drawn from it, unseen by others."""
    speech = hashlib.sha256()
    for part in (prepared.train, prepared.phones, prepared.phones_dev, *prepared.dev.values()):
        for cut, tokens, phones in zip(part.cuts, part.tokens, part.phones, strict=True):
            speech.update(repr((cut.id, cut.duration, tokens, phones)).encode())
    acoustics = prepared.acoustics
    # Not the values of the responses: processors may round them otherwise.
    lengths = [len(response) for response in acoustics.rooms]
    surroundings = hashlib.sha256(repr((acoustics.noises, lengths)).encode())
    return {
        "recipe": hashlib.sha256(repr(recipe).encode()).hexdigest()[:12],
        "speech": f"{len(prepared.train.cuts)} utterances, {speech.hexdigest()[:12]}",
        "text": hashlib.sha256(repr(prepared.text).encode()).hexdigest()[:12],
        "noises and rooms": (
            f"{len(acoustics.noises)} and {len(acoustics.rooms)}, {surroundings.hexdigest()[:12]}"
        ),
        "device": "GPU" if torch.cuda.is_available() else "CPU",
    }


def _new_model(recipe: Recipe, prepared: Prepared) -> Transducer:
    model = Transducer(sized(recipe.size, recipe.vocab_size))
    model.set_feature_statistics(torch.from_numpy(prepared.mean), torch.from_numpy(prepared.std))
    model.quiet_heads()
    return model


def _summary(recipe: Recipe, prepared: Prepared, model: Transducer) -> str:
    """What is about to be trained, in a few lines."""
    count = sum(parameter.numel() for parameter in model.parameters())
    hours = f"{recipe.train.hours:g} h of speech"
    learning = f", for {recipe.quantize} weights" if recipe.quantize else ""
    if recipe.pretrain:
        hours = f"{recipe.pretrain.hours:g} h of synthetic speech, then {hours}"
    processes = "1 process" if world_size() == 1 else f"{world_size()} processes"
    cache = prepared.cache
    return (
        f"size {recipe.size}, {count / 1e6:.1f} million parameters{learning}; "
        f"{processes}, precision {resolved_precision(recipe.precision)}\n"
        f"to hear: {hours}\n"
        f"features: {cache.size / 1e6:.0f} MB in {cache.folder}"
    )


def _load_pretrained_encoder(
    recipe: Recipe,
    schedule: ScheduleConfig,
    prepared: Prepared,
    model: Transducer,
    folder: Path,
    console: Console,
) -> None:
    finished = folder / "pretrain" / "encoder.pt"
    spread_newest(finished)
    if not finished.exists():
        console.print(f"pre-training on {prepared.phones.hours:.1f} h of synthetic speech")
        plan = _plan(prepared.phones, recipe, schedule)
        clock = StepClock(plan.step_seconds())
        lower = _lower_blocks(model)
        task = PhoneTask(lower, schedule, recipe.streaming, clock, recipe.seed)
        dataset = functools.partial(
            PhoneDataset,
            cache=prepared.cache,
            mean=prepared.mean,
            acoustics=prepared.acoustics,
            seed=recipe.seed,
        )
        train = dataset(prepared.phones, augmentation=recipe.augmentation.for_frame_targets())
        dev = [dataset(prepared.phones_dev)]
        journal = Journal(finished.parent / "journal.jsonl")
        callbacks = [journal, FrameAccuracyValidation(journal)]
        fit(task, plan, train, dev, recipe, finished.parent, callbacks, console)
        if is_first():
            write_whole(finished, functools.partial(torch.save, task.phonetic_state()))
        model.load_state_dict(task.phonetic_state(), strict=False)
        return
    try:
        model.load_state_dict(read_state(finished), strict=False)
    except RuntimeError as error:
        raise RecipeError(
            f"{finished} was not trained with size {recipe.size!r}, which the recipe asks for; "
            "remove it to pre-train again, or give the recipe another name"
        ) from error


def _lower_blocks(model: Transducer) -> Transducer:
    """Return a model that has only the blocks of `model` below its phone head."""
    config = model.config
    lower = Transducer(replace(config, layers=min(config.layers, config.phone_layers)))
    encoder = model.encoder
    lower.set_feature_statistics(encoder.feature_mean, 1 / encoder.feature_inverse_std)
    return lower


def _train(
    recipe: Recipe,
    prepared: Prepared,
    model: Transducer,
    folder: Path,
    console: Console,
    heard_before: float,
) -> float:
    """Train the transducer to the end; return the hours of audio that it heard in this run."""
    views = 2 if recipe.loss.consistency_weight else 1
    plan = _plan(prepared.train, recipe, recipe.train, views)
    clock = StepClock(plan.step_seconds())
    task = TransducerTask(
        model,
        prepared.tokenizer,
        recipe.train,
        recipe.loss,
        recipe.streaming,
        clock,
        recipe.seed,
        _text_injection(recipe, prepared),
    )
    dataset = functools.partial(
        SpeechDataset,
        cache=prepared.cache,
        mean=prepared.mean,
        acoustics=prepared.acoustics,
        seed=recipe.seed,
    )
    speech = prepared.train
    train = dataset(speech, augmentation=recipe.augmentation)
    dev = [dataset(speech) for speech in prepared.dev.values()]
    references = {
        name: {cut.id: cut.supervisions[0].text for cut in speech.cuts}
        for name, speech in prepared.dev.items()
    }
    journal = Journal(folder / "journal.jsonl")
    validation = WordErrorValidation(references, folder, journal, heard_before)
    initial = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    fit(task, plan, train, dev, recipe, folder, [journal, validation], console)
    _mix_in(model, initial, recipe.initial_share)
    if is_first():
        dev_sets = dict(zip(prepared.dev, dev, strict=True))
        calibration = calibrate_blank(model, prepared.tokenizer, dev_sets, recipe.streaming)
        why = "as usual, for the dev sets have too few words to choose"
        if calibration.rates:
            rates = calibration.mean(0.0), calibration.mean(calibration.shift)
            why = "mean dev WER {:.1%} -> {:.1%}".format(*rates)
        console.print(f"the blank's bias is lowered by {calibration.shift:g}: {why}")
    return clock.hours(clock.steps(recipe.train.hours))


def _text_injection(recipe: Recipe, prepared: Prepared) -> TextInjection | None:
    if recipe.data.text is None or prepared.text is None:
        return None
    return TextInjection(prepared.text, recipe.data.text.share)


@torch.no_grad()
def _mix_in(model: Transducer, initial: dict[str, Tensor], share: float) -> None:
    """Move the weights back, by `share` of the way, to those that training began with.

    What a short training for few voices made the model forget comes back sooner than what it
    learned there goes (arXiv 2210.15282).
    """
    for name, weight in model.named_parameters():
        weight.lerp_(initial[name].to(weight.device), share)


def _plan(speech: Speech, recipe: Recipe, schedule: ScheduleConfig, views: int = 1) -> BatchPlan:
    return BatchPlan(
        speech.durations, speech.weights, schedule.batch_seconds, recipe.seed, world_size(), views
    )
