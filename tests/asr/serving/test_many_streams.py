"""Twenty real-time streams at once hold their RTF budgets, and no more memory than is stated."""

import asyncio
from pathlib import Path

import pytest

from asr.serving.capacity import STREAM_MB
from tests.asr.serving.many_streams import run
from tests.asr.serving.test_cli_serve import serve

WORKSPACE_MB = 20.0  # of the engine, while two streams compute: once, however many there are


@pytest.mark.slow
def test_twenty_streams_hold_their_budgets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with serve("--budget-rtf", 0.3) as (_, url):
        found = asyncio.run(run(url, streams=20, seconds=20))
    assert (found["taken"], found["refused"], found["overruns"]) == (20, 0, 0), found
    assert found["worst_rtf"] <= 0.3
    assert 20 * found["memory_mb_per_stream"] <= WORKSPACE_MB + 20 * STREAM_MB
