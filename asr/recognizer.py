"""The door of the package: a model that opens streams."""

import time
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from pathlib import Path

from asr.audio import read_blocks
from asr.budget import CHUNKS_MS, Budget, OperatingPoint, dearest_chunk
from asr.bundle import (
    Bundle,
    GraphFiles,
    builtin_bundle_path,
    open_bundle,
)
from asr.calibration import Admission, Admitted
from asr.decoding.beam import BeamSearch
from asr.decoding.endpoint import EndpointRules
from asr.decoding.fusion import Fusion
from asr.decoding.gate import SilenceGate
from asr.decoding.greedy import GreedySearch
from asr.decoding.hypothesis import Search
from asr.engines import Engine, longest_chunk_ms, open_engine
from asr.errors import AsrError
from asr.governor import Governor
from asr.memory import resident_mb, trim_heap
from asr.profile import profile_key
from asr.results import Result
from asr.self_test import LoadCost, verify_once
from asr.stream import Stream
from asr.supervisor import Supervisor
from asr.tuned import read_tuned

SETTLING_MS = 2560
"""Audio of an encoder call of the second pass. One of twice that hears no better."""


class Recognizer:
    """A model, ready to recognise. Streams share its weights and nothing else, so each may run in a
    thread of its own."""

    def __init__(
        self,
        bundle: Bundle,
        engine: Engine,
        graphs: GraphFiles,
        chunk_ms: int | None = None,
        threads: int = 1,
        search: str | None = None,
    ) -> None:
        """Take an open bundle, and the engine of one of its variants; `load()` does that.

        `threads` are those of the engine. Raises AsrError for `chunk_ms` and `search`; None is the
        bundle's own.
        """
        self.bundle = bundle
        self.search = bundle.search(search)
        self.graphs = graphs
        self._engine = engine
        self._pieces = bundle.read_tokens()
        self._fusion = None if self.search == "greedy" else Fusion.of_bundle(bundle, engine)
        self._streaming = bundle.streaming
        longest_ms = longest_chunk_ms(bundle, graphs.engine)
        if chunk_ms is not None:
            frames = _chunk_frames(bundle, chunk_ms, longest_ms)
            self._streaming = replace(self._streaming, chunk_frames=frames)
        self._settling = None  # the operating point of the second pass
        if self.search == "two-pass":
            self._settling = OperatingPoint(min(SETTLING_MS, longest_ms))
        best = OperatingPoint(self.chunk_ms)
        rungs = [OperatingPoint(rung_ms) for rung_ms in CHUNKS_MS if rung_ms <= longest_ms]
        self._admission = Admission(
            lambda: profile_key(bundle, graphs.precision, threads, graphs.engine, self.search),
            engine,
            self._open_search,
            self._open,
            sorted({best, *rungs}),
            self._settling,
        )

    @property
    def precision(self) -> str:
        """The arithmetic of its graphs, such as "int8"."""
        return self.graphs.precision

    @property
    def chunk_ms(self) -> int:
        """Audio per encoder call with which streams begin."""
        return self._streaming.chunk_frames * _frame_ms(self.bundle)

    def with_engine(self, wrap: Callable[[Engine], Engine]) -> "Recognizer":
        """Return the same model with another engine: what `wrap` makes of this one's, such as one
        that watches what it is asked. What budgets are calibrated with stays as it is."""
        other = copy(self)
        other._engine = wrap(self._engine)
        other._fusion = self._fusion and self._fusion.with_engine(other._engine)
        return other

    def stream(
        self,
        budget: Budget | None = None,
        *,
        endpoints: EndpointRules | None = None,
        gate: bool = False,
    ) -> Stream:
        """Open a stream for audio that arrives block by block.

        `endpoints` are rules that cut it into segments, each told by an `Endpoint` event; without
        them it is one segment. With `gate`, long silence is kept from the encoder: see
        `asr.decoding.gate.SilenceGate`.

        With a budget, it starts at the operating point nearest to `chunk_ms` that fits on this
        machine, and moves between that point and cheaper ones as it must, with a latency to hold
        also to quicker ones; the longest chunks are left out where there is no memory for them. The
        first such stream of a model on a machine takes a moment longer to open: it measures what
        the points cost.

        Raises BudgetError for a budget that can't be held; the message says what could.
        """
        if budget is None:
            return self._open(endpoints=endpoints, gate=gate)
        admitted = self._admit(budget)
        governor = Governor(
            budget, admitted.rtf, admitted.start, admitted.preferred, self._settling
        )
        supervisor = Supervisor(governor, self._engine.release_memory)
        return self._open(supervisor=supervisor, endpoints=endpoints, gate=gate)

    def calibrated_rtf(self, budget: Budget | None = None) -> dict[OperatingPoint, float]:
        """Return the RTF that each operating point has on this machine when it does nothing else,
        best first: those of any stream with this budget are among them. The first call may measure,
        as `stream`.

        Raises BudgetError as `stream` does.
        """
        self._admit(budget or Budget())
        return dict(self._admission.profile().rtf)

    def calibrated_growth_mb(self, budget: Budget | None = None) -> float:
        """Return by how many MB one stream makes this process grow at most, for the most part while
        it computes. The first call may measure, and raises BudgetError, as `stream`."""
        return self._admit(budget or Budget()).growth_mb

    def calibrate(self) -> dict[OperatingPoint, float]:
        """Measure what the operating points of a stream with a budget cost on this machine as it is
        now, keep it for the streams to come, and return it: the RTF of each, best first."""
        best = OperatingPoint(self.chunk_ms)
        return {point: rtf for point, rtf in self._admission.measure().rtf.items() if point >= best}

    def transcribe(self, path: str | Path) -> Result:
        """Recognise an audio file of any length, format and rate, in the memory of one chunk; with
        two passes, without the first, whose previews nobody would see.

        Raises AudioError as `asr.audio.read_blocks` does. To keep what could be read of a damaged
        file, feed a stream from `read_blocks` and finish it when the error comes.
        """
        stream = self._open(dearest_chunk(OperatingPoint(self.chunk_ms), self._settling))
        for samples, sample_rate in read_blocks(path):
            stream.accept(samples, sample_rate)
        return stream.finish().result

    def _admit(self, budget: Budget) -> Admitted:
        return self._admission.admit(budget, OperatingPoint(self.chunk_ms))

    def _open(
        self,
        point: OperatingPoint | None = None,
        *,
        supervisor: Supervisor | None = None,
        endpoints: EndpointRules | None = None,
        gate: bool = False,
    ) -> Stream:
        streaming, settling = self._streaming, self._settling
        if point is not None:
            streaming = replace(streaming, chunk_frames=self._frames(point))
        return Stream(
            self._engine,
            self._open_search(self._engine),
            pieces=self._pieces,
            features=self.bundle.features,
            streaming=streaming,
            supervisor=supervisor,
            endpoints=endpoints,
            gate=SilenceGate(streaming) if gate else None,
            settling_frames=self._frames(settling) if settling else None,
        )

    def _frames(self, point: OperatingPoint) -> int:
        return point.chunk_ms // _frame_ms(self.bundle)

    def _open_search(self, engine: Engine) -> Search:
        if self.search == "greedy":
            return GreedySearch(engine)
        return BeamSearch(engine, self._fusion)


