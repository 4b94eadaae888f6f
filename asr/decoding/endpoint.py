"""When a segment of speech is over: three named rules, in seconds."""

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

from asr.errors import AsrError

Rule: TypeAlias = Literal["silence", "pause", "length", "end"]
"""What can end a segment: the rules of `EndpointRules`, or the end of the stream."""

_ROUNDING_FRAMES = 1e-6  # 1.2 s in frames of 0.04 s are 30, not the 31 that rounding errors make


@dataclass(frozen=True, slots=True)
class EndpointRules:
    """The rules by which a stream is cut into segments; None turns a rule off.

    Silence is what the search hears as such: encoder frames since its last token, or since the
    stream began. Each rule fires at most once in a silence, whatever its length. Times are exact to
    an encoder frame (40 ms), however the audio is cut into chunks. The defaults are those of Kaldi
    and sherpa-onnx; their rules 1, 2 and 3 are `silence`, `pause` and `length`.
    """

    silence_s: float | None = 2.4
    """Nobody has spoken for so long. It fires with words or without: when a stream begins with
    silence, and again when a silence that `pause` had noticed goes on."""

    pause_s: float | None = 1.2
    """So much silence behind at least one word."""

    length_s: float | None = 20.0
    """So long after the first token of a segment, in the midst of speech. The segment ends before
    the word that is being spoken, which begins the next one: no word is cut in two."""

    def __post_init__(self) -> None:
        """Raises AsrError for a time that is none."""
        for name in ("silence_s", "pause_s", "length_s"):
            seconds = getattr(self, name)
            if seconds is not None and not 0 < seconds < math.inf:
                raise AsrError(
                    f"endpoint rule {name}={seconds}; expected seconds above 0, or None for no rule"
                )


@dataclass(frozen=True, slots=True)
class Segment:
    """What the rules need to know of the open segment; frames are those since the stream began."""

    silent_from: int  # the frame behind the last token of the stream, 0 before any
    first_frame: int | None = None  # of its first token
    has_whole_word: bool = False  # one that later tokens can't change


@dataclass(frozen=True, slots=True)
class DueEndpoint:
    """The rule that fires next, and when."""

    frame: int  # how many frames of the stream must have been searched
    rule: Rule


class EndpointDetector:
    """Tells which rule fires, and how far may be searched before one can: a chunk may be longer."""

    def __init__(self, rules: EndpointRules, frame_s: float) -> None:
        """`frame_s` is the length of an encoder frame in seconds."""
        self._silence = _frames(rules.silence_s, frame_s)
        self._pause = _frames(rules.pause_s, frame_s)
        self._length = _frames(rules.length_s, frame_s)
        self._told_silence_from: int | None = None  # the silence in which `silence` has fired

    def due(self, segment: Segment) -> DueEndpoint | None:
        """Return which rule fires next and at which frame unless a token comes first, in the past
        if a word had to end before; None if no rule fires without another token."""
        silent_from, first = segment.silent_from, segment.first_frame
        due: list[DueEndpoint] = []
        if self._silence is not None and self._told_silence_from != silent_from:
            due.append(DueEndpoint(silent_from + self._silence, "silence"))
        if self._pause is not None and first is not None:
            due.append(DueEndpoint(silent_from + self._pause, "pause"))
        if self._length is not None and first is not None and segment.has_whole_word:
            due.append(DueEndpoint(first + self._length, "length"))
        return min(due, key=lambda endpoint: endpoint.frame, default=None)

    def horizon(self, segment: Segment, frames: int, at_most: int) -> int:
        """Return how many frames behind the first `frames` of the stream can be searched before a
        rule may fire, whatever is found in them."""
        rules = self._silence, self._pause, self._length
        near = [at_most, *(length for length in rules if length is not None)]
        if (due := self.due(segment)) is not None:
            near.append(due.frame - frames)
        if (length := self._length) is not None and (first := segment.first_frame) is not None:
            # When it is long, the next token may end the word that `length` waits for.
            near.append(first + length - frames)
        return max(1, min(near))

    def fired(self, rule: Rule, segment: Segment) -> None:
        """Say that an endpoint was made of what was due."""
        if rule == "silence":
            self._told_silence_from = segment.silent_from


def _frames(seconds: float | None, frame_s: float) -> int | None:
    """Return whole frames, at least `seconds` of them."""
    if seconds is None:
        return None
    return max(1, math.ceil(seconds / frame_s - _ROUNDING_FRAMES))
