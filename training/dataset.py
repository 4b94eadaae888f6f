"""Utterances to padded batches: cached features, augmented on the fly, with their targets."""

import zlib
from dataclasses import dataclass

import numpy as np
import torch
from lhotse import CutSet, MonoCut
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from training.acoustics import Acoustics, Frames, noise_beside
from training.augmentation import augment
from training.batching import Draw
from training.corpus import Rejections, phones_of
from training.feature_cache import FeatureCache
from training.model import SUBSAMPLING
from training.recipe import AugmentationConfig
from training.synthesis import frame_labels
from training.tokenizer import Tokenizer

IGNORED_LABEL = -100
"""Label of a frame that is padding; cross entropy passes over it."""

PADDED_FRAMES = 4 * SUBSAMPLING
"""Lengths of batches are multiples of this, and 3 frames more, which subsampling takes."""

DURATION_TOLERANCE_S = 0.5
"""Batches are made by the durations in the manifests: a wrong one would not fit in memory."""


@dataclass(frozen=True)
class Speech:
    """Utterances with their targets, and how often an epoch holds each."""

    cuts: list[MonoCut]
    tokens: list[list[int]]
    phones: list[list[int]]  # of the pronunciation; empty lists if it is not trained on
    weights: list[float]

    @property
    def durations(self) -> list[float]:
        return [cut.duration for cut in self.cuts]

    @property
    def hours(self) -> float:
        return sum(self.durations) / 3600


@dataclass(frozen=True)
class Batch:
    """Utterances of one step. Targets are token ids, or a phone for each encoder frame."""

    ids: list[str]
    features: Tensor  # (B, T, 80)
    feature_lengths: Tensor  # (B,)
    targets: Tensor  # (B, U), or (B, C) when pre-training
    target_lengths: Tensor  # (B,)
    phones: Tensor  # (B, P) the pronunciation, without silences; empty if it is not trained on
    phone_lengths: Tensor  # (B,)

    def to(self, device: torch.device) -> "Batch":
        return Batch(
            self.ids,
            self.features.to(device, non_blocking=True),
            self.feature_lengths.to(device),
            self.targets.to(device),
            self.target_lengths.to(device),
            self.phones.to(device),
            self.phone_lengths.to(device),
        )


@dataclass(frozen=True)
class Example:
    """One utterance, ready for a batch."""

    id: str
    features: Frames  # (T, 80)
    targets: Tensor  # (U,) or (C,)
    phones: Tensor  # (P,)


class SpeechDataset(Dataset[Example]):
    """Utterances with token targets; `augmentation` None leaves the features as they are."""

    padding = 0

    def __init__(
        self,
        speech: Speech,
        cache: FeatureCache,
        mean: NDArray[np.float32],
        acoustics: Acoustics,
        augmentation: AugmentationConfig | None = None,
        seed: int = 0,
    ) -> None:
        self.speech, self.cache, self.mean = speech, cache, mean
        self.acoustics = acoustics
        self.augmentation, self.seed = augmentation, seed

    def __len__(self) -> int:
        return len(self.speech.cuts)

    def __getitem__(self, draw: Draw) -> Example:
        identifier = self.speech.cuts[draw.index].id
        frames = self.cache[identifier]
        if self.augmentation is None:
            return self._example(draw.index, frames, rate=1.0)
        # One speaking rate for a batch, whose utterances are of like duration: it stays so.
        of_batch = np.random.default_rng([self.seed, draw.epoch, draw.batch])
        rate = float(of_batch.uniform(*self.augmentation.stretch))
        utterance = zlib.crc32(identifier.encode())
        of_draw = [self.seed, draw.epoch, utterance, draw.copy]
        timing = np.random.default_rng(of_draw)
        sound = np.random.default_rng([*of_draw, draw.view])
        noise = self._noise_instead(frames, self.augmentation, timing, sound)
        shortest = 3 + SUBSAMPLING * (len(self.speech.tokens[draw.index]) + 1)  # see `trainable`
        features = augment(
            frames if noise is None else noise,
            rate,
            self.augmentation,
            self.mean,
            self.acoustics,
            timing,
            sound,
            shortest,
        )
        if noise is None:
            return self._example(draw.index, features, rate)
        nothing = torch.empty(0, dtype=torch.int64)
        return Example(identifier, features, nothing, nothing)

    def _noise_instead(
        self,
        frames: Frames,
        config: AugmentationConfig,
        timing: np.random.Generator,
        sound: np.random.Generator,
    ) -> Frames | None:
        """As much noise as there was speech; None, most of the time, is the speech itself."""
        probability = config.noise_alone_probability
        if not probability or not self.acoustics.noises or timing.random() >= probability:
            return None
        noise = self.acoustics.draw_noise(len(frames), sound)
        snr_db = float(sound.uniform(*config.enclosing_noise_snr_db))
        return noise_beside(frames, noise, snr_db)

    def _example(self, index: int, features: Frames, rate: float) -> Example:
        return Example(
            self.speech.cuts[index].id,
            features,
            self._targets(index, features, rate),
            torch.tensor(self.speech.phones[index], dtype=torch.int64),
        )

    def _targets(self, index: int, features: Frames, rate: float) -> Tensor:
        return torch.tensor(self.speech.tokens[index], dtype=torch.int64)


