"""The protocol of sherpa-onnx's streaming websocket server, whose clients work here unmodified.

The client sends binary messages, float32 little-endian mono samples, and at the end the text
`Done`. The server sends JSON messages about the open segment: `text`, `tokens`, `timestamps` (in s,
from `start_time`), `ys_probs` (log-probabilities), `segment` (its number), `start_time`,
`is_final`, and with the last one `is_eof`; then the text `Done!`.

Beside that, in the same messages:

    stable_text   the part of `text`, from its beginning, to which later ones only append
    timed_words   with `is_final`: text, start_s, end_s (since the stream began) and confidence
    endpoint      with `is_final`: the rule that ended the segment, and the reason in words
    status        about once a second: what the stream costs, and its budget
    notices       what was decided about its budget, in words

and a message of its own, `{"error": {"reason": ..., "message": ...}}`, before the server closes a
stream that it refuses or ends.

A client may ask in the address: `/?sample_rate=48000` for audio at another rate, and
`/?endpoints=length` for segments that end after 20 s only and change no word. The default,
`endpoints=pause`, ends them at pauses too.
"""

import json
import math
import re
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qsl

import numpy as np

from asr.audio import MIN_RATE, Samples, check_samples
from asr.decoding.endpoint import EndpointRules
from asr.errors import AsrError, AudioError
from asr.features import SAMPLE_RATE
from asr.memory import resident_mb
from asr.results import Endpoint, Event, Final, Moved, Overrun, Partial, Token
from asr.stream import Stream
from asr.supervisor import describe
from asr.transcript import WORD_START

DONE = "Done"
DONE_REPLY = "Done!"

MAX_RATE = 192_000
"""Hz: no microphone has more, and what waits in the queue of a stream is held at this rate."""

STATUS_EVERY_S = 1.0
_RTF_WINDOW_S = 10.0  # of wall time

_RULES = {
    "pause": EndpointRules(),
    "length": EndpointRules(silence_s=None, pause_s=None),
}
_SAMPLE = np.dtype("<f4")


class ProtocolError(AsrError):
    """A client said what it may not."""


@dataclass(frozen=True, slots=True)
class StreamRequest:
    """What a client asks for in the address."""

    sample_rate: int = SAMPLE_RATE  # of its audio, Hz
    endpoints: EndpointRules = _RULES["pause"]


@dataclass(frozen=True, slots=True)
class Message:
    """Something to tell a client."""

    text: str
    replaceable: bool = False  # a later message says it all again


def parse_request(query: str) -> StreamRequest:
    """Read the query of the address. The token in it is not looked at here.

    Raises ProtocolError for an unknown key or an impossible value.
    """
    values = dict(parse_qsl(query, keep_blank_values=True))
    values.pop("token", None)
    rate_text = values.pop("sample_rate", str(SAMPLE_RATE))
    rules_name = values.pop("endpoints", "pause")
    if values:
        raise ProtocolError(
            f"unknown in the address: {', '.join(values)}; expected sample_rate, endpoints or token"
        )
    rate = int(rate_text) if re.fullmatch("[0-9]{1,9}", rate_text) else 0
    if not MIN_RATE <= rate <= MAX_RATE:
        raise ProtocolError(
            f"sample_rate={rate_text[:20]}; expected a rate in Hz, {MIN_RATE} to {MAX_RATE}"
        )
    if rules_name not in _RULES:
        raise ProtocolError(f"endpoints={rules_name}; expected {' or '.join(_RULES)}")
    return StreamRequest(rate, _RULES[rules_name])


def parse_message(message: str | bytes) -> Samples | None:
    """Return the samples `(n,)` of a message, None if it is `Done`.

    Raises ProtocolError for anything else, and for samples that no stream takes.
    """
    if isinstance(message, str):
        if message == DONE:
            return None
        raise ProtocolError(
            f"the text {message[:20]!r}; expected binary messages of float32 samples, or {DONE!r}"
        )
    if len(message) % _SAMPLE.itemsize:
        raise ProtocolError(
            f"a message of {len(message)} bytes; expected float32 samples, 4 bytes each"
        )
    try:
        samples = check_samples(np.frombuffer(message, _SAMPLE))
    except AudioError as error:
        raise ProtocolError(f"bad samples: {error}") from error
    return samples.astype(np.float32, copy=False)


def error_message(reason: str, text: str) -> Message:
    """Return what tells a client why its stream is refused or ends."""
    return Message(json.dumps({"error": {"reason": reason, "message": text}}))


