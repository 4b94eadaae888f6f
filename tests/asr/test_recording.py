"""A session that is kept: whole audio under its name, or what could be written; no half files."""

import json
import resource
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.audio import read_blocks
from asr.errors import AudioError
from asr.recording import Recording
from tests.asr.signals import noise

BEGAN = datetime(2026, 1, 2, 3, 4, 5)
SPEECH = (noise(2.0) * 32767).astype(np.int16)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@given(cuts=st.lists(st.integers(0, len(SPEECH)), max_size=8), rate=st.sampled_from([8000, 44_100]))
@settings(max_examples=8, deadline=None)
def test_what_was_pushed_is_in_the_file(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], rate: int
) -> None:
    folder = tmp_path_factory.mktemp("kept")
    with Recording(folder, rate, BEGAN) as recording:
        buffer = np.empty_like(SPEECH)
        for block in np.split(SPEECH, sorted(cuts)):
            buffer[: len(block)] = block
            recording.push(buffer[: len(block)])  # which a driver uses again
            buffer.fill(-1)
    samples, found_rate = soundfile.read(recording.audio_path, dtype="int16")
    assert found_rate == rate
    assert np.array_equal(samples, SPEECH)
    assert recording.error is None


def test_it_has_its_name_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    recording = Recording(folder, 16_000, BEGAN)
    recording.push(SPEECH)
    assert names(folder) == ["2026-01-02_03-04-05.flac.part"]
    recording.close()
    recording.close()
    assert names(folder) == ["2026-01-02_03-04-05.flac"]


def test_what_a_killed_program_leaves_can_be_read(tmp_path: Path) -> None:
    recording = Recording(tmp_path, 16_000, BEGAN)
    recording.push(np.tile(SPEECH, 4))
    (part,) = tmp_path.iterdir()
    deadline = time.monotonic() + 10
    while part.stat().st_size < 100_000 and time.monotonic() < deadline:
        time.sleep(0.01)
    left = tmp_path / "left.flac"
    left.write_bytes(part.read_bytes())
    recording.close()
    samples = np.concatenate([samples for samples, _ in _readable(left)])
    assert len(samples) > len(SPEECH)
    expected = np.tile(SPEECH, 4)[: len(samples)]
    assert np.array_equal((samples * 32768).astype(np.int16), expected)


def test_nothing_is_kept_of_nothing(tmp_path: Path) -> None:
    with Recording(tmp_path, 16_000, BEGAN) as recording:
        pass
    recording.write_transcript([], {})
    assert names(tmp_path) == []


def test_a_recording_never_takes_the_place_of_another(tmp_path: Path) -> None:
    kept = []
    for number in range(2):
        with (
            Recording(tmp_path, 16_000, BEGAN) as first,
            Recording(tmp_path, 16_000, BEGAN) as second,
        ):
            for recording in (first, second):
                recording.push(SPEECH[: 100 + len(kept) + number])
        kept += [first.audio_path, second.audio_path]
    assert names(tmp_path) == [
        "2026-01-02_03-04-05.flac",
        *(f"2026-01-02_03-04-05_{number}.flac" for number in (2, 3, 4)),
    ]
    assert len(set(kept)) == 4


def test_the_transcript_lies_beside_the_audio(tmp_path: Path) -> None:
    with Recording(tmp_path, 16_000, BEGAN) as recording:
        recording.push(SPEECH)
    recording.write_transcript(["one two", "über"], {"text": "one two über"})
    assert names(tmp_path) == [f"2026-01-02_03-04-05.{kind}" for kind in ("flac", "json", "txt")]
    stem = tmp_path / "2026-01-02_03-04-05"
    assert stem.with_suffix(".txt").read_text(encoding="utf-8") == "one two\nüber\n"
    content = json.loads(stem.with_suffix(".json").read_text(encoding="utf-8"))
    assert content == {"audio": "2026-01-02_03-04-05.flac", "text": "one two über"}


def test_a_transcript_that_fails_leaves_no_half_file(tmp_path: Path) -> None:
    with Recording(tmp_path, 16_000, BEGAN) as recording:
        recording.push(SPEECH)
    with pytest.raises(TypeError):
        recording.write_transcript(["one"], {"text": object()})
    assert names(tmp_path) == ["2026-01-02_03-04-05.flac", "2026-01-02_03-04-05.txt"]


def test_a_slow_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`push` comes back at once, what had room is written, and the error says what happened."""
    go_on = threading.Event()
    write = soundfile.SoundFile.write

    def slow_write(file: soundfile.SoundFile, samples: np.ndarray) -> None:
        go_on.wait(10)
        write(file, samples)

    monkeypatch.setattr(soundfile.SoundFile, "write", slow_write)
    monkeypatch.setattr("asr.recording.QUEUE_BLOCKS", 3)
    recording = Recording(tmp_path, 16_000, BEGAN)
    blocks = np.array_split(SPEECH, 10)
    for block in blocks:
        recording.push(block)
    assert recording.error is not None
    assert "the disk is too slow; the recording ends early" in recording.error
    go_on.set()
    recording.close()
    samples, _ = soundfile.read(recording.audio_path, dtype="int16")
    assert len(blocks[0]) * 3 <= len(samples) <= len(blocks[0]) * 4
    assert np.array_equal(samples, SPEECH[: len(samples)])


def test_a_full_disk_keeps_what_was_written(tmp_path: Path) -> None:
    """A limit on the size of files has the same effect as a disk without space."""
    recording = Recording(tmp_path, 16_000, BEGAN)
    before, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, most))
    try:
        for block in np.array_split(SPEECH, 10):
            recording.push(block)
        recording.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before, most))
    assert recording.error is not None
    assert recording.error.endswith("; the recording ends early")
    samples = np.concatenate([samples for samples, _ in _readable(recording.audio_path)])
    assert len(samples) > 16_000
    assert np.array_equal((samples * 32768).astype(np.int16), SPEECH[: len(samples)])


def _readable(path: Path) -> Iterator[tuple[np.ndarray, int]]:
    with suppress(AudioError):  # it ends in half a frame
        yield from read_blocks(path)


def test_a_place_where_nothing_can_be_kept(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(AudioError, match=r"file: no recording can be kept there: .*; name another"):
        Recording(tmp_path / "file", 16_000, BEGAN)


def test_a_rate_that_flac_has_not(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="FLAC holds no audio at 900000 Hz"):
        Recording(tmp_path, 900_000, BEGAN)
    assert names(tmp_path) == []
