"""Cached features are those of the device, and survive a kill."""

import dataclasses
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from lhotse import MonoCut

import training.feature_cache
from asr.bundle import StreamingConfig
from asr.errors import CorpusError
from asr.features import FeatureConfig, compute_features
from tests.training.conftest import speak, write_corpus
from training.corpus import Rejections, read_cuts
from training.feature_cache import FeatureCache, features_digest, utterance_features

TEXTS = ["red", "green blue", "white red black"]


@pytest.fixture
def cuts(tmp_path: Path) -> list:
    write_corpus(tmp_path / "a", "train", TEXTS)
    return list(read_cuts(tmp_path, "a/*.jsonl", "train", Rejections()))


def files_of(root: Path) -> Path:
    return root / features_digest()


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
    files = files_of(folder)
    FeatureCache(folder).add(cuts[:2], Rejections(), processes=1)
    with (files / "features.f16").open("ab") as data:
        data.write(b"\1" * 1234)  # frames of the third, without its index line
    with (files / "index.jsonl").open("a") as index:
        index.write('{"id": "train-2", "sta')
    again = FeatureCache(folder)
    assert cuts[2].id not in again
    again.add(cuts, Rejections(), processes=1)
    for cut in cuts:
        np.testing.assert_array_equal(FeatureCache(folder)[cut.id], whole[cut.id])
    for name in ("features.f16", "index.jsonl"):
        expected = (files_of(tmp_path / "whole") / name).read_bytes()
        assert (files / name).read_bytes() == expected


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
    with (files_of(folder) / "features.f16").open("ab") as data:
        data.write(b"\1" * 1233)
    assert len(FeatureCache(folder)[cuts[0].id]) == FeatureCache(folder).num_frames(cuts[0].id)


def test_missing_frames_are_an_error_and_not_silence(tmp_path: Path, cuts: list) -> None:
    folder = tmp_path / "cut"
    FeatureCache(folder).add(cuts, Rejections(), processes=1)
    data = files_of(folder) / "features.f16"
    data.write_bytes(data.read_bytes()[:-160])
    with pytest.raises(CorpusError, match=r"remove .* to compute the features again"):
        FeatureCache(folder)


def test_a_changed_recording_is_computed_anew(tmp_path: Path, cuts: list[MonoCut]) -> None:
    folder = tmp_path / "cache"
    FeatureCache(folder).add(cuts, Rejections(), processes=1)
    other = FeatureCache(folder)[cuts[1].id]
    soundfile.write(tmp_path / "a" / "train-0.flac", speak("white", 7), 16_000)
    again = FeatureCache(folder)
    again.add(cuts, Rejections(), processes=1)
    expected = utterance_features(tmp_path / "a" / "train-0.flac")
    for cache in (again, FeatureCache(folder)):
        np.testing.assert_array_equal(cache[cuts[0].id], expected.astype(np.float16))
        np.testing.assert_array_equal(cache[cuts[1].id], other)


def test_a_corpus_that_was_copied_is_known(tmp_path: Path, cuts: list[MonoCut]) -> None:
    cache = FeatureCache(tmp_path / "cache")
    cache.add(cuts, Rejections(), processes=1)
    size = cache.size
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    for file in (tmp_path / "b").iterdir():
        os.utime(file, ns=(1, 1))
    copied = list(read_cuts(tmp_path, "b/*.jsonl", "train", Rejections()))
    cache.add(copied, Rejections(), processes=1)
    assert cache.size == size


def test_features_of_a_recording_that_was_spoiled_are_not_used(
    tmp_path: Path, cuts: list[MonoCut]
) -> None:
    folder = tmp_path / "cache"
    FeatureCache(folder).add(cuts, Rejections(), processes=1)
    (tmp_path / "a" / "train-0.flac").write_bytes(b"no audio any more")
    again, rejections = FeatureCache(folder), Rejections()
    again.add(cuts, rejections, processes=1)
    assert sum(rejections.counts.values()) == 1
    for cache in (again, FeatureCache(folder)):
        assert cuts[0].id not in cache
        assert cuts[1].id in cache


def test_features_computed_otherwise_have_a_folder_of_their_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = features_digest()
    other = dataclasses.replace(FeatureConfig(), low_hz=50.0)
    monkeypatch.setattr(training.feature_cache, "FeatureConfig", lambda: other)
    assert features_digest() != before
    monkeypatch.undo()
    padded = dataclasses.replace(StreamingConfig(), tail_padding_frames=3)
    monkeypatch.setattr(training.feature_cache, "StreamingConfig", lambda: padded)
    assert features_digest() != before


def test_a_second_run_waits_and_takes_what_the_first_computed(
    tmp_path: Path, cuts: list[MonoCut], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their frames would be written over each other."""
    late = FeatureCache(tmp_path / "cache")  # before there is anything
    FeatureCache(tmp_path / "cache").add(cuts[:2], Rejections(), processes=1)
    computed: list[str] = []

    def features_or_fault(audio: str) -> np.ndarray:
        computed.append(Path(audio).stem)
        return utterance_features(audio).astype(np.float16)

    monkeypatch.setattr(training.feature_cache, "_features_or_fault", features_or_fault)
    monkeypatch.setattr(training.feature_cache, "ProcessPoolExecutor", InThisProcess)
    late.add(cuts, Rejections(), processes=1)
    assert computed == ["train-2"]
    for cut in cuts:
        expected = utterance_features(cut.recording.sources[0].source)
        np.testing.assert_array_equal(late[cut.id], expected.astype(np.float16))


class InThisProcess:
    """A pool of no processes, that a test can look into."""

    def __init__(self, processes: int) -> None:
        pass

    def __enter__(self) -> "InThisProcess":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def map(self, function: Callable, items: list, chunksize: int) -> Iterator:
        return map(function, items)


def test_statistics_are_those_of_all_frames(tmp_path: Path, cuts: list[MonoCut]) -> None:
    cache = FeatureCache(tmp_path / "cache")
    cache.add(cuts, Rejections(), processes=1)
    frames = np.concatenate([cache[cut.id] for cut in cuts]).astype(np.float64)
    mean, std = cache.statistics([cut.id for cut in cuts])
    np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-6)
