"""How long a word takes from the mouth to the screen, and how often it changes there."""

from collections.abc import Sequence
from dataclasses import dataclass

from asr.evaluation.accuracy.alignment import EditKind, align
from asr.evaluation.bench.timing import Played
from asr.evaluation.corpora.timed import TimedWord
from asr.results import Endpoint, Partial
from asr.text import normalize


@dataclass(frozen=True, slots=True)
class WordLatency:
    """Of a word that was recognised, from its true end."""

    emission_s: float  # to the end of the encoder frame that emitted its last token: the model's
    display_s: float  # until it stood in a partial for good: also waiting, and computing


def word_latencies(played: Played, words: Sequence[TimedWord]) -> list[WordLatency]:
    """Return the latencies of the words that were recognised where they were said.

    Emission latency is that of FastEmit (Yu et al., arXiv 2010.11148), there of the last word only.
    It may be negative: a word is often clear before it ends.
    """
    heard = played.final.result.words
    edits = align([word.text for word in words], [normalize(word.text) for word in heard]).edits
    shown_at_s = _shown_for_good(played)
    latencies: list[WordLatency] = []
    spoken = recognized = 0
    for edit in edits:
        if edit.kind is EditKind.HIT:
            end_s = words[spoken].end_s
            latencies.append(
                WordLatency(heard[recognized].end_s - end_s, shown_at_s[recognized] - end_s)
            )
        spoken += edit.kind is not EditKind.INSERTION
        recognized += edit.kind is not EditKind.DELETION
    return latencies


def first_partial_s(played: Played) -> float | None:
    """When the first text was shown, since the recording began; None if none was before its end."""
    for shown in played.shown:
        if isinstance(shown.event, Partial) and shown.event.text:
            return shown.at_s
    return None


def endpoint_latency_s(played: Played, words: Sequence[TimedWord]) -> float | None:
    """From the end of the last word to the endpoint behind it; None if none came."""
    for shown in played.shown:
        event = shown.event
        if isinstance(event, Endpoint) and event.words and shown.at_s > words[-1].end_s:
            return shown.at_s - words[-1].end_s
    return None


@dataclass(frozen=True, slots=True)
class Stability:
    """How the partials of some recordings changed. Add them up."""

    words: int = 0  # of the final texts
    revised: int = 0  # words of partials that the next one, or the final text, had otherwise
    shown: int = 0  # words of all partials
    wrong: int = 0  # of these, those that the final text has not there

    def __add__(self, other: "Stability") -> "Stability":
        return Stability(
            self.words + other.words,
            self.revised + other.revised,
            self.shown + other.shown,
            self.wrong + other.wrong,
        )

    @property
    def revisions_per_word(self) -> float | None:
        """Unstable partial words over final words (UPWR: Shangguan et al., arXiv 2006.01416)."""
        return self.revised / self.words if self.words else None

    @property
    def unstable_wer(self) -> float | None:
        """The share of the words in partials that differ, at their place, from the final text."""
        return self.wrong / self.shown if self.shown else None


def stability(played: Played) -> Stability:
    """Compare the partials of a stream without endpoints with each other and the final text.

    A word that grows ("go", "going") counts as revised: on a screen it is seen to change.
    """
    final = played.final.text.split()
    texts = [event.text.split() for event in _partials(played)]
    following = [*texts[1:], final]
    revised = sum(_differing(*pair) for pair in zip(texts, following, strict=False))
    return Stability(
        words=len(final),
        revised=revised,
        shown=sum(map(len, texts)),
        wrong=sum(_differing(text, final) for text in texts),
    )


def _shown_for_good(played: Played) -> list[float]:
    """Return for each word of the final text when it was shown as it stayed, with all before it."""
    final = played.final.text.split()
    times = [played.final_at_s] * len(final)
    stable = len(final)  # so many words were right in all partials seen so far, from the last back
    for shown in reversed(played.shown):
        if isinstance(shown.event, Partial):
            stable = min(stable, _common(shown.event.text.split(), final))
            times[:stable] = [shown.at_s] * stable
    return times


def _common(text: Sequence[str], final: Sequence[str]) -> int:
    count = 0
    for one, other in zip(text, final, strict=False):
        if one != other:
            break
        count += 1
    return count


def _differing(before: Sequence[str], after: Sequence[str]) -> int:
    """How many words of `before` are not at their place in `after`."""
    same = sum(one == other for one, other in zip(before, after, strict=False))
    return len(before) - same


def _partials(played: Played) -> list[Partial]:
    return [shown.event for shown in played.shown if isinstance(shown.event, Partial)]
