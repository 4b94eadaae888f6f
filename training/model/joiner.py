"""The joiner, with the blank scored apart from the labels."""

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.model.config import ModelConfig


class JoinerScores(NamedTuple):
    """Logits before normalisation."""

    blank: Tensor  # (...)
    labels: Tensor  # (..., V - 1), label v at v - 1


class FactorizedJoiner(nn.Module):
    """Is there a label here (sigmoid), and if so which (softmax): HAT, arXiv 2003.07705."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.blank = nn.Linear(config.joiner_dim, 1)
        self.labels = nn.Linear(config.joiner_dim, config.vocab_size - 1)

    def scores(self, encoder_out: Tensor, predictor_out: Tensor) -> JoinerScores:
        """Join `(..., joiner_dim)` with `(..., joiner_dim)`, broadcast against each other."""
        hidden = torch.tanh(encoder_out + predictor_out)
        return JoinerScores(self.blank(hidden).squeeze(-1), self.labels(hidden))

    def forward(self, encoder_out: Tensor, predictor_out: Tensor) -> Tensor:
        """Return normalised log-probabilities `(..., V)`, blank first."""
        scores = self.scores(encoder_out, predictor_out)
        labels = scores.labels.float()
        # sigmoid(b) = softmax([b + logsumexp(labels), labels])[0], and exported graphs have no
        # log-sigmoid that stays finite.
        blank = scores.blank.float().unsqueeze(-1) + labels.logsumexp(dim=-1, keepdim=True)
        return functional.log_softmax(torch.cat([blank, labels], dim=-1), dim=-1)

    def arcs(
        self, encoder_out: Tensor, predictor_out: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return log p(blank) and log p(target) `(...)`, all that a transducer lattice needs."""
        scores = self.scores(encoder_out, predictor_out)
        blank, labels = scores.blank.float(), scores.labels.float()
        # Targets past the end of an utterance may be blank (0); their arcs are never taken.
        chosen = labels.gather(-1, (targets - 1).clamp(min=0).unsqueeze(-1)).squeeze(-1)
        label = functional.logsigmoid(-blank) + chosen - labels.logsumexp(dim=-1)
        return functional.logsigmoid(blank), label
