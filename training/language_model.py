"""A language model of words from text: for a search to know which spellings are words."""

import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from asr.decoding.hypothesis import UNK
from asr.decoding.language_model import END, LONGEST_SPELLING, UNKNOWN
from asr.decoding.ngrams import MAX_ORDER, START
from asr.errors import CorpusError
from asr.text import normalize
from asr.whole_files import write_whole
from training.ngram_files import END_OF_SENTENCE, SENTENCE, read_ngrams
from training.ngrams import Ngrams, codes_of, count_ngrams, mix, pack, prune
from training.sentences import read_paragraphs, read_transcripts
from training.synthesis.spoken_forms import spoken_form
from training.tokenizer import Tokenizer

CUTOFFS = (2, 2, 3)
"""How often a word, two words, three words must have been read to be kept."""

MOST_NGRAMS = 1_300_000
"""In 6 MB. Of twice as many a text costs 0.04 to 0.06 nats a word less."""

TEXT_SHARE = 0.5
"""Of what is expected, if another model is mixed in. 0.35 and 0.65 are a little worse."""

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

_LEAST_OF_WORDS = 0.5
"""Of what a model to mix with says, the words that may be heard."""

_SPELLING_CUTOFFS = (1, 1, 2)

_PAIRS = (1, 1)
"""Of tokens in transcripts. With threes, which know whole sentences of them by heart, a search that
takes them off is worse."""

_SENTENCE_END = re.compile(r"(?<=[.!?;:])\s+")


