"""The whole recogniser: encoder, predictor, joiner, and the heads that only training uses."""

import torch
from torch import Tensor, nn

from training.model.config import ModelConfig
from training.model.encoder import ConformerEncoder, EncoderOutput
from training.model.joiner import FactorizedJoiner
from training.model.predictor import StatelessPredictor
from training.model.state import initial_state


class Transducer(nn.Module):
    """A streaming Conformer-transducer.

    encoder, predictor and joiner are exported. `ctc` is the auxiliary CTC head; `simple_encoder`
    and `simple_predictor` make the cheap lattice that picks the band of the pruned loss.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = ConformerEncoder(config)
        self.predictor = StatelessPredictor(config)
        self.joiner = FactorizedJoiner(config)
        self.ctc = nn.Linear(config.joiner_dim, config.vocab_size)
        self.simple_encoder = nn.Linear(config.joiner_dim, config.vocab_size)
        self.simple_predictor = nn.Linear(config.joiner_dim, config.vocab_size)

    def encode(
        self,
        features: Tensor,
        feature_lengths: Tensor,
        chunk_frames: int | None = None,
        left_frames: int | None = None,
    ) -> EncoderOutput:
        """Encode whole utterances `(B, T, F)` as a stream of such chunks would."""
        state = initial_state(self.config, len(features), left_frames=0, like=features)
        return self.encoder(features, state, feature_lengths, chunk_frames, left_frames)

    def set_feature_statistics(self, mean: Tensor, std: Tensor) -> None:
        """Store the mean and deviation `(F,)` of the features of the training speech."""
        with torch.no_grad():
            self.encoder.feature_mean.copy_(mean)
            self.encoder.feature_inverse_std.copy_(1 / std)
