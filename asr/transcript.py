"""From tokens to text and timed words."""

import math
from collections.abc import Iterable, Sequence

from asr.decoding.greedy import Emission
from asr.results import Result, Token, Word

WORD_START = "▁"
"""U+2581: the mark of SentencePiece at the head of a piece that begins a word."""


class Transcript:
    """Collects emissions; words come out once they are complete.

    A word is complete when the next one begins, or at `close()`. Everything else in a stream has a
    fixed size; only the transcript grows, with the text.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float) -> None:
        """Take the token table `pieces[id]` and the length of an encoder frame in seconds."""
        self._pieces = pieces
        self._frame_s = frame_s
        self._tokens: list[Token] = []
        self._log_probs: list[float] = []
        self._words: list[Word] = []
        self._closed_text = ""  # the complete words
        self._open_text = ""  # the word that may still grow ...
        self._open_from = 0  # ... and the index of its first token

    @property
    def text(self) -> str:
        """The words so far, separated by single spaces, the unfinished one included."""
        separator = " " if self._closed_text and self._open_text else ""
        return f"{self._closed_text}{separator}{self._open_text}"

    def append(self, emissions: Iterable[Emission]) -> tuple[Word, ...]:
        """Add emissions in the order of their frames; return the words that they completed."""
        first_new = len(self._words)
        for emission in emissions:
            piece = self._pieces[emission.token]
            if piece.startswith(WORD_START):
                self._complete_word()
            self._open_text += piece.removeprefix(WORD_START)
            time_s = self._seconds(emission.frame)
            self._tokens.append(Token(piece, time_s, _probability(emission.log_prob)))
            self._log_probs.append(emission.log_prob)
        return tuple(self._words[first_new:])

    def close(self, duration_s: float) -> Result:
        """Complete the last word and return the result for `duration_s` seconds of audio."""
        self._complete_word()
        return Result(
            text=self._closed_text,
            words=tuple(self._words),
            tokens=tuple(self._tokens),
            duration_s=round(duration_s, 6),
            confidence=_geometric_mean(self._log_probs),
        )

    def _complete_word(self) -> None:
        if self._open_text:
            # A piece may be a bare word mark, so the tokens before the first letter belong here.
            tokens = self._tokens[self._open_from :]
            word = Word(
                text=self._open_text,
                start_s=tokens[0].time_s,
                end_s=round(tokens[-1].time_s + self._frame_s, 3),
                confidence=_geometric_mean(self._log_probs[self._open_from :]),
            )
            self._words.append(word)
            self._closed_text = self.text
            self._open_text = ""
        self._open_from = len(self._tokens)

    def _seconds(self, frame: int) -> float:
        return round(frame * self._frame_s, 3)


def _probability(log_prob: float) -> float:
    # Rounding in the joiner may leave a log-probability a little above zero.
    return min(1.0, math.exp(log_prob))


def _geometric_mean(log_probs: Sequence[float]) -> float:
    if not log_probs:
        return 0.0
    return _probability(math.fsum(log_probs) / len(log_probs))
