"""`asr transcribe`: recordings, or raw PCM from a pipe, to text."""

import json
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Annotated

import typer

from asr.audio import Blocks, read_blocks, read_pcm_blocks
from asr.cli.live import LiveLine
from asr.cli.options import (
    EXIT_INTERRUPTED,
    BudgetLatencyMs,
    BudgetMemoryMb,
    BudgetRtf,
    ChunkMs,
    Engine,
    Model,
    Precision,
    Search,
    Threads,
    make_budget,
)
from asr.decoding.endpoint import EndpointRules
from asr.errors import AsrError, AudioError, BudgetError, BudgetExceeded
from asr.evaluation.meters import RtfMeter, peak_rss_mb
from asr.features import SAMPLE_RATE
from asr.live import LiveStream
from asr.recognizer import load
from asr.results import Endpoint, Event, Moved, Overrun, Partial, Result
from asr.stream import Stream
from asr.supervisor import BudgetReport, describe

STDIN = "-"

_BLOCK_S = 0.5
_REALTIME_BLOCK_S = 0.1  # as a microphone would give it

_EXIT_BAD_INPUT = 2

SEGMENT_KEYS = ("text", "start_s", "end_s", "rule", "reason")
"""What JSON output says of a segment."""


@dataclass(frozen=True)
class _Outcome:
    """What became of one source."""

    source: str
    result: Result  # of what could be read
    meter: RtfMeter  # of its stream
    report: BudgetReport  # the same
    skipped_s: float  # silence that was kept from the encoder
    error: AsrError | None = None  # why it ended before its end ...
    interrupted: bool = False  # ... or that the user ended it


def transcribe_command(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="wav, flac, ogg/opus or mp3, any rate and channel count; "
            "'-' is raw PCM on stdin (16 bit little-endian mono).",
        ),
    ],
    model: Model = None,
    precision: Precision = None,
    engine: Engine = None,
    chunk_ms: ChunkMs = None,
    search: Search = None,
    threads: Threads = None,
    budget_rtf: BudgetRtf = None,
    budget_memory_mb: BudgetMemoryMb = None,
    budget_latency_ms: BudgetLatencyMs = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file: text, words, times.")
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Feed the audio at the speed of speech.")
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="HZ", help="Sample rate of '-'; default: 16000."),
    ] = None,
    endpoints: Annotated[
        bool,
        typer.Option(
            "--endpoints",
            help="A line a segment, with its times in s: one ends after 1.2 s of silence, or 20 s.",
        ),
    ] = False,
    skip_silence: Annotated[
        bool, typer.Option("--skip-silence", help="Keep long silence from the encoder.")
    ] = False,
) -> None:
    """Transcribe recordings.

    The text goes to stdout, a line a file or a line a segment; while it grows, a terminal shows it.
    Speed and memory go to stderr. A file that can't be read to its end is reported, what could be
    read of it is transcribed, the other files are too, and the exit code is 2. So it is with a file
    for which there is no memory any more within the budget.
    """
    if rate is not None and STDIN not in files:
        raise AsrError(
            f"--rate {rate} is for raw PCM on stdin, and no file is '-'; leave it out: a recording "
            "states its own rate"
        )
    budget = make_budget(budget_rtf, budget_memory_mb, budget_latency_ms)
    recognizer = load(
        model, precision=precision, engine=engine, chunk_ms=chunk_ms, threads=threads, search=search
    )
    block_s = _REALTIME_BLOCK_S if realtime else _BLOCK_S
    outcomes: list[_Outcome] = []
    for source in files:
        name = f"{source}: " if len(files) > 1 else ""
        segments = _Segments(name, shown=endpoints and not as_json)
        try:
            stream = recognizer.stream(
                budget, endpoints=EndpointRules() if endpoints else None, gate=skip_silence
            )
        except BudgetError as error:
            if not outcomes:  # then no file can be transcribed
                raise
            unused = recognizer.stream()
            outcome = _outcome(source, unused, unused.finish().result, error)
        else:
            blocks = _open(source, SAMPLE_RATE if rate is None else rate, block_s)
            outcome = _transcribe(stream, source, blocks, realtime, segments)
        outcomes.append(outcome)
        _print_error(outcome)
        if as_json:
            _print_json(
                outcome,
                segments=segments if endpoints else None,
                gated=skip_silence,
                budgeted=budget is not None,
            )
        elif outcome.result.duration_s > 0 and not endpoints:
            typer.echo(f"{name}{outcome.result.text}")
        if outcome.interrupted:
            break
    _print_summary(outcomes)
    if outcomes[-1].interrupted:
        raise typer.Exit(EXIT_INTERRUPTED)
    if any(outcome.error for outcome in outcomes):
        raise typer.Exit(_EXIT_BAD_INPUT)


def _open(source: str, rate: int, block_s: float) -> Blocks:
    if source == STDIN:
        if sys.stdin is None:
            raise AsrError("'-' is stdin, which is closed; pipe raw PCM into it")
        # Raw: a thread that waits for it must not hold its buffer's lock when the program ends.
        return read_pcm_blocks(getattr(sys.stdin.buffer, "raw", sys.stdin.buffer), rate, block_s)
    return read_blocks(source, block_s)


