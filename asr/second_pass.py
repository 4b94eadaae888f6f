"""A second hearing of each segment, once it is over."""

from collections import deque
from collections.abc import Callable, Iterator

import numpy as np

from asr.bundle import StreamingConfig
from asr.decoding.hypothesis import Emission, Search
from asr.engines import Engine, Floats


class SecondPass:
    """Hears the segments of one stream again, from a fresh state and in chunks as long as they are.

    While somebody speaks, the encoder hears a chunk ahead at most. Of a segment that is over it can
    hear all at once, with the same weights, which were trained for both. Two passes: arXiv
    1908.10992.

    It keeps the features of the open segment, 32 kB a second, and has them twice while it hears.
    """

    def __init__(
        self,
        engine: Engine,
        open_search: Callable[[], Search],
        streaming: StreamingConfig,
        chunk_frames: int,
    ) -> None:
        """Take an engine and what opens a search with it; `chunk_frames` is its longest chunk."""
        self._engine, self._open_search = engine, open_search
        self._streaming = streaming
        self._chunk_frames = chunk_frames
        self._chunks: deque[Floats] = deque()  # of (4C, num_mel_bins)
        self._look_ahead: Floats = np.empty((0, 0), np.float32)  # behind the last one
        self._end = 0  # encoder frames of the stream up to the end of the last chunk

    @property
    def kept_frames(self) -> int:
        """How many encoder frames can be heard again: the last of the stream."""
        return sum(map(len, self._chunks)) // self._streaming.subsampling_factor

    def keep(self, window: Floats) -> None:
        """Take the features `(4C + 3, num_mel_bins)` of the chunk that was encoded."""
        frames = self._streaming.encoder_frames(len(window))
        own = self._streaming.subsampling_factor * frames
        # Copies: they are parts of a longer array.
        self._chunks.append(window[:own].copy())
        self._look_ahead = window[own:].copy()
        self._end += frames

    def skip(self, frames: int) -> None:
        """Take it that the next encoder frames, of a silence, were not encoded."""
        self._chunks.clear()
        self._end += frames

    def forget_before(self, frame: int) -> None:
        """Drop the chunks that lie before a frame of the stream."""
        begin = self._end - self.kept_frames
        while self._chunks:
            begin += len(self._chunks[0]) // self._streaming.subsampling_factor
            if begin > frame:
                break
            self._chunks.popleft()

    def hear(self, start: int, end: int) -> list[Emission]:
        """Return the tokens from the frame `start` of the stream up to `end`, of what is kept."""
        start = max(start, self._end - self.kept_frames)
        search, state = self._open_search(), self._engine.initial_state()
        for window in self._windows(start, end):
            encoder_out, state = self._engine.encode(window, state)
            search.accept(encoder_out)
        return [
            Emission(each.token, start + each.frame, each.log_prob)
            for each in search.best.emissions
        ]

    def _windows(self, start: int, end: int) -> Iterator[Floats]:
        """Yield the features of the frames from `start` up to `end`, `(4C + 3, num_mel_bins)`."""
        if start >= end:
            return
        factor = self._streaming.subsampling_factor
        features = np.concatenate([*self._chunks, self._look_ahead])
        features = features[factor * (start - self._end + self.kept_frames) :]
        for at in range(0, end - start, self._chunk_frames):
            count = min(self._chunk_frames, end - start - at)
            yield features[factor * at :][: self._streaming.feature_frames(count)]
