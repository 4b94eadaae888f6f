"""What a stream may cost, and the operating points between which it can choose.

*RTF* is compute wall time over audio time, over the last 10 s of audio. *Latency* of a chunk is
from the arrival of its first sample to its words: waiting until the chunk is full and the encoder's
look-ahead behind it is there, the queue, and the computation; p95 over the last 50 chunks. *Memory*
is the resident set of the process. When not all of them can be held: audio kept > memory > RTF >
latency.
"""

import math
from dataclasses import dataclass, fields

from asr.errors import AsrError

CHUNKS_MS = (160, 320, 640, 1280, 2560)
"""The rungs, best first. The first three are the chunks that models are trained for; then two and
four of the largest are coalesced in one encoder call. Each answers later than the one before it and
costs less per second of audio, for a call's fixed cost is shared: with the 4.9 M model on one core
0.015, 0.006, 0.004, 0.0029, 0.0025. Longer calls save nothing more, and cost memory.

Search is no rung: a stream that begins with beam search ends with it. Greedy search would save more
than half of the time at 320 ms; it is the caller's to choose, for the words of both differ. In two
passes the rungs are those of the previews, and the longest has none left: it costs half, and its
words are the same.

Threads are no rung: a second one saved a small model nothing at any of these sizes, and a session
for each thread count would hold the weights twice. Nor is memory a reason to move: all rungs are
within 4 MB, and a stream is opened without those for which there is no memory.
"""

LOOK_AHEAD_MS = 38
"""Audio behind a chunk that its last frame needs: 3 feature frames more, and 7.5 ms by which the
window of the last one reaches beyond its 10 ms."""


@dataclass(frozen=True, slots=True)
class Budget:
    """What a stream is held to; None is no limit."""

    rtf: float | None = None  # compute time per audio time
    memory_mb: float | None = None  # resident memory of the process, 10^6 bytes
    latency_ms: float | None = None  # from a chunk's first sample to its words

    def __post_init__(self) -> None:
        """Raises AsrError for a limit that is not a positive number."""
        for item in fields(self):
            limit = getattr(self, item.name)
            if limit is not None and not 0 < limit < math.inf:
                raise AsrError(f"a budget of {item.name}={limit}; expected a positive number")


@dataclass(frozen=True, slots=True, order=True)
class OperatingPoint:
    """One way to run a stream. The smaller, the better and the dearer."""

    chunk_ms: int  # audio per encoder call

    def __str__(self) -> str:
        return f"{self.chunk_ms} ms"

    @property
    def wait_ms(self) -> int:
        """Audio from the first sample of a chunk to the last one that it needs."""
        return self.chunk_ms + LOOK_AHEAD_MS


def dearest_chunk(point: OperatingPoint, settling: OperatingPoint | None) -> OperatingPoint:
    """Return the point of the longest encoder call at `point`; `settling` is that of the second
    pass, if there is one."""
    return max(point, settling) if settling else point
