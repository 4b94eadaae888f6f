"""What is said to the recogniser stays on the machine, and nothing about its user is kept."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import SAMPLES

ROOT = Path(__file__).parents[1]
PACKAGES = ("asr", "training", "export")

_IMPORTS_ONNXRUNTIME = re.compile(r"^\s*(import|from) onnxruntime\b", re.MULTILINE)
_SPOKEN = set(SAMPLES[0].text.split()) | {SAMPLES[0].path.name}
_WATCH = """
import importlib, os, sys

def check():
    raise SystemExit(0 if os.environ.get("ORT_DISABLE_TELEMETRY") == "1" else "telemetry is on")

class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "onnxruntime":
            check()

sys.meta_path.insert(0, Watch())
importlib.import_module(sys.argv[1])
check()
"""


def users_of_onnxruntime() -> list[str]:
    paths = (path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
    found = (path for path in paths if _IMPORTS_ONNXRUNTIME.search(path.read_text()))
    return sorted(".".join(path.relative_to(ROOT).with_suffix("").parts) for path in found)


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python as for a user who has set nothing about telemetry."""
    env = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    command = [sys.executable, *arguments]
    return subprocess.run(
        command, cwd=ROOT, env={**env, **environment}, capture_output=True, text=True
    )


@pytest.mark.parametrize("module", users_of_onnxruntime())
def test_onnxruntime_is_imported_with_its_telemetry_off(module: str) -> None:
    """In whatever order a module imports: the variable counts at the first import alone."""
    done = run("-c", _WATCH, module)
    assert done.returncode == 0, done.stderr


def test_there_are_users_of_onnxruntime() -> None:
    assert {"asr.engines.onnx", "export.ort_format"} <= set(users_of_onnxruntime())


@pytest.mark.parametrize("options", [[], ["--budget-rtf", "1000"]], ids=["plain", "budget"])
def test_transcribing_leaves_no_file_but_the_profile(tmp_path: Path, options: list[str]) -> None:
    """onnxruntime's telemetry would leave an identity of the device and a data base of events."""
    home, cache = tmp_path / "home", tmp_path / "cache"
    home.mkdir()
    places = {"HOME": home, "XDG_CACHE_HOME": cache, "XDG_CONFIG_HOME": home, "TMPDIR": home}
    command = ["-m", "asr", "transcribe", str(SAMPLES[0].path), *options]
    done = run(*command, **{name: str(path) for name, path in places.items()})
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > 2
    left = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(left) == 1, left
    assert left == list(cache.glob("earshot/profile-*.json"))
    assert not _SPOKEN & set(left[0].read_text().split()), "it is of the machine, not of its user"
