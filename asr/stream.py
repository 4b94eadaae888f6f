"""One stream: audio in, events out."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from asr.audio import StreamingResampler, check_samples, to_float
from asr.budget import OperatingPoint
from asr.bundle import StreamingConfig
from asr.decoding.endpoint import EndpointRules
from asr.decoding.gate import SilenceGate
from asr.decoding.hypothesis import Search
from asr.engines import EncoderState, Engine, Floats
from asr.errors import AsrError, AudioError, BudgetExceeded
from asr.evaluation.meters import RtfMeter
from asr.features import SAMPLE_RATE, FeatureConfig, FilterBank
from asr.governor import Measurement
from asr.results import Endpoint, Event, Final, Moved, Overrun, Partial, Token
from asr.segments import Segmenter
from asr.supervisor import BudgetReport, Supervisor, ungoverned
from asr.transcript import Transcript
from asr.windows import Windows

_SLICE_SAMPLES = 16_000
"""A block of any length goes through in slices, so that an hour in one array stays cheap."""


class Stream:
    """Recognises one stream of audio; `Recognizer.stream()` opens it.

        for samples in microphone:
            for event in stream.accept(samples, sample_rate=44_100): ...
        final = stream.finish()

    A chunk of C encoder frames is computed as soon as its 4C + 3 feature frames are there. At the
    end the audio is padded with silence, as every utterance was in training, and the whole encoder
    frames that remain go through as one shorter chunk. So the tokens are those of the offline
    computation with the same chunk mask: no word is lost at either end.

    In two passes a chunk is a preview: its text may change, until the longer chunk that it belongs
    to is full, or an endpoint is due, and all of that is heard again at once. What settles then is
    what a stream of such long chunks finds: see `asr.windows.Windows`.

    `accept` computes at once. A server that decides when, or encodes windows of many streams
    together, takes the same steps apart; `accept` and `finish` are nothing more:

        stream.push(samples)                            # or end(), when no more audio follows
        while (window := stream.next_window()) is not None:
            encoder_out, state = engine.encode(window, stream.encoder_state)
            events = stream.advance(encoder_out, state)
        final = stream.finish()                         # after end() and the last window

    Everything that a stream holds has a fixed size but the transcript, and the audio that was
    pushed and has not settled (32 kB a second). It isn't safe to use from two threads at once.
    """

    def __init__(
        self,
        engine: Engine,
        search: Search,
        *,
        pieces: tuple[str, ...],
        features: FeatureConfig,
        streaming: StreamingConfig,
        meter: RtfMeter | None = None,
        supervisor: Supervisor | None = None,
        endpoints: EndpointRules | None = None,
        gate: SilenceGate | None = None,
        settling_frames: int | None = None,
    ) -> None:
        """Take an engine, a fresh search for this stream alone, and the parts of an open bundle.

        `pieces` is the token table. `streaming.chunk_frames` is the first chunk size. `meter`
        measures this stream; without one, it makes its own. `supervisor` holds it to a budget, and
        from then on sets `chunk_frames`. `endpoints` cuts it into segments, and `gate` keeps long
        silence from the encoder; both are of this stream alone. `settling_frames`, with two passes,
        are the encoder frames of the long chunk of the second.
        """
        self.meter = meter or RtfMeter()
        self._engine = engine
        self._streaming = streaming
        self._fbank = FilterBank(features)
        self._resampler: StreamingResampler | None = None  # made when the first rate is known
        state = engine.initial_state()
        self._windows = Windows(streaming, features.num_mel_bins, state, settling_frames)
        self._frame_s = streaming.subsampling_factor * features.frame_shift_ms / 1000
        transcript = Transcript(pieces, self._frame_s)
        self._segmenter = Segmenter(search, transcript, self._frame_s, endpoints)
        self._gate = gate
        self._skipped_frames = 0
        self._samples = 0
        self._ended = False
        self._finished = False
        self._queued_s = 0.0
        self._supervisor = supervisor or ungoverned(self.point, engine.release_memory)
        if supervisor is not None:
            self._go_to(supervisor.point)
        # Wall and CPU seconds, and encoder frames by what became of them, up to the last chunk.
        self._judged = 0.0, 0.0, 0, 0, 0

    @property
    def audio_s(self) -> float:
        """Seconds of audio given so far."""
        return self._samples / self._resampler.in_rate if self._resampler else 0.0

    @property
    def text(self) -> str:
        """The transcript so far, of all segments."""
        return self._segmenter.text

    @property
    def segment_tokens(self) -> tuple[Token, ...]:
        """The tokens of the open segment: those behind the text of the last partial."""
        return self._segmenter.tokens

    @property
    def point(self) -> OperatingPoint:
        """The operating point of the next chunk."""
        return OperatingPoint(round(1000 * self.chunk_frames * self._frame_s))

    @property
    def skipped_s(self) -> float:
        """Seconds of silence that the gate has kept from the encoder."""
        return self._skipped_frames * self._frame_s

    @property
    def queued_s(self) -> float:
        """Seconds of audio that wait before this stream; whoever holds that queue says so here."""
        return self._queued_s

    @queued_s.setter
    def queued_s(self, value: float) -> None:
        self._queued_s = value
        self._supervisor.note_queue(value)

    @property
    def chunk_frames(self) -> int:
        """Encoder frames (40 ms) of the next chunk, C. It may change from chunk to chunk."""
        return self._windows.chunk_frames

    @chunk_frames.setter
    def chunk_frames(self, value: int) -> None:
        self._windows.chunk_frames = value

    @property
    def encoder_state(self) -> EncoderState:
        """The encoder's state before the next window."""
        return self._windows.state

    def accept(self, samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> list[Event]:
        """Take the next block of audio; return what became known by it.

        Args:
            samples: `(n,)` mono, float in [-1, 1] or int16, of any length.
            sample_rate: Hz; any, but the same for the whole stream.

        Raises:
            AudioError: NaN or Inf, several channels, another type, values far outside [-1, 1], or a
                change of rate. The block is refused as a whole and the stream can go on.
            BudgetExceeded: the process holds more memory than the budget of this stream, and none
                could be given back. The stream is over; the error carries what was recognised.
            AsrError: the stream has ended.
        """
        self._check_open()
        block = check_samples(samples)
        events: list[Event] = []
        try:
            for start in range(0, max(1, len(block)), _SLICE_SAMPLES):
                self._push(block[start : start + _SLICE_SAMPLES], sample_rate)
                self._run(events)
        except BudgetExceeded as exceeded:
            exceeded.put_before(events)
            raise
        return events

    def finish(self) -> Final:
        """End the stream, and recognise what it still holds, the last word included.

        Returns the last event, with the result: so a program that only handles events misses
        nothing, and another reads `stream.finish().text` or `.result`.

        Raises AsrError if the stream is finished already, BudgetExceeded as `accept` does.
        """
        if self._finished:
            raise AsrError("this stream is finished; open another with recognizer.stream()")
        if not self._ended:
            self.end()
        events: list[Event] = []
        try:
            self._run(events)
        except BudgetExceeded as exceeded:
            exceeded.put_before(events)
            raise
        with self.meter.computing():
            events += self._segmenter.finish(self.audio_s)
        self._finished = True
        self._supervisor.note_rest(*self._measure())
        partials = (event for event in events if isinstance(event, Partial))
        return Final(
            self.audio_s,
            tuple(word for partial in partials for word in partial.new_words),
            self._segmenter.result(self.audio_s),
            tuple(event for event in events if isinstance(event, Endpoint)),
            tuple(event for event in events if isinstance(event, Moved | Overrun)),
        )

    def push(self, samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> None:
        """Take a block of audio as `accept` does, but compute its features only."""
        self._check_open()
        self._push(check_samples(samples), sample_rate)

    def _push(self, block: NDArray[np.generic], sample_rate: int) -> None:
        resampler = self._resampler_for(sample_rate)
        with self.meter.computing():
            self._fbank.accept(resampler.accept(to_float(block)))
            self._take_frames()
        self._samples += len(block)
        self.meter.add_audio(len(block) / sample_rate)

    def end(self) -> None:
        """Say that no more audio follows: the last windows become ready.

        Raises AsrError if that was said already.
        """
        self._check_open()
        self._ended = True
        self._windows.end()
        if self._resampler is None or not self._samples:
            return
        with self.meter.computing():
            self._fbank.accept(self._resampler.finish())
            self._fbank.accept(np.zeros(self._streaming.tail_samples, dtype=np.float32))
            self._fbank.finish()
            self._take_frames()

    def next_window(self) -> Floats | None:
        """Return the features `(4C + 3, num_mel_bins)` of the next chunk, None until all are there.

        It is the same window until `advance` is called. The last one of an ended stream is shorter.
        There is none while the gate is closed.
        """
        if self._is_gated():
            return None
        window = self._windows.next()
        return window.features if window else None

    def advance(self, encoder_out: Floats, state: EncoderState) -> list[Event]:
        """Take the encoder output `(C, joiner_dim)` of the next window and the state behind it, and
        search on; return what became known by it. Raises BudgetExceeded as `accept` does, and
        AsrError if `next_window` has given none."""
        with self.meter.computing():
            heard = self._windows.heard_frames
            window = self._windows.advance(state)
            if self._gate:
                self._gate.pass_on(self._windows.heard_frames - heard)
            if window.is_preview:
                events = self._segmenter.preview(encoder_out, self.audio_s)
                if self._segmenter.endpoint_is_due:
                    self._windows.settle()
            else:
                events = self._segmenter.accept(encoder_out, self.audio_s)
            self._skip_silence()
        if not self._windows.must_settle:  # else it is one chunk with what settles
            self._supervise(events)
        return events

    def refuse(self, refused_s: float, limit_s: float) -> Overrun:
        """Note that the queue before this stream, `limit_s` seconds long, had no room for
        `refused_s` seconds of audio; return the event that says so."""
        return self._supervisor.refuse(self.audio_s, refused_s, self.queued_s, limit_s)

    def note_lost(self, lost_s: float) -> None:
        """Note that audio which waited before this stream will not be recognised: it has ended."""
        self._supervisor.note_lost(lost_s)

    def report(self) -> BudgetReport:
        """Return what the stream cost so far, what it was held to, and every decision."""
        return self._supervisor.report()

    def _run(self, events: list[Event]) -> None:
        """Encode and search every window that is ready; add what became known to `events`."""
        if self._is_gated():  # others may take memory while nothing is computed here
            found = self._supervisor.check_memory(self.audio_s, self.queued_s)
            self._end_if_exhausted(found)
            events += found
        while (window := self.next_window()) is not None:
            with self.meter.computing():
                encoder_out, state = self._engine.encode(window, self.encoder_state)
            events += self.advance(encoder_out, state)

    def _supervise(self, events: list[Event]) -> None:
        """Have the chunk that was just searched judged, do what is decided, and add it to the
        `events` of the chunk."""
        decisions = self._supervisor.observe(*self._measure())
        events += decisions
        if any(isinstance(event, Moved) for event in decisions):
            self._go_to(self._supervisor.point)
        self._end_if_exhausted(events)

    def _end_if_exhausted(self, events: list[Event]) -> None:
        """Where memory has passed its budget, end with an error that carries `events`."""
        if self._supervisor.exhausted is not None:
            self._ended = self._finished = True
            events += self._segmenter.finish(self.audio_s, reason="the memory passed its budget")
            result = self._segmenter.result(self.audio_s)
            raise BudgetExceeded(self._supervisor.exhausted, result, events)

    def _measure(self) -> tuple[Measurement, float]:
        """Return what was measured since this was last called, and its CPU time: a chunk, and
        silence that was skipped."""
        windows = self._windows
        frames = windows.heard_frames, windows.all_previewed_frames, windows.settled_frames
        spent = self.meter.compute_s, self.meter.cpu_s, *frames
        wall_s, cpu_s, heard, previewed, settled = np.subtract(spent, self._judged).tolist()
        self._judged = spent
        chunk = Measurement(
            time_s=self.audio_s,
            point=self.point,
            audio_s=heard * self._frame_s,
            wall_s=wall_s,
            queued_s=self.queued_s,
            previewed_s=previewed * self._frame_s,
            settled_s=settled * self._frame_s,
        )
        return chunk, cpu_s

    def _go_to(self, point: OperatingPoint) -> None:
        self.chunk_frames = round(point.chunk_ms / 1000 / self._frame_s)

    def _is_gated(self) -> bool:
        if self._gate is None or self._windows.previewed_frames:  # those settle first
            return False
        return self._gate.is_closed(self._segmenter.idle_frames)

    def _take_frames(self) -> None:
        frames = self._fbank.pop()
        self._windows.accept(frames)
        if self._gate:
            self._gate.accept(frames)
            self._skip_silence()

    def _skip_silence(self) -> None:
        """Leave behind what the gate allows to be skipped.

        Whole chunks, so that the chunks of what follows begin where they would have begun: in one
        pass it is then encoded as in a stream without a gate, and not only nearly so. In two passes
        what was previewed settles first.
        """
        if self._gate is None or self._windows.is_waiting:
            return
        silent = self._segmenter.idle_frames
        if self._windows.previewed_frames:
            if self._gate.is_long(silent):
                self._windows.settle()
            return
        frames = self._gate.skippable(silent, self._ended)
        if self._ended:
            frames = min(frames, self._windows.whole_frames)
        else:
            frames -= frames % self.chunk_frames
        self._windows.skip(frames)
        self._gate.pass_on(frames)
        self._segmenter.skip(frames)
        self._skipped_frames += frames

    def _check_open(self) -> None:
        if self._ended:
            raise AsrError("this stream is finished; open another with recognizer.stream()")

    def _resampler_for(self, rate: int) -> StreamingResampler:
        if self._resampler is None:
            self._resampler = StreamingResampler(rate)
        if rate != self._resampler.in_rate:
            raise AudioError(
                f"a block at {rate} Hz in a stream that began at {self._resampler.in_rate} Hz; "
                "open another stream for another rate"
            )
        return self._resampler
