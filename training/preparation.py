"""From manifests to what a run needs: tokenizer, cached features, statistics, usable utterances."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from lhotse import CutSet, MonoCut
from numpy.typing import NDArray
from rich.console import Console

from asr.errors import CorpusError
from training.corpus import Rejections, has_phones, phones_of, read_cuts
from training.dataset import Speech, trainable
from training.feature_cache import FeatureCache
from training.pronunciation import Pronunciations, phone_ids
from training.recipe import DataConfig, Recipe, SourceConfig
from training.tokenizer import Tokenizer, train_tokenizer

STATISTICS_UTTERANCES = 1000


@dataclass(frozen=True)
class Prepared:
    """All that training reads; made once, then found in the work folder."""

    tokenizer: Tokenizer
    cache: FeatureCache
    mean: NDArray[np.float32]  # (80,)
    std: NDArray[np.float32]  # (80,)
    train: Speech
    phones: Speech
    dev: dict[str, Speech]


def prepare(recipe: Recipe, data: Path, work: Path, console: Console) -> Prepared:
    """Read the corpora of a recipe; what can't be used is counted and named on the console."""
    rejections = Rejections()
    folder = work / recipe.name
    processes = os.cpu_count() or 1
    train = _read_sources(recipe.data.train, recipe.data, data, rejections)
    phones = _read_sources(recipe.data.phones, recipe.data, data, rejections)
    dev = {
        config.name: read_cuts(data, config.manifests, config.split, rejections)
        for config in recipe.data.dev
    }
    everything: list[CutSet] = [*(cuts for cuts, _ in train + phones), *dev.values()]
    _check_ids(everything)
    cache = FeatureCache(work / "features")
    for cuts in everything:
        cache.add(cuts, rejections, processes)
    tokenizer = _tokenizer(folder / "bpe.model", recipe, (cuts for cuts, _ in train))
    fastest = recipe.augmentation.stretch[1]
    pronunciations = Pronunciations(work / "phones.jsonl") if recipe.loss.phone_weight else None
    speech = _speech(train, tokenizer, pronunciations, cache, fastest, rejections)
    _check_usable("to train on", speech, rejections)
    mean, std = _statistics(folder / "statistics.json", cache, train, recipe.seed)
    prepared = Prepared(
        tokenizer,
        cache,
        mean,
        std,
        train=speech,
        phones=_speech(phones, tokenizer, None, cache, fastest, rejections),
        dev={
            config.name: _shortened(dev[config.name], config.limit, recipe.seed, tokenizer, cache)
            for config in recipe.data.dev
        },
    )
    if recipe.pretrain:
        _check_usable("to pre-train on", prepared.phones, rejections)
        for cut in prepared.phones.cuts:
            phones_of(cut)  # raises, before there is anything to lose
    for name, part in prepared.dev.items():
        _check_usable(f"in the dev set {name}", part, rejections)
    for line in rejections.lines():
        console.print(line, style="yellow", markup=False)
    console.print(
        f"{len(prepared.train.cuts)} utterances, {prepared.train.hours:.1f} h to train on"
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
    return [
        (
            read_cuts(
                data,
                source.manifests,
                source.split,
                rejections,
                config.min_duration,
                config.max_duration,
            ),
            source.weight,
        )
        for source in sources
    ]


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
    speech.phones.extend(_phones(speech.cuts, pronunciations))
    return speech


def _phones(cuts: list[MonoCut], pronunciations: Pronunciations | None) -> list[list[int]]:
    """Phone ids of each utterance: those it was synthesised from, or those of its text."""
    if pronunciations is None:
        return [[] for _ in cuts]
    pronunciations.add(cut.supervisions[0].text for cut in cuts if not has_phones(cut))
    return [
        phone_ids(symbol for symbol, _ in phones_of(cut))
        if has_phones(cut)
        else pronunciations[cut.supervisions[0].text]
        for cut in cuts
    ]


def _shortened(
    cuts: CutSet, limit: int, seed: int, tokenizer: Tokenizer, cache: FeatureCache
) -> Speech:
    """Draw the utterances that the validations of a run use; the same for every run of a seed."""
    usable = [cut for cut in cuts if cut.id in cache]
    chosen = np.random.default_rng(seed).permutation(len(usable))[:limit]
    kept = sorted((usable[i] for i in chosen), key=lambda cut: cut.duration)
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


def _statistics(
    path: Path, cache: FeatureCache, sources: list[tuple[CutSet, float]], seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and deviation of the training features: one pair for every stage and every export."""
    if not path.exists():
        ids = [cut.id for cuts, _ in sources for cut in cuts if cut.id in cache]
        chosen = np.random.default_rng(seed).permutation(len(ids))[:STATISTICS_UTTERANCES]
        mean, std = cache.statistics([ids[i] for i in chosen])
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
        os.replace(partial, path)
    content = json.loads(path.read_text())
    return np.array(content["mean"], np.float32), np.array(content["std"], np.float32)
