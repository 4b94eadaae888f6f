"""From tokens to text and timed words."""

import math
from array import array
from collections.abc import Sequence

from asr.decoding.endpoint import Segment
from asr.decoding.hypothesis import Emission, Hypothesis
from asr.results import Result, Token, Word

WORD_START = "▁"
"""U+2581: the mark of SentencePiece at the head of a piece that begins a word."""


class Transcript:
    """Follows the best hypothesis of a search; words come out once they are complete.

    A word is complete when the next one begins, or when its segment or the transcript is closed,
    and only stable tokens complete words. `text` is that of the open segment: without endpoints,
    the only one.

    Everything else in a stream has a fixed size; only this grows, with the text: 16 bytes a token
    and 8 a word, half a megabyte in an hour. An update costs the tokens that are new and a copy of
    the open segment's text, where that changed.
    """

    def __init__(self, pieces: Sequence[str], frame_s: float) -> None:
        """Take the token table `pieces[id]` and the length of an encoder frame in seconds."""
        self._pieces = pieces
        self._frame_s = frame_s
        # The stable tokens of the whole stream.
        self._tokens = array("I")
        self._frames = array("I")
        self._log_probs = array("d")
        self._unstable: list[Emission] = []
        # The complete words: where their tokens begin and end.
        self._word_from = array("I")
        self._word_to = array("I")
        self._earlier_text = ""  # of the closed segments
        self._segment_from = 0  # the first word of the open segment
        self._closed_text = ""  # the complete words of the open segment ...
        self._open_text = ""  # ... the word that may still grow ...
        self._open_from = 0  # ... and the index of its first token
        self._text = self._stable_text = ""

    @property
    def text(self) -> str:
        """The words of the open segment so far, separated by single spaces, the unfinished one
        included."""
        return self._text

    @property
    def stable_text(self) -> str:
        """The part of `text`, from its beginning, to which later text is only appended."""
        return self._stable_text

    @property
    def whole_text(self) -> str:
        """The words of all segments."""
        return _joined(self._earlier_text, self._text)

    @property
    def segment(self) -> Segment:
        """Where the open segment stands, for the endpoint rules."""
        words = len(self._word_from)
        first_token = self._word_from[self._segment_from] if words > self._segment_from else None
        if first_token is None and self._open_text:
            first_token = self._open_from
        first_frame = None if first_token is None else self._frames[first_token]
        if first_frame is None and self._unstable:
            first_frame = self._unstable[0].frame
        last_frame = self._frames[-1] if self._frames else -1
        if self._unstable:
            last_frame = self._unstable[-1].frame
        return Segment(last_frame + 1, first_frame, words > self._segment_from)

    def update(self, hypothesis: Hypothesis) -> tuple[Word, ...]:
        """Follow the search, which then forgets what is stable; return the words that became
        complete."""
        first_new = len(self._word_from)
        fresh = hypothesis.emissions[: hypothesis.stable]
        unstable = list(hypothesis.emissions[hypothesis.stable :])
        if fresh or unstable != self._unstable:
            for emission in fresh:
                self._append(emission)
            self._unstable = unstable
            self._write_text()
        return self._words(first_new)

    def complete(self) -> tuple[Word, ...]:
        """Take the hypothesis as final, so that its last word is complete; return the words that
        became so only now."""
        first_new = len(self._word_from)
        for emission in self._unstable:
            self._append(emission)
        self._unstable = []
        self._complete_word()
        self._write_text()
        return self._words(first_new)

    def close_segment(self) -> tuple[Word, ...]:
        """Return the complete words of the open segment. The next one begins behind them, with the
        word that may still grow if there is one."""
        words = self._words(self._segment_from)
        self._segment_from = len(self._word_from)
        self._earlier_text = _joined(self._earlier_text, self._closed_text)
        self._closed_text = ""
        self._write_text()
        return words

    def segment_tokens(self, *, complete_words: bool = False) -> tuple[Token, ...]:
        """Return the tokens of `text`, or only those of its complete words."""
        has_words = len(self._word_from) > self._segment_from
        first = self._word_from[self._segment_from] if has_words else self._open_from
        if complete_words:
            return self._token_range(first, self._open_from)
        unstable = (self._make_token(e.token, e.frame, e.log_prob) for e in self._unstable)
        return *self._token_range(first, len(self._tokens)), *unstable

    def result(self, duration_s: float) -> Result:
        """Return the complete words of all segments, for `duration_s` seconds of audio."""
        words = self._words(0)
        return Result(
            text=" ".join(word.text for word in words),
            words=words,
            tokens=self._token_range(0, len(self._tokens)),
            duration_s=round(duration_s, 6),
            confidence=_geometric_mean(self._log_probs),
        )

    def _token_range(self, first: int, last: int) -> tuple[Token, ...]:
        return tuple(
            self._make_token(self._tokens[i], self._frames[i], self._log_probs[i])
            for i in range(first, last)
        )

    def _make_token(self, token: int, frame: int, log_prob: float) -> Token:
        return Token(self._pieces[token], self._seconds(frame), _probability(log_prob))

    def _append(self, emission: Emission) -> None:
        piece = self._pieces[emission.token]
        if piece.startswith(WORD_START):
            self._complete_word()
        self._open_text += piece.removeprefix(WORD_START)
        self._tokens.append(emission.token)
        self._frames.append(emission.frame)
        self._log_probs.append(emission.log_prob)

    def _complete_word(self) -> None:
        if self._open_text:
            # A piece may be a bare word mark, so the tokens before the first letter belong here.
            self._word_from.append(self._open_from)
            self._word_to.append(len(self._tokens))
            self._closed_text = _joined(self._closed_text, self._open_text)
            self._open_text = ""
        self._open_from = len(self._tokens)

    def _write_text(self) -> None:
        closed, word = self._closed_text, self._open_text
        self._stable_text = _joined(closed, word)
        for emission in self._unstable:
            piece = self._pieces[emission.token]
            if piece.startswith(WORD_START):
                closed, word = _joined(closed, word), ""
            word += piece.removeprefix(WORD_START)
        self._text = _joined(closed, word) if self._unstable else self._stable_text

    def _words(self, first: int) -> tuple[Word, ...]:
        return tuple(self._word(index) for index in range(first, len(self._word_from)))

    def _word(self, index: int) -> Word:
        start, stop = self._word_from[index], self._word_to[index]
        tokens = self._tokens[start:stop]
        return Word(
            text="".join(self._pieces[token].removeprefix(WORD_START) for token in tokens),
            start_s=self._seconds(self._frames[start]),
            end_s=self._seconds(self._frames[stop - 1] + 1),
            confidence=_geometric_mean(self._log_probs[start:stop]),
        )

    def _seconds(self, frame: int) -> float:
        return round(frame * self._frame_s, 3)


def _joined(text: str, word: str) -> str:
    return f"{text} {word}" if text and word else text or word


def _probability(log_prob: float) -> float:
    # Rounding in the joiner may leave a log-probability a little above zero.
    return min(1.0, math.exp(log_prob))


def _geometric_mean(log_probs: Sequence[float]) -> float:
    return _probability(math.fsum(log_probs) / len(log_probs)) if log_probs else 0.0
