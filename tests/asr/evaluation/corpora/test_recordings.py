"""Protects that a segment is the samples that it names, and that a missing part is an error."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.errors import AudioError
from asr.evaluation.corpora.manifest import Segment, Utterance
from asr.evaluation.corpora.recordings import read_segment, read_utterance

RATE = 8000
STEREO = np.stack([np.arange(2 * RATE), -np.arange(2 * RATE)], axis=1).astype(np.float32) / 16_000


@pytest.fixture
def stereo(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "stereo.wav", STEREO, RATE, subtype="FLOAT")
    return tmp_path / "stereo.wav"


def samples(path: Path, segment: Segment) -> np.ndarray:
    blocks = list(read_segment(path, segment))
    assert {rate for _, rate in blocks} == {RATE}
    return np.concatenate([block for block, _ in blocks])


def test_a_segment_of_a_channel(stereo: Path) -> None:
    for channel, expected in ((0, STEREO[:, 0]), (1, STEREO[:, 1]), (None, STEREO.mean(axis=1))):
        found = samples(stereo, Segment(0.25, 1.3, channel))
        np.testing.assert_array_equal(found, expected[2000:12_400])


def test_an_utterance_is_a_segment_or_a_file(stereo: Path) -> None:
    for segment, count in ((None, 16_000), (Segment(1.0, 0.5), 4000)):
        utterance = Utterance("a", stereo, "x", None, None, None, segment)
        assert sum(len(block) for block, _ in read_utterance(utterance)) == count


def test_a_little_past_the_end_is_rounding(stereo: Path) -> None:
    assert len(samples(stereo, Segment(1.5, 0.55))) == 4000


@pytest.mark.parametrize(
    ("segment", "message"),
    [
        (Segment(1.5, 0.7), r"0.7 s from 1.5 s: 0.50 s could be read; correct the manifest"),
        (Segment(2.0, 1.0), "0.00 s could be read"),
        (Segment(-1.0, 1.0), "0.00 s could be read"),
        (Segment(0.0, 0.0), "0.00 s could be read"),
        (Segment(0.0, 1.0, channel=2), "no channel 2 in 2"),
    ],
)
def test_a_segment_that_is_not_there(stereo: Path, segment: Segment, message: str) -> None:
    with pytest.raises(AudioError, match=message):
        list(read_segment(stereo, segment))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    broken = np.full(RATE, np.nan, np.float32)
    soundfile.write(tmp_path / "nan.wav", broken, RATE, subtype="FLOAT")
    for name, message in [
        ("text.wav", "can't be read"),
        ("missing.wav", "can't be read"),
        ("nan.wav", "NaN"),
    ]:
        with pytest.raises(AudioError, match=message):
            list(read_segment(tmp_path / name, Segment(0.0, 0.5)))
