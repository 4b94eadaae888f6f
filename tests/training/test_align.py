"""Word times by forced alignment: on paths by hand, and with the trained model on speech whose
times are known."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from asr.errors import CorpusError
from asr.evaluation.bench.emission import SENTENCES, synthesize
from asr.evaluation.corpora.timed import read_timed_manifest
from training.align import AlignedWord, align, align_manifest, read_samples, words_of_spans
from training.checkpoint import TrainedModel
from training.forced_alignment import forced_alignment, spans

MODEL = Path(__file__).parents[2] / "data/model"


@pytest.fixture(scope="module")
def model() -> TrainedModel:
    return TrainedModel.load(MODEL)


def test_a_word_has_the_frames_of_its_pieces() -> None:
    found = spans([0, 5, 5, 0, 6, 0, 0, 7, 7, 0])
    assert words_of_spans(found, ["▁so", "ing", "▁me"]) == [
        AlignedWord("soing", 0.04, 0.2),
        AlignedWord("me", 0.28, 0.36),
    ]


def test_a_piece_said_twice_is_two_pieces() -> None:
    words = words_of_spans(spans([5, 0, 5]), ["▁no", "▁no"])
    assert [(word.word, word.start_s) for word in words] == [("no", 0.0), ("no", 0.08)]


def test_a_boundary_alone_is_no_word_and_begins_the_next() -> None:
    assert words_of_spans(spans([3, 4]), ["▁", "a"]) == [AlignedWord("a", 0.0, 0.08)]


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not here")
def test_what_can_not_be_aligned_is_named() -> None:
    pytest.importorskip("torchaudio")
    log_probs = torch.zeros(3, 5).log_softmax(dim=-1)
    assert forced_alignment(log_probs, [1, 2]).log_prob == pytest.approx(3 * math.log(1 / 5))
    for symbols, message in (([], "no symbols"), ([1, 1, 2], "3 symbols in 3 frames")):
        with pytest.raises(CorpusError, match=message):
            forced_alignment(log_probs, symbols)
    with pytest.raises(CorpusError, match="NaN or infinite"):
        forced_alignment(log_probs * torch.nan, [1, 2])


def test_words_are_found_near_where_they_were_said(model: TrainedModel, tmp_path: Path) -> None:
    pytest.importorskip("torchaudio")
    for speech in synthesize(tmp_path, SENTENCES[:2]):
        text = " ".join(word.text for word in speech.words)
        found = align(model, read_samples(speech.audio), text)
        assert [word.word for word in found] == text.split()
        errors = [abs(a.end_s - b.end_s) for a, b in zip(found, speech.words, strict=True)]
        assert np.median(errors) < 0.12
        assert max(errors) < 0.5


def test_a_manifest_comes_out_with_words_and_can_be_read_again(
    model: TrainedModel, tmp_path: Path
) -> None:
    pytest.importorskip("torchaudio")
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in/a.wav", 0.01 * np.ones(32_000), 16_000)
    (tmp_path / "in/broken.wav").write_bytes(b"RIFF")
    rows = [
        {"id": "a", "audio": "a.wav", "duration": 2.0, "text": "So it is", "speaker": "x"},
        {"id": "broken", "audio": "broken.wav", "duration": 2.0, "text": "so"},
        {"id": "dense", "audio": "a.wav", "duration": 2.0, "text": "so it is " * 40},
    ]
    manifest, out = tmp_path / "in/m.jsonl", tmp_path / "out.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    report = align_manifest(manifest, out, model)
    assert report.rows == 1
    assert [item.id for item in report.skipped] == ["broken", "dense"]
    assert "symbols in" in report.skipped[1].reason
    (row,) = map(json.loads, out.read_text().splitlines())
    assert (row["audio"], row["speaker"], row["text"]) == ("in/a.wav", "x", "So it is")
    assert "split" not in row
    (speech,) = read_timed_manifest(out).utterances
    assert [word.text for word in speech.words] == ["so", "it", "is"]


def test_a_text_without_words(model: TrainedModel) -> None:
    pytest.importorskip("torchaudio")
    with pytest.raises(CorpusError, match="no words in"):
        align(model, np.zeros(16_000, np.float32), "?!")
