"""Sentences to be spoken: from novels, those that everybody would read in the same words."""

import json
import lzma
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from asr.errors import CorpusError
from asr.text import normalize

_ABBREVIATIONS = (
    *("Mr", "Mrs", "Ms", "Dr", "St", "Jr", "Sr", "Messrs", "Capt", "Col", "Gen", "Lieut", "Lt"),
    *("Sergt", "Rev", "Hon", "Prof", "Esq", "Vol", "No", "Mme", "Mlle", "Co", "Ave"),
)
_SENTENCE_BREAK = re.compile(
    r"(?<=[.!?])"
    + "".join(rf"(?<!\b{word}\.)" for word in _ABBREVIATIONS)
    + r"(?<!\b[A-Z]\.)"  # an initial
    + r"[\"')]*\s+(?=[\"'(]*[A-Z])"
)
_PUNCTUATION = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "—": " -- ", "–": " -- "})
_DASH = re.compile(r"[\s,]*(?:--+|\s-\s)[\s,]*")
_PLAIN_SENTENCE = re.compile(r"[A-Z][A-Za-z',;:!? -]*[.!?]+")
_QUOTE_LIKE_APOSTROPHE = re.compile(r"(?<![A-Za-z])'|'(?![A-Za-z])")
_CAPITALS = re.compile(r"\b(?:[A-Z]{2,}|[B-HJ-NP-Z])\b")  # headings, Roman numerals, initials
WORD_WITHOUT_VOWEL = re.compile(r"\b[b-df-hj-np-tv-xz]{2,}\b", re.IGNORECASE)  # flite spells them
MIN_WORDS, MAX_WORDS = 3, 25


def sentences(text_path: Path, seed: int) -> Iterator[str]:
    """Sentences of a text that can be read only one way, each once, in an order drawn by `seed`.

    `text_path`: a UTF-8 text, a paragraph a line, plain or `.xz`. A sentence has 3 to 25 words, no
    digit, abbreviation, initial or word in capitals: what flite says and what `asr.text.normalize`
    writes are then the same words. Raises CorpusError if the text can't be read.
    """
    paragraphs = read_paragraphs(text_path)
    seen: set[str] = set()
    for line in np.random.default_rng(seed).permutation(len(paragraphs)):
        for candidate in _SENTENCE_BREAK.split(paragraphs[line].translate(_PUNCTUATION)):
            sentence = _plain_sentence(candidate)
            if sentence is None:
                continue
            key = normalize(sentence)
            if MIN_WORDS <= len(key.split()) <= MAX_WORDS and key not in seen:
                seen.add(key)
                yield sentence


def read_paragraphs(text_path: Path) -> list[str]:
    opener = lzma.open if text_path.suffix == ".xz" else open
    try:
        with opener(text_path, "rt", encoding="utf-8") as file:
            return [line.strip() for line in file if not line.isspace()]
    except (OSError, EOFError, UnicodeDecodeError, lzma.LZMAError) as error:
        raise CorpusError(
            f"{text_path}: not readable as text ({error}); expected UTF-8, plain or .xz, "
            "a paragraph a line"
        ) from error


def read_transcripts(manifest: Path) -> list[str]:
    """Return the texts to train on of a manifest (`.jsonl`), one a recording."""
    try:
        lines = manifest.read_text(encoding="utf-8").split("\n")
        rows = [json.loads(line) for line in lines if line.strip()]
        return [str(row["text"]) for row in rows if row.get("split", "train") == "train"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CorpusError(
            f"{manifest}: not readable as a manifest ({type(error).__name__}: {error}); expected "
            "JSON lines with `text`"
        ) from error


def _plain_sentence(candidate: str) -> str | None:
    """The sentence without quotation marks and dashes, or None if it isn't plain words."""
    sentence = _DASH.sub(", ", candidate.replace('"', "").replace("_", ""))
    sentence = " ".join(sentence.split()).strip("' ")
    if (
        _PLAIN_SENTENCE.fullmatch(sentence) is None
        or _QUOTE_LIKE_APOSTROPHE.search(sentence)
        or _CAPITALS.search(sentence)
        or WORD_WITHOUT_VOWEL.search(sentence)
    ):
        return None
    return sentence
