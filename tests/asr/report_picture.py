"""Photographs a report, for `make report`: `python -m tests.asr.report_picture IN.html OUT.png`.

The picture shows the page from its top to the end of its first chart.
"""

import base64
import sys
import tempfile
from pathlib import Path

import numpy as np
import soundfile

from tests.asr.serving.chromium import CHROMIUM, open_tab

WIDTH, MARGIN = 1000, 16
MAX_BYTES = 200_000  # it lies in the repository

END_OF_FIRST_CHART = "Math.ceil(document.querySelector('figure').getBoundingClientRect().bottom)"


def draw(page: Path, picture: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        nothing = Path(folder) / "microphone.wav"
        soundfile.write(nothing, np.zeros(16_000, np.int16), 16_000)
        with open_tab(nothing) as tab:
            light = {"name": "prefers-color-scheme", "value": "light"}
            tab.call("Emulation.setEmulatedMedia", features=[light])
            tab.call("Page.navigate", url=page.resolve().as_uri())
            tab.wait_for(
                "document.readyState === 'complete' && document.querySelector('figure') !== null"
            )
            tab.call(
                "Emulation.setDeviceMetricsOverride",
                width=WIDTH,
                height=1000,
                deviceScaleFactor=1,
                mobile=False,
            )
            tab.evaluate("new Promise((drawn) => requestAnimationFrame(() => drawn()))")
            height = tab.evaluate(END_OF_FIRST_CHART) + MARGIN
            clip = {"x": 0, "y": 0, "width": WIDTH, "height": height, "scale": 1}
            image = tab.call("Page.captureScreenshot", captureBeyondViewport=True, clip=clip)
            picture.write_bytes(base64.b64decode(image["data"]))
            assert tab.console == [], tab.console
    assert picture.stat().st_size <= MAX_BYTES, f"{picture} has {picture.stat().st_size} bytes"


if __name__ == "__main__":
    if CHROMIUM is None:
        sys.exit("the picture of the report needs chromium: apt install chromium")
    draw(Path(sys.argv[1]), Path(sys.argv[2]))
