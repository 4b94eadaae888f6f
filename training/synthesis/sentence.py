"""A sentence as a synthesiser must be given it, so that it says the words of the transcript."""

import re
from dataclasses import dataclass

from asr.text import normalize

_PAUSE = re.compile(r"[,;:]\s+")
_SPELLED_A = "eigh"  # flite, festival and espeak-ng all read it as the letter's name
_VAGUE = ("a", "i")  # letters that are words


@dataclass(frozen=True)
class Sentence:
    """What is said, written for a synthesiser and for a recogniser."""

    spoken: str  # with its punctuation, which places the pauses
    text: str  # its words, normalised


def as_spoken(written: str) -> Sentence:
    """Any written sentence in words: "$5, at 3 A.M.?" -> "five dollars, at three eigh m?".

    The text is `asr.text.normalize`'s, which is what is then said. Letters that are spelled stay
    letters; an "a" among them is respelled, because synthesisers take it for the article.
    """
    text = normalize(written)
    end = written.rstrip("\"' ")[-1:]
    clauses = [clause for part in _PAUSE.split(written) if (clause := normalize(part))]
    if " ".join(clauses) != text:  # what a word is depends on its neighbour
        clauses = [text]
    spoken = ", ".join(clauses)
    return Sentence(_respell(spoken) + (end if end in ("?", "!") else "."), text)


def _respell(spoken: str) -> str:
    words = spoken.split()
    letters = [word.rstrip(",") if len(word.rstrip(",")) == 1 else "" for word in words]
    start = 0
    while start < len(words):
        end = start
        while end < len(words) and letters[end]:
            end += 1
        run = letters[start:end]
        if len(run) > 1 and not set(run) <= set(_VAGUE):
            words[start:end] = [
                _SPELLED_A + word[1:] if word[0] == "a" else word for word in words[start:end]
            ]
        start = end + 1
    return " ".join(words)
