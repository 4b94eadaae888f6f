"""From text to the n-grams that a search asks."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from asr.decoding.language_model import START, NgramModel
from asr.errors import CorpusError
from training.checkpoint import LANGUAGE_MODEL, PIECES, keep_language_model
from training.cli import app
from training.language_model import count_ngrams, parse_cutoffs, write_language_model
from training.tokenizer import Tokenizer

MODEL = Path("data/model")
TEXT = (
    "The old house stood alone. The old house was big; the OLD house fell!\nAn old man sat there."
)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt.xz"
    path.write_bytes(lzma.compress(TEXT.encode()))
    return path


def test_what_was_read_is_expected_word_by_word(text: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(MODEL / PIECES)
    out = tmp_path / "lm.npz"
    assert write_language_model([text, text], tokenizer, out, (1, 1, 1, 1)) > 60
    with np.load(out, allow_pickle=False) as file:
        model = NgramModel.from_arrays(dict(file))
    assert (model.order, model.vocab_size) == (4, 256)
    state = model.advance((), START)
    for token in tokenizer.encode("the old house"):
        assert model.log_probs(state)[token] > np.log(1 / 20)
        state = model.advance(state, token)


def test_transcripts_of_manifests_count_three_times(text: Path, tmp_path: Path) -> None:
    rows = [("train", "a dog barked"), ("dev", "a cat slept")]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps({"split": s, "text": t}) for s, t in rows))
    tokenizer = Tokenizer(MODEL / PIECES)
    out = tmp_path / "lm.npz"
    kept = [write_language_model([manifest], tokenizer, out, (1, n, n)) for n in (3, 4)]
    length = len(tokenizer.encode("a dog barked"))
    assert [each - tokenizer.vocab_size for each in kept] == [2 * length - 1, 0]
    manifest.write_text("no JSON")
    with pytest.raises(CorpusError, match="not readable as a manifest"):
        write_language_model([manifest], tokenizer, out)


@pytest.mark.parametrize("cutoffs", [(), (0, 1), (2, 1), (1,) * 9])
def test_impossible_cutoffs_are_named(text: Path, tmp_path: Path, cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(CorpusError, match="expected 1 to 8 counts, none below the one before"):
        write_language_model([text], Tokenizer(MODEL / PIECES), tmp_path / "lm.npz", cutoffs)


def test_ngrams_that_no_number_holds_are_refused() -> None:
    stream = np.array([START, *range(2, 200)])
    model = NgramModel.from_arrays(count_ngrams(stream, 511, (1,) * 7))
    state = model.advance((), START)
    for token in stream[1:].tolist():
        assert model.log_probs(state).argmax() == token
        state = model.advance(state, token)
    with pytest.raises(CorpusError, match="n-grams of 513 tokens may have up to 6"):
        count_ngrams(stream, 513, (1,) * 7)


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="expected numbers, as in"):
        parse_cutoffs("1,two")
    tokenizer, out = Tokenizer(MODEL / PIECES), tmp_path / "lm.npz"
    (tmp_path / "empty.txt").write_text("\n ... \n")
    with pytest.raises(CorpusError, match=r"empty\.txt: no words in it"):
        write_language_model([tmp_path / "empty.txt"], tokenizer, out)
    with pytest.raises(CorpusError, match=r"absent\.txt: not readable as text"):
        write_language_model([tmp_path / "absent.txt"], tokenizer, out)
    assert not out.exists()


def test_the_command_writes_it_beside_the_model(text: Path, tmp_path: Path) -> None:
    for path in MODEL.iterdir():
        if path.name != LANGUAGE_MODEL:
            (tmp_path / path.name).symlink_to(path.resolve())
    result = CliRunner().invoke(app, ["language-model", str(text), "--model", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert (tmp_path / LANGUAGE_MODEL).stat().st_size > 500


def test_a_model_that_goes_on_from_another_keeps_it(tmp_path: Path) -> None:
    before, same, other = (tmp_path / name for name in ("before", "same", "other"))
    for folder in (before, same, other):
        folder.mkdir()
        (folder / PIECES).write_text("other" if folder == other else "pieces")
    keep_language_model(before, same)
    assert not (same / LANGUAGE_MODEL).exists(), "there is none"
    (before / LANGUAGE_MODEL).write_text("n-grams")
    (before / "model.safetensors").touch()
    keep_language_model(before / "model.safetensors", same)
    keep_language_model(before, other)
    assert (same / LANGUAGE_MODEL).read_text() == "n-grams"
    assert not (other / LANGUAGE_MODEL).exists(), "its tokens are others"