def load(
    path: str | Path | None = None,
    *,
    precision: str | None = None,
    engine: str | None = None,
    chunk_ms: int | None = None,
    threads: int | None = None,
    search: str | None = None,
) -> Recognizer:
    """Load a model: the bundle at `path`, or the built-in English one.

    The files are checked against the bundle's checksums, and at the first load on this machine its
    output against the golden one, so a damaged model or a miscomputing machine is refused.

    Where neither precision, engine, chunks nor threads are given, it runs as `asr tune` found best
    on this machine, if it was asked; `asr info` says so.

    Args:
        path: directory or zip of a bundle.
        precision: "int8", or another that the bundle has. None: the first that it lists.
        engine: what runs the graphs, "onnx", "ort" or "executorch", where the bundle has them for
            several. None: what loads fastest.
        chunk_ms: audio per encoder call, a multiple of 40 ms up to 10 240 (executorch: 640). 160,
            320 and 640 are trained for: a larger chunk is more accurate and cheaper, and answers
            later. None: what the bundle states.
        threads: of the inference engine. None: one; small models gain nothing from a second.
        search: "two-pass": beam search with the bundle's language model, twice: at once in chunks
            of `chunk_ms`, whose words are a preview, and again in chunks of 2.56 s (executorch:
            0.64 s), which settle them; "beam": only once, with more errors; or "greedy", which
            makes many more in less time. None: two passes where there is a language model.

    Raises:
        BundleError: no bundle there, or it is damaged, or it fails the self-test.
        AsrError: an impossible `chunk_ms`, `threads` or `search`.
    """
    bundle = open_bundle(builtin_bundle_path() if path is None else path)
    named = precision, engine, chunk_ms, threads
    if named == (None, None, None, None) and (tuned := read_tuned(bundle)) is not None:
        precision, engine = tuned.precision, tuned.engine
        chunk_ms, threads = tuned.chunk_ms, tuned.threads
    threads = 1 if threads is None else threads
    graphs = bundle.graphs(precision, engine)
    started, before_mb = time.perf_counter(), resident_mb()
    opened = open_engine(bundle, graphs.precision, threads, graphs.engine)
    load_ms = 1000 * (time.perf_counter() - started)
    trim_heap()  # what reading the graphs took
    cost = LoadCost(load_ms, max(0.0, resident_mb() - before_mb))
    key = profile_key(bundle, graphs.precision, threads, graphs.engine)
    verify_once(bundle, graphs, opened, key, cost)
    return Recognizer(bundle, opened, graphs, chunk_ms, threads, search)


def _chunk_frames(bundle: Bundle, chunk_ms: int, longest_ms: int) -> int:
    frame_ms = _frame_ms(bundle)
    if not frame_ms <= chunk_ms <= longest_ms or chunk_ms % frame_ms:
        raise AsrError(
            f"a chunk of {chunk_ms} ms; expected a multiple of {frame_ms} ms up to {longest_ms}, "
            "which this engine takes, best 160, 320 or 640"
        )
    return chunk_ms // frame_ms


def _frame_ms(bundle: Bundle) -> int:
    return round(bundle.streaming.subsampling_factor * bundle.features.frame_shift_ms)
