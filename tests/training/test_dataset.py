"""What a step sees of an utterance is decided by its draw alone."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import write_corpus
from training.acoustics import Acoustics
from training.batching import Draw
from training.corpus import Rejections, read_cuts
from training.dataset import PADDED_FRAMES, Example, Speech, SpeechDataset, collate
from training.feature_cache import FeatureCache
from training.model import SUBSAMPLING
from training.recipe import AugmentationConfig

MEAN = np.zeros(80, np.float32)


@pytest.fixture
def dataset(tmp_path: Path) -> SpeechDataset:
    write_corpus(tmp_path / "a", "train", ["red green blue"])
    cuts = list(read_cuts(tmp_path, "a/*.jsonl", "train", Rejections()))
    cache = FeatureCache(tmp_path / "cache")
    cache.add(cuts, Rejections(), processes=1)
    return SpeechDataset(
        Speech(cuts, [[1]], [[]], [2.0]), cache, MEAN, Acoustics(), AugmentationConfig(), 5
    )


def test_two_copies_in_an_epoch_are_augmented_differently(dataset: SpeechDataset) -> None:
    first, second, again = (
        dataset[draw].features for draw in (Draw(0, 3), Draw(0, 3, 1), Draw(0, 3))
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape != second.shape or not np.array_equal(first, second)


def test_views_of_an_utterance_differ_in_sound_and_not_in_time(dataset: SpeechDataset) -> None:
    """They are compared frame by frame: pauses are cut and noises put around both alike."""
    config = AugmentationConfig(
        recorded_noise_probability=0.5,
        enclosing_noise_probability=0.5,
        noise_alone_probability=0.2,
        room_probability=0.3,
        narrow_probability=0.3,
        silence_cut_probability=0.5,
    )
    noise = np.random.default_rng(0).normal(0, 2, (500, 80)).astype(np.float32)
    pause = np.full((100, 80), -15.9, np.float32)
    frames = np.concatenate([dataset.cache["train-0"], pause, dataset.cache["train-0"]])
    varied = SpeechDataset(
        Speech(dataset.speech.cuts, [[1]], [[2]], [1.0]),
        {"train-0": frames},
        MEAN,
        Acoustics(("hiss",), {"hiss": noise}),
        config,
    )
    lengths, silent = set(), 0
    for epoch in range(60):
        first, second = (varied[Draw(0, epoch, view=view)] for view in (0, 1))
        assert first.features.shape == second.features.shape
        assert not np.array_equal(first.features, second.features)
        assert first.targets.tolist() == second.targets.tolist()
        assert first.phones.tolist() == second.phones.tolist()
        lengths.add(len(first.features))
        silent += not len(first.targets)
    assert len(lengths) > 20 and 0 < silent < 40


def test_cut_pauses_leave_a_frame_for_each_token(dataset: SpeechDataset) -> None:
    """Of a silent recording with a long text too little would be left: the loss would refuse it."""
    config = AugmentationConfig(silence_cut_probability=1, stretch=(1, 1))
    silence = {"train-0": np.full((400, 80), -15.9, np.float32)}
    silent = SpeechDataset(
        Speech(dataset.speech.cuts, [[1] * 60], [[]], [1.0]), silence, MEAN, Acoustics(), config
    )
    lengths = [len(silent[Draw(0, epoch)].features) for epoch in range(40)]
    assert min((length - 3) // SUBSAMPLING for length in lengths) > 60
    assert min(lengths) < 400  # and yet some were cut


def test_noise_alone_has_no_words(dataset: SpeechDataset) -> None:
    hum = np.tile(np.linspace(0, 1, 80, dtype=np.float32), (50, 1))
    noisy = SpeechDataset(
        Speech(dataset.speech.cuts, [[1] * 3], [[2, 3]], [1.0]),
        dataset.cache,
        MEAN,
        Acoustics(("hum",), {"hum": hum}),
        replace(AugmentationConfig.none(), noise_alone_probability=0.5),
    )
    speech = dataset.cache["train-0"]
    examples = [noisy[Draw(0, epoch)] for epoch in range(40)]
    silent = [example for example in examples if not len(example.targets)]
    assert 10 <= len(silent) <= 30
    for example in silent:
        assert not len(example.phones)
        assert len(example.features) == len(speech)
        np.testing.assert_allclose(np.ptp(example.features, axis=0), 0, err_msg="only the hum")
    for example in examples:
        if len(example.targets):
            assert len(example.targets) == 3 and len(example.phones) == 2
            np.testing.assert_allclose(example.features, speech, atol=1e-3)


def test_a_batch_has_one_speaking_rate(dataset: SpeechDataset) -> None:
    """Utterances of like duration are batched: with rates of their own they would need padding."""
    whole = dataset.cache["train-0"]
    lengths = [
        len(dataset[Draw(0, 3, copy, batch)].features) for batch in (1, 2) for copy in (0, 1)
    ]
    assert lengths[0] == lengths[1] != lengths[2] == lengths[3]
    slowest, fastest = AugmentationConfig().stretch
    assert all(len(whole) / fastest - 1 <= length <= len(whole) / slowest + 1 for length in lengths)


def test_batches_have_few_lengths() -> None:
    """Of whole encoder frames, so that no frame is lost; all that is added is padding."""
    nothing = torch.empty(0, dtype=torch.int64)
    for length in range(1, 60):
        frames = np.ones((length, 80), np.float32)
        batch = collate([Example("a", frames, nothing, nothing)], padding=0)
        padded = batch.features.shape[1]
        assert length <= padded < length + PADDED_FRAMES
        assert (padded - 3) % PADDED_FRAMES == 0
        assert batch.feature_lengths.tolist() == [length]
        assert not batch.features[0, length:].any()
