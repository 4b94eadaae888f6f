"""Language models of others are read as they are meant, or refused with a reason."""

import gzip
from pathlib import Path

import numpy as np
import pocketsphinx
import pytest

from asr.errors import CorpusError
from training.ngram_files import read_ngrams
from training.ngrams import Ngrams

SPHINX = Path(pocketsphinx.get_model_path()) / "en-us" / "en-us.lm.bin"

# a, b and the end are said once, once and twice as often; behind "a" there is most often "b".
ARPA = """\\data\\
ngram 1=4
ngram 2=2
ngram 3=1

\\1-grams:
-99\t<s>\t-0.1
-0.60206\ta\t-0.39794
-0.60206\tb\t0
-0.30103\t</s>

\\2-grams:
-0.22185\ta b\t-0.30103
-0.09691\t<s> a\t0

\\3-grams:
-0.04576\t<s> a b

\\end\\
"""


def log10(words: list[str], ngrams: Ngrams, said: str) -> float:
    key = 0
    for word in said.split():
        key = key << ngrams.bits | words.index(word)
    return float(np.log10(ngrams.prob(np.array([key]), len(said.split()))[0]))


@pytest.mark.parametrize("packed", [False, True])
def test_an_arpa_file(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "lm.arpa"
    content = f"\ufeff{ARPA}".replace("\\1-grams:\n", "\\1-grams:\r\n\r\n").encode()
    path.write_bytes(gzip.compress(content) if packed else content)
    words, ngrams = read_ngrams(path)
    assert words == ["<s>", "a", "b", "</s>"]
    assert log10(words, ngrams, "a") == pytest.approx(np.log10(1 / 4), abs=1e-4)
    assert log10(words, ngrams, "a b") == pytest.approx(np.log10(0.6), abs=1e-4)
    # Not known: 0.4 are left for what has 0.75 of the unigrams.
    assert log10(words, ngrams, "a a") == pytest.approx(np.log10(0.4 / 0.75 / 4), abs=1e-4)
    assert log10(words, ngrams, "<s> a b") == pytest.approx(np.log10(0.9), abs=1e-4)
    assert log10(words, ngrams, "b a b") == pytest.approx(np.log10(0.6), abs=1e-4)


def test_orders_that_no_number_holds_are_left_out(tmp_path: Path) -> None:
    words = [f"w{number}" for number in range(2**16)]
    unigrams = "".join(f"-5 {word}\n" for word in ["<s>", "</s>", *words])
    longer = "".join(f"\\{n}-grams:\n-1 {' '.join(words[:n])}\n" for n in (2, 3, 4))
    path = tmp_path / "lm.arpa"
    counts = f"ngram 1={len(words) + 2}\n" + "".join(f"ngram {n}=1\n" for n in (2, 3, 4))
    path.write_text(f"\\data\\\n{counts}\\1-grams:\n{unigrams}{longer}\\end\\\n")
    assert read_ngrams(path)[1].order == 3


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("\\data\\", "data"),
        ("ngram 1=4", "ngram 1=five"),
        ("ngram 2=2", "ngram 2=-2"),
        ("ngram 3=1", "ngram 3=9"),
        ("ngram 2=2", "ngram 2=1"),
        ("\ta b\t", "\ta c\t"),
        ("\ta b\t", "\tb\t"),
        ("-0.22185", "often"),
        ("-0.22185", "nan"),
        ("-0.22185", "0.3"),
        ("</s>", "<end>"),
        ("\\3-grams:", ""),
        ("\\end\\", ""),
    ],
)
def test_a_spoilt_arpa_file_is_refused(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "lm.arpa"
    path.write_text(ARPA.replace(old, new, 1))
    with pytest.raises(CorpusError, match=r"lm\.arpa"):
        read_ngrams(path)


def test_the_model_of_pocketsphinx_says_what_pocketsphinx_reads_in_it() -> None:
    words, ngrams = read_ngrams(SPHINX)
    of_sphinx = pocketsphinx.NGramModel(
        pocketsphinx.Config(), logmath := pocketsphinx.LogMath(), str(SPHINX)
    )
    numbers = {word: number for number, word in enumerate(words)}
    said = ["<s>", *"the old house stood alone at the end of the road".split(), "</s>"]
    for last in range(1, len(said)):
        context = said[max(0, last - 2) : last + 1]
        key = 0
        for word in context:
            key = key << ngrams.bits | numbers[word]
        prob = float(ngrams.prob(np.array([key]), len(context))[0])
        expected = logmath.log_to_ln(of_sphinx.prob(context[::-1]))
        assert np.log(prob) == pytest.approx(expected, abs=0.002), context


@pytest.mark.parametrize("length", [0, 10, 19, 20, 25, 1000, 1_000_000, 10_000_000, 27_000_000])
def test_a_sphinx_file_that_is_cut_off_is_refused(tmp_path: Path, length: int) -> None:
    path = tmp_path / "cut.lm.bin"
    path.write_bytes(SPHINX.read_bytes()[:length])
    with pytest.raises(CorpusError, match=r"cut\.lm\.bin: not readable as a language model"):
        read_ngrams(path)


def test_a_spoilt_sphinx_file_is_refused(tmp_path: Path) -> None:
    content = bytearray(SPHINX.read_bytes())
    path = tmp_path / "spoilt.lm.bin"
    draw = np.random.default_rng(0)
    for begin, end in ((19, 40), (800_000, 1_000_000)):  # the head; the unigrams
        spoilt = content.copy()
        spoilt[begin:end] = draw.bytes(end - begin)
        path.write_bytes(spoilt)
        with pytest.raises(CorpusError, match="not readable as a language model"):
            read_ngrams(path)


def test_a_model_of_no_words_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "lm.arpa"
    for prob in ("-400", "-inf"):
        unigrams = f"-99 <s>\n{prob} a\n{prob} </s>\n"
        path.write_text(f"\\data\\\nngram 1=3\n\\1-grams:\n{unigrams}\\end\\\n")
        with pytest.raises(CorpusError, match="no word of it has a probability"):
            read_ngrams(path)


def test_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    for content in (b"It was a dark night.\n", b"\xff\xfe\x00", b""):
        path.write_bytes(content)
        with pytest.raises(CorpusError, match="expected an ARPA file"):
            read_ngrams(path)
    with pytest.raises(CorpusError, match="expected an ARPA file"):
        read_ngrams(tmp_path / "absent.arpa")
    packed = tmp_path / "cut.arpa.gz"
    packed.write_bytes(gzip.compress(ARPA.encode())[:-20])
    with pytest.raises(CorpusError, match="expected an ARPA file"):
        read_ngrams(packed)
