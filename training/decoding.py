"""Greedy search over a batch, for validation: the same words as the decoder on the device."""

import torch
from torch import Tensor

from asr.decoding.hypothesis import BLANK as BLANK_ID
from asr.decoding.hypothesis import UNK as UNKNOWN_ID
from training.model import Transducer


@torch.no_grad()
def greedy_search(model: Transducer, encoder_out: Tensor, lengths: Tensor) -> list[list[int]]:
    """Return the tokens of each utterance; encoder_out `(B, C, joiner_dim)`, lengths `(B,)`.

    The most likely symbol of each frame, at most one a frame, the unknown never.
    """
    batch, frames, _ = encoder_out.shape
    device = encoder_out.device
    context = model.predictor.with_history(lengths.new_zeros(batch, 0))
    predicted = model.predictor(context).squeeze(1)
    symbols = torch.full((batch, frames), BLANK_ID, device=device)
    for frame in range(frames):
        symbol = model.joiner(encoder_out[:, frame], predicted).argmax(dim=-1)
        emitted = (symbol != BLANK_ID) & (symbol != UNKNOWN_ID) & (frame < lengths)
        if not emitted.any():
            continue
        symbols[emitted, frame] = symbol[emitted]
        shifted = torch.cat([context[:, 1:], symbol.unsqueeze(1)], dim=1)
        context = torch.where(emitted.unsqueeze(1), shifted, context)
        predicted = model.predictor(context).squeeze(1)
    return [[s for s in row if s != BLANK_ID] for row in symbols.tolist()]
