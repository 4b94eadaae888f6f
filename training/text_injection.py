"""Sentences that are read, not heard: they teach the upper blocks of the encoder to spell.

The lower blocks hear the phones of a stranger nearly as well as those of whom they were trained on;
what is learned by heart is which words they make, and few recordings hold few words. So phones of
other sentences are laid out in time and go through the upper blocks alone, with no audio (JOIST,
arXiv 2210.07353). There a phone has a learned vector and a drawn duration; here it is cut from the
recordings of the last steps: what the lower blocks made of it, for as long as it was said.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from asr.errors import CorpusError
from asr.text import normalize
from training.acoustics import Frames
from training.corpus import Rejections
from training.dataset import PADDED_FRAMES, Batch
from training.forced_alignment import forced_alignment
from training.model import SUBSAMPLING, EncoderOutput
from training.pronunciation import Pronunciations
from training.sentences import sentences
from training.synthesis import PHONES, SILENCE
from training.tokenizer import Tokenizer

LONGEST_UNIT = 8
"""Encoder frames: what is longer is a pause, of which 320 ms are enough."""

MOST_UNITS = 128, 16, 4
"""That are kept of a phone, of one before a given other, of one between two given others."""

LIFETIME = 300
"""Batches in which a unit is used: what is older was made by other weights."""

LEAST_LOG_PROB = -4.0
"""Of a phone, on average, in an utterance that is cut. Transcripts that are wrong have less, and
everything has while the phone head has learned nothing."""

LIKE_LENGTH = 256
"""Sentences of like length from which those of a batch are drawn, and some more for large ones."""

SHORTEST_SENTENCE = 20
"""Encoder frames of one, about."""

_PAUSE = PHONES.index(SILENCE)


@dataclass(frozen=True)
class Sentences:
    """What is to be read, in the order of the number of phones."""

    tokens: list[list[int]]
    phones: list[list[int]]  # without silences

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class PhoneticBatch:
    """Sentences as the lower blocks would have heard them, with their targets."""

    frames: Tensor  # (B, C, D)
    lengths: Tensor  # (B,)
    targets: Tensor  # (B, U)
    target_lengths: Tensor  # (B,)

    def like(self, other: Tensor) -> "PhoneticBatch":
        """Return it on the device of `other`, the frames in its type."""
        return PhoneticBatch(
            self.frames.to(other),
            self.lengths.to(other.device),
            self.targets.to(other.device),
            self.target_lengths.to(other.device),
        )


def draw_texts(path: Path, count: int, seed: int) -> list[str]:
    """Draw `count` sentences of a text, normalised; all, if it has fewer.

    Raises CorpusError if it has none, or can't be read.
    """
    drawn = [normalize(each) for each in itertools.islice(sentences(path, seed), count)]
    if not drawn:
        raise CorpusError(
            f"{path}: no sentence to read; expected English text, a paragraph a line, with "
            "sentences of 3 to 25 words"
        )
    return drawn


def pronounced(
    texts: Sequence[str],
    tokenizer: Tokenizer,
    pronunciations: Pronunciations,
    rejections: Rejections,
) -> Sentences:
    """Look up the phones of texts; those that flite can't say go to `rejections`.

    Raises CorpusError if flite is missing or broken.
    """
    pronunciations.add(texts)
    for text in texts:
        if not pronunciations[text]:
            rejections.add("text only: flite can't say it", text)
    sayable = [text for text in texts if pronunciations[text]]
    ordered = sorted(sayable, key=lambda text: len(pronunciations[text]))
    return Sentences([tokenizer.encode(t) for t in ordered], [pronunciations[t] for t in ordered])


class _Unit(NamedTuple):
    frames: Frames  # (C, D)
    batch: int  # in which it was heard


class PhoneUnits:
    """What the lower blocks lately made of each phone, between those before and after it.

    The frames of a phone hold the beginning of the next: of 150 sentences of units that only follow
    the right phone a trained model wrote 68 % of the words wrong, of units that only precede it
    51 %, and of those between the right ones 35 %, as of the speech of strangers.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[int, ...], deque[_Unit]] = {}
        self._batch = 0

    def begin_batch(self) -> None:
        """Let all units age by one batch."""
        self._batch += 1

    def add(self, frames: Frames, log_probs: Tensor, phones: Sequence[int]) -> None:
        """Cut an utterance into its phones; one that doesn't say them is passed over.

        frames: `(C, D)` of the lower blocks; log_probs: `(C, P)` of the phones; phones: those said,
        no silences. A phone lasts until the next is heard; what is before the first is a pause.
        """
        try:
            spans, log_prob = forced_alignment(log_probs, phones)
        except CorpusError:
            return
        if log_prob < LEAST_LOG_PROB * len(phones):
            return
        starts = [span.start for span in spans]
        if starts[0]:
            pause = frames[max(0, starts[0] - LONGEST_UNIT) : starts[0]]
            self._keep((_PAUSE, _PAUSE, phones[0]), pause)
        for triple, start, end in zip(
            _triples(phones), starts, [*starts[1:], len(frames)], strict=True
        ):
            self._keep(triple, frames[start : min(end, start + LONGEST_UNIT)])

    def concatenate(self, phones: Sequence[int], generator: np.random.Generator) -> Frames | None:
        """Return frames `(C, D)` of phones, each as it was between the same two, or else before the
        same one, or else anywhere; None if one of them has not been heard lately."""
        units = []
        for triple in [(_PAUSE, _PAUSE, phones[0]), *_triples(phones)]:
            found = next(filter(None, map(self._recent, _keys(triple))), None)
            if found:
                units.append(found[int(generator.integers(len(found)))].frames)
            elif triple[1] != _PAUSE:
                return None
        return np.concatenate(units)

    def _keep(self, triple: tuple[int, int, int], frames: Frames) -> None:
        unit = _Unit(frames.copy(), self._batch)  # not a view, which would hold all its utterance
        for key in _keys(triple):
            most = MOST_UNITS[len(key) - 1]
            self._kept.setdefault(key, deque(maxlen=most)).append(unit)

    def _recent(self, key: tuple[int, ...]) -> deque[_Unit]:
        kept = self._kept.get(key, deque())
        while kept and kept[0].batch <= self._batch - LIFETIME:
            kept.popleft()
        return kept