class _Segments(list[Endpoint]):
    """The segments of a source that have words; each is printed as soon as it ends."""

    def __init__(self, name: str, shown: bool) -> None:
        """`name` goes before each line."""
        super().__init__()
        self._name = name
        self._shown = shown

    def add(self, segment: Endpoint) -> None:
        if segment.text:
            self.append(segment)
            if self._shown:
                times = f"[{segment.start_s:.2f}-{segment.end_s:.2f}]"
                typer.echo(f"{self._name}{times} {segment.text}")


def _transcribe(
    stream: Stream, source: str, blocks: Blocks, realtime: bool, segments: _Segments
) -> _Outcome:
    """Feed a stream until the source ends, breaks, or the user has heard enough."""
    line = LiveLine(sys.stderr)
    error: AsrError | None = None
    interrupted = False
    try:
        try:
            if realtime:
                _listen(LiveStream(stream), blocks, line, segments)
            else:
                _feed(stream, blocks, line, segments)
        except AudioError as caught:
            error = caught
        except KeyboardInterrupt:
            interrupted = True
        try:
            with _interrupts_held():
                final = stream.finish()
                result = final.result
                line.clear()
                _show([*final.endpoints, *final.decisions], line, segments)
        except KeyboardInterrupt:  # raised behind the block: the result is there
            interrupted = True
    except BudgetExceeded as exceeded:
        error, result = exceeded, exceeded.result
        _show(exceeded.events, line, segments)
        line.clear()
    return _outcome(source, stream, result, error, interrupted)


def _outcome(
    source: str,
    stream: Stream,
    result: Result,
    error: AsrError | None,
    interrupted: bool = False,
) -> _Outcome:
    return _Outcome(
        source, result, stream.meter, stream.report(), stream.skipped_s, error, interrupted
    )


def _feed(stream: Stream, blocks: Blocks, line: LiveLine, segments: _Segments) -> None:
    for samples, rate in blocks:
        with _interrupts_held():
            _show(stream.accept(samples, rate), line, segments)


def _listen(live: LiveStream, blocks: Blocks, line: LiveLine, segments: _Segments) -> None:
    """Recognise what another thread plays."""
    threading.Thread(target=_play, args=(blocks, live), daemon=True).start()
    interrupted = False
    while True:
        try:
            if not live.wait():
                break
            with _interrupts_held():
                _show(live.take(), line, segments)
        except KeyboardInterrupt:  # what was heard by now is recognised still
            interrupted = True
            live.close()
    if interrupted:
        raise KeyboardInterrupt


def _play(blocks: Blocks, live: LiveStream) -> None:
    """Push blocks at the speed of speech. A recording can wait, so none of it is refused."""
    started, played_s = time.monotonic(), 0.0
    try:
        for samples, rate in blocks:
            played_s += len(samples) / rate
            time.sleep(max(0.0, started + played_s - time.monotonic()))
            if not live.push(samples, rate, wait=True):
                return
    except Exception as error:  # the consumer's to handle
        live.close(error)
    else:
        live.close()


def _show(events: Sequence[Event], line: LiveLine, segments: _Segments) -> None:
    for event in events:
        if isinstance(event, Partial):
            line.show(event.text)
        elif isinstance(event, Endpoint):
            line.clear()
            segments.add(event)
        elif isinstance(event, Moved | Overrun):
            line.clear()
            typer.echo(describe(event), err=True)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Put Ctrl-C off to the end of the block, so that it never leaves a stream half-way."""
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # whoever started this process wants no Ctrl-C, or holds it already
        return
    pending = []
    signal.signal(signal.SIGINT, lambda number, frame: pending.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if pending:
        raise KeyboardInterrupt


def _print_error(outcome: _Outcome) -> None:
    if outcome.error is not None:
        typer.echo(f"error: {outcome.error}", err=True)


def _print_json(
    outcome: _Outcome, *, segments: _Segments | None, gated: bool, budgeted: bool
) -> None:
    result = outcome.result
    line = {
        "file": outcome.source,
        **{item.name: getattr(result, item.name) for item in fields(result)},
        "compute_s": round(outcome.meter.compute_s, 6),
        "error": str(outcome.error) if outcome.error else None,
    }
    if segments is not None:
        line["segments"] = [
            {name: getattr(segment, name) for name in SEGMENT_KEYS} for segment in segments
        ]
    if gated:
        line["skipped_s"] = round(outcome.skipped_s, 3)
    if budgeted:
        line["budget"] = outcome.report.to_dict()
    # Piece by piece: as one string, an hour of words would cost 15 MB.
    json.dump(line, sys.stdout, default=asdict)
    typer.echo()


def _print_summary(outcomes: list[_Outcome]) -> None:
    total = RtfMeter()
    for outcome in outcomes:
        total.add(outcome.meter)
    rtf = f"RTF {total.rtf:.3f}, " if total.audio_s else ""
    skipped_s = sum(outcome.skipped_s for outcome in outcomes)
    skipped = f", {skipped_s:.1f} s of silence skipped" if skipped_s else ""
    typer.echo(
        f"{total.audio_s:.1f} s of audio in {total.compute_s:.2f} s "
        f"({rtf}peak memory {peak_rss_mb():.0f} MB{skipped})",
        err=True,
    )
