"""Draws what `asr mic` shows: `make picture`, which is `python -m tests.asr.mic_picture OUT.svg`.

The samples are played to the built-in model as a microphone would; words and figures are what it
makes of them on this machine. The picture is taken in the midst of the last one.
"""

import io
import re
import sys
from pathlib import Path

import numpy as np
from rich.console import Console

import asr
from asr.cli.live_session import RULES
from asr.cli.live_view import FRAME_S, LiveView, Status
from asr.memory import resident_mb
from asr.microphone import Device, Microphone
from tests.asr.fake_microphone import ManualBackend
from tests.samples import SAMPLES, read_samples

RATE = 16_000
BUDGET = asr.Budget(rtf=0.3, memory_mb=150, latency_ms=600)
PAUSE_S, SHOWN = 1.5, 0.4  # between the samples; how much of the last one is heard
WIDTH, HEIGHT = 84, 24


def draw(path: Path) -> None:
    live = asr.LiveStream(asr.load().stream(BUDGET, endpoints=RULES))
    backend = ManualBackend()
    device = Device(0, "data/samples", "file", 1, RATE, is_default=True)
    microphone = Microphone(backend, device, live)
    microphone.start()
    console = Console(
        file=io.StringIO(), record=True, force_terminal=True, width=WIDTH, height=HEIGHT
    )
    source = f"{device.name}, {RATE / 1000:g} kHz"
    view = LiveView(console, source, has_keys=True, clock=lambda: microphone.heard_s)
    audio = _audio()
    for block in np.array_split(audio, len(audio) // round(FRAME_S * RATE)):
        backend.capture.give(block)
        for event in live.take():
            view.show(event)
        status = Status(
            state="listening",
            heard_s=microphone.heard_s,
            peak=microphone.take_peak(),
            queued_s=live.queued_s,
            point=live.stream.point,
            resident_mb=resident_mb(),
            report=live.report(),
        )
        panel = view.panel(status)
    console.print(panel)
    svg = console.export_svg(title="asr mic", unique_id="mic")
    # Without its links to fonts elsewhere: a picture needs no network.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    path.write_text("\n".join(line.rstrip() for line in svg.splitlines()) + "\n", encoding="utf-8")


def _audio() -> np.ndarray:
    """The samples with pauses, int16 at 16 kHz, up to the midst of the last one."""
    parts = []
    for sample in SAMPLES:
        samples = (read_samples(sample) * 32767).astype(np.int16)
        parts += [samples, np.zeros(int(PAUSE_S * RATE), np.int16)]
    last = parts[-2]
    return np.concatenate([*parts[:-2], last[: int(SHOWN * len(last))]])


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
