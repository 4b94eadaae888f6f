"""From tokens to text and timed words."""

import math
from collections.abc import Sequence

from asr.decoding.hypothesis import Emission, Hypothesis
from asr.results import Result, Token, Word

WORD_START = "▁"
"""U+2581: the mark of SentencePiece at the head of a piece that begins a word."""


class Transcript:
    """Follows the best hypothesis of a search; words come out once they are complete.

    A word is complete when the next one begins, or at `close()`, and only stable tokens complete
    words. Everything else in a stream has a fixed size; only the transcript grows, with the text.

    An update costs the tokens that became stable and the unstable ones, however long the stream.
    Where the text changed, it is copied as a whole: 50 kB after an hour of speech.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float) -> None:
        """Take the token table `pieces[id]` and the length of an encoder frame in seconds."""
        self._pieces = pieces
        self._frame_s = frame_s
        self._stable: list[Emission] = []
        self._unstable: list[Emission] = []
        self._words: list[Word] = []
        self._closed_text = ""  # the complete words
        self._open_text = ""  # the word that may still grow ...
        self._open_from = 0  # ... and the index of its first token
        self._text = self._stable_text = ""

    @property
    def text(self) -> str:
        """The words so far, separated by single spaces, the unfinished one included."""
        return self._text

    @property
    def stable_text(self) -> str:
        """The part of `text`, from its beginning, to which later text is only appended."""
        return self._stable_text

    def update(self, hypothesis: Hypothesis) -> tuple[Word, ...]:
        """Follow the search; return the words that became complete."""
        first_new = len(self._words)
        fresh = hypothesis.emissions[len(self._stable) : hypothesis.stable]
        unstable = list(hypothesis.emissions[hypothesis.stable :])
        if fresh or unstable != self._unstable:
            for emission in fresh:
                self._append(emission)
            self._unstable = unstable
            self._write_text()
        return tuple(self._words[first_new:])

    def close(self, duration_s: float) -> tuple[Result, tuple[Word, ...]]:
        """Take the hypothesis as final, complete the last word; return the result for `duration_s`
        seconds of audio, and the words that became complete only now."""
        first_new = len(self._words)
        for emission in self._unstable:
            self._append(emission)
        self._unstable = []
        self._complete_word()
        self._write_text()
        result = Result(
            text=self._text,
            words=tuple(self._words),
            tokens=tuple(self._token(emission) for emission in self._stable),
            duration_s=round(duration_s, 6),
            confidence=_geometric_mean(self._stable),
        )
        return result, result.words[first_new:]

    def _append(self, emission: Emission) -> None:
        piece = self._pieces[emission.token]
        if piece.startswith(WORD_START):
            self._complete_word()
        self._open_text += piece.removeprefix(WORD_START)
        self._stable.append(emission)

    def _complete_word(self) -> None:
        if self._open_text:
            # A piece may be a bare word mark, so the tokens before the first letter belong here.
            emissions = self._stable[self._open_from :]
            word = Word(
                text=self._open_text,
                start_s=self._seconds(emissions[0].frame),
                end_s=self._seconds(emissions[-1].frame + 1),
                confidence=_geometric_mean(emissions),
            )
            self._words.append(word)
            self._closed_text = _joined(self._closed_text, self._open_text)
            self._open_text = ""
        self._open_from = len(self._stable)

    def _write_text(self) -> None:
        closed, word = self._closed_text, self._open_text
        self._stable_text = _joined(closed, word)
        for emission in self._unstable:
            piece = self._pieces[emission.token]
            if piece.startswith(WORD_START):
                closed, word = _joined(closed, word), ""
            word += piece.removeprefix(WORD_START)
        self._text = _joined(closed, word) if self._unstable else self._stable_text

    def _token(self, emission: Emission) -> Token:
        piece = self._pieces[emission.token]
        return Token(piece, self._seconds(emission.frame), _probability(emission.log_prob))

    def _seconds(self, frame: int) -> float:
        return round(frame * self._frame_s, 3)


def _joined(text: str, word: str) -> str:
    return f"{text} {word}" if text and word else text or word


def _probability(log_prob: float) -> float:
    # Rounding in the joiner may leave a log-probability a little above zero.
    return min(1.0, math.exp(log_prob))


def _geometric_mean(emissions: Sequence[Emission]) -> float:
    if not emissions:
        return 0.0
    return _probability(math.fsum(item.log_prob for item in emissions) / len(emissions))
