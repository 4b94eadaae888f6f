"""What a search finds, as events; and segments, where endpoint rules cut the stream into them."""

from collections.abc import Sequence

from asr.decoding.endpoint import EndpointDetector, EndpointRules, Rule
from asr.decoding.hypothesis import Hypothesis, Search
from asr.engines import Floats
from asr.results import Endpoint, Event, Partial, Result, Token, Word
from asr.transcript import Transcript

_QUOTED_WORDS = 3  # of a segment, in the reason of its endpoint


class Segmenter:
    """Feeds the search of one stream, and tells what became known.

    In a silence, the end of a segment resets the search: the next segment begins with the initial
    context, as every utterance did in training. It doesn't reset the encoder: its state is what the
    audio left there, so a word right behind the endpoint is encoded as if there were none, and none
    is lost. Frames are counted on: all times are those since the stream began.

    What is heard in a preview is told, and an endpoint may become due by it; nothing of it is
    stable, and the search goes on from where it was before.
    """

    def __init__(
        self, search: Search, transcript: Transcript, frame_s: float, rules: EndpointRules | None
    ) -> None:
        """Take a fresh search and transcript, the length of an encoder frame in seconds, and the
        rules of endpoints; None: the stream is one segment, and no endpoint is told."""
        self._search = search
        self._transcript = transcript
        self._frame_s = frame_s
        self._rules = rules
        self._detector = EndpointDetector(rules, frame_s) if rules else None
        self._preview: Search | None = None  # where the search would be behind what was previewed
        self._frames = 0  # searched or skipped
        self._previewed = 0  # behind these
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
        return self._frames + self._previewed - segment.silent_from

    @property
    def endpoint_is_due(self) -> bool:
        """Whether an endpoint is due by what was previewed."""
        return self._rule_now() is not None

    def preview(self, encoder_out: Floats, time_s: float) -> list[Event]:
        """Tell what is in the next encoder frames `(C, joiner_dim)` as far as is known now: they
        will come again, by `accept`. `time_s` is that of the events."""
        if self._preview is None:
            self._preview = self._search.fork()
        self._preview.accept(encoder_out)
        self._previewed += len(encoder_out)
        self._transcript.update(Hypothesis(self._preview.best.emissions, stable=0))
        return self._partials(time_s)

    def accept(self, encoder_out: Floats, time_s: float) -> list[Event]:
        """Search the next encoder frames `(C, joiner_dim)`; `time_s` is that of the events.

        The search stops where a rule is due, and the rest of the frames comes behind the reset: so
        endpoints are exact to a frame, also in a chunk that is longer than a pause.
        """
        if self._preview is not None:
            self._preview, self._previewed = None, 0
            self._follow()
        events: list[Event] = []
        while len(encoder_out):
            count = len(encoder_out)
            if self._detector:
                segment = self._transcript.segment
                count = self._detector.horizon(segment, self._frames, at_most=count)
            self._search_on(encoder_out[:count])
            encoder_out = encoder_out[count:]
            while (rule := self._rule_now()) is not None:
                events += self._end_segment(rule, time_s)
        return events + self._partials(time_s)

    def skip(self, frames: int) -> None:
        """Pass over encoder frames of a silence that `idle_frames` has allowed to be skipped."""
        self._search.skip(frames)
        self._frames += frames

    def finish(self, time_s: float, reason: str = "the audio ended") -> list[Event]:
        """Complete the last word and, if there are endpoint rules, the last segment; `reason` is
        that of its endpoint."""
        self._complete_word()
        if self._rules and self._transcript.text:
            return self._end_segment("end", time_s, reason)
        return self._partials(time_s)

    def result(self, duration_s: float) -> Result:
        """Return the complete words of all segments, for `duration_s` seconds of audio."""
        return self._transcript.result(duration_s)

    def _search_on(self, encoder_out: Floats) -> None:
        self._search.accept(encoder_out)
        self._frames += len(encoder_out)
        self._follow()

    def _follow(self) -> None:
        """Take over what the search has found."""
        hypothesis = self._search.best
        self._new_words += self._transcript.update(hypothesis)
        self._search.forget(hypothesis.stable)

    def _rule_now(self) -> Rule | None:
        if self._detector is None:
            return None
        due = self._detector.due(self._transcript.segment)
        return due.rule if due and due.frame <= self._frames + self._previewed else None

    def _end_segment(self, rule: Rule, time_s: float, reason: str = "") -> list[Event]:
        if self._detector:
            self._detector.fired(rule, self._transcript.segment)
        # "length" fires while somebody speaks: search and last word go on. And where no token is
        # told yet, one may be on its way.
        if rule != "length" and self.tokens:
            self._complete_word()
            self._search.reset()
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
