"""One stream: audio in, events out."""

import numpy as np
from numpy.typing import ArrayLike

from asr.audio import StreamingResampler, check_samples, to_float
from asr.bundle import MAX_CHUNK_FRAMES, StreamingConfig
from asr.decoding.hypothesis import Search
from asr.engines import EncoderState, Engine, Floats
from asr.errors import AsrError, AudioError
from asr.evaluation.meters import RtfMeter
from asr.features import SAMPLE_RATE, FeatureConfig, FilterBank
from asr.results import Event, Final, Partial
from asr.transcript import Transcript

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

    `accept` computes at once. A server that decides when, or encodes windows of many streams
    together, takes the same steps apart; `accept` and `finish` are nothing more:

        stream.push(samples)                            # or end(), when no more audio follows
        while (window := stream.next_window()) is not None:
            encoder_out, state = engine.encode(window, stream.encoder_state)
            events = stream.advance(encoder_out, state)
        final = stream.finish()                         # after end() and the last window

    Everything that a stream holds has a fixed size but the transcript, and the audio that was
    pushed and not yet encoded (32 kB a second). It isn't safe to use from two threads at once.
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
    ) -> None:
        """Take an engine, a fresh search for this stream alone, and the parts of an open bundle.

        `pieces` is the token table. `streaming.chunk_frames` is the first chunk size. `meter`
        measures this stream; without one, it makes its own.
        """
        self.meter = meter or RtfMeter()
        self._engine = engine
        self._search = search
        self._streaming = streaming
        self.chunk_frames = streaming.chunk_frames
        self._fbank = FilterBank(features)
        self._resampler: StreamingResampler | None = None  # made when the first rate is known
        self._frames = np.empty((0, features.num_mel_bins), dtype=np.float32)
        self._encoder_state = engine.initial_state()
        frame_s = streaming.subsampling_factor * features.frame_shift_ms / 1000
        self._transcript = Transcript(pieces, frame_s)
        self._samples = 0
        self._ended = False
        self._finished = False

    @property
    def audio_s(self) -> float:
        """Seconds of audio given so far."""
        return self._samples / self._resampler.in_rate if self._resampler else 0.0

    @property
    def text(self) -> str:
        """The transcript so far."""
        return self._transcript.text

    @property
    def chunk_frames(self) -> int:
        """Encoder frames (40 ms) of the next chunk, C. It may change from chunk to chunk."""
        return self._chunk_frames

    @chunk_frames.setter
    def chunk_frames(self, value: int) -> None:
        if not 1 <= value <= MAX_CHUNK_FRAMES:
            raise AsrError(f"a chunk of {value} frames; expected 1 to {MAX_CHUNK_FRAMES}")
        self._chunk_frames = value

    @property
    def encoder_state(self) -> EncoderState:
        """The encoder's state behind the last window."""
        return self._encoder_state

    def accept(self, samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> list[Event]:
        """Take the next block of audio; return what became known by it.

        Args:
            samples: `(n,)` mono, float in [-1, 1] or int16, of any length.
            sample_rate: Hz; any, but the same for the whole stream.

        Raises:
            AudioError: NaN or Inf, several channels, another type, values far outside [-1, 1], or a
                change of rate. The block is refused as a whole and the stream can go on.
            AsrError: the stream has ended.
        """
        self._check_open()
        block = check_samples(samples)
        events: list[Event] = []
        for start in range(0, max(1, len(block)), _SLICE_SAMPLES):
            self.push(block[start : start + _SLICE_SAMPLES], sample_rate)
            events += self._run()
        return events

    def finish(self) -> Final:
        """End the stream, and recognise what it still holds, the last word included.

        Returns the last event, with the result: so a program that only handles events misses
        nothing, and another reads `stream.finish().text` or `.result`.

        Raises AsrError if the stream is finished already.
        """
        if self._finished:
            raise AsrError("this stream is finished; open another with recognizer.stream()")
        if not self._ended:
            self.end()
        last_words = [word for partial in self._run() for word in partial.new_words]
        self._finished = True
        result, new_words = self._transcript.close(self.audio_s)
        return Final(self.audio_s, (*last_words, *new_words), result)

    def push(self, samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> None:
        """Take a block of audio as `accept` does, but compute its features only."""
        self._check_open()
        block = check_samples(samples)
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
        """
        ready = self._streaming.encoder_frames(len(self._frames))
        if ready == 0 or (ready < self.chunk_frames and not self._ended):
            return None
        return self._frames[: self._streaming.feature_frames(min(ready, self.chunk_frames))]

    def advance(self, encoder_out: Floats, state: EncoderState) -> list[Partial]:
        """Take the encoder output `(C, joiner_dim)` of the next window and the state behind it, and
        search on; return what became known by it."""
        with self.meter.computing():
            self._encoder_state = state
            self._frames = self._frames[self._streaming.subsampling_factor * len(encoder_out) :]
            self._search.accept(encoder_out)
            transcript = self._transcript
            before = transcript.text, transcript.stable_text
            new_words = transcript.update(self._search.best)
            after = transcript.text, transcript.stable_text
        if not new_words and after == before:
            return []
        return [Partial(self.audio_s, *after, new_words)]

    def _run(self) -> list[Partial]:
        """Encode and search every window that is ready."""
        partials: list[Partial] = []
        while (window := self.next_window()) is not None:
            with self.meter.computing():
                encoder_out, state = self._engine.encode(window, self._encoder_state)
            partials += self.advance(encoder_out, state)
        return partials

    def _take_frames(self) -> None:
        self._frames = np.concatenate([self._frames, self._fbank.pop()])

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
