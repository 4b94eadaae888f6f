"""Protects that our error counts are those that sclite would give."""

import random
import re
import shutil
import subprocess
import time
from pathlib import Path

import jiwer
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asr.evaluation.accuracy.alignment import EditKind, align

WORDS = st.lists(st.sampled_from("abcd"), max_size=8)


def counts(reference: str, hypothesis: str) -> tuple[int, int, int, int]:
    found = align(reference.split(), hypothesis.split())
    return found.hits, found.substitutions, found.insertions, found.deletions


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("", "", (0, 0, 0, 0)),
        ("a b c", "a b c", (3, 0, 0, 0)),
        ("a b c", "a x c", (2, 1, 0, 0)),
        ("a b", "", (0, 0, 0, 2)),
        ("", "a b", (0, 0, 2, 0)),
        ("a b c", "a c", (2, 0, 0, 1)),
        ("a c", "a b c", (2, 0, 1, 0)),
        # Equal costs would see two substitutions; 3/3/4 finds the word that fits.
        ("a b", "b c", (1, 0, 1, 1)),
    ],
)
def test_counts(reference: str, hypothesis: str, expected: tuple[int, int, int, int]) -> None:
    assert counts(reference, hypothesis) == expected


def test_edits_are_in_order_with_their_words() -> None:
    edits = align("the cat sat".split(), "cat sat down".split()).edits
    assert [(edit.kind, edit.reference, edit.hypothesis) for edit in edits] == [
        (EditKind.DELETION, "the", None),
        (EditKind.HIT, "cat", "cat"),
        (EditKind.HIT, "sat", "sat"),
        (EditKind.INSERTION, None, "down"),
    ]


@settings(deadline=None)
@given(WORDS, WORDS)
def test_edits_spell_both_sequences(reference: list[str], hypothesis: list[str]) -> None:
    edits = align(reference, hypothesis).edits
    assert [edit.reference for edit in edits if edit.reference is not None] == reference
    assert [edit.hypothesis for edit in edits if edit.hypothesis is not None] == hypothesis
    for edit in edits:
        assert (edit.reference == edit.hypothesis) == (edit.kind is EditKind.HIT)


@settings(deadline=None)
@given(WORDS.filter(bool), WORDS)
def test_cheapest_by_its_own_costs(reference: list[str], hypothesis: list[str]) -> None:
    """jiwer's equal costs give the fewest errors there are; sclite's may trade some for hits."""
    theirs = jiwer.process_words(" ".join(reference), " ".join(hypothesis))
    _, substitutions, insertions, deletions = counts(" ".join(reference), " ".join(hypothesis))
    fewest = theirs.substitutions + theirs.insertions + theirs.deletions
    assert substitutions + insertions + deletions >= fewest
    assert 3 * (insertions + deletions) + 4 * substitutions <= (
        3 * (theirs.insertions + theirs.deletions) + 4 * theirs.substitutions
    )


@pytest.mark.parametrize(
    ("reference", "hypothesis"),
    [
        ("the cat sat on the mat", "the cat sat on mat"),
        ("the cat sat on the mat", "a cat sat upon the mat today"),
        ("one two three four", "one too three for"),
        ("please press one", "please press press one"),
    ],
)
def test_equals_jiwer_where_the_alignment_is_plain(reference: str, hypothesis: str) -> None:
    theirs = jiwer.process_words(reference, hypothesis)
    expected = (theirs.hits, theirs.substitutions, theirs.insertions, theirs.deletions)
    assert counts(reference, hypothesis) == expected


def random_pairs(count: int) -> list[tuple[str, str]]:
    """Hypotheses with a few errors, and some of random words: every kind of tie comes up."""
    generator = random.Random(0)
    pairs = []
    for _ in range(count):
        alphabet = "abcdefgh"[: generator.randint(2, 8)]
        reference = generator.choices(alphabet, k=generator.randint(1, 12))
        hypothesis = [
            word if generator.random() < 0.7 else generator.choice(alphabet)
            for word in reference
            if generator.random() < 0.85
        ]
        hypothesis += generator.choices(alphabet, k=generator.randint(0, 3))
        pairs.append((" ".join(reference), " ".join(hypothesis)))
    return pairs


@pytest.mark.skipif(not shutil.which("sctk"), reason="sclite (Debian package sctk) not installed")
def test_equals_sclite_on_random_hypotheses(tmp_path: Path) -> None:
    """Utterance by utterance, so the ties are resolved as sclite resolves them too."""
    pairs = random_pairs(1500)
    for name, side in [("ref.trn", 0), ("hyp.trn", 1)]:
        lines = [f"{pair[side]} (spk-{number:05})\n" for number, pair in enumerate(pairs)]
        (tmp_path / name).write_text("".join(lines))
    command = "sctk sclite -r ref.trn trn -h hyp.trn trn -i rm -o pralign stdout"
    done = subprocess.run(
        command.split(), cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    found = re.findall(r"Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)", done.stdout)
    names = re.findall(r"id: \(spk-(\d+)\)", done.stdout)
    assert len(found) == len(names) == len(pairs)
    for name, (hits, substitutions, deletions, insertions) in zip(names, found, strict=True):
        theirs = (int(hits), int(substitutions), int(insertions), int(deletions))
        assert counts(*pairs[int(name)]) == theirs, pairs[int(name)]


def test_ten_thousand_utterances_take_seconds() -> None:
    pairs = [(reference.split() * 2, other.split() * 2) for reference, other in random_pairs(500)]
    started = time.process_time()
    for reference, hypothesis in pairs:
        align(reference, hypothesis)
    assert time.process_time() - started < 1.0  # seconds for 500, about 13 words each
