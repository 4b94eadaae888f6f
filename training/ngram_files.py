"""Language models of others, to mix with: ARPA files, and the binary ones of CMU Sphinx."""

import gzip
import struct
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import DTypeLike, NDArray
from rich.progress import track

from asr.decoding.ngrams import MAX_ORDER
from asr.errors import CorpusError
from training.ngrams import Ngrams, bits_of, longest_order

SENTENCE, END_OF_SENTENCE = "<s>", "</s>"

_SPHINX = b"Trie Language Model"

_GZIP = b"\x1f\x8b"

_LEAST_OF_WORDS = 1e-6
"""Probability that all words have together, at least; the rest is that of the end of a sentence."""

_SPHINX_BASE = 1.0001
"""Of the logarithms in its files."""

_QUANTA_BITS = 16
_QUANTA = 1 << _QUANTA_BITS
"""Different probabilities, and as many weights, that each order may have there."""

Rows: TypeAlias = tuple[NDArray[np.int64], NDArray[np.float64]]
"""The n-grams of one order: their symbols `(M, order)`, and the probability `(M,)` of the last."""


def read_ngrams(path: Path) -> tuple[list[str], Ngrams]:
    """Return the words of a language model, which are the symbols of its n-grams by their places.

    path: an ARPA file, plain or .gz, or a .lm.bin of CMU Sphinx, such as the generic model that
    PocketSphinx brings. Orders that no number holds, such as four of 65,536 words, are left out.
    Raises CorpusError for anything else, and for a file that is cut off.
    """
    try:
        with path.open("rb") as file:
            head = file.read(len(_SPHINX))
        with np.errstate(over="ignore", invalid="ignore"):  # of spoilt ones
            if head == _SPHINX:
                words, orders = _read_sphinx(path.read_bytes())
            else:
                words, orders = _read_arpa(path, packed=head.startswith(_GZIP))
        if not all(((probs >= 0) & (probs < 1.01)).all() for _, probs in orders):
            raise ValueError("a probability is none from 0 to 1")
    except (OSError, EOFError, ValueError, MemoryError, struct.error, zlib.error) as error:
        raise CorpusError(
            f"{path}: not readable as a language model ({error}); expected an ARPA file (plain or "
            ".gz), or a .lm.bin of CMU Sphinx"
        ) from error
    if SENTENCE not in words or END_OF_SENTENCE not in words:
        raise CorpusError(f"{path}: no {SENTENCE} or no {END_OF_SENTENCE} among its words")
    bits = bits_of(len(words))
    (symbols, probs), *longer = orders
    unigrams = np.zeros(len(words))
    unigrams[symbols[:, 0]] = probs
    unigrams[words.index(SENTENCE)] = 0.0
    if unigrams.sum() - unigrams[words.index(END_OF_SENTENCE)] < _LEAST_OF_WORDS:
        raise CorpusError(f"{path}: no word of it has a probability")
    ngrams = Ngrams(bits, unigrams / unigrams.sum())
    for symbols, probs in longer[: longest_order(len(words)) - 1]:
        keys = np.zeros(len(symbols), np.int64)
        for column in symbols.T:
            keys = keys << bits | column
        keys, first = np.unique(keys, return_index=True)
        ngrams = ngrams.extended(keys, probs[first])
    return words, ngrams


def _read_arpa(path: Path, packed: bool) -> tuple[list[str], list[Rows]]:
    """Read the probabilities; the weights follow from them."""
    numbers: dict[str, int] = {}
    orders: list[Rows] = []
    with (
        gzip.open(path, "rt", encoding="utf-8-sig")
        if packed
        else path.open(encoding="utf-8-sig") as file
    ):
        lines = filter(None, map(str.strip, file))
        counts = _arpa_counts(lines)
        for order, count in enumerate(counts, 1):
            symbols = np.empty((count, order), np.int64)
            probs = np.empty(count)
            for row in track(range(count), f"{path.name}: {order}-grams", transient=True):
                line = next(lines, "")
                prob, *words = line.split()[: order + 1] or [line]
                if order == 1 and words:
                    numbers.setdefault(words[0], len(numbers))
                if len(words) != order or not all(word in numbers for word in words):
                    raise ValueError(f"{line!r} among its {order}-grams")
                symbols[row] = [numbers[word] for word in words]
                probs[row] = float(prob)
            orders.append((symbols, 10.0**probs))
            mark = f"\\{order + 1}-grams:" if order < len(counts) else "\\end\\"
            if (line := next(lines, "")) != mark:
                raise ValueError(f"{line!r}; expected {mark} behind {count} {order}-grams")
    return list(numbers), orders


def _arpa_counts(lines: Iterator[str]) -> list[int]:
    """Read the head of an ARPA file, up to its unigrams."""
    if "\\data\\" not in lines:
        raise ValueError("\\data\\ is missing")
    counts: list[int] = []
    for line in lines:
        if line == "\\1-grams:":
            break
        if line.startswith("ngram "):
            counts.append(int(line.partition("=")[2]))
    if not 1 <= len(counts) <= MAX_ORDER or min(counts) < 0:
        raise ValueError(f"counts of {counts}; expected 1 to {MAX_ORDER} orders")
    return counts


