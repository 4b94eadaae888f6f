"""A model that is too fond of blank gets the bias that makes it emit, and no more."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.conftest import sentences, write_corpus
from training import blank_bias
from training.acoustics import Acoustics
from training.blank_bias import calibrate_blank
from training.corpus import Rejections, read_cuts
from training.dataset import Speech, SpeechDataset
from training.feature_cache import FeatureCache
from training.model import Transducer, sized
from training.recipe import StreamingTrainingConfig
from training.tokenizer import Tokenizer, train_tokenizer


@pytest.fixture
def dev(tmp_path: Path) -> SpeechDataset:
    write_corpus(tmp_path / "a", "dev", sentences(10))
    cuts = list(read_cuts(tmp_path, "a/*.jsonl", "dev", Rejections()))
    cache = FeatureCache(tmp_path / "cache")
    cache.add(cuts, Rejections(), processes=1)
    speech = Speech(cuts, [[1]] * 10, [[]] * 10, [1.0] * 10)
    return SpeechDataset(speech, cache, np.zeros(80, np.float32), Acoustics())


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    return train_tokenizer(sentences(24), 20, tmp_path / "bpe.model")


@pytest.fixture
def few_words_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blank_bias, "FEWEST_WORDS", 1)


@pytest.mark.parametrize(
    ("wer", "kept"),
    [
        pytest.param([0.9, 0.5, 0.6, 0.502, 0.504, 1.0, 1.2, 1.4, 1.6], 0.75, id="largest of best"),
        pytest.param([1.0] * 9, 0.0, id="all the same"),
        pytest.param([1.0] * 8 + [0.9999], 2.0, id="all but the same"),
    ],
)
@pytest.mark.usefixtures("few_words_do")
def test_the_largest_of_the_best_shifts_is_kept(
    wer: list[float],
    kept: float,
    dev: SpeechDataset,
    tokenizer: Tokenizer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = Transducer(sized("xs", 20))
    trained = float(model.joiner.blank.bias.detach())
    by_shift = dict(zip(blank_bias.SHIFTS, wer, strict=True))

    def word_error_rate(model: Transducer, *_: object) -> float:
        return by_shift[round(trained - float(model.joiner.blank.bias.detach()), 2)]

    monkeypatch.setattr(blank_bias, "_word_error_rate", word_error_rate)
    found = calibrate_blank(model, tokenizer, {"one": dev, "two": dev}, StreamingTrainingConfig())
    assert found.shift == kept
    assert found.mean(kept) == by_shift[kept]
    assert model.joiner.blank.bias.item() == pytest.approx(trained - kept)


def test_a_few_words_of_development_choose_nothing(
    dev: SpeechDataset, tokenizer: Tokenizer
) -> None:
    """As when a voice is learned from a few recordings: every shift would be as good."""
    model = Transducer(sized("xs", 20))
    trained = model.joiner.blank.bias.detach().clone()
    found = calibrate_blank(model, tokenizer, {"few": dev}, StreamingTrainingConfig())
    assert (found.shift, found.rates) == (blank_bias.USUAL_SHIFT, {})
    assert torch.equal(model.joiner.blank.bias, trained - blank_bias.USUAL_SHIFT)


@pytest.mark.usefixtures("few_words_do")
@torch.no_grad()
def test_lower_blanks_emit_more(
    dev: SpeechDataset, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tokenizer, "decode", lambda self, ids: " ".join("red" for _ in ids))
    torch.manual_seed(0)
    model = Transducer(sized("xs", 20))
    model.joiner.blank.bias.fill_(1.0)  # blank unless the bias is lowered by about as much
    model.joiner.blank.weight.normal_(std=0.01)
    model.joiner.labels.bias[5] = 10.0  # and if not blank, then surely this
    found = calibrate_blank(model, tokenizer, {"tones": dev}, StreamingTrainingConfig())
    rates = [found.rates[shift]["tones"] for shift in blank_bias.SHIFTS]
    assert rates[0] == 1.0, "all blank: every word is deleted"
    assert rates[-1] > 1.0, "a label at every frame: words that nobody said"
    assert found.mean(found.shift) <= min(rates) + blank_bias.AS_GOOD
