"""Fixtures of the runtime's tests."""

from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from tests.asr.signals import noise
from tests.asr.tiny_bundle import build_tiny_bundle


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a whole bundle that speaks gibberish; tests must not alter it."""
    path = tmp_path_factory.mktemp("tiny")
    build_tiny_bundle(path)
    return path


@pytest.fixture
def write_speech(tmp_path: Path) -> Callable[..., Path]:
    """Write a recording of `seconds` of noise at `rate` Hz and return its path."""

    def write(name: str, seconds: float = 3.0, rate: int = 16_000, **options: str) -> Path:
        soundfile.write(tmp_path / name, noise(seconds, rate), rate, **options)
        return tmp_path / name

    return write
