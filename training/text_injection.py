"""Sentences that are read, not heard: they teach the upper blocks of the encoder to spell.

The lower blocks hear the phones of a stranger nearly as well as those of who they were trained on;
what is learned by heart is which words they make, and few recordings hold few words. So phones of
other sentences are laid out in time and go through the upper blocks alone, with no audio (JOIST,
arXiv 2210.07353). There a phone has a learned vector and a drawn duration; here it is cut from the
recordings of the last steps: what the lower blocks made of it, for as long as it was said.
"""

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from torch.nn.utils.rnn import pad_sequence

from asr.errors import CorpusError
from asr.text import normalize
from training.dataset import PADDED_FRAMES, Batch
from training.forced_alignment import forced_alignment, require_aligner
from training.model import SUBSAMPLING, EncoderOutput
from training.pronunciation import Pronunciations
from training.sentences import sentences
from training.synthesis import PHONES, SILENCE
from training.tokenizer import Tokenizer

_PAUSE = PHONES.index(SILENCE)

LONGEST_UNIT = 8
"""Encoder frames: what is longer is a pause, of which 320 ms are enough."""

UNITS_OF_PAIR = 16
"""That are kept of each phone behind each other phone. In 41 pairs of 41, 40 MB at most."""

UNITS_OF_PHONE = 128

LIKE_LENGTH = 256
"""Sentences of like length from which those of a batch are drawn."""


@dataclass(frozen=True)
class ReadText:
    """Sentences in the order of their number of phones."""

    tokens: list[list[int]]
    phones: list[list[int]]  # without silences

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True)
class SpokenText:
    """Sentences as the lower blocks would have heard them."""

    phonetic: Tensor  # (B, C, D)
    lengths: Tensor  # (B,)
    targets: Tensor  # (B, U)
    target_lengths: Tensor  # (B,)

    def to(self, device: torch.device) -> "SpokenText":
        return SpokenText(
            self.phonetic.to(device),
            self.lengths.to(device),
            self.targets.to(device),
            self.target_lengths.to(device),
        )


def read_text(
    path: Path, count: int, seed: int, tokenizer: Tokenizer, pronunciations: Pronunciations
) -> ReadText:
    """Draw `count` sentences of a text that flite can say, or all if it has fewer.

    Raises CorpusError if there are none, or the text can't be read.
    """
    drawn = [normalize(each) for each in itertools.islice(sentences(path, seed), count)]
    pronunciations.add(drawn)
    sayable = [text for text in drawn if pronunciations[text]]
    said = sorted(sayable, key=lambda text: len(pronunciations[text]))
    if not said:
        raise CorpusError(
            f"{path}: no sentence to read; expected English text, a paragraph a line, with "
            "sentences of 3 to 25 words"
        )
    return ReadText([tokenizer.encode(text) for text in said], [pronunciations[t] for t in said])


class PhoneUnits:
    """What the lower blocks lately made of each phone, by the phone before it."""

    def __init__(self) -> None:
        self._of_pair: dict[tuple[int, int], deque[NDArray[np.float32]]] = {}
        self._of_phone: dict[int, deque[NDArray[np.float32]]] = {}

    def add(self, phonetic: Tensor, log_probs: Tensor, phones: Sequence[int]) -> None:
        """Cut an utterance into its phones; one whose phones don't fit into it is passed over.

        phonetic: `(C, D)`; log_probs: `(C, P)` of the phones; phones: those said, no silences. A
        phone lasts until the next is heard; what is before the first is a pause.
        """
        try:
            spans = forced_alignment(log_probs, phones)
        except CorpusError:
            return
        frames = phonetic.numpy()
        starts = [span.start for span in spans]
        if starts[0]:
            self._keep(_PAUSE, _PAUSE, frames[max(0, starts[0] - LONGEST_UNIT) : starts[0]])
        before = _PAUSE
        for span, end in zip(spans, [*starts[1:], len(frames)], strict=True):
            self._keep(
                before, span.symbol, frames[span.start : min(end, span.start + LONGEST_UNIT)]
            )
            before = span.symbol

    def say(self, phones: Sequence[int], generator: np.random.Generator) -> NDArray | None:
        """Return the frames `(C, D)` of phones, each drawn from those that followed the same one;
        None if one of them has not been heard yet."""
        units = []
        for before, phone in itertools.pairwise([_PAUSE, _PAUSE, *phones]):
            kept = self._of_pair.get((before, phone)) or self._of_phone.get(phone)
            if kept:
                units.append(kept[generator.integers(len(kept))])
            elif phone != _PAUSE:
                return None
        return np.concatenate(units)

    def _keep(self, before: int, phone: int, unit: NDArray[np.float32]) -> None:
        unit = unit.copy()  # or it would hold all of its utterance
        of_pair = self._of_pair.setdefault((before, phone), deque(maxlen=UNITS_OF_PAIR))
        of_phone = self._of_phone.setdefault(phone, deque(maxlen=UNITS_OF_PHONE))
        of_pair.append(unit)
        of_phone.append(unit)


class TextInjection:
    """Makes sentences of a text, beside each batch of recordings, from the phones of those.

    Raises AsrError without torchaudio.
    """

    def __init__(self, text: ReadText, share: float) -> None:
        require_aligner()
        self.text, self.share = text, share
        self.units = PhoneUnits()

    def hear(self, encoded: EncoderOutput, log_probs: Tensor, batch: Batch) -> None:
        """Keep the phones of a batch, of which the lower blocks made `log_probs` `(B, C, P)`."""
        phonetic, log_probs = (
            each.detach().float().cpu() for each in (encoded.phonetic, log_probs)
        )
        for row, (length, count) in enumerate(
            zip(encoded.lengths.tolist(), batch.phone_lengths.tolist(), strict=True)
        ):
            phones = batch.phones[row, :count].tolist()
            self.units.add(phonetic[row, :length], log_probs[row, :length], phones)

    def draw(self, frames: int, generator: np.random.Generator) -> SpokenText | None:
        """Return sentences of like length, together of about `share` times so many encoder frames;
        None while there are phones that no recording had."""
        count, missing = len(self.text), self.share * frames
        first = generator.integers(max(1, count - LIKE_LENGTH + 1))
        phonetic: list[Tensor] = []
        targets: list[Tensor] = []
        for index in first + generator.permutation(min(count, LIKE_LENGTH)):
            if missing <= 0:
                break
            said = self.units.say(self.text.phones[index], generator)
            # As in `training.dataset.trainable`: CTC needs a frame for each token, and one more.
            if said is not None and len(said) > len(self.text.tokens[index]):
                phonetic.append(torch.from_numpy(said))
                targets.append(torch.tensor(self.text.tokens[index]))
                missing -= len(said)
        if not phonetic:
            return None
        padded = pad_sequence(phonetic, batch_first=True)
        return SpokenText(
            functional.pad(padded, (0, 0, 0, -padded.size(1) % (PADDED_FRAMES // SUBSAMPLING))),
            torch.tensor([len(each) for each in phonetic]),
            pad_sequence(targets, batch_first=True),
            torch.tensor([len(each) for each in targets]),
        )
