"""How readily the finished model emits: the bias of its blank, set where the dev sets want it.

A transducer is trained to sum over alignments, and a young one spreads its labels over many frames:
at none of them does a label beat the blank, and greedy search deletes it. One number mends that.
It goes into the bias of the joiner's blank, so every decoder of the model has it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from lhotse import MonoCut
from torch import Tensor

from asr.evaluation.accuracy.wer import WordErrors
from training.batching import Draw
from training.dataset import SpeechDataset, collate
from training.decoding import greedy_search
from training.model import Transducer
from training.recipe import StreamingTrainingConfig
from training.tokenizer import Tokenizer

SHIFTS = tuple(0.25 * step for step in range(9))
"""How far the logit of blank is lowered, in nats."""

AS_GOOD = 0.003
"""WER by which a shift may be worse than the best: the largest of these is kept. Greedy search
sees little difference, and beam search a great one, for its language model makes every word less
likely: 27.5 % without a shift became 25.0 % with 0.75 where greedy search had 39.1 and 38.4."""

FEWEST_WORDS = 1000
"""With fewer in the development sets AS_GOOD is a word or two, and the shift is USUAL_SHIFT."""

USUAL_SHIFT = 0.5
"""What half an hour of fine-tuning takes back of the shifts before. In two passes a model tuned to
the voice of 40 recordings had 9.1 % on others of it and 27.8 % on Common Voice, with this shift 8.3
and 26.5 %, with 1.0 8.5 and 26.6 %."""

BATCH = 8


@dataclass(frozen=True)
class BlankCalibration:
    """What was tried, and what was kept."""

    rates: dict[float, dict[str, float]]  # WER of each dev set by shift; empty: USUAL_SHIFT
    shift: float  # the one in the model now

    def mean(self, shift: float) -> float:
        return sum(self.rates[shift].values()) / len(self.rates[shift])


@torch.no_grad()
def calibrate_blank(
    model: Transducer,
    tokenizer: Tokenizer,
    dev: Mapping[str, SpeechDataset],
    streaming: StreamingTrainingConfig,
) -> BlankCalibration:
    """Lower the blank's bias by the largest shift that is AS_GOOD as any, averaged over the dev
    sets, unless all are the same; by USUAL_SHIFT if they have fewer than FEWEST_WORDS."""
    bias = model.joiner.blank.bias
    trained = bias.clone()
    words = sum(
        len(_transcript(cut).split()) for speech in dev.values() for cut in speech.speech.cuts
    )
    if words < FEWEST_WORDS:
        bias.copy_(trained - USUAL_SHIFT)
        return BlankCalibration({}, USUAL_SHIFT)
    model.eval()
    encoded = {name: _encode(model, speech, streaming) for name, speech in dev.items()}
    rates: dict[float, dict[str, float]] = {}
    for shift in SHIFTS:
        bias.copy_(trained - shift)
        rates[shift] = {
            name: _word_error_rate(model, tokenizer, encoded[name], speech)
            for name, speech in dev.items()
        }
    calibration = BlankCalibration(rates, shift=0.0)
    least = min(calibration.mean(shift) for shift in SHIFTS)
    kept = max(shift for shift in SHIFTS if calibration.mean(shift) <= least + AS_GOOD)
    if least == max(calibration.mean(shift) for shift in SHIFTS):  # such as all wrong: too young
        kept = 0.0
    bias.copy_(trained - kept)
    return BlankCalibration(rates, kept)


def _encode(
    model: Transducer, speech: SpeechDataset, streaming: StreamingTrainingConfig
) -> list[tuple[Tensor, Tensor]]:
    """Encoder frames and lengths of all utterances, in batches."""
    batches = []
    for start in range(0, len(speech), BATCH):
        indices = range(start, min(start + BATCH, len(speech)))
        batch = collate([speech[Draw(index, 0)] for index in indices], speech.padding)
        out = model.encode(
            batch.features,
            batch.feature_lengths,
            streaming.validation_chunk_frames,
            streaming.validation_left_frames,
        )
        batches.append((out.frames, out.lengths))
    return batches


def _word_error_rate(
    model: Transducer,
    tokenizer: Tokenizer,
    encoded: list[tuple[Tensor, Tensor]],
    speech: SpeechDataset,
) -> float:
    tokens = [ids for frames, lengths in encoded for ids in greedy_search(model, frames, lengths)]
    errors = (
        WordErrors.between(_transcript(cut), tokenizer.decode(ids))
        for cut, ids in zip(speech.speech.cuts, tokens, strict=True)
    )
    return WordErrors.total(errors).rate


def _transcript(cut: MonoCut) -> str:
    return str(cut.supervisions[0].text)
