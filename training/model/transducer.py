"""The whole recogniser: encoder, predictor, joiner, and the heads that only training uses."""

import math

import torch
from torch import Tensor, nn

from asr.decoding.hypothesis import BLANK as BLANK_ID
from training.model.config import ModelConfig
from training.model.encoder import ConformerEncoder, EncoderOutput
from training.model.joiner import FactorizedJoiner
from training.model.predictor import StatelessPredictor
from training.model.state import initial_state

QUIET_STD = 0.01
BLANK_SHARE = 5.0
"""Frames with a blank for each frame with a label, about what speech needs."""


class Transducer(nn.Module):
    """A streaming Conformer-transducer.

    encoder, predictor and joiner are exported. `ctc` is the auxiliary CTC head; `phones` tells
    phones apart by the lower blocks of the encoder; `simple_encoder` and `simple_predictor` make
    the cheap lattice that picks the band of the pruned loss.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConformerEncoder(config)
        self.predictor = StatelessPredictor(config)
        self.joiner = FactorizedJoiner(config)
        self.ctc = nn.Linear(config.joiner_dim, config.vocab_size)
        self.phones = nn.Linear(config.dim, config.num_phones)
        self.simple_encoder = nn.Linear(config.joiner_dim, config.vocab_size)
        self.simple_predictor = nn.Linear(config.joiner_dim, config.vocab_size)

    def quiet_heads(self) -> None:
        """Make all heads start from "nearly always blank", whatever the encoder says.

        Through heads of random weights a pre-trained encoder is noise, and the first thing that
        training then does is to silence it: its output had lost all variation after an hour of
        audio, and training sat on the plateau of pure blanks. Quiet heads learn to listen first.
        """
        with torch.no_grad():
            for head in (self.ctc, self.simple_encoder, self.simple_predictor):
                head.weight.normal_(std=QUIET_STD)
                head.bias.zero_()
            self.ctc.bias[BLANK_ID] = math.log(BLANK_SHARE * (self.config.vocab_size - 1))
            self.simple_encoder.bias[BLANK_ID] = self.ctc.bias[BLANK_ID]
            for part in (self.joiner.blank, self.joiner.labels):
                part.weight.normal_(std=QUIET_STD)
                part.bias.zero_()
            self.joiner.blank.bias.fill_(math.log(BLANK_SHARE))

    def encode(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        chunk_frames: int | Tensor | None = None,
        left_frames: int | Tensor | None = None,
    ) -> EncoderOutput:
        """Encode whole utterances `(B, T, F)` as a stream of such chunks would."""
        state = initial_state(self.config, len(features), left_frames=0, like=features)
        return self.encoder(features, state, feature_lengths, chunk_frames, left_frames)

    def set_feature_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store the mean and deviation `(F,)` of the features of the training speech."""
        with torch.no_grad():
            self.encoder.feature_mean.copy_(mean)
            self.encoder.feature_inverse_std.copy_(1 / std)
