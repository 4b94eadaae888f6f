"""A model for servers."""

from pathlib import Path

import pytest

import asr
from asr.recognizer import Recognizer


@pytest.fixture(scope="session")
def recognizer(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Recognizer:
    """A model that speaks gibberish, calibrated."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        model = asr.load(tiny_bundle)
        model.calibrated_rtf()
    return model
