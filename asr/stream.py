"""One stream: audio in, events out."""

import time

import numpy as np
from numpy.typing import ArrayLike

from asr.audio import Samples, StreamingResampler, check_samples, to_float
from asr.bundle import StreamingConfig
from asr.decoding.greedy import GreedySearch
from asr.engines import Engine
from asr.errors import AsrError, AudioError
from asr.features import FRAME_SHIFT, SAMPLE_RATE, FeatureConfig, FilterBank
from asr.results import Event, Partial, Result
from asr.transcript import Transcript

_SLICE_SAMPLES = 16_000
"""A block of any length goes through in slices, so that an hour in one array stays cheap."""


class Stream:
    """Recognises one stream of audio; `Recognizer.stream()` opens it.

    Everything it holds has a fixed size but the transcript. It isn't safe to use from two threads
    at once.

    A chunk of C encoder frames is computed as soon as its 4C + 3 feature frames are there. At
    `finish()` the audio is padded with silence, as every utterance was in training, and the whole
    encoder frames that remain go through as one shorter chunk. So the tokens are those of the
    offline computation with the same chunk mask: no word is lost at either end.
    """

    def __init__(
        self,
        engine: Engine,
        pieces: tuple[str, ...],
        features: FeatureConfig,
        streaming: StreamingConfig,
    ) -> None:
        """Take the parts of an open bundle; `streaming.chunk_frames` is this stream's chunk C."""
        self._engine = engine
        self._streaming = streaming
        self._fbank = FilterBank(features)
        self._resampler: StreamingResampler | None = None  # made when the first rate is known
        self._frames = np.empty((0, features.num_mel_bins), dtype=np.float32)
        self._encoder_state = engine.initial_state()
        self._search = GreedySearch(engine)
        frame_s = streaming.subsampling_factor * features.frame_shift_ms / 1000
        self._transcript = Transcript(pieces, frame_s)
        self._samples = 0
        self._finished = False
        self._compute_s = 0.0

    @property
    def audio_s(self) -> float:
        """Seconds of audio given so far."""
        return self._samples / self._resampler.in_rate if self._resampler else 0.0

    @property
    def compute_s(self) -> float:
        """Seconds of wall time spent inside this stream: resampling, features, model, search."""
        return self._compute_s

    @property
    def rtf(self) -> float:
        """The real-time factor: computing time over audio time, 0 before any audio."""
        return self._compute_s / self.audio_s if self._samples else 0.0

    @property
    def text(self) -> str:
        """The transcript so far."""
        return self._transcript.text

    def accept(self, samples: ArrayLike, sample_rate: int = SAMPLE_RATE) -> list[Event]:
        """Take the next block of audio; return what became known by it.

        Args:
            samples: `(n,)` mono, float in [-1, 1] or int16, of any length.
            sample_rate: Hz; any, but the same for the whole stream.

        Raises:
            AudioError: NaN or Inf, several channels, another type, values far outside [-1, 1], or a
                change of rate. The block is refused as a whole and the stream can go on.
            AsrError: the stream is finished.
        """
        self._check_open()
        block = check_samples(samples)
        started = time.perf_counter()
        resampler = self._resampler_for(sample_rate)
        events: list[Event] = []
        for start in range(0, len(block), _SLICE_SAMPLES):
            part = to_float(block[start : start + _SLICE_SAMPLES])
            self._samples += len(part)
            self._fbank.accept(resampler.accept(part))
            events += self._decode_chunks()
        self._compute_s += time.perf_counter() - started
        return events

    def finish(self) -> Result:
        """End the stream and return its whole transcript, the last word included.

        Raises AsrError if the stream is finished already.
        """
        self._check_open()
        started = time.perf_counter()
        self._finished = True
        if self._resampler is not None and self._samples:
            self._fbank.accept(self._resampler.finish())
            self._fbank.accept(self._silence())
            self._fbank.finish()
            self._decode_chunks()
            self._decode(self._streaming.encoder_frames(len(self._frames)))
        result = self._transcript.close(self.audio_s)
        self._compute_s += time.perf_counter() - started
        return result

    def _check_open(self) -> None:
        if self._finished:
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

    def _silence(self) -> Samples:
        return np.zeros(self._streaming.tail_padding_frames * FRAME_SHIFT, dtype=np.float32)

    def _decode_chunks(self) -> list[Event]:
        """Run every whole chunk whose features are ready."""
        self._frames = np.concatenate([self._frames, self._fbank.pop()])
        chunk = self._streaming.chunk_frames
        events: list[Event] = []
        while self._streaming.encoder_frames(len(self._frames)) >= chunk:
            events += self._decode(chunk)
        return events

    def _decode(self, encoder_frames: int) -> list[Event]:
        """Run the next `encoder_frames` encoder frames through the model and the search."""
        if encoder_frames == 0:
            return []
        window = self._frames[: self._streaming.feature_frames(encoder_frames)]
        encoder_out, self._encoder_state = self._engine.encode(window, self._encoder_state)
        self._frames = self._frames[self._streaming.subsampling_factor * encoder_frames :]
        emissions = self._search.accept(encoder_out)
        if not emissions:
            return []
        new_words = self._transcript.append(emissions)
        return [Partial(self.audio_s, self._transcript.text, new_words)]
