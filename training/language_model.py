"""A language model of words from text: for a search to know which spellings are words."""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from asr.decoding.hypothesis import UNK
from asr.decoding.language_model import END, LONGEST_SPELLING, UNKNOWN
from asr.decoding.ngrams import LOG_PROB_STEP, MAX_ORDER, START
from asr.errors import CorpusError
from asr.text import normalize
from asr.whole_files import write_whole
from training.sentences import read_paragraphs, read_transcripts
from training.synthesis.spoken_forms import spoken_form
from training.tokenizer import Tokenizer

CUTOFFS = (2, 2, 3)
"""How often a word, two words, three words must have been read to be kept."""

TRANSCRIPT_COUNT = 3
"""Beside 64 times as much text of novels, 1 and 3 times gave 0.4 and 1.0 points of WER with n-grams
of word pieces, and 8 times no more."""

SPOKEN_FORMS = 50_000
"""Sentences of digits, dates, spelled words ..., which novels lack."""

MOST_WORDS = 2**16 - 1 - UNKNOWN
"""Known words: the most frequent, if there are more. Two bytes hold one in a file."""

_LEAST_UNKNOWN = 0.01
"""Of all words, those that are not known, at least: as in novels, where words that were read once
are not. A few transcripts have no such words, and what they don't have may yet be said."""

_SPELLING_CUTOFFS = (1, 1, 2)

_BITS = 63
"""Of the number that stands for an n-gram while it is counted."""

_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")


def write_language_model(
    texts: Sequence[Path],
    tokenizer: Tokenizer,
    out: Path,
    cutoffs: Sequence[int] = CUTOFFS,
    spoken_forms: int = SPOKEN_FORMS,
) -> int:
    """Count the words of texts and their n-grams; return how many n-grams of words are kept.

    texts: plain or .xz, a paragraph a line; or manifests (.jsonl), whose transcripts to train on
    count TRANSCRIPT_COUNT times, for they are of the kind that will be heard. spoken_forms: so many
    sentences of `training.synthesis.spoken_forms` are read as well.

    Raises CorpusError for a text that can't be read or has no words, and for impossible cutoffs.
    """
    if not 1 <= len(cutoffs) <= MAX_ORDER or sorted(cutoffs) != list(cutoffs) or cutoffs[0] < 1:
        raise CorpusError(
            f"cutoffs {list(cutoffs)}; expected 1 to {MAX_ORDER} counts, none below the one before"
        )
    sentences = chain(_sentences(texts), _made_up(spoken_forms))
    arrays = model_arrays(sentences, tokenizer.encode, tokenizer.vocab_size, cutoffs)
    if not len(arrays["lengths"]):
        raise CorpusError(
            f"{', '.join(map(str, texts))}: no words that are there {cutoffs[0]} times; expected "
            "English text, or more of it"
        )
    write_whole(out, lambda path: _save(path, arrays))
    return sum(len(array) for name, array in arrays.items() if name.startswith("words.codes."))


def parse_cutoffs(text: str) -> list[int]:
    """Read "1,1,2". Raises CorpusError for anything but numbers between commas."""
    try:
        return [int(number) for number in text.split(",")]
    except ValueError as error:
        raise CorpusError(f"cutoffs {text!r}; expected numbers, as in 2,2,3") from error


def model_arrays(
    sentences: Iterable[Sequence[str]],
    spell: Callable[[str], Sequence[int]],
    vocab_size: int,
    cutoffs: Sequence[int],
) -> dict[str, NDArray]:
    """Return the arrays of `asr.decoding.language_model.LanguageModel.from_arrays`.

    sentences: the words of each. spell: gives the tokens of a word, of `vocab_size`; one with
    `<unk>` is not known. Raises CorpusError as `count_ngrams` does.
    """
    numbers: dict[str, int] = {}  # of each word, from UNKNOWN + 1 on, as they come
    stream = array("i")
    for sentence in sentences:
        stream.append(START)
        stream.extend(numbers.setdefault(word, len(numbers) + UNKNOWN + 1) for word in sentence)
    read = np.array(stream, np.int64)
    counts = np.bincount(read, minlength=len(numbers) + UNKNOWN + 1)
    spellings = {number: tuple(spell(word)) for word, number in numbers.items()}
    spellings = {
        number: tokens
        for number, tokens in spellings.items()
        if UNK not in tokens and 0 < len(tokens) <= LONGEST_SPELLING
    }
    frequent = [number for number in spellings if counts[number] >= cutoffs[0]]
    frequent.sort(key=lambda number: -counts[number])
    known = sorted(frequent[:MOST_WORDS], key=spellings.__getitem__)
    symbols = np.full(len(counts), UNKNOWN)
    symbols[START] = START
    symbols[known] = np.arange(len(known)) + UNKNOWN + 1
    spelled = [token for tokens in spellings.values() for token in (START, *tokens, END)]
    small = _smallest(vocab_size - 1)
    words = count_ngrams(symbols[read], len(known) + UNKNOWN + 1, cutoffs)
    unknown = words["codes.1"][UNKNOWN : UNKNOWN + 1]
    np.minimum(unknown, _codes(np.array([_LEAST_UNKNOWN])), out=unknown)
    spelling = count_ngrams(np.array(spelled, np.int64), vocab_size, _SPELLING_CUTOFFS)
    return {
        "lengths": np.array([len(spellings[number]) for number in known], np.uint8),
        "tokens": np.array([token for number in known for token in spellings[number]], small),
        **{f"words.{name}": array for name, array in words.items()},
        **{f"spelling.{name}": array for name, array in spelling.items()},
    }


