"""What a search finds, as events; and segments, where endpoint rules cut the stream into them."""

from collections.abc import Sequence

from asr.decoding.endpoint import EndpointDetector, EndpointRules, Rule, whole_frames
from asr.decoding.hypothesis import Hypothesis, Search
from asr.engines import Floats
from asr.results import Endpoint, Event, Partial, Result, Token, Word
from asr.second_pass import SecondPass
from asr.transcript import Transcript

_QUOTED_WORDS = 3  # of a segment, in the reason of its endpoint


LONGEST_FRAMES = 512
"""Encoder frames, 20.5 s, of the longest segment that is heard again."""

LEAD_FRAMES = 32
"""What is heard again before its first token, which comes up to half a second late ..."""

TAIL_FRAMES = 20
"""... and behind its last one."""

_LAST_WORD_FRAMES = 10
"""Behind its last token, the word of another segment may sound so long."""


class Segmenter:
    """Feeds the search of one stream, and tells what became known.

    In a silence, the end of a segment resets the search: the next segment begins with the initial
    context, as every utterance did in training. It doesn't reset the encoder: its state is what the
    audio left there, so a word right behind the endpoint is encoded as if there were none, and none
    is lost. Frames are counted on: all times are those since the stream began.

    With a second pass nothing of a segment is stable before it ends and was heard again. One that
    is too long for that, or ends while somebody speaks, stays as it was heard first.
    """

    def __init__(
        self,
        search: Search,
        transcript: Transcript,
        frame_s: float,
        rules: EndpointRules | None,
        second_pass: SecondPass | None = None,
    ) -> None:
        """Take a fresh search and transcript, the length of an encoder frame in seconds, and the
        rules of endpoints; None: the stream is one segment, and no endpoint is told. `second_pass`
        keeps what the stream encodes, and needs rules."""
        self._search = search
        self._transcript = transcript
        self._frame_s = frame_s
        self._rules = rules
        self._detector = EndpointDetector(rules, frame_s) if rules else None
        self._second_pass = second_pass
        self._hears_again = second_pass is not None  # the open segment, when it ends
        length = whole_frames(rules.length_s, frame_s) if rules else None
        self._longest = LONGEST_FRAMES if length is None else min(LONGEST_FRAMES, length)
        self._said_before = 0  # up to this frame, the segment before may reach
        self._frames = 0  # searched or skipped
        self._new_words: tuple[Word, ...] = ()  # complete, but not told yet
        self._told = "", ""  # text and stable text of the open segment in the last partial

    @property
    def text(self) -> str:
        """The text of all segments so far."""
        return self._transcript.whole_text

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens of the open segment."""
        return self._transcript.segment_tokens()

    @property
    def idle_frames(self) -> int:
        """How many frames were searched or skipped since the last token; 0 as long as the silence
        may still bring an endpoint."""
        segment = self._transcript.segment
        if self._detector and self._detector.due(segment):
            return 0
        return self._frames - segment.silent_from

    def accept(self, encoder_out: Floats, time_s: float) -> list[Event]:
        """Search the next encoder frames `(C, joiner_dim)`; `time_s` is that of the events.

        The search stops where a rule is due, and the rest of the frames comes behind the reset: so
        endpoints are exact to a frame, also in a chunk that is longer than a pause.
        """
        events: list[Event] = []
        while len(encoder_out):
            count = len(encoder_out)
            if self._detector:
                segment = self._transcript.segment
                count = self._detector.horizon(segment, self._frames, at_most=count)
                if self._hears_again and segment.first_frame is not None:
                    count = min(count, segment.first_frame + self._longest - self._frames)
            self._search_on(encoder_out[:count])
            encoder_out = encoder_out[count:]
            while (rule := self._rule_now()) is not None:
                events += self._end_segment(rule, time_s)
        if self._second_pass:
            self._second_pass.forget_before(self._needed_from())
        return events + self._partials(time_s)

    def skip(self, frames: int) -> None:
        """Pass over encoder frames of a silence that `idle_frames` has allowed to be skipped."""
        self._search.skip(frames)
        self._frames += frames
        if self._second_pass and frames:
            self._second_pass.skip(frames)
            if self._transcript.text:  # it has a gap now
                self._hears_again = False

    def finish(self, time_s: float, reason: str = "the audio ended") -> list[Event]:
        """Complete the last word and, if there are endpoint rules, the last segment; `reason` is
        that of its endpoint."""
        if self._rules and self._transcript.text:
            return self._end_segment("end", time_s, reason)
        self._complete_word()
        return self._partials(time_s)

    def result(self, duration_s: float) -> Result:
        """Return the complete words of all segments, for `duration_s` seconds of audio."""
        return self._transcript.result(duration_s)

    def _search_on(self, encoder_out: Floats) -> None:
        self._search.accept(encoder_out)
        self._frames += len(encoder_out)
        self._follow()
        first = self._transcript.segment.first_frame
        if self._hears_again and first is not None and self._frames >= first + self._longest:
            self._hears_again = False
            self._follow()

    def _follow(self) -> None:
        """Take over what the search has found, and what of it is stable."""
        hypothesis = self._search.best
        if self._hears_again:
            hypothesis = Hypothesis(hypothesis.emissions, stable=0)
        self._new_words += self._transcript.update(hypothesis)
        self._search.forget(hypothesis.stable)

    def _hear_again(self) -> None:
        """Put what a second pass hears in place of what was heard first."""
        assert self._second_pass is not None
        end = min(self._frames, self._transcript.segment.silent_from + TAIL_FRAMES)
        emissions = self._second_pass.hear(self._needed_from(), end)
        self._new_words += self._transcript.update(Hypothesis(emissions, len(emissions)))

    def _needed_from(self) -> int:
        """The first frame that a second pass of the open segment, or of the next one, needs."""
        first = self._transcript.segment.first_frame
        if first is None or not self._hears_again:
            first = self._frames
        return max(self._said_before, first - LEAD_FRAMES)

    def _rule_now(self) -> Rule | None:
        if self._detector is None:
            return None
        due = self._detector.due(self._transcript.segment)
        return due.rule if due and due.frame <= self._frames else None

    def _end_segment(self, rule: Rule, time_s: float, reason: str = "") -> list[Event]:
        if rule != "length":  # which fires while somebody speaks: search and last word go on
            if self._hears_again and self._transcript.text:
                self._hear_again()
                if not self._transcript.text and rule != "silence":  # nobody had spoken
                    self._begin_segment()
                    return self._partials(time_s)
            self._complete_word()
        if self._detector:
            self._detector.fired(rule, self._transcript.segment)
        if rule != "length":
            self._begin_segment()
        events = self._partials(time_s)
        tokens = self._transcript.segment_tokens(complete_words=True)
        words = self._transcript.close_segment()
        self._told = "", ""
        now_s = round(self._frames * self._frame_s, 3)
        endpoint = Endpoint(
            time_s,
            rule,
            reason or self._reason(rule, words),
            " ".join(word.text for word in words),
            words,
            start_s=words[0].start_s if words else now_s,
            end_s=words[-1].end_s if words else now_s,
            tokens=tokens,
        )
        return [*events, endpoint]

    def _begin_segment(self) -> None:
        self._search.reset()
        self._hears_again = self._second_pass is not None
        silent_from = self._transcript.segment.silent_from
        self._said_before = min(self._frames, silent_from + _LAST_WORD_FRAMES)

    def _complete_word(self) -> None:
        self._new_words += self._transcript.complete()

    def _partials(self, time_s: float) -> list[Event]:
        """Return a partial if there is anything to tell."""
        texts = self._transcript.text, self._transcript.stable_text
        new_words, self._new_words = self._new_words, ()
        if not new_words and texts == self._told:
            return []
        self._told = texts
        return [Partial(time_s, *texts, new_words)]

    def _reason(self, rule: Rule, words: Sequence[Word]) -> str:
        assert self._rules is not None, "one of them fired"
        if rule == "length":
            return f"{self._rules.length_s:g} s since its first word"
        seconds = self._rules.pause_s if rule == "pause" else self._rules.silence_s
        if not words:
            return f"{seconds:g} s without a word"
        quoted = " ".join(word.text for word in words[-_QUOTED_WORDS:])
        return f"{seconds:g} s of silence after '{quoted}'"