class _Reader:
    """Takes the parts of a binary file, one after the other. Each raises where the file ends."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at

    def numbers(self, form: str) -> tuple[int, ...]:
        """Take whole numbers of a form of `struct`."""
        found = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return found

    def array(self, dtype: DTypeLike, count: int) -> NDArray[Any]:
        """Take `count` values of a type."""
        found = np.frombuffer(self._content, dtype, count, self._at)
        self._at += found.nbytes
        return found

    def text(self, size: int) -> str:
        """Take so many bytes of text, or what is left of them."""
        found = self._content[self._at : self._at + size].decode()
        self._at += size
        return found


def _read_sphinx(content: bytes) -> tuple[list[str], list[Rows]]:
    """Read the trie of `ngram_model_trie.c`, in which the last word of an n-gram comes first.

    Behind the head are the counts of each order; the probabilities and weights that there are; the
    unigrams, each with the place of the bigrams that end with it; the longer n-grams; and the
    words.
    """
    reader = _Reader(content, len(_SPHINX))
    (order,) = reader.numbers("B")
    if not 2 <= order <= MAX_ORDER:
        raise ValueError(f"{order} orders; expected 2 to {MAX_ORDER}")
    counts = reader.numbers(f"<{order}I")
    reader.numbers("<I")  # the kind of its quanta
    quanta = reader.array("<f4", (2 * order - 3) * _QUANTA).reshape(-1, _QUANTA)
    unigrams = reader.array([("prob", "<f4"), ("weight", "<f4"), ("place", "<u4")], counts[0] + 1)
    symbols = np.arange(counts[0])[:, None]
    orders: list[Rows] = [(symbols, _SPHINX_BASE ** unigrams["prob"][:-1].astype(np.float64))]
    places = unigrams["place"].astype(np.int64)
    for longer in range(2, order + 1):
        symbols, numbers, places = _read_sphinx_order(reader, counts, longer, symbols, places)
        probs = quanta[2 * (longer - 2)][numbers].astype(np.float64)
        orders.append((symbols, _SPHINX_BASE**probs))
    words = reader.text(*reader.numbers("<I")).split("\0")[: counts[0]]
    if len(words) != counts[0]:
        raise ValueError(f"{len(words)} words; {counts[0]} were announced")
    return words, orders


def _read_sphinx_order(
    reader: _Reader,
    counts: Sequence[int],
    order: int,
    ends: NDArray[np.int64],
    places: NDArray[np.int64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Read the n-grams of one order, packed bit by bit.

    Each is the word before an n-gram of the order below and the number of its probability; but for
    the longest, with the number of its weight before that, and behind it the place of the n-grams
    that end with it.

    ends: `(M, order - 1)`, the symbols of the order below; places: of it, `(M + 1,)` or more.
    Returns the symbols `(N, order)`, the numbers of their probabilities `(N,)` and their places.
    """
    is_longest = order == len(counts)
    announced = counts[order - 1]
    widths = [counts[0].bit_length(), _QUANTA_BITS]
    if not is_longest:
        widths = [*widths, _QUANTA_BITS, counts[order].bit_length()]
    packed = reader.array(np.uint8, ((announced + 1) * sum(widths) + 7) // 8 + 8)
    fields = _unpack(packed, announced + (not is_longest), widths)
    known = int(places.max(initial=0))  # a few that are announced may be missing
    children = np.diff(places[: len(ends) + 1])
    if children.min(initial=0) < 0 or children.sum() != known or known > announced:
        raise ValueError(f"the places of its {order}-grams do not rise")
    words = fields[0][:known]
    if words.max(initial=0) >= counts[0]:
        raise ValueError(f"a word of its {order}-grams is none")
    symbols = np.hstack([words[:, None], np.repeat(ends, children, axis=0)])
    if is_longest:
        return symbols, fields[1][:known], np.empty(0, np.int64)
    return symbols, fields[2][:known], fields[3][: known + 1]


def _unpack(packed: NDArray[np.uint8], rows: int, widths: list[int]) -> list[NDArray[np.int64]]:
    """Return fields of some bits each `(rows,)`, the lowest bit first."""
    padded = np.concatenate([packed, np.zeros(8, np.uint8)])
    fields: list[NDArray[np.int64]] = []
    for begin, width in zip(np.cumsum([0, *widths]).tolist(), widths, strict=False):
        bit = np.arange(rows, dtype=np.int64) * sum(widths) + begin
        value = np.zeros(rows, np.uint64)
        for byte in range(8):
            value |= padded[(bit >> 3) + byte].astype(np.uint64) << np.uint64(8 * byte)
        value >>= (bit & 7).astype(np.uint64)
        fields.append((value & np.uint64((1 << width) - 1)).astype(np.int64))
    return fields
