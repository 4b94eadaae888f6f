"""What the encoder is given next of one stream: chunk after chunk, with two passes each twice."""

from dataclasses import dataclass

import numpy as np

from asr.bundle import MAX_CHUNK_FRAMES, StreamingConfig
from asr.engines import EncoderState, Floats
from asr.errors import AsrError


@dataclass(frozen=True, slots=True)
class Window:
    """The features of one encoder call."""

    features: Floats  # (4C + 3, num_mel_bins)
    frames: int  # C, encoder frames that it gives
    is_preview: bool  # they are heard again, as a part of a longer chunk


class Windows:
    """Cuts the features of one stream into chunks, and keeps the encoder's states between them.

    In one pass, each chunk settles what is in it. In two passes a chunk is a preview, so that words
    are there at once: when the long chunk that it belongs to is full, or must settle before, that
    is encoded as one, from the state that the last one left. The previews' states are dropped then.
    A preview that would fill the long chunk is left out, so a stream whose chunks are as long as
    that has no previews, and the same long chunks.

    The chunks depend on the features alone, not on the blocks in which they arrive.
    """

    def __init__(
        self,
        streaming: StreamingConfig,
        num_mel_bins: int,
        initial_state: EncoderState,
        settling_frames: int | None = None,
    ) -> None:
        """`settling_frames` are the encoder frames of a long chunk; None: one pass."""
        self._streaming = streaming
        self._settling_frames = settling_frames or 0
        self.chunk_frames = streaming.chunk_frames  # a property, that checks it
        self._features = np.empty((0, num_mel_bins), dtype=np.float32)  # not settled
        self._state = self._preview_state = initial_state
        self._previewed = 0  # encoder frames, of those features
        self.settled_frames = 0
        """Encoder frames that settled or were skipped since the stream began."""
        self.all_previewed_frames = 0
        """And those that were previewed."""
        self._must_settle = self._ended = False
        self._next: Window | None = None

    @property
    def chunk_frames(self) -> int:
        """Encoder frames of the next chunk, C. It may change from chunk to chunk."""
        return self._chunk_frames

    @chunk_frames.setter
    def chunk_frames(self, value: int) -> None:
        if not 1 <= value <= MAX_CHUNK_FRAMES:
            raise AsrError(f"a chunk of {value} frames; expected 1 to {MAX_CHUNK_FRAMES}")
        self._chunk_frames = value

    @property
    def long_frames(self) -> int:
        """Encoder frames of a chunk that settles."""
        return max(self._chunk_frames, self._settling_frames)

    @property
    def whole_frames(self) -> int:
        """How many encoder frames are there which have not settled."""
        return self._streaming.encoder_frames(len(self._features))

    @property
    def heard_frames(self) -> int:
        """Encoder frames that were heard, in a preview at least, or skipped since the stream
        began."""
        return self.settled_frames + self._previewed

    @property
    def previewed_frames(self) -> int:
        """How many of them were heard in a preview."""
        return self._previewed

    @property
    def state(self) -> EncoderState:
        """The encoder's state before the next window."""
        is_preview = self._next is not None and self._next.is_preview
        return self._preview_state if is_preview else self._state

    def accept(self, features: Floats) -> None:
        """Take the next features `(T, num_mel_bins)`."""
        self._features = np.concatenate([self._features, features])

    def end(self) -> None:
        """Say that no more features follow."""
        self._ended = True

    def settle(self) -> None:
        """Have what was previewed settle now."""
        self._must_settle = self._previewed > 0

    @property
    def must_settle(self) -> bool:
        """Whether what was previewed settles before anything else is heard."""
        return self._must_settle

    @property
    def is_waiting(self) -> bool:
        """Whether a window was given, and is still to be advanced by."""
        return self._next is not None

    def next(self) -> Window | None:
        """Return the next window, None until its features are there; the same until `advance`."""
        if self._next is None:
            self._next = self._cut()
        return self._next

    def advance(self, state: EncoderState) -> Window:
        """Take the state behind the window that `next` has returned last; return that window."""
        window = self._next
        if window is None:
            raise AsrError("there is no window to advance by; next_window() gives one")
        self._next, self._preview_state = None, state
        if window.is_preview:
            self._previewed += window.frames
            self.all_previewed_frames += window.frames
        else:
            self._state = state
            self.skip(window.frames)
        return window

    def skip(self, frames: int) -> None:
        """Leave the features of the next encoder frames behind, with the state as it is."""
        self._features = self._features[self._streaming.subsampling_factor * frames :]
        self.settled_frames += frames
        self._previewed, self._must_settle = 0, False

    def _cut(self) -> Window | None:
        if self._must_settle:
            return self._window(0, self._previewed)
        count = min(self._chunk_frames, self.long_frames - self._previewed)
        if self.whole_frames - self._previewed < count:
            return self._window(0, self.whole_frames) if self._ended else None
        if self._previewed + count < self.long_frames:
            return self._window(self._previewed, count, is_preview=True)
        return self._window(0, self.long_frames)

    def _window(self, start: int, frames: int, *, is_preview: bool = False) -> Window | None:
        if not frames:
            return None
        features = self._features[self._streaming.subsampling_factor * start :]
        return Window(features[: self._streaming.feature_frames(frames)], frames, is_preview)
