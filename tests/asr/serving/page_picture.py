"""Draws the web page: `make picture`, which is `python -m tests.asr.serving.page_picture OUT.png`.

A headless Chromium opens the page of a server with the built-in model, and gives it a sample as a
user would drop it there; words and figures are what comes of it on this machine.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

import asr
from asr.serving.settings import Settings
from tests.asr.serving.chromium import CHROMIUM, open_tab
from tests.asr.serving.live_server import serving
from tests.samples import SAMPLES

BUDGET = asr.Budget(rtf=0.1, memory_mb=150, latency_ms=600)
SHOWN = max(SAMPLES, key=lambda sample: len(sample.text))
WIDTH, HEIGHT = 1000, 960  # the whole page, without a scroll bar
MAX_BYTES = 120_000  # it lies in the repository


def draw(path: Path) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        serving(asr.load(), Settings(port=0, budget=BUDGET)) as live,
    ):
        nothing = Path(folder) / "microphone.wav"
        soundfile.write(nothing, np.zeros(16_000, np.int16), 16_000)
        with open_tab(nothing) as tab:
            tab.call(
                "Emulation.setDeviceMetricsOverride",
                width=WIDTH,
                height=HEIGHT,
                deviceScaleFactor=1,
                mobile=False,
            )
            light = {"name": "prefers-color-scheme", "value": "light"}
            still = {"name": "prefers-reduced-motion", "value": "reduce"}
            tab.call("Emulation.setEmulatedMedia", features=[light, still])
            tab.open(live.url)
            tab.choose_file("#file", SHOWN.path)
            tab.wait_for("document.getElementById('status').textContent === 'Done.'")
            tab.evaluate("new Promise((drawn) => requestAnimationFrame(() => drawn()))")
            tab.screenshot(path)
            assert tab.console == [], tab.console
    assert path.stat().st_size <= MAX_BYTES, f"{path} has {path.stat().st_size} bytes"


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("the picture of the page needs chromium: apt install chromium")
    draw(Path(sys.argv[1]))