class MessageWriter:
    """Turns the events of one stream into messages."""

    def __init__(self, stream: Stream, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream
        self._clock = clock
        self._segment = 0
        self._start_s = 0.0  # of the open segment: where the words of the one before it end
        self._open = _empty_text()  # of the open segment, as it was last told
        self._notices: list[str] = []
        self._told_s = -math.inf  # when the status was last told
        self._costs: deque[tuple[float, float, float]] = deque()  # time, compute, audio

    def write(self, events: Sequence[Event]) -> list[Message]:
        """Return what the events of one step of the stream say. Of the open segment that is one
        message at most: where they hold several partials, the last one says it all."""
        messages: list[Message] = []
        partial = None  # of the open segment
        for event in events:
            if isinstance(event, Endpoint):
                messages += self._final(event)
                partial = None
            elif isinstance(event, Partial):
                partial = event
            elif isinstance(event, Moved | Overrun):
                self._notices.append(describe(event))
        if partial is not None:
            tokens = self._stream.segment_tokens
            self._open = self._text(partial.text, tokens, partial.stable_text)
        if partial is not None or self._notices or self._status_is_due():
            messages.append(self._message(self._open, is_final=False))
        return messages

    def finish(self, final: Final) -> list[Message]:
        """Return what the end of the stream says: the last message has `is_eof`."""
        self._notices += map(describe, final.decisions)
        *others, last = final.endpoints or (None,)
        messages = [message for endpoint in others for message in self._final(endpoint)]
        if last is not None and last.text:
            return [*messages, *self._final(last, is_eof=True)]
        return [*messages, self._message(_empty_text(), is_final=True, is_eof=True)]

    def cut(self, events: Sequence[Event] = ()) -> list[Message]:
        """Return what is left to say of a stream that broke, with the last events that it had: a
        segment that is open still becomes final as it was last told."""
        return [*self.write(events), self._message(self._open, is_final=True, is_eof=True)]

    def _final(self, endpoint: Endpoint, *, is_eof: bool = False) -> list[Message]:
        """Nothing for a segment without words: sherpa-onnx doesn't count those either."""
        if not endpoint.text:
            return []
        content = {
            **self._text(endpoint.text, endpoint.tokens, endpoint.text),
            "timed_words": [asdict(word) for word in endpoint.words],
            "endpoint": {"rule": endpoint.rule, "reason": endpoint.reason},
        }
        message = self._message(content, is_final=True, is_eof=is_eof)
        self._segment += 1
        self._start_s = endpoint.end_s
        self._open = _empty_text()
        return [message]

    def _text(self, text: str, tokens: Sequence[Token], stable_text: str) -> dict[str, Any]:
        return {
            "text": text,
            "tokens": [token.piece.replace(WORD_START, " ") for token in tokens],
            "timestamps": [round(token.time_s - self._start_s, 2) for token in tokens],
            "ys_probs": [round(math.log(max(token.confidence, 1e-9)), 4) for token in tokens],
            "stable_text": stable_text,
        }

    def _message(self, content: dict[str, Any], *, is_final: bool, is_eof: bool = False) -> Message:
        content = {
            **content,
            "segment": self._segment,
            "start_time": self._start_s,
            "is_final": is_final,
            "is_eof": is_eof,
        }
        if self._notices:
            content["notices"], self._notices = self._notices, []
        if is_eof or self._status_is_due():
            content["status"] = self._status()
        # A notice is told once only.
        return Message(json.dumps(content), replaceable=not is_final and "notices" not in content)

    def _status_is_due(self) -> bool:
        return self._clock() - self._told_s >= STATUS_EVERY_S

    def _status(self) -> dict[str, Any]:
        now_s, meter = self._clock(), self._stream.meter
        self._told_s = now_s
        self._costs.append((now_s, meter.compute_s, meter.audio_s))
        while now_s - self._costs[0][0] > _RTF_WINDOW_S:
            self._costs.popleft()
        _, compute_s, audio_s = self._costs[0] if len(self._costs) > 1 else (0.0, 0.0, 0.0)
        recent_s = meter.audio_s - audio_s
        report = self._stream.report()
        return {
            "audio_s": round(self._stream.audio_s, 3),
            "behind_s": round(self._stream.queued_s, 3),
            "rtf": round((meter.compute_s - compute_s) / recent_s, 4) if recent_s else 0.0,
            "latency_ms": round(report.latency_p95_ms, 1),
            "memory_mb": round(resident_mb(), 1),
            "chunk_ms": self._stream.point.chunk_ms,
            "budget": asdict(report.budget),
        }


def _empty_text() -> dict[str, Any]:
    return {"text": "", "tokens": [], "timestamps": [], "ys_probs": [], "stable_text": ""}