def count_ngrams(
    stream: NDArray[np.int64], vocab_size: int, cutoffs: Sequence[int]
) -> dict[str, NDArray]:
    """Return the arrays of `asr.decoding.ngrams.NgramModel.from_arrays`.

    stream: `(N,)` symbols; START stands before each sentence. Raises CorpusError for more cutoffs
    than n-grams of so many symbols can have.

    By modified Kneser-Ney smoothing (Chen and Goodman 1998): each n-gram that is kept gives up a
    part of its count, and what is not kept all of it, to what its shorter history expects; and a
    shorter one counts not how often it was read, but behind how many different symbols.
    """
    bits = max(1, (vocab_size - 1).bit_length())
    if (longest := _BITS // bits) < len(cutoffs):
        raise CorpusError(
            f"{len(cutoffs)} cutoffs; n-grams of {vocab_size} symbols may have up to {longest}: "
            "give fewer, or a higher first one, for fewer words"
        )
    sentence = np.cumsum(stream == START)
    orders = range(1, len(cutoffs) + 1)
    counted = [_count(stream, sentence, order, bits) for order in orders]
    arrays: dict[str, NDArray] = {}
    kept = np.empty(0, np.int64)  # n-grams of the last order
    for order, cutoff, (grams, counts) in zip(orders, cutoffs, counted, strict=True):
        weights = counts
        if order < len(cutoffs):
            weights = _different_begins(grams, counts, counted[order][0], order, bits)
        if order == 1:
            # Each symbol has a place, also those that were never read.
            codes = np.full(vocab_size, 255, np.uint8)
            codes[grams] = _codes(weights / weights.sum())
            kept = np.arange(vocab_size)
        else:
            history = grams >> bits
            begins = np.flatnonzero(np.diff(history, prepend=-1))
            totals = np.repeat(np.add.reduceat(weights, begins), np.diff(begins, append=len(grams)))
            probs = (weights - _discounts(weights)[weights.clip(0, 3)]) / totals
            chosen = counts >= cutoff  # and so was its history: the last cutoff was no higher
            codes, before = _codes(probs[chosen]), kept
            kept, history = grams[chosen], history[chosen]
            children = np.searchsorted(history, before, "right") - np.searchsorted(history, before)
            arrays[f"children.{order - 1}"] = children.astype(_smallest(children.max(initial=0)))
        arrays[f"symbols.{order}"] = (kept & ((1 << bits) - 1)).astype(_smallest(vocab_size - 1))
        arrays[f"codes.{order}"] = codes
    return arrays


def _count(
    stream: NDArray[np.int64], sentence: NDArray[np.int64], order: int, bits: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the n-grams of an order, each one number whose last `bits` are its last symbol, and
    how often each is there. A START is only ever the first of its symbols."""
    last = np.arange(order - 1, len(stream))
    inside = (sentence[last] == sentence[last - order + 1]) & (stream[last] != START)
    last = last[inside]
    grams = np.zeros(len(last), np.int64)
    for back in range(order - 1, -1, -1):
        grams = grams << bits | stream[last - back]
    return np.unique(grams, return_counts=True)


def _different_begins(
    grams: NDArray[np.int64],
    counts: NDArray[np.int64],
    longer: NDArray[np.int64],
    order: int,
    bits: int,
) -> NDArray[np.int64]:
    """Return behind how many different symbols each n-gram was read: of `longer`, those of the next
    order, how many end with it. Of one that begins a sentence, return how often."""
    ends, different = np.unique(longer & ((1 << order * bits) - 1), return_counts=True)
    weights = counts.copy()
    weights[np.searchsorted(grams, ends)] = different
    return weights


def _discounts(weights: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what n-grams of weight 0, 1, 2, and 3 or more give up."""
    once, twice, thrice, often = ((weights == times).sum() for times in (1, 2, 3, 4))
    if not (once and twice and thrice and often):
        return np.array([0.0, 0.5, 0.5, 0.5])
    one = once / (once + 2 * twice)
    ratios = np.array([twice / once, thrice / twice, often / thrice])
    times = np.array([1, 2, 3])
    given = (times - (times + 1) * one * ratios).clip(0.1, 0.95 * times)
    return np.concatenate([[0.0], given])


def _smallest(largest: int) -> type[np.unsignedinteger]:
    return np.uint8 if largest < 256 else np.uint16


def _codes(probs: NDArray[np.float64]) -> NDArray[np.uint8]:
    codes: NDArray[np.float64] = np.round(-np.log(probs) / LOG_PROB_STEP)
    return codes.clip(0, 255).astype(np.uint8)


def _sentences(texts: Sequence[Path]) -> Iterator[list[str]]:
    for text in texts:
        if text.suffix == ".jsonl":
            said = [normalize(transcript).split() for transcript in read_transcripts(text)]
            yield from TRANSCRIPT_COUNT * said
            continue
        for paragraph in track(read_paragraphs(text), f"reading {text.name}", transient=True):
            for sentence in _SENTENCE_END.split(paragraph):
                if words := normalize(sentence).split():
                    yield words


def _made_up(count: int) -> Iterator[list[str]]:
    draw = np.random.default_rng(0)
    for _ in track(range(count), "spoken forms", transient=True):
        yield spoken_form(draw).text.split()


def _save(path: Path, arrays: dict[str, NDArray]) -> None:
    with path.open("wb") as file:
        # Not compressed: what it takes in memory is known before it is read.
        np.savez(file, allow_pickle=False, **arrays)
