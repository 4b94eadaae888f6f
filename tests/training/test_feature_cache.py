"""Cached features are those of the device, and survive a kill."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from asr.bundle import StreamingConfig
from asr.errors import CorpusError
from asr.features import compute_features
from tests.training.conftest import speak, write_corpus
from training.corpus import Rejections, read_cuts
from training.feature_cache import FeatureCache, utterance_features

TEXTS = ["red", "green blue", "white red black"]


@pytest.fixture
def cuts(tmp_path: Path) -> list:
    write_corpus(tmp_path / "a", "train", TEXTS)
    return list(read_cuts(tmp_path, "a/*.jsonl", "train", Rejections()))


def test_features_are_those_of_the_padded_recording(tmp_path: Path, cuts: list) -> None:
    cache = FeatureCache(tmp_path / "cache")
    cache.add(cuts, Rejections(), processes=1)
    tail = np.zeros(StreamingConfig().tail_samples, np.float32)
    for cut, text, number in zip(cuts, TEXTS, range(3), strict=True):
        expected = compute_features(np.concatenate([speak(text, number), tail]))
        assert cache.num_frames(cut.id) == len(expected)
        np.testing.assert_allclose(cache[cut.id], expected, atol=0.1)  # 16-bit FLAC, float16


def test_any_rate_gives_features_of_16_khz(tmp_path: Path) -> None:
    time = np.arange(48_000) / 48_000
    soundfile.write(tmp_path / "a.wav", 0.1 * np.sin(2 * np.pi * 440 * time), 48_000)
    soundfile.write(tmp_path / "b.wav", 0.1 * np.sin(2 * np.pi * 440 * time[::3]), 16_000)
    fast, slow = (utterance_features(tmp_path / name) for name in ("a.wav", "b.wav"))
    assert len(fast) == len(slow) == 100 + StreamingConfig().tail_padding_frames
    np.testing.assert_allclose(fast[10:90, 5:20], slow[10:90, 5:20], atol=0.3)


def test_a_cache_cut_short_by_a_kill_goes_on(tmp_path: Path, cuts: list) -> None:
    whole = FeatureCache(tmp_path / "whole")
    whole.add(cuts, Rejections(), processes=1)

    folder = tmp_path / "killed"
    FeatureCache(folder).add(cuts[:2], Rejections(), processes=1)
    with (folder / "features.f16").open("ab") as data:
        data.write(b"\1" * 1234)  # frames of the third, without its index line
    with (folder / "index.jsonl").open("a") as index:
        index.write('["train-2", 9')
    again = FeatureCache(folder)
    assert cuts[2].id not in again
    again.add(cuts, Rejections(), processes=1)
    for cut in cuts:
        np.testing.assert_array_equal(FeatureCache(folder)[cut.id], whole[cut.id])
    assert (folder / "features.f16").read_bytes() == (tmp_path / "whole/features.f16").read_bytes()


def test_a_row_that_stands_twice_does_not_spoil_what_comes_after(
    tmp_path: Path, cuts: list
) -> None:
    folder = tmp_path / "cache"
    FeatureCache(folder).add([cuts[0], cuts[0], cuts[1]], Rejections(), processes=1)
    expected = FeatureCache(folder)[cuts[1].id]
    FeatureCache(folder).add(cuts, Rejections(), processes=1)
    np.testing.assert_array_equal(FeatureCache(folder)[cuts[1].id], expected)


def test_frames_without_a_line_do_not_hinder_reading(tmp_path: Path, cuts: list) -> None:
    folder = tmp_path / "killed"
    FeatureCache(folder).add(cuts[:1], Rejections(), processes=1)
    with (folder / "features.f16").open("ab") as data:
        data.write(b"\1" * 1233)
    assert len(FeatureCache(folder)[cuts[0].id]) == FeatureCache(folder).num_frames(cuts[0].id)


def test_missing_frames_are_an_error_and_not_silence(tmp_path: Path, cuts: list) -> None:
    folder = tmp_path / "cut"
    FeatureCache(folder).add(cuts, Rejections(), processes=1)
    data = folder / "features.f16"
    data.write_bytes(data.read_bytes()[:-160])
    with pytest.raises(CorpusError, match=r"remove .* to compute the features again"):
        FeatureCache(folder)
