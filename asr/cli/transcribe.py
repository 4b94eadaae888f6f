"""`asr transcribe`: recordings, or raw PCM from a pipe, to text."""

import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from typing import Annotated

import typer

from asr.audio import Blocks, read_blocks, read_pcm_blocks
from asr.cli.live import LiveLine
from asr.cli.options import EXIT_INTERRUPTED, ChunkMs, Model, Precision, Threads
from asr.errors import AsrError, AudioError
from asr.evaluation.meters import RtfMeter, peak_rss_mb
from asr.recognizer import Recognizer, load
from asr.results import Result
from asr.stream import Stream

STDIN = "-"

_BLOCK_S = 0.5
_REALTIME_BLOCK_S = 0.1  # as a microphone would give it

_EXIT_BAD_INPUT = 2


@dataclass(frozen=True)
class _Outcome:
    """What became of one source."""

    source: str
    result: Result  # of what could be read
    meter: RtfMeter  # of its stream
    error: AudioError | None = None  # why it ended before its end ...
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
    precision: Precision = "int8",
    chunk_ms: ChunkMs = None,
    threads: Threads = 1,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a file: text, words, times.")
    ] = False,
    realtime: Annotated[
        bool, typer.Option("--realtime", help="Feed the audio at the speed of speech.")
    ] = False,
    rate: Annotated[int, typer.Option("--rate", help="Sample rate of '-' in Hz.")] = 16_000,
) -> None:
    """Transcribe recordings.

    The text goes to stdout, a line a file; while it grows, a terminal shows it. Speed and memory go
    to stderr. A file that can't be read to its end is reported, what could be read of it is
    transcribed, the other files are too, and the exit code is 2.
    """
    recognizer = load(model, precision=precision, chunk_ms=chunk_ms, threads=threads)
    block_s = _REALTIME_BLOCK_S if realtime else _BLOCK_S
    outcomes = []
    for source in files:
        outcome = _transcribe(recognizer, source, _open(source, rate, block_s), realtime)
        outcomes.append(outcome)
        _print(outcome, as_json, named=len(files) > 1)
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
        return read_pcm_blocks(sys.stdin.buffer, rate, block_s)
    return read_blocks(source, block_s)


def _transcribe(recognizer: Recognizer, source: str, blocks: Blocks, realtime: bool) -> _Outcome:
    """Feed a stream until the source ends, breaks, or the user has heard enough."""
    stream = recognizer.stream()
    live = LiveLine(sys.stderr)
    error, interrupted = None, False
    try:
        _feed(stream, blocks, live, realtime)
    except AudioError as caught:
        error = caught
    except KeyboardInterrupt:
        interrupted = True
    try:
        with _interrupts_held():
            result = stream.finish().result
            live.clear()
    except KeyboardInterrupt:  # raised behind the block: the result is there
        interrupted = True
    return _Outcome(source, result, stream.meter, error, interrupted)


def _feed(stream: Stream, blocks: Blocks, live: LiveLine, realtime: bool) -> None:
    started = time.monotonic()
    for samples, rate in blocks:
        if realtime:
            due = started + stream.audio_s + len(samples) / rate
            time.sleep(max(0.0, due - time.monotonic()))
        with _interrupts_held():
            if stream.accept(samples, rate):
                live.show(stream.text)


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


def _print(outcome: _Outcome, as_json: bool, named: bool) -> None:
    if outcome.error is not None:
        typer.echo(f"error: {outcome.error}", err=True)
    result = outcome.result
    if as_json:
        line = {
            "file": outcome.source,
            **{item.name: getattr(result, item.name) for item in fields(result)},
            "compute_s": round(outcome.meter.compute_s, 6),
            "error": str(outcome.error) if outcome.error else None,
        }
        # Piece by piece: as one string, an hour of words would cost 15 MB.
        json.dump(line, sys.stdout, default=asdict)
        typer.echo()
    elif result.duration_s > 0:
        typer.echo(f"{outcome.source}: {result.text}" if named else result.text)


def _print_summary(outcomes: list[_Outcome]) -> None:
    total = RtfMeter()
    for outcome in outcomes:
        total.add(outcome.meter)
    rtf = f"RTF {total.rtf:.3f}, " if total.audio_s else ""
    typer.echo(
        f"{total.audio_s:.1f} s of audio in {total.compute_s:.2f} s "
        f"({rtf}peak memory {peak_rss_mb():.0f} MB)",
        err=True,
    )
