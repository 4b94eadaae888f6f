"""`asr mic`: a microphone to text, live."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from asr.cli.live import LiveLine
from asr.cli.live_keys import Keys, can_read_keys
from asr.cli.live_session import RULES, Screen, Session
from asr.cli.options import (
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
from asr.cli.signals import stop_on_signals
from asr.cli.transcribe import SEGMENT_KEYS
from asr.evaluation.meters import peak_rss_mb
from asr.governor import OVERRUN_EVERY_S
from asr.live import LiveStream
from asr.microphone import Device, Microphone, describe_devices, pick_device
from asr.portaudio import PortAudio
from asr.recognizer import load
from asr.recording import Recording
from asr.results import Endpoint, Event, Moved, Overrun, Partial, Result
from asr.supervisor import BudgetReport, describe

if TYPE_CHECKING:
    from asr.cli.live_view import LiveView, Status

_EXIT_BROKEN = 2

_SEGMENT_KEYS = (*SEGMENT_KEYS, "words")


def mic_command(
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME|INDEX",
            help="A microphone: its index, or a part of its name; default: the system's.",
        ),
    ] = None,
    list_devices: Annotated[
        bool, typer.Option("--list-devices", help="Say which microphones there are, and exit.")
    ] = False,
    rate: Annotated[
        int | None,
        typer.Option("--rate", metavar="HZ", help="Sample rate; default: the device's own."),
    ] = None,
    save: Annotated[
        Path | None,
        typer.Option(
            "--save", metavar="DIR", help="Keep audio (flac) and transcript (txt, json) here."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON object a segment: text, words, times.")
    ] = False,
    model: Model = None,
    precision: Precision = None,
    engine: Engine = None,
    chunk_ms: ChunkMs = None,
    search: Search = None,
    threads: Threads = None,
    budget_rtf: BudgetRtf = None,
    budget_memory_mb: BudgetMemoryMb = None,
    budget_latency_ms: BudgetLatencyMs = None,
) -> None:
    """Transcribe a microphone while somebody speaks.

    A terminal shows the text as it grows, and what it costs; words in grey may still change. Space
    pauses, q or Ctrl-C ends: what was heard is recognised to its end. If stdout is no terminal, it
    gets a line a segment: one ends after 1.2 s of silence, or 20 s. If the device fails, what was
    heard before is kept, and the exit code is 2.
    """
    backend = PortAudio()
    devices = backend.devices()
    if list_devices:
        typer.echo("\n".join(describe_devices(devices)))
        return
    chosen = pick_device(devices, device)
    rate = chosen.sample_rate if rate is None else rate
    budget = make_budget(budget_rtf, budget_memory_mb, budget_latency_ms)
    recognizer = load(
        model, precision=precision, engine=engine, chunk_ms=chunk_ms, threads=threads, search=search
    )
    began = datetime.now().astimezone()
    with ExitStack() as stack:
        stopped = stack.enter_context(stop_on_signals())
        live = LiveStream(recognizer.stream(budget, endpoints=RULES))
        recording = None
        if save is not None:
            recording = stack.enter_context(Recording(save, rate, began))
        microphone = Microphone(backend, chosen, live, sample_rate=rate, recording=recording)
        stack.callback(microphone.stop)
        keys, screen = stack.enter_context(_terminal(microphone, as_json))
        session = Session(live, microphone, screen, keys, stopped, recording)
        result = session.run()
        if recording is not None:
            recording.close()
            _keep(recording, session, result, chosen, began)
    _conclude(session, recording)


class _Lines:
    """A line a segment on stdout, for programs and files; on a terminal under stderr, the text as
    it grows."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._line = LiveLine(sys.stderr)
        self._overrun_s: dict[str, float] = {}  # when one of each budget was last told

    def show(self, event: Event) -> None:
        if isinstance(event, Partial):
            self._line.show(event.text)
        elif isinstance(event, Endpoint) and event.text:
            self._line.clear()
            typer.echo(json.dumps(_segment(event), default=asdict) if self._as_json else event.text)
        elif isinstance(event, Moved) or (isinstance(event, Overrun) and self._is_due(event)):
            self.note(describe(event))

    def note(self, text: str) -> None:
        self._line.clear()
        typer.echo(text, err=True)

    def _is_due(self, overrun: Overrun) -> bool:
        """A full queue says so for each block; once in 10 s is enough, and the sum in the end."""
        since_s = overrun.time_s - self._overrun_s.get(overrun.budget, -math.inf)
        if since_s >= OVERRUN_EVERY_S:
            self._overrun_s[overrun.budget] = overrun.time_s
        return since_s >= OVERRUN_EVERY_S

    def draw(self, status: "Callable[[], Status]", *, now: bool = False) -> None:
        """Nothing: a line that is written stays."""

    def close(self) -> None:
        self._line.clear()


