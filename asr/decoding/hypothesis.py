"""What a search gives: tokens, how sure it is of them, and the protocol of every search."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from asr.engines import Floats

BLANK = 0
UNK = 1
INITIAL_CONTEXT = (-1, BLANK)
"""The predictor's input before any token: what sherpa-onnx starts with."""


@dataclass(frozen=True, slots=True)
class Emission:
    """One token of a hypothesis."""

    token: int
    frame: int  # encoder frames since the stream began
    log_prob: float


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """The tokens of a stream as a search sees them after some chunk."""

    emissions: Sequence[Emission]  # all that were not forgotten; valid until the search goes on
    stable: int  # how many of them, from the first, no later audio can change; never fewer again


class Search(Protocol):
    """Looks for the most likely tokens of one stream."""

    def accept(self, encoder_out: Floats) -> None:
        """Search the next encoder frames `(C, joiner_dim)`."""
        ...

    @property
    def best(self) -> Hypothesis:
        """The most likely hypothesis so far; a search may ask more of the first token of all.

        `emissions` may be the search's own list: its readers copy what they keep.
        """
        ...

    def forget(self, count: int) -> None:
        """Drop the first `count` emissions of the best hypothesis, all stable: they have been read.

        So a search holds what may still change, however long the stream. Its context stays.
        """
        ...

    def fork(self) -> "Search":
        """Return a search that goes on from here by itself, while this one stands still."""
        ...

    def skip(self, frames: int) -> None:
        """Take it that the next `frames` encoder frames are blank: they were not encoded."""
        ...

    def reset(self) -> None:
        """Drop every hypothesis and go on with the initial context; frames are counted on."""
        ...
