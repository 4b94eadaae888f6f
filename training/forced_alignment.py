"""The most likely path of known symbols through frames of CTC (forced alignment)."""

from collections.abc import Sequence
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


def forced_alignment(log_probs: Tensor, symbols: Sequence[int]) -> list[Span]:
    """Return where each of the symbols is said, in their order.

    log_probs: `(C, V)`, normalised, blank 0; symbols: none of them the blank. Raises CorpusError if
    there are none, or more than fit in C frames; AsrError without torchaudio.
    """
    if not symbols:
        raise CorpusError("no symbols to align")
    repeats = sum(one == other for one, other in pairwise(symbols))
    if len(symbols) + repeats > len(log_probs):
        raise CorpusError(f"{len(symbols)} symbols in {len(log_probs)} frames")
    forced_align = require_aligner()
    path, _ = forced_align(log_probs[None], torch.tensor([symbols], dtype=torch.int32), blank=0)
    return spans(path[0].tolist())


def require_aligner():  # type: ignore[no-untyped-def]  # torchaudio has no types
    """Return torchaudio's aligner. Raises AsrError if torchaudio can't be imported."""
    try:
        from torchaudio.functional import forced_align
    except (ImportError, OSError) as error:  # it links what this build of torch may not have
        raise AsrError(
            f"forced alignment needs torchaudio, which can't be imported: {error}; install the "
            "versions that pyproject.toml names: pip install 'earshot-asr[train]'"
        ) from error
    return forced_align


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
