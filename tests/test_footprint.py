"""What a start costs: memory at its peak, and time to load. Figures: data/RESULTS.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.samples import SAMPLES, read_samples

OWN_MB = 72.0
"""Of 60 to 65 that were measured in onnxruntime 1.31 on x86, 10^6 bytes: what the process has for
itself, 15 of it for the language model.

The pages of libraries come on top, in `asr transcribe`'s figure as well. They are the kernel's:
it maps 37 MB of them once their files were read again, and 45 to 51 MB right after an
installation, when they lie in its cache in larger pieces.
"""

LIBRARIES_MB = 65.0

LOAD_MS = 150.0

# Not in `asr transcribe`: an hour of audio or a thousand streams would have them, too.
_UNNEEDED = {"rich", "pydantic", "hashlib", "asyncio", "email", "numpy.random", "asr.serving"}

_LOAD = """
import time
import asr.engines.onnx, asr.recognizer

started = time.perf_counter()
asr.recognizer.load()
print(1000 * (time.perf_counter() - started))
"""

_STATUS = """
import sys
from asr.cli import main

sys.argv = ["asr", "transcribe", *sys.argv[1:]]
try:
    main()
finally:
    print(open("/proc/self/status").read())
"""

_IMPORTS = """
import sys
from asr.cli import main

sys.argv = ["asr", "transcribe", *sys.argv[1:]]
try:
    main()
finally:
    print(*sys.modules)
"""


@pytest.fixture(scope="module")
def minute(tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples = np.concatenate([read_samples(sample) for sample in SAMPLES])
    path = tmp_path_factory.mktemp("minute") / "minute.flac"
    soundfile.write(path, np.tile(samples, 4)[: 60 * 16_000], 16_000)
    return path


@pytest.mark.skipif(sys.platform != "linux", reason="VmHWM is Linux's")
@pytest.mark.parametrize("load", ["first", "later"])
def test_peak_memory(minute: Path, tmp_path_factory: pytest.TempPathFactory, load: str) -> None:
    """The first load on a machine runs the self-test as well; it has the same bound."""
    cache = tmp_path_factory.getbasetemp() / "footprint"
    assert cache.exists() == (load == "later")
    command = [sys.executable, "-c", _STATUS, str(minute)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(cache)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    kilobytes = dict(re.findall(r"^(VmHWM|RssFile):\s+(\d+) kB$", done.stdout, re.MULTILINE))
    peak_mb = int(kilobytes["VmHWM"]) * 1024 / 1e6
    libraries_mb = int(kilobytes["RssFile"]) * 1024 / 1e6
    (reported_mb,) = re.findall(r"peak memory (\d+) MB", done.stderr)
    assert float(reported_mb) == pytest.approx(peak_mb, abs=2)
    assert 20 < peak_mb - libraries_mb < OWN_MB
    assert libraries_mb < LIBRARIES_MB


def test_a_transcription_imports_nothing_that_it_does_not_need() -> None:
    command = [sys.executable, "-c", _IMPORTS, str(SAMPLES[0].path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    modules = set(done.stdout.splitlines()[-1].split())
    assert "asr.stream" in modules
    assert not modules & _UNNEEDED
    commands = {name for name in modules if name.startswith("asr.cli.")}
    assert not commands & {f"asr.cli.{name}" for name in ("bench", "eval", "serve", "mic", "info")}


@pytest.mark.slow
def test_loading_is_quick() -> None:
    """The quickest of several: what else runs on the machine can only add."""
    runs = [
        subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True, check=True)
        for _ in range(10)
    ]
    assert min(float(run.stdout) for run in runs) < LOAD_MS