def _triples(phones: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    """Each phone between its neighbours; before the first and behind the last is a pause."""
    return zip([_PAUSE, *phones[:-1]], phones, [*phones[1:], _PAUSE], strict=True)


def _keys(triple: tuple[int, int, int]) -> tuple[tuple[int, ...], ...]:
    """What a unit is kept by and looked for by, the nearest first."""
    return triple, triple[1:], triple[1:2]


class TextInjection:
    """Makes sentences of a text, beside each batch of recordings, from the phones of those.

    The phones are in no checkpoint: a run that goes on gathers them anew, from the first batches.
    Each process has its own: up to 130 MB for size s (estimated from the phones of 65,000 texts).
    """

    def __init__(self, sentences: Sentences, share: float) -> None:
        self.sentences, self.share = sentences, share
        self.units = PhoneUnits()

    def collect(self, encoded: EncoderOutput, log_probs: Tensor, batch: Batch) -> None:
        """Keep the phones of a batch, of which the lower blocks made `log_probs` `(B, C, P)`."""
        self.units.begin_batch()
        frames = encoded.phonetic.detach().float().cpu()
        log_probs = log_probs.detach().float().cpu()
        for row, (length, count) in enumerate(
            zip(encoded.lengths.tolist(), batch.phone_lengths.tolist(), strict=True)
        ):
            phones = batch.phones[row, :count].tolist()
            self.units.add(frames[row, :length].numpy(), log_probs[row, :length], phones)

    def draw(self, frames: int, generator: np.random.Generator) -> PhoneticBatch | None:
        """Return sentences of like length, together of about `share` times so many encoder frames.

        None where none can be said: before there are phones to say them with.
        """
        missing = self.share * frames
        window = min(len(self.sentences), LIKE_LENGTH + int(missing / SHORTEST_SENTENCE))
        first = int(generator.integers(len(self.sentences) - window + 1))
        said: list[Tensor] = []
        targets: list[Tensor] = []
        for index in first + generator.permutation(window):
            if missing <= 0:
                break
            tokens = self.sentences.tokens[index]
            units = self.units.concatenate(self.sentences.phones[index], generator)
            # As in `training.dataset.trainable`: CTC needs a frame for each token, and one more.
            if units is not None and len(units) > len(tokens):
                said.append(torch.from_numpy(units))
                targets.append(torch.tensor(tokens))
                missing -= len(units)
        if not said:
            return None
        padded = pad_sequence(said, batch_first=True)
        return PhoneticBatch(
            functional.pad(padded, (0, 0, 0, -padded.size(1) % (PADDED_FRAMES // SUBSAMPLING))),
            torch.tensor([len(each) for each in said]),
            pad_sequence(targets, batch_first=True),
            torch.tensor([len(each) for each in targets]),
        )
