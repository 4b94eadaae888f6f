"""The most likely path of known symbols through frames of CTC (forced alignment)."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from asr.errors import AsrError, CorpusError


class Span(NamedTuple):
    """The frames in which a symbol is what CTC says, and not the blank."""

    symbol: int
    start: int
    end: int  # behind the last


class Alignment(NamedTuple):
    """Where each symbol is said, in their order, and how likely that path is."""

    spans: list[Span]
    log_prob: float  # nats


def forced_alignment(log_probs: Tensor, symbols: Sequence[int]) -> Alignment:
    """Align symbols, none of them the blank, to frames.

    log_probs: `(C, V)` on the CPU, normalised, blank 0. Raises CorpusError if there are no symbols,
    or more than fit in C frames, or if log_probs are NaN or infinite; AsrError without torchaudio.
    """
    if not symbols:
        raise CorpusError("no symbols to align")
    repeats = sum(one == other for one, other in pairwise(symbols))
    if len(symbols) + repeats > len(log_probs):
        raise CorpusError(f"{len(symbols)} symbols in {len(log_probs)} frames")
    if not torch.isfinite(log_probs).all():
        raise CorpusError("log-probabilities that are NaN or infinite")
    align = require_aligner()
    path, scores = align(log_probs[None], torch.tensor([symbols], dtype=torch.int32), blank=0)
    return Alignment(spans(path[0].tolist()), float(scores.sum()))


def require_aligner() -> Callable[..., tuple[Tensor, Tensor]]:
    """Return torchaudio's aligner. Raises AsrError if torchaudio can't be imported."""
    try:
        from torchaudio.functional import forced_align
    except (ImportError, OSError) as error:  # it links what this build of torch may not have
        raise AsrError(
            f"forced alignment needs torchaudio, which can't be imported: {error}; install the "
            "versions that pyproject.toml names: pip install 'earshot-asr[train]'"
        ) from error
    align: Callable[..., tuple[Tensor, Tensor]] = forced_align
    return align


def spans(path: Sequence[int]) -> list[Span]:
    """Return each run of one symbol in a path, which has a symbol a frame, 0 being the blank."""
    found: list[Span] = []
    before = 0
    for frame, symbol in enumerate(path):
        if symbol and symbol == before:
            found[-1] = found[-1]._replace(end=frame + 1)
        elif symbol:
            found.append(Span(symbol, frame, frame + 1))
        before = symbol
    return found
