"""Stage two: the transducer, with pruned RNN-T and auxiliary CTC losses."""

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from asr.decoding.hypothesis import BLANK as BLANK_ID
from training.dataset import Batch
from training.decoding import greedy_search
from training.loss import (
    band_targets,
    consistency_loss,
    ctc_loss,
    gather_band,
    transducer_loss,
)
from training.model import EncoderOutput, Transducer
from training.recipe import LossConfig, ScheduleConfig, StreamingTrainingConfig
from training.task import StepClock, Task
from training.text_injection import PhoneticBatch, TextInjection
from training.tokenizer import Tokenizer

FRAMES_PER_TOKEN = 5
"""Of speech, about: what stands for the tokens of noise alone, which has none."""

_OF_TEXT = 1  # sets its draws apart from those of chunks


class TransducerTask(Task):
    """Weighted sum of the losses that the recipe names, per token."""

    def __init__(
        self,
        model: Transducer,
        tokenizer: Tokenizer,
        schedule: ScheduleConfig,
        loss: LossConfig,
        streaming: StreamingTrainingConfig,
        clock: StepClock,
        seed: int,
        text: TextInjection | None = None,
    ) -> None:
        super().__init__(model, schedule, streaming, clock, seed)
        self.tokenizer, self.loss, self.text = tokenizer, loss, text
        model.phones.requires_grad_(bool(loss.phone_weight))
        self.hypotheses: dict[str, str] = {}
        """Texts of the running validation by utterance id."""

    def losses(
        self, batch: Batch, chunk_frames: Tensor, left_frames: Tensor
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        encoded = self.model.encode(
            batch.features, batch.feature_lengths, chunk_frames, left_frames
        )
        total, log, ctc_log_probs = self._token_losses(
            encoded.frames, encoded.lengths, batch.targets, batch.target_lengths
        )
        weight = _weight(batch.target_lengths, encoded.lengths)
        if self.loss.consistency_weight:
            log["consistency"] = consistency_loss(ctc_log_probs, encoded.lengths).sum()
            total = total + self.loss.consistency_weight * log["consistency"]
        if self.loss.phone_weight:
            log_probs = functional.log_softmax(self.model.phones(encoded.phonetic).float(), dim=-1)
            log["phones"] = self._phone_loss(log_probs, encoded.lengths, batch)
            total = total + self.loss.phone_weight * log["phones"]
            if self.text:
                self.text.collect(encoded, log_probs, batch)
        if text := self._draw_text(encoded):
            text_total, text_log = self._text_losses(text, chunk_frames, left_frames)
            total = total + text_total
            # A part is divided by the tokens of the recordings; the text has tokens of its own.
            log["text"] = text_log["pruned"] * weight / text.target_lengths.sum()
        return total, weight, log

    def _draw_text(self, encoded: EncoderOutput) -> PhoneticBatch | None:
        if self.text is None:
            return None
        generator = np.random.default_rng([self.seed, self.global_step, self.global_rank, _OF_TEXT])
        text = self.text.draw(int(encoded.lengths.sum()), generator)
        return text and text.like(encoded.phonetic)

    def _text_losses(
        self, text: PhoneticBatch, chunk_frames: Tensor, left_frames: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a sentence a token counts as much as one of a recording; it streams as one of them."""
        like = torch.arange(len(text.lengths), device=chunk_frames.device) % len(chunk_frames)
        frames = self.model.encoder.encode_phonetic(
            text.frames, text.lengths, chunk_frames[like], left_frames[like]
        )
        total, log, _ = self._token_losses(frames, text.lengths, text.targets, text.target_lengths)
        return total, log

    def _token_losses(
        self, frames: Tensor, lengths: Tensor, targets: Tensor, target_lengths: Tensor
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Losses of what the encoder made of utterances, `(B, C, joiner_dim)`: in all, and their
        parts; and CTC's log-probabilities `(B, C, V)`."""
        predicted = self.model.predictor(self.model.predictor.with_history(targets))
        parts = transducer_loss(
            self.model.simple_encoder(frames),
            self.model.simple_predictor(predicted),
            lambda starts: self._join_band(frames, predicted, targets, starts),
            targets,
            lengths,
            target_lengths,
            band=self.loss.band,
            blank=BLANK_ID,
            fastemit=self.loss.fastemit,
        )
        ctc_log_probs = functional.log_softmax(self.model.ctc(frames).float(), dim=-1)
        ctc = ctc_loss(ctc_log_probs, targets, lengths, target_lengths).sum()
        pruned_weight, simple_weight = self._ramp()
        simple, pruned = parts.simple.sum(), parts.pruned.sum()
        total = pruned_weight * pruned + simple_weight * simple + self.loss.ctc_weight * ctc
        return total, {"pruned": pruned, "simple": simple, "ctc": ctc}, ctc_log_probs

    def _phone_loss(self, log_probs: Tensor, lengths: Tensor, batch: Batch) -> Tensor:
        """CTC of the pronunciation; silence, which the head knows from stage one, is its blank."""
        losses = ctc_loss(log_probs, batch.phones, lengths, batch.phone_lengths)
        # Without phones (flite can't say its text) an utterance is unknown, not silent. Noise alone
        # is taken for unknown as well.
        return losses[batch.phone_lengths > 0].sum()

    def _join_band(
        self, encoder_out: Tensor, predicted: Tensor, targets: Tensor, starts: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-probabilities of blank and of the next target on the band `(B, C, S)`."""
        band = self.loss.band
        arcs: tuple[Tensor, Tensor] = self.model.joiner.arcs(
            encoder_out.unsqueeze(2),
            gather_band(predicted, starts, band),
            band_targets(targets, starts, band),
        )
        return arcs

    def _ramp(self) -> tuple[float, float]:
        """Weights of pruned and simple loss: the band is not to be trusted at first."""
        done = min(1.0, self.clock.hours(self.global_step) / max(self.loss.ramp_hours, 1e-9))
        return 0.1 + 0.9 * done, 1.0 - (1.0 - self.loss.simple_weight) * done

    @torch.no_grad()
    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        encoded = self.model.encode(
            batch.features,
            batch.feature_lengths,
            self.streaming.validation_chunk_frames,
            self.streaming.validation_left_frames,
        )
        tokens = greedy_search(self.model, encoded.frames, encoded.lengths)
        for identifier, ids in zip(batch.ids, tokens, strict=True):
            self.hypotheses[identifier] = self.tokenizer.decode(ids).strip()


def _weight(target_lengths: Tensor, frame_lengths: Tensor) -> Tensor:
    """Tokens that the losses of a batch are shared by; for noise as many as speech would have."""
    instead = (frame_lengths // FRAMES_PER_TOKEN).clamp(min=1)
    return torch.where(target_lengths > 0, target_lengths, instead).sum().float()