def write_language_model(
    texts: Sequence[Path],
    tokenizer: Tokenizer,
    out: Path,
    cutoffs: Sequence[int] = CUTOFFS,
    spoken_forms: int = SPOKEN_FORMS,
    mixed: Path | None = None,
    most: int = MOST_NGRAMS,
) -> int:
    """Count the words of texts and their n-grams; return how many n-grams of words are kept.

    texts: plain or .xz, a paragraph a line; or manifests (.jsonl), whose transcripts to train on
    count TRANSCRIPT_COUNT times, for they are of the kind that will be heard. What the transducer
    learned from them is counted, too, for a search that takes it off. spoken_forms: so many
    sentences of `training.synthesis.spoken_forms` are read as well. mixed: a language model of
    words (`training.ngram_files`) that counts as much as all of them. most: n-grams that are kept.

    Raises CorpusError for a text that can't be read or has no words, and for impossible cutoffs.
    """
    if not 1 <= len(cutoffs) <= MAX_ORDER or sorted(cutoffs) != list(cutoffs) or cutoffs[0] < 1:
        raise CorpusError(
            f"cutoffs {list(cutoffs)}; expected 1 to {MAX_ORDER} counts, none below the one before"
        )
    to_mix = read_ngrams(mixed) if mixed else None
    transcripts = list(_transcripts(texts))
    sentences = chain(_sentences(texts), _made_up(spoken_forms))
    arrays = model_arrays(sentences, tokenizer.encode, tokenizer.vocab_size, cutoffs, to_mix, most)
    if not len(arrays["lengths"]):
        raise CorpusError(
            f"{', '.join(map(str, texts))}: no words that are there {cutoffs[0]} times; expected "
            "English text, or more of it"
        )
    if transcripts:
        arrays |= transcript_arrays(map(tokenizer.encode, transcripts), tokenizer.vocab_size)
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
    mixed: tuple[Sequence[str], Ngrams] | None = None,
    most: int = MOST_NGRAMS,
) -> dict[str, NDArray]:
    """Return the arrays of `asr.decoding.language_model.LanguageModel.from_arrays`.

    sentences: the words of each. spell: gives the tokens of a word, of `vocab_size`; one with
    `<unk>` is not known. mixed: words and n-grams to mix in, as `read_ngrams` gives them. Raises
    CorpusError as `count_ngrams` does.
    """
    numbers: dict[str, int] = {}  # of each word, from UNKNOWN + 1 on, as they come
    stream = array("i")
    for sentence in sentences:
        stream.append(START)
        stream.extend(numbers.setdefault(word, len(numbers) + UNKNOWN + 1) for word in sentence)
    read = np.array(stream, np.int64)
    counts = np.bincount(read, minlength=len(numbers) + UNKNOWN + 1)
    frequent = {
        word: counts[number] / len(read)
        for word, number in numbers.items()
        if counts[number] >= cutoffs[0]
    }
    if frequent and mixed:
        words, others = _as_we_write(*mixed)
        frequent = _of_both(frequent, words, others)
    spellings = {word: tuple(spell(word)) for word in chain(numbers, frequent)}
    spellings = {
        word: tokens
        for word, tokens in spellings.items()
        if UNK not in tokens and 0 < len(tokens) <= LONGEST_SPELLING
    }
    spelled = sorted(frequent.keys() & spellings.keys(), key=lambda word: (-frequent[word], word))
    known = sorted(spelled[: min(MOST_WORDS, most // 2)], key=spellings.__getitem__)
    symbol_of = {word: symbol for symbol, word in enumerate(known, UNKNOWN + 1)}
    symbols = np.array([START, UNKNOWN, *(symbol_of.get(word, UNKNOWN) for word in numbers)])
    ngrams = count_ngrams(symbols[read], len(known) + UNKNOWN + 1, cutoffs)
    if known and mixed:
        numbered = np.array([symbol_of.get(word, UNKNOWN) for word in words])
        numbered[words.index(SENTENCE)] = START
        ngrams = mix(ngrams, others.renumbered(numbered, len(ngrams.unigrams)), TEXT_SHARE)
    arrays = pack(prune(ngrams, max(0, most - len(ngrams.unigrams))))
    unknown = arrays["codes.1"][UNKNOWN : UNKNOWN + 1]
    np.minimum(unknown, codes_of(np.array([_LEAST_UNKNOWN])), out=unknown)
    small = np.uint8 if vocab_size <= 256 else np.uint16
    tokens_read = [
        token for word in numbers if word in spellings for token in (START, *spellings[word], END)
    ]
    spelling = pack(count_ngrams(np.array(tokens_read, np.int64), vocab_size, _SPELLING_CUTOFFS))
    return {
        "lengths": np.array([len(spellings[word]) for word in known], np.uint8),
        "tokens": np.array([token for word in known for token in spellings[word]], small),
        **{f"words.{name}": array for name, array in arrays.items()},
        **{f"spelling.{name}": array for name, array in spelling.items()},
    }


def transcript_arrays(transcripts: Iterable[Sequence[int]], vocab_size: int) -> dict[str, NDArray]:
    """Return the arrays that say which tokens follow which in transcripts, the tokens of each."""
    stream = np.array([token for tokens in transcripts for token in (START, *tokens)], np.int64)
    pairs = pack(count_ngrams(stream, vocab_size, _PAIRS))
    return {f"transcripts.{name}": array for name, array in pairs.items()}


def _as_we_write(words: Sequence[str], ngrams: Ngrams) -> tuple[list[str], Ngrams]:
    """Return the words of another model as the text normaliser writes them, and its n-grams, in
    which sentences never end. Raises CorpusError if most of it are no such words."""
    taken = {word for word in words if normalize(word) == word}
    written: list[str] = []
    for word in words:
        ours = word if word.startswith("<") else normalize(word)
        if ours != word and (not ours or " " in ours or ours in taken):
            ours = word  # it stays what is never heard
        taken.add(ours)
        written.append(ours)
    is_word = np.array([bool(word) and normalize(word) == word for word in written])
    endless = ngrams.without(words.index(END_OF_SENTENCE))
    if (share := float(endless.unigrams[is_word].sum())) < _LEAST_OF_WORDS:
        raise CorpusError(
            f"the model to mix with: {100 * share:.0f} % of what it says are words as they are "
            f"heard, such as don't or eight; it has {', '.join(words[:5])} ..."
        )
    return written, endless


def _of_both(
    frequent: Mapping[str, float], words: Sequence[str], ngrams: Ngrams
) -> dict[str, float]:
    """Return how frequent words are in texts and another model."""
    both = {word: TEXT_SHARE * share for word, share in frequent.items()}
    for word, prob in zip(words, ngrams.unigrams.tolist(), strict=True):
        if word in both or normalize(word) == word:
            both[word] = both.get(word, 0.0) + (1 - TEXT_SHARE) * prob
    return both


def _sentences(texts: Sequence[Path]) -> Iterator[list[str]]:
    for text in texts:
        if _is_manifest(text):
            yield from TRANSCRIPT_COUNT * [said.split() for said in _transcripts([text])]
            continue
        for paragraph in track(read_paragraphs(text), f"reading {text.name}", transient=True):
            for sentence in _SENTENCE_END.split(paragraph):
                if words := normalize(sentence).split():
                    yield words


def _transcripts(texts: Sequence[Path]) -> Iterator[str]:
    for text in filter(_is_manifest, texts):
        yield from map(normalize, read_transcripts(text))


def _is_manifest(text: Path) -> bool:
    return text.suffix == ".jsonl"


def _made_up(count: int) -> Iterator[list[str]]:
    draw = np.random.default_rng(0)
    for _ in track(range(count), "spoken forms", transient=True):
        yield spoken_form(draw).text.split()


def _save(path: Path, arrays: dict[str, NDArray]) -> None:
    with path.open("wb") as file:
        # Not compressed: what it takes in memory is known before it is read.
        np.savez(file, allow_pickle=False, **arrays)