class PhoneDataset(SpeechDataset):
    """Synthetic utterances with a phone for each encoder frame."""

    padding = IGNORED_LABEL

    def _targets(self, index: int, features: Frames, rate: float) -> Tensor:
        phones = [(symbol, end / rate) for symbol, end in phones_of(self.speech.cuts[index])]
        return torch.from_numpy(frame_labels(phones, (len(features) - 3) // SUBSAMPLING))


def collate(examples: list[Example], padding: int) -> Batch:
    """Pad the utterances of a batch to the longest of them, and on to a multiple of PADDED_FRAMES.

    A kernel is made for each new shape: with 2 % more padding there are 378 shapes in the batches
    of the built-in model's recipe, and not 1020.
    """

    def padded(sequences: list[Tensor], value: int = 0) -> Tensor:
        return pad_sequence(sequences, batch_first=True, padding_value=value)

    features = padded([torch.from_numpy(example.features) for example in examples])
    return Batch(
        ids=[example.id for example in examples],
        features=functional.pad(features, (0, 0, 0, (3 - features.size(1)) % PADDED_FRAMES)),
        feature_lengths=torch.tensor([len(example.features) for example in examples]),
        targets=padded([example.targets for example in examples], padding),
        target_lengths=torch.tensor([len(example.targets) for example in examples]),
        phones=padded([example.phones for example in examples]),
        phone_lengths=torch.tensor([len(example.phones) for example in examples]),
    )


def trainable(
    cuts: CutSet, tokenizer: Tokenizer, cache: FeatureCache, fastest: float, rejections: Rejections
) -> tuple[list[MonoCut], list[list[int]]]:
    """Return the cuts that can be learned from, and their tokens.

    A greedy decoder emits one token a frame at most, and CTC needs a frame for each, so an
    utterance must have more encoder frames than tokens even at the `fastest` speaking rate.
    """
    kept: list[MonoCut] = []
    tokens: list[list[int]] = []
    for cut in cuts:
        if cut.id not in cache:
            continue  # its audio could not be decoded; already counted
        ids = tokenizer.encode(cut.supervisions[0].text)
        frames = (cache.num_frames(cut.id) / fastest - 3) // SUBSAMPLING
        if abs(cache.duration(cut.id) - cut.duration) > DURATION_TOLERANCE_S:
            rejections.add("audio shorter or longer than its row says", cut.id)
        elif frames <= len(ids):
            rejections.add("fewer frames than tokens", cut.id)
        else:
            kept.append(cut)
            tokens.append(ids)
    return kept, tokens
