"""From manifests to what a run needs: tokenizer, cached features, statistics, usable utterances."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from lhotse import CutSet, MonoCut
from numpy.typing import NDArray
from rich.console import Console

from asr.errors import CorpusError
from asr.whole_files import write_whole
from training.acoustics import Acoustics
from training.checkpoint import TrainedModel
from training.corpus import Rejections, has_phones, phones_of, read_cuts
from training.dataset import Speech, trainable
from training.feature_cache import FeatureCache
from training.forced_alignment import require_aligner
from training.pronunciation import Pronunciations, phone_ids
from training.recipe import DataConfig, Recipe, SourceConfig
from training.shards import read_shards
from training.text_injection import Sentences, draw_texts, pronounced
from training.tokenizer import Tokenizer, train_tokenizer

STATISTICS_UTTERANCES = 1000

PHONE_DEV_UTTERANCES = 64
"""Enough to see whether pre-training learns; nothing is chosen by them."""


@dataclass(frozen=True)
class Prepared:
    """All that training reads; made once, then found in the work folder."""

    tokenizer: Tokenizer
    cache: FeatureCache
    mean: NDArray[np.float32]  # (80,)
    std: NDArray[np.float32]  # (80,)
    acoustics: Acoustics
    train: Speech
    phones: Speech
    phones_dev: Speech
    dev: dict[str, Speech]
    text: Sentences | None


def prepare(
    recipe: Recipe,
    data: Path,
    work: Path,
    console: Console,
    initial: TrainedModel | None = None,
    found: bool = False,
) -> Prepared:
    """Read the corpora of a recipe; what can't be used is counted and named on the console.

    A run that goes on from an `initial` model takes its word pieces and feature statistics.
    found: another process has done this in the same work folder; its features are not tried again.
    """
    rejections = Rejections()
    folder = work / recipe.name
    processes = os.cpu_count() or 1
    texts = _texts(recipe, data, console)
    train = _read_sources(recipe.data.train, recipe.data, data, rejections)
    phones = _with_phone_times(
        _read_sources(recipe.data.phones, recipe.data, data, rejections), rejections
    )
    dev = {
        config.name: read_cuts(data, config.manifests, config.split, rejections)
        for config in recipe.data.dev
    }
    phones_dev = _held_out_phones(recipe, phones, data, rejections, console)
    everything: list[CutSet] = [
        *(cuts for cuts, _ in train + phones),
        *dev.values(),
        CutSet.from_cuts(phones_dev),
    ]
    _check_ids(everything)
    cache = FeatureCache(work / "features", complete=found)
    for cuts in everything:
        cache.add(cuts, rejections, processes)
    acoustics = Acoustics.load(
        data, recipe.data.noise, recipe.data.rooms, cache, rejections, processes
    )
    usable = {name: [cut for cut in cuts if cut.id in cache] for name, cuts in dev.items()}
    if initial:
        _adopt_tokenizer(initial.tokenizer, folder / "bpe.model")
    tokenizer = _tokenizer(folder / "bpe.model", recipe, (cuts for cuts, _ in train))
    fastest = recipe.augmentation.stretch[1]
    pronunciations = Pronunciations(work / "phones.jsonl") if recipe.loss.phone_weight else None
    speech = _speech(train, tokenizer, pronunciations, cache, fastest, rejections)
    _check_usable("to train on", speech, rejections)
    if initial:
        mean, std = initial.feature_statistics()
    else:
        mean, std = _statistics(folder / "statistics.json", cache, train, recipe.seed)
    prepared = Prepared(
        tokenizer,
        cache,
        mean,
        std,
        acoustics,
        train=speech,
        phones=_speech(phones, tokenizer, None, cache, fastest, rejections),
        phones_dev=_validation_speech(phones_dev, tokenizer, cache),
        dev={
            config.name: _validation_speech(
                _drawn(usable[config.name], config.limit, recipe), tokenizer, cache
            )
            for config in recipe.data.dev
        },
        text=_sentences(texts, tokenizer, pronunciations, rejections),
    )
    if recipe.pretrain:
        _check_usable("to pre-train on", prepared.phones, rejections)
        _check_usable("to validate pre-training on", prepared.phones_dev, rejections)
    for name, part in prepared.dev.items():
        _check_usable(f"in the dev set {name}", part, rejections)
    for line in rejections.lines():
        console.print(line, style="yellow", markup=False)
    console.print(
        f"{len(prepared.train.cuts)} utterances, {prepared.train.hours:.1f} h to train on"
        + (f"; {len(prepared.text)} sentences to read" if prepared.text else "")
    )
    return prepared


def _check_ids(everything: Iterable[CutSet]) -> None:
    """Features and hypotheses go by the id of an utterance, so it must stand for one recording."""
    recordings: dict[str, str] = {}
    for cuts in everything:
        for cut in cuts:
            audio = cut.recording.sources[0].source
            other = recordings.setdefault(cut.id, audio)
            if other != audio:
                raise CorpusError(
                    f"{other} and {audio} have the same id {cut.id!r}; "
                    "give each recording of a recipe an id of its own"
                )


def _check_usable(purpose: str, speech: Speech, rejections: Rejections) -> None:
    if not speech.cuts:
        raise CorpusError(f"no usable utterance {purpose}: " + "; ".join(rejections.lines()))


def _read_sources(
    sources: Iterable[SourceConfig], config: DataConfig, data: Path, rejections: Rejections
) -> list[tuple[CutSet, float]]:
    durations = config.min_duration, config.max_duration
    read = []
    for source in sources:
        if source.shar is not None:
            cuts = read_shards(data, source.shar, source.split, rejections, *durations)
        else:
            assert source.manifests is not None
            cuts = read_cuts(data, source.manifests, source.split, rejections, *durations)
        read.append((cuts, source.weight))
    return read


def _with_phone_times(
    sources: list[tuple[CutSet, float]], rejections: Rejections
) -> list[tuple[CutSet, float]]:
    """What can be pre-trained on: not every synthesiser tells when its phones end."""
    kept = []
    for cuts, weight in sources:
        timed = [cut for cut in cuts if has_phones(cut)]
        for cut in cuts:
            if not has_phones(cut):
                rejections.add("pre-training only: no phone times", cut.id)
        kept.append((CutSet.from_cuts(timed), weight))
    return kept


def _speech(
    sources: list[tuple[CutSet, float]],
    tokenizer: Tokenizer,
    pronunciations: Pronunciations | None,
    cache: FeatureCache,
    fastest: float,
    rejections: Rejections,
) -> Speech:
    speech = Speech([], [], [], [])
    for cuts, weight in sources:
        kept, tokens = trainable(cuts, tokenizer, cache, fastest, rejections)
        speech.cuts.extend(kept)
        speech.tokens.extend(tokens)
        speech.weights.extend([weight] * len(kept))
    speech.phones.extend(_phones(speech.cuts, pronunciations, rejections))
    return speech


def _phones(
    cuts: list[MonoCut], pronunciations: Pronunciations | None, rejections: Rejections
) -> list[list[int]]:
    """Phone ids of each utterance: those it was synthesised from, or those of its text."""
    if pronunciations is None:
        return [[] for _ in cuts]
    pronunciations.add(cut.supervisions[0].text for cut in cuts if not has_phones(cut))
    phones = [
        phone_ids(symbol for symbol, _ in phones_of(cut))
        if has_phones(cut)
        else pronunciations[cut.supervisions[0].text]
        for cut in cuts
    ]
    for cut, ids in zip(cuts, phones, strict=True):
        if not ids:
            rejections.add("phones only: flite can't say it", cut.id)
    return phones


def _texts(recipe: Recipe, data: Path, console: Console) -> list[str]:
    """Sentences that are to be read, if any; what they lack is told before anything else is made.

    Raises AsrError without torchaudio.
    """
    config = recipe.data.text
    if config is None:
        return []
    require_aligner()
    texts = draw_texts(data / config.file, config.sentences, recipe.seed)
    if len(texts) < config.sentences:
        console.print(
            f"{config.file}: {len(texts)} sentences to read; {config.sentences} were asked for",
            style="yellow",
            markup=False,
        )
    return texts


def _sentences(
    texts: list[str],
    tokenizer: Tokenizer,
    pronunciations: Pronunciations | None,
    rejections: Rejections,
) -> Sentences | None:
    if not texts:
        return None
    assert pronunciations is not None, "a recipe with text has phones"
    found = pronounced(texts, tokenizer, pronunciations, rejections)
    if not len(found):
        raise CorpusError("no usable sentence to read: " + "; ".join(rejections.lines()))
    return found


def _held_out_phones(
    recipe: Recipe,
    train: list[tuple[CutSet, float]],
    data: Path,
    rejections: Rejections,
    console: Console,
) -> list[MonoCut]:
    """Return what pre-training is validated on: the dev split of its corpora, if they have one."""
    if not recipe.pretrain:
        return []
    trained_on = {cut.id: cut for cuts, _ in train for cut in cuts}
    held_out: dict[str, MonoCut] = {}
    faults = []
    for source in recipe.data.phones:
        try:
            dev = _with_phone_times(
                _read_sources([replace(source, split="dev")], recipe.data, data, rejections),
                rejections,
            )
        except CorpusError as error:
            faults.append(str(error))
            continue
        # A row that names no split is in all of them.
        held_out |= {cut.id: cut for cut in dev[0][0] if cut.id not in trained_on}
    if not held_out:
        message = "pre-training is validated on speech that it trains on: no dev split to use"
        console.print("; ".join([message, *faults]), style="yellow", markup=False)
    return _drawn(list((held_out or trained_on).values()), PHONE_DEV_UTTERANCES, recipe)


def _drawn(cuts: list[MonoCut], limit: int, recipe: Recipe) -> list[MonoCut]:
    """Draw the utterances that the validations of a run use; the same for every run of a seed."""
    chosen = np.random.default_rng(recipe.seed).permutation(len(cuts))[:limit]
    return [cuts[i] for i in chosen]


def _validation_speech(cuts: list[MonoCut], tokenizer: Tokenizer, cache: FeatureCache) -> Speech:
    usable = (cut for cut in cuts if cut.id in cache)
    kept = sorted(usable, key=lambda cut: cut.duration)
    tokens = [tokenizer.encode(cut.supervisions[0].text) for cut in kept]
    return Speech(kept, tokens, [[] for _ in kept], [1.0] * len(kept))


def _tokenizer(path: Path, recipe: Recipe, sources: Iterable[CutSet]) -> Tokenizer:
    if path.exists():
        tokenizer = Tokenizer(path)
        if len(tokenizer.pieces) != recipe.vocab_size:
            raise CorpusError(
                f"{path} has {len(tokenizer.pieces)} pieces but the recipe asks for "
                f"{recipe.vocab_size}; remove the folder or give the recipe another name"
            )
        return tokenizer
    texts = (cut.supervisions[0].text for cuts in sources for cut in cuts)
    return train_tokenizer(texts, recipe.vocab_size, path)


def _adopt_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    pieces = tokenizer.model_path.read_bytes()
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda partial: partial.write_bytes(pieces))
    elif path.read_bytes() != pieces:
        raise CorpusError(
            f"{path} has other word pieces than {tokenizer.model_path}; give the recipe another "
            "name to go on from another model"
        )


def _statistics(
    path: Path, cache: FeatureCache, sources: list[tuple[CutSet, float]], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of the training features: one pair for every stage and every export."""
    if not path.exists():
        ids = [cut.id for cuts, _ in sources for cut in cuts if cut.id in cache]
        chosen = np.random.default_rng(seed).permutation(len(ids))[:STATISTICS_UTTERANCES]
        mean, std = cache.statistics([ids[i] for i in chosen])
        content = json.dumps({"mean": mean.tolist(), "std": std.tolist()})
        write_whole(path, lambda partial: partial.write_text(content))
    content = json.loads(path.read_text())
    return np.array(content["mean"], np.float32), np.array(content["std"], np.float32)
