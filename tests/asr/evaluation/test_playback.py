"""Recordings are played whole, in time and in a loop, whatever the length of the blocks; what can't
be played as one stream is refused before."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.errors import AsrError, AudioError, ManifestError
from asr.evaluation.playback import BLOCK_S, GAP_S, Playback, Recording, read_recordings
from asr.features import Samples

RATE = 1000
ONE, TWO = Recording(Path("one"), "a b"), Recording(Path("two"))

Write = Callable[..., Path]


class Room:
    """A fake clock, fake files of fake samples, and a microphone that keeps what it hears."""

    def __init__(self, lengths: dict[str, int]) -> None:
        """`lengths` are in samples; those of a file count up from 1."""
        self.files = {
            name: np.arange(1, length + 1, dtype=np.float32) for name, length in lengths.items()
        }
        self.now_s = 7.0
        self.heard: list[tuple[float, Samples]] = []
        self.refuses = False
        self.stops_at_s = float("inf")
        self.sleeps_longer_s = 0.0

    def read(self, path: Path, block_s: float) -> Iterator[tuple[Samples, int]]:
        samples, step = self.files[path.name], round(block_s * RATE)
        for start in range(0, len(samples), step):
            yield samples[start : start + step], RATE

    def push(self, samples: Samples, rate: int) -> bool:
        assert rate == RATE
        self.heard.append((self.now_s - 7.0, samples))
        return not self.refuses

    def sleep(self, seconds: float) -> bool:
        self.now_s += seconds + self.sleeps_longer_s
        return self.now_s - 7.0 >= self.stops_at_s

    def playback(self, recordings: list[Recording], seconds: float) -> Playback:
        return Playback(recordings, seconds, clock=lambda: self.now_s, read=self.read)

    @property
    def samples(self) -> Samples:
        return np.concatenate([block for _, block in self.heard])


@settings(deadline=None, max_examples=50)
@given(one=st.integers(1, 350), two=st.integers(1, 350), seconds=st.integers(1, 4000))
def test_all_is_played_in_turn_each_block_at_its_end(one: int, two: int, seconds: int) -> None:
    room = Room({"one": one, "two": two})
    playback = room.playback([ONE, TWO], seconds / RATE)
    playback.run(room.push, room.sleep)
    silence = np.zeros(round(GAP_S * RATE), np.float32)
    turn = np.concatenate([room.files["one"], silence, room.files["two"], silence])
    np.testing.assert_array_equal(room.samples, np.resize(turn, seconds))
    ends_s = np.cumsum([len(block) for _, block in room.heard]) / RATE
    np.testing.assert_allclose([at_s for at_s, _ in room.heard], ends_s, atol=1e-9)
    assert max(len(block) for _, block in room.heard) <= BLOCK_S * RATE
    assert playback.complete
    assert playback.late_s == pytest.approx(0)


def test_each_play_says_when_it_began_and_whether_it_was_whole() -> None:
    room = Room({"one": 250, "two": 300})
    playback = room.playback([ONE, TWO], 1.75)
    playback.run(room.push, room.sleep)
    plays = [(play.recording, play.start_s, play.complete) for play in playback.plays]
    assert [(recording, complete) for recording, _, complete in plays] == [
        (ONE, True),
        (TWO, True),
        (ONE, False),
    ]
    assert [start_s for _, start_s, _ in plays] == pytest.approx([0, 0.75, 1.55])


def test_times_count_the_audio_that_was_taken() -> None:
    room = Room({"one": 200, "two": 100})
    room.refuses = True
    playback = room.playback([ONE, TWO], 3)
    playback.run(room.push, room.sleep)
    assert {play.start_s for play in playback.plays} == {0.0}
    assert playback.complete, "it was played, whoever took it"


def test_a_stop_is_heeded_at_the_next_block() -> None:
    room = Room({"one": 900})
    room.stops_at_s = 0.25
    playback = room.playback([ONE], 60)
    playback.run(room.push, room.sleep)
    assert len(room.samples) == 200
    assert not playback.complete


def test_how_late_a_block_was_is_told_and_none_is_left_out() -> None:
    room = Room({"one": 1000})
    room.sleeps_longer_s = 0.05
    playback = room.playback([ONE], 1)
    playback.run(room.push, room.sleep)
    np.testing.assert_array_equal(room.samples, room.files["one"])
    assert playback.late_s == pytest.approx(0.05), "being late must not add up"


def test_recordings_of_manifests_and_files(write_speech: Write, tmp_path: Path) -> None:
    one, two = write_speech("one.wav", 0.1), write_speech("two.flac", 0.1)
    manifest = write_manifest(tmp_path, ["one.wav"])
    assert read_recordings([manifest, two]) == (Recording(one, "a word"), Recording(two))


def write_manifest(folder: Path, names: list[str]) -> Path:
    path = folder / "manifest.jsonl"
    rows = [{"id": name, "audio": name, "duration": 1.0, "text": "a word"} for name in names]
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_what_is_missing_from_a_manifest_is_told(write_speech: Write, tmp_path: Path) -> None:
    one = write_speech("one.wav", 0.1)
    manifest = write_manifest(tmp_path, ["one.wav", "gone.wav"])
    with pytest.warns(UserWarning, match=r"manifest.jsonl: gone.wav is left out: no audio file"):
        assert read_recordings([manifest]) == (Recording(one, "a word"),)


def test_what_can_not_be_played(write_speech: Write, tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="can't read the manifest"):
        read_recordings([tmp_path / "none.jsonl"])
    with pytest.raises(AudioError, match="no such file"):
        read_recordings([tmp_path / "none.wav"])
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(AsrError, match=r"no recording to play in .*empty.jsonl; name others"):
        read_recordings([tmp_path / "empty.jsonl"])
    mixed = [write_speech("a.wav", 0.1), write_speech("b.wav", 0.1, rate=8000)]
    with pytest.raises(AsrError, match=r"a.wav is at 16000 Hz and .*b.wav at 8000 Hz; one stream"):
        read_recordings(mixed)


def test_recordings_for_streams_of_their_own_may_have_any_rate(
    write_speech: Callable[..., Path],
) -> None:
    paths = [write_speech("a.wav", 0.3), write_speech("b.wav", 0.3, rate=8000)]
    found = read_recordings(paths, one_rate=False)
    assert [recording.path for recording in found] == paths
