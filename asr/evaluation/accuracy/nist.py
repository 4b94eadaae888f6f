"""What NIST's sclite reads: transcripts (.trn), words with times (.ctm) and segments (.stm).

The words are the normalised ones that are scored here, so sclite counts the same errors:

    sctk sclite -i spu_id -r OUT.ref.trn trn -h OUT.hyp.trn trn
    sctk sclite -r OUT.stm stm -h OUT.ctm ctm

The second aligns within segments of time, here one a recording, with the same costs. Names are
`SPEAKER-ID`, without the characters that end a name in these formats. sclite(1), section "File
formats": https://github.com/usnistgov/SCTK
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from asr.evaluation.accuracy.alignment import EditKind, align
from asr.evaluation.accuracy.scoring import UtteranceScore
from asr.results import Word
from asr.text import normalize
from asr.whole_files import write_whole

_NO_SPEAKER = "unknown"


def trn_paths(prefix: Path) -> tuple[Path, Path]:
    """Return the names of the reference's and the hypothesis's file."""
    return _named(prefix, ".ref.trn"), _named(prefix, ".hyp.trn")


def ctm_paths(prefix: Path) -> tuple[Path, Path]:
    """Return the names of the file of segments (.stm) and that of words (.ctm)."""
    return _named(prefix, ".stm"), _named(prefix, ".ctm")


def write_trn(prefix: Path, scores: Sequence[UtteranceScore]) -> None:
    """Write `trn_paths(prefix)`: a line an utterance, its words and then its name."""
    named = _names(scores)
    reference, hypothesis = trn_paths(prefix)
    _write(reference, (f"{score.reference} ({name})" for name, score in named))
    _write(hypothesis, (f"{score.hypothesis} ({name})" for name, score in named))


def write_ctm(prefix: Path, scores: Sequence[UtteranceScore]) -> None:
    """Write `ctm_paths(prefix)`: in the .ctm a line for each recognised word with start and length
    in s and confidence in [0, 1], in the .stm a line for each reference with its recording's
    length."""
    # sclite wants both in the order of their names.
    named = sorted(_names(scores), key=lambda item: item[0])
    words = [(name, score, hypothesis_words(score)) for name, score in named]
    segments, hypothesis = ctm_paths(prefix)
    _write(segments, (_stm_line(*item) for item in words))
    _write(hypothesis, (_ctm_line(name, word) for name, _, each in words for word in each))


def hypothesis_words(score: UtteranceScore) -> list[Word]:
    """Return the words of the normalised hypothesis with the times at which they were recognised.

    Normalising may make several words of one, or none. They share its time; what can't be assigned
    so, since its neighbours had a part in it, has no length and stands behind the word before it.
    """
    heard = [part for word in score.recognized.words for part in _spoken(word)]
    spelled = score.hypothesis.split()
    found: list[Word] = []
    waiting = iter(heard)
    for edit in align([word.text for word in heard], spelled).edits:
        if edit.kind is EditKind.DELETION:
            next(waiting)
        elif edit.kind is EditKind.INSERTION:
            assert edit.hypothesis is not None
            end_s = found[-1].end_s if found else 0.0
            found.append(Word(edit.hypothesis, end_s, end_s, 0.0))
        else:
            assert edit.hypothesis is not None
            found.append(replace(next(waiting), text=edit.hypothesis))
    return found


def _spoken(word: Word) -> list[Word]:
    """Return the normalised words of one, each with its share of the time."""
    texts = normalize(word.text).split()
    step_s = (word.end_s - word.start_s) / max(1, len(texts))
    starts = [word.start_s + index * step_s for index in range(len(texts))]
    return [
        Word(text, start_s, start_s + step_s, word.confidence)
        for text, start_s in zip(texts, starts, strict=True)
    ]


def _stm_line(name: str, score: UtteranceScore, words: Sequence[Word]) -> str:
    # A word may end behind its recording, in the padding, and still belongs to the segment.
    end_s = max([score.recognized.audio_s, *(word.end_s for word in words)])
    return f"{name} 1 {_speaker(score)} 0.00 {end_s:.2f} {score.reference}"


def _ctm_line(name: str, word: Word) -> str:
    length_s = word.end_s - word.start_s
    return f"{name} 1 {word.start_s:.2f} {length_s:.2f} {word.text} {word.confidence:.3f}"


def _names(scores: Iterable[UtteranceScore]) -> list[tuple[str, UtteranceScore]]:
    """Give each utterance a name that sclite takes: it doesn't tell upper from lower case."""
    taken: set[str] = set()
    named = []
    for score in scores:
        speaker, plain = _speaker(score), _plain(score.id)
        name = base = plain if plain.startswith(f"{speaker}-") else f"{speaker}-{plain}"
        number = 1
        while name.lower() in taken:
            number += 1
            name = f"{base}.{number}"
        taken.add(name.lower())
        named.append((name, score))
    return named


def _speaker(score: UtteranceScore) -> str:
    return _plain(score.utterance.speaker or _NO_SPEAKER).replace("-", "_")


def _plain(name: str) -> str:
    return re.sub(r"[\s();\"<>]", "_", name)


def _named(prefix: Path, suffix: str) -> Path:
    return prefix.with_name(prefix.name + suffix)


def _write(path: Path, lines: Iterable[str]) -> None:
    text = "".join(f"{line}\n" for line in lines)
    write_whole(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
