"""From text to the n-grams that a search asks."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
import typer
from numpy.typing import NDArray
from typer.testing import CliRunner

from asr.decoding.language_model import UNKNOWN, LanguageModel
from asr.decoding.ngrams import START, NgramModel
from asr.errors import CorpusError
from asr.transcript import WORD_START
from training import language_model
from training.checkpoint import LANGUAGE_MODEL, PIECES, keep_language_model
from training.cli import app
from training.language_model import model_arrays, parse_cutoffs, write_language_model
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


def expected(model: LanguageModel, tokens: list[int]) -> NDArray[np.float32]:
    state = model.advance(None, START)
    for token in tokens:
        state = model.advance(state, token)
    return model.log_probs(state)


def test_what_was_read_is_expected_word_by_word(text: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(MODEL / PIECES)
    out = tmp_path / "lm.npz"
    # START and the unknown; different words; pairs, with the begins of sentences; threes.
    assert write_language_model([text], tokenizer, out, (1, 1, 1), 0) == 2 + 11 + 13 + 12
    begins = np.array([piece.startswith(WORD_START) for piece in tokenizer.pieces])
    with np.load(out, allow_pickle=False) as file:
        model = LanguageModel.from_arrays(dict(file), begins)
    assert model.vocab_size == 256
    tokens = tokenizer.encode("the old house")
    for count, token in enumerate(tokens):
        assert expected(model, tokens[:count])[token] > np.log(1 / 4)
    assert expected(model, tokenizer.encode("an old")).argmax() == tokenizer.encode("man")[0]


def test_transcripts_of_manifests_count_three_times(text: Path, tmp_path: Path) -> None:
    rows = [("train", "a dog barked"), ("dev", "a cat slept")]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("\n".join(json.dumps({"split": s, "text": t}) for s, t in rows))
    tokenizer = Tokenizer(MODEL / PIECES)
    out = tmp_path / "lm.npz"
    # START and the unknown; three words; the begin and two pairs; the begin's pair and a three.
    kept = [write_language_model([manifest], tokenizer, out, (n, n, n), 0) for n in (3, 1)]
    assert kept == [2 + 3 + 3 + 2] * 2
    with pytest.raises(CorpusError, match="no words that are there 4 times"):
        write_language_model([manifest], tokenizer, out, (4,), 0)
    manifest.write_text("no JSON")
    with pytest.raises(CorpusError, match="not readable as a manifest"):
        write_language_model([manifest], tokenizer, out)


def test_spoken_forms_are_read_as_well(text: Path, tmp_path: Path) -> None:
    tokenizer = Tokenizer(MODEL / PIECES)
    out = tmp_path / "lm.npz"
    begins = np.array([piece.startswith(WORD_START) for piece in tokenizer.pieces])
    digits = [tokenizer.encode(digit) for digit in ("seven", "one", "four")]
    behind = []
    for count in (0, 300):
        write_language_model([text], tokenizer, out, spoken_forms=count)
        with np.load(out, allow_pickle=False) as file:
            model = LanguageModel.from_arrays(dict(file), begins)
        said = [*digits[0], *digits[1]]
        behind.append(expected(model, said)[digits[2][0]])
    assert behind[1] > behind[0] + 1


def test_words_that_no_token_spells_are_unknown() -> None:
    said = [["2 3", "1", "4"]] * 3
    arrays = model_arrays(said, lambda word: [int(token) for token in word.split()], 9, (2, 2))
    assert arrays["lengths"].tolist() == [2, 1]
    assert arrays["tokens"].tolist() == [2, 3, 4]


def test_a_word_that_nobody_knows_is_possible_also_where_all_words_were_known() -> None:
    arrays = model_arrays([["4", "5"]] * 3, lambda word: [int(word)], 9, (1, 1))
    words = NgramModel.from_arrays(arrays, "words.")
    probs = words.expected(()).between(np.arange(5, dtype=np.int32))
    assert 0.005 < probs[UNKNOWN] < 0.02


def test_only_the_most_frequent_words_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(language_model, "MOST_WORDS", 2)
    said = [["4", "3", "2"], ["4", "2"], ["5", "5", "4"]]
    arrays = model_arrays(said, lambda word: [int(word)], 9, (1, 1))
    assert arrays["tokens"].tolist() in ([2, 4], [4, 5])
    assert len(arrays["words.symbols.1"]) == 4


@pytest.mark.parametrize("cutoffs", [(), (0, 1), (2, 1), (1,) * 9])
def test_impossible_cutoffs_are_named(text: Path, tmp_path: Path, cutoffs: tuple[int, ...]) -> None:
    with pytest.raises(CorpusError, match="expected 1 to 8 counts, none below the one before"):
        write_language_model([text], Tokenizer(MODEL / PIECES), tmp_path / "lm.npz", cutoffs)


UNIGRAMS = "-99 <s>\n-0.5 </s>\n-0.6 house\n-0.6 burned\n-0.8 X-ray\n-0.9 mr\n"
PAIRS = "-0.1 house burned\n-0.9 <s> house\n"


def arpa(path: Path, unigrams: str = UNIGRAMS, pairs: str = PAIRS) -> Path:
    counts = f"ngram 1={len(unigrams.splitlines())}\nngram 2={len(pairs.splitlines())}\n"
    path.write_text(
        f"\\data\\\n{counts}\\1-grams:\n{unigrams}\\2-grams:\n{pairs}\\end\\\n", encoding="utf-8"
    )
    return path


def read_model(out: Path) -> LanguageModel:
    pieces = Tokenizer(MODEL / PIECES).pieces
    with np.load(out, allow_pickle=False) as file:
        return LanguageModel.from_arrays(
            dict(file), np.array([piece.startswith(WORD_START) for piece in pieces])
        )


@pytest.mark.parametrize("upper", [False, True])
def test_another_model_counts_as_much_as_the_texts(text: Path, tmp_path: Path, upper: bool) -> None:
    tokenizer, out = Tokenizer(MODEL / PIECES), tmp_path / "lm.npz"
    unigrams, pairs = UNIGRAMS.replace("X-ray", "x-ray"), PAIRS
    if upper:
        unigrams, pairs = (
            content.replace("house", "HOUSE").replace("burned", "BURNED")
            for content in (unigrams, pairs)
        )
    other = arpa(tmp_path / "other.arpa", unigrams, pairs)
    models = []
    for mixed in (None, other):
        write_language_model([text], tokenizer, out, (1, 1, 1), 0, mixed)
        models.append(read_model(out))
    alone, both = models
    house = tokenizer.encode("the old house")
    said = tokenizer.encode("the old house burned")[len(house)]
    stood = tokenizer.encode("the old house stood")[len(house)]
    assert expected(both, house)[said] > expected(alone, house)[said] + 1
    # Half of what either expects: of ten houses eight burned.
    assert expected(both, house)[said] == pytest.approx(np.log(0.8 / 2), abs=0.3)
    assert expected(both, house)[stood] == pytest.approx(
        expected(alone, house)[stood] - np.log(2), abs=0.3
    )
    with np.load(out, allow_pickle=False) as file:
        # burned, and mr, which is said mister; none with a hyphen.
        assert len(file["lengths"]) == 12 + 2
    # Sentences that end are no words: they begin with "house" in 0.126 of 1.
    begin = expected(both, [])[house_begin(tokenizer)]
    assert begin > np.log(0.05)


def house_begin(tokenizer: Tokenizer) -> int:
    return tokenizer.encode("house")[0]


def test_a_mixture_of_single_words(text: Path, tmp_path: Path) -> None:
    other = arpa(tmp_path / "other.arpa", pairs="")
    out = tmp_path / "lm.npz"
    kept = write_language_model([text], Tokenizer(MODEL / PIECES), out, (1,), 0, other)
    assert kept == 2 + 12 + 2
    assert read_model(out).vocab_size == 256


def test_a_model_that_does_not_fit_is_not_mixed_in(text: Path, tmp_path: Path) -> None:
    tokenizer, out = Tokenizer(MODEL / PIECES), tmp_path / "lm.npz"
    strange = arpa(tmp_path / "other.arpa", "-99 <s>\n-0.5 </s>\n-0.2 <NOISE>\n-2 house\n", "")
    with pytest.raises(CorpusError, match="2 % of what it says are words as they are heard"):
        write_language_model([text], tokenizer, out, (1, 1), 0, strange)
    (tmp_path / "empty.txt").write_text("...")
    other = arpa(tmp_path / "other.arpa")
    with pytest.raises(CorpusError, match=r"empty\.txt: no words"):
        write_language_model([tmp_path / "empty.txt"], tokenizer, out, (1, 1), 0, other)
    assert not out.exists()


@pytest.mark.parametrize("most", [2, 6, 20, 27, 1000])
def test_no_more_ngrams_are_kept_than_are_asked_for(text: Path, tmp_path: Path, most: int) -> None:
    tokenizer, out = Tokenizer(MODEL / PIECES), tmp_path / "lm.npz"
    kept = write_language_model([text], tokenizer, out, (1, 1, 1), 0, most=most)
    assert min(most / 2, 38) <= kept <= max(most, most / 2 + 2), (
        "START and the unknown are no words"
    )
    read_model(out)


def test_what_was_learned_from_transcripts_goes_along(text: Path, tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    rows = [("train", "The DOG barked!"), ("dev", "a cat slept")]
    manifest.write_text("\n".join(json.dumps({"split": s, "text": t}) for s, t in rows))
    tokenizer, out = Tokenizer(MODEL / PIECES), tmp_path / "lm.npz"
    write_language_model([text], tokenizer, out, (1, 1), 0)
    with np.load(out, allow_pickle=False) as file:
        assert not [name for name in file if name.startswith("transcripts.")]
    write_language_model([text, manifest], tokenizer, out, (1, 1), 0)
    with np.load(out, allow_pickle=False) as file:
        pairs = NgramModel.from_arrays(dict(file), "transcripts.")
    every = np.arange(257, dtype=np.int32)
    behind = START
    for token in tokenizer.encode("the dog barked"):
        probs = pairs.expected(pairs.advance((), behind)).between(every)
        assert probs.argmax() == token
        behind = token


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="expected numbers, as in"):
        parse_cutoffs("1,two")
    tokenizer, out = Tokenizer(MODEL / PIECES), tmp_path / "lm.npz"
    (tmp_path / "empty.txt").write_text("\n ... \n")
    with pytest.raises(CorpusError, match=r"empty\.txt: no words that are there"):
        write_language_model([tmp_path / "empty.txt"], tokenizer, out, spoken_forms=0)
    with pytest.raises(CorpusError, match=r"absent\.txt: not readable as text"):
        write_language_model([tmp_path / "absent.txt"], tokenizer, out)
    assert not out.exists()


def test_the_command_writes_it_beside_the_model(text: Path, tmp_path: Path) -> None:
    for path in MODEL.iterdir():
        if path.name != LANGUAGE_MODEL:
            (tmp_path / path.name).symlink_to(path.resolve())
    command = ["language-model", str(text), "--model", str(tmp_path), "--spoken-forms", "0"]
    result = CliRunner().invoke(app, [*command, "--cutoffs", "1,1"])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / LANGUAGE_MODEL, allow_pickle=False) as file:
        alone = {name: len(array) for name, array in file.items()}
    options = ["--mix", str(arpa(tmp_path / "other.arpa")), "--ngrams", "20"]
    result = CliRunner().invoke(app, [*command, "--cutoffs", "1,1", *options])
    assert result.exit_code == 0, result.output
    with np.load(tmp_path / LANGUAGE_MODEL, allow_pickle=False) as file:
        mixed = {name: len(array) for name, array in file.items()}
    assert alone["lengths"] == 12 and alone["words.codes.2"] == 13
    assert mixed["lengths"] == 10 and mixed["words.codes.2"] <= 8


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


def test_the_command_keeps_as_many_ngrams_as_the_library() -> None:
    """Two places, so that the help needs no import of all that counts them."""
    (most,) = (
        option
        for option in typer.main.get_command(app).commands["language-model"].params
        if option.name == "most"
    )
    assert most.default == language_model.MOST_NGRAMS
