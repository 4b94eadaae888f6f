"""An n-gram model of tokens from text: for a search to know which spellings are words."""

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from asr.decoding.language_model import LOG_PROB_STEP, MAX_ORDER, START
from asr.errors import CorpusError
from asr.text import normalize
from asr.whole_files import write_whole
from training.sentences import read_paragraphs, read_transcripts
from training.tokenizer import Tokenizer

CUTOFFS = (1, 1, 3, 4, 5)
"""How often an n-gram of order one, two ... must have been read to be kept."""

TRANSCRIPT_COUNT = 3
"""1 and 3 times gave 0.4 and 1.0 points of WER, beside fifty times as much text of novels; 8 times
another 0.2, and a larger model."""

_BITS = 63
"""Of the number that stands for an n-gram while it is counted."""

_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")


def write_language_model(
    texts: Sequence[Path], tokenizer: Tokenizer, out: Path, cutoffs: Sequence[int] = CUTOFFS
) -> int:
    """Count the n-grams of texts; return how many are kept.

    texts: plain or .xz, a paragraph a line; or manifests (.jsonl), whose transcripts to train on
    count TRANSCRIPT_COUNT times, for they are of the kind that will be heard.

    Raises CorpusError for a text that can't be read or has no words, and for impossible cutoffs.
    """
    if not 1 <= len(cutoffs) <= MAX_ORDER or sorted(cutoffs) != list(cutoffs) or cutoffs[0] < 1:
        raise CorpusError(
            f"cutoffs {list(cutoffs)}; expected 1 to {MAX_ORDER} counts, none below the one before"
        )
    stream = _stream(_sentences(texts), tokenizer)
    if not (stream != START).any():
        raise CorpusError(f"{', '.join(map(str, texts))}: no words in it; expected English text")
    arrays = count_ngrams(stream, tokenizer.vocab_size, cutoffs)
    write_whole(out, lambda path: _save(path, arrays))
    return sum(len(array) for name, array in arrays.items() if name.startswith("codes."))


def parse_cutoffs(text: str) -> list[int]:
    """Read "1,1,2". Raises CorpusError for anything but numbers between commas."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise CorpusError(f"cutoffs {text!r}; expected numbers, as in 1,1,3,4,5") from error


def count_ngrams(
    stream: NDArray[np.int64], vocab_size: int, cutoffs: Sequence[int]
) -> dict[str, NDArray]:
    """Return the arrays of `asr.decoding.language_model.NgramModel.from_arrays`.

    stream: `(N,)` tokens; START stands before each sentence. Raises CorpusError for more cutoffs
    than n-grams of so many tokens can have.

    By absolute discounting (Ney, Essen and Kneser 1994): each n-gram that is kept gives up a part
    of one count, and what is not kept all of it, to what its shorter context expects.
    """
    bits = max(1, (vocab_size - 1).bit_length())
    if (longest := _BITS // bits) < len(cutoffs):
        raise CorpusError(
            f"{len(cutoffs)} cutoffs; n-grams of {vocab_size} tokens may have up to {longest}"
        )
    sentence = np.cumsum(stream == START)
    small = np.uint8 if vocab_size <= 256 else np.uint16
    arrays: dict[str, NDArray] = {}
    kept = np.empty(0, np.int64)  # n-grams of the last order
    for order, cutoff in enumerate(cutoffs, 1):
        grams, counts = _count(stream, sentence, order, bits)
        if order == 1:
            # Each token has a place, also those that were never read.
            codes = np.full(vocab_size, 255, np.uint8)
            codes[grams] = _codes(counts / counts.sum())
            kept = np.arange(vocab_size)
        else:
            context = grams >> bits
            begins = np.flatnonzero(np.diff(context, prepend=-1))
            totals = np.repeat(np.add.reduceat(counts, begins), np.diff(begins, append=len(grams)))
            probs = (counts - _discount(counts)) / totals
            chosen = (counts >= cutoff) & np.isin(context, kept)
            codes, before = _codes(probs[chosen]), kept
            kept, context = grams[chosen], context[chosen]
            children = np.searchsorted(context, before, "right") - np.searchsorted(context, before)
            arrays[f"children.{order - 1}"] = children.astype(small)
        arrays[f"tokens.{order}"] = (kept & ((1 << bits) - 1)).astype(small)
        arrays[f"codes.{order}"] = codes
    return arrays


def _count(
    stream: NDArray[np.int64], sentence: NDArray[np.int64], order: int, bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the n-grams of an order, each one number whose last `bits` are its last token, and
    how often each is there. A START is only ever the first of its tokens."""
    last = np.arange(order - 1, len(stream))
    inside = (sentence[last] == sentence[last - order + 1]) & (stream[last] != START)
    last = last[inside]
    grams = np.zeros(len(last), np.int64)
    for back in range(order - 1, -1, -1):
        grams = grams << bits | stream[last - back]
    return np.unique(grams, return_counts=True)


def _discount(counts: NDArray[np.int64]) -> float:
    """What maximises the likelihood of what was left out once, about."""
    once, twice = int((counts == 1).sum()), int((counts == 2).sum())
    return min(0.9, once / (once + 2 * twice)) if once else 0.5


def _codes(probs: NDArray[np.float64]) -> NDArray[np.uint8]:
    codes: NDArray[np.float64] = np.round(-np.log(probs) / LOG_PROB_STEP)
    return codes.clip(0, 255).astype(np.uint8)


def _stream(sentences: Iterable[str], tokenizer: Tokenizer) -> NDArray[np.int64]:
    tokens = [np.array([START, *tokenizer.encode(sentence)], np.int64) for sentence in sentences]
    return np.concatenate(tokens) if tokens else np.empty(0, np.int64)


def _sentences(texts: Sequence[Path]) -> Iterator[str]:
    for text in texts:
        if text.suffix == ".jsonl":
            yield from TRANSCRIPT_COUNT * [normalize(said) for said in read_transcripts(text)]
            continue
        for paragraph in track(read_paragraphs(text), f"reading {text.name}", transient=True):
            for sentence in _SENTENCE_END.split(paragraph):
                if words := normalize(sentence):
                    yield words


def _save(path: Path, arrays: dict[str, NDArray]) -> None:
    with path.open("wb") as file:
        # Not compressed: what it takes in memory is known before it is read.
        np.savez(file, allow_pickle=False, **arrays)
