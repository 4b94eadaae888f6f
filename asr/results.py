"""What a stream gives back: partials while it listens, and its result in the final event.

All times are seconds since the stream began. They are the times at which the model emitted the
tokens (in steps of 40 ms), which follow the speech closely but are not an alignment of it: a word's
end may lie up to the tail padding (0.19 s) behind the end of the audio.
"""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from asr.budget import OperatingPoint
from asr.decoding.endpoint import Rule


@dataclass(frozen=True, slots=True)
class Token:
    """One emitted token."""

    piece: str  # as in tokens.txt: U+2581 starts a word
    time_s: float  # start of the 40 ms encoder frame that emitted it
    confidence: float  # the model's probability of it, in [0, 1]


@dataclass(frozen=True, slots=True)
class Word:
    """One word of the transcript."""

    text: str
    start_s: float  # time of its first token
    end_s: float  # end of the frame of its last token
    confidence: float  # geometric mean of its tokens' probabilities, in [0, 1]


@dataclass(frozen=True, slots=True)
class Result:
    """The transcript of a whole stream."""

    text: str
    words: tuple[Word, ...]
    tokens: tuple[Token, ...]
    duration_s: float  # seconds of audio that the stream was given
    confidence: float  # geometric mean of the tokens' probabilities; 0 when there is no token

    def to_dict(self) -> dict[str, Any]:
        """Return the result as plain lists and dictionaries, ready for `json.dumps`."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened in a stream."""

    time_s: float  # seconds of audio that the stream had been given when it happened


@dataclass(frozen=True, slots=True)
class Partial(Event):
    """The transcript changed.

    The `new_words` of all partials of a stream and of its final event, one after the other, are the
    words of its result.
    """

    text: str  # the whole text since the last endpoint, if any, as the search sees it now
    stable_text: str  # the part of it, from its beginning, to which later events only append
    new_words: tuple[Word, ...]  # the words that became complete and stable since the last event


@dataclass(frozen=True, slots=True)
class Endpoint(Event):
    """A segment ended. Only a stream with endpoint rules has these; see `EndpointRules`.

    The segments of a stream, those of the final event included, hold each word of its result once.
    """

    rule: Rule  # what fired
    reason: str  # why, in words
    text: str  # of the segment; empty where `silence` goes on
    words: tuple[Word, ...]
    start_s: float  # of its first word; without words, when the rule fired
    end_s: float  # of its last word; without words, the same
    tokens: tuple[Token, ...] = ()  # those of its words


@dataclass(frozen=True, slots=True)
class Moved(Event):
    """The stream goes on at another operating point. No audio is lost or heard twice by that."""

    from_point: OperatingPoint
    to_point: OperatingPoint
    reason: str


@dataclass(frozen=True, slots=True)
class Overrun(Event):
    """A budget is broken, or audio was refused. While that lasts, it is told again every 10 s."""

    budget: Literal["audio", "queue", "memory", "rtf", "latency"]  # what could not be held
    found: float  # what it is, in the unit of the budget; of audio and queue in seconds
    limit: float
    behind_s: float  # audio that waits
    action: str  # what was done
    refused_s: float = 0.0  # audio that the full queue did not take: it is lost


@dataclass(frozen=True, slots=True)
class Final(Event):
    """The stream ended: its last event."""

    new_words: tuple[Word, ...]  # the words that became complete since the last event
    result: Result
    endpoints: tuple[Endpoint, ...] = ()  # the segments that ended since the last event
    decisions: tuple[Moved | Overrun, ...] = ()  # what was decided since the last event

    @property
    def text(self) -> str:
        """The whole text."""
        return self.result.text