@contextmanager
def _terminal(microphone: Microphone, as_json: bool) -> Iterator[tuple[Keys | None, Screen]]:
    """Yield the keys, if there are any, and the screen."""
    device, rate = microphone.device, microphone.sample_rate
    view = None if as_json else _make_view(device, rate)
    if view is None:
        typer.echo(f"listening to {device.name} at {rate} Hz; Ctrl-C ends", err=True)
        yield None, _Lines(as_json)
        return
    reader: Any = Keys(sys.stdin) if can_read_keys(sys.stdin) else nullcontext()
    with reader as keys:
        try:
            yield keys, view
        finally:
            view.close()


def _make_view(device: Device, rate: int) -> "LiveView | None":
    """Return the view, None where stdout is no terminal that can show it."""
    if not sys.stdout.isatty():
        return None
    # Imported here, so that the other commands start fast.
    from rich.console import Console

    from asr.cli.live_view import LiveView

    console = Console(highlight=False)
    if console.is_dumb_terminal or not console.encoding.lower().startswith("utf"):
        return None
    source = f"{device.name}, {rate / 1000:g} kHz"
    return LiveView(console, source, has_keys=can_read_keys(sys.stdin))


def _segment(segment: Endpoint) -> dict[str, Any]:
    return {name: getattr(segment, name) for name in _SEGMENT_KEYS}


def _keep(
    recording: Recording, session: Session, result: Result, device: Device, began: datetime
) -> None:
    """Write the transcript beside the audio."""
    content = {
        "device": device.name,
        "sample_rate": recording.sample_rate,
        "began": began.isoformat(timespec="seconds"),
        **{item.name: getattr(result, item.name) for item in fields(result)},
        "segments": [_segment(segment) for segment in session.segments],
        "overflows_s": session.overflows,
        "compute_s": round(session.live.stream.meter.compute_s, 6),
        "error": str(session.error) if session.error else recording.error,
        "budget": session.live.report().to_dict(),
    }
    recording.write_transcript([segment.text for segment in session.segments], content)


def _conclude(session: Session, recording: Recording | None) -> None:
    """Say what it cost and what went wrong, and exit accordingly."""
    if session.output_error is not None:
        raise session.output_error
    report = session.live.report()
    meter = session.live.stream.meter
    typer.echo(
        f"{meter.audio_s:.1f} s of audio in {meter.compute_s:.2f} s (RTF {meter.rtf:.3f}, peak "
        f"memory {peak_rss_mb():.0f} MB)",
        err=True,
    )
    _print_losses(report, session.overflows)
    if recording is not None and recording.audio_path.exists():
        typer.echo(f"kept: {recording.audio_path}, with .txt and .json", err=True)
    errors = [str(session.error)] if session.error else []
    if recording is not None and recording.error:
        errors.append(recording.error)
    for error in errors:
        typer.echo(f"error: {error}", err=True)
    if errors:
        raise typer.Exit(_EXIT_BROKEN)


def _print_losses(report: BudgetReport, overflows: list[float]) -> None:
    if overflows:
        times = f"{len(overflows)} times" if len(overflows) > 1 else "once"
        typer.echo(f"lost: the driver's buffer was full {times}", err=True)
    if report.lost_audio_s:
        typer.echo(f"lost: {report.lost_audio_s:.1f} s of audio found the queue full", err=True)
