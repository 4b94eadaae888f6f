"""Protects that sclite counts the same errors in what is written for it."""

import random
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from asr.evaluation.accuracy.nist import hypothesis_words, write_ctm, write_trn
from asr.evaluation.accuracy.scoring import Figures, UtteranceScore
from asr.results import Word
from tests.asr.evaluated import scored

needs_sclite = pytest.mark.skipif(
    not shutil.which("sctk"), reason="sclite (Debian package sctk) not installed"
)


def random_scores(count: int) -> list[UtteranceScore]:
    """Of three speakers, some with nothing recognised, some whose words normalising changes."""
    generator = random.Random(1)
    vocabulary = "the cat sat on a mat don't Mr. ok st o'clock".split()
    scores = []
    for number in range(count):
        reference = generator.choices(vocabulary, k=generator.randint(1, 12))
        hypothesis = [
            word if generator.random() < 0.7 else generator.choice(vocabulary)
            for word in reference
            if generator.random() < 0.85
        ]
        hypothesis += generator.choices(vocabulary, k=generator.randint(0, 2))
        if number % 10 == 0:
            hypothesis = []
        speaker = (None, "ls-12", "so 9")[number % 3]
        name = f"{speaker}-{number}" if number % 2 else f"dev/{number}"
        scores.append(scored(name, " ".join(reference), " ".join(hypothesis), speaker))
    return scores


def sclite(folder: Path, command: str) -> list[int]:
    """Sentences, words, correct, substituted, deleted, inserted, errors, sentences with errors."""
    done = subprocess.run(
        f"sctk sclite {command} -o rsum stdout".split(),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    (line,) = re.findall(r"^ *\| Sum .*$", done.stdout, re.MULTILINE)
    return [int(number) for number in re.findall(r"\d+", line)[:8]]  # behind them: of confidence


def our_sum(scores: Sequence[UtteranceScore]) -> list[int]:
    figures = Figures.of(scores)
    errors = figures.errors
    counts = [errors.hits, errors.substitutions, errors.deletions, errors.insertions, errors.errors]
    return [len(scores), errors.words, *counts, round(figures.ser * len(scores))]


@needs_sclite
def test_sclite_agrees_on_transcripts(tmp_path: Path) -> None:
    scores = random_scores(300)
    write_trn(tmp_path / "out", scores)
    command = "-i spu_id -r out.ref.trn trn -h out.hyp.trn trn"
    assert sclite(tmp_path, command) == our_sum(scores)


@needs_sclite
def test_sclite_agrees_on_words_with_times(tmp_path: Path) -> None:
    scores = random_scores(300)
    write_ctm(tmp_path / "out", scores)
    assert sclite(tmp_path, "-r out.stm stm -h out.ctm ctm") == our_sum(scores)


def test_a_line_is_an_utterance_with_its_speaker(tmp_path: Path) -> None:
    scores = [
        scored("a(1) b", "Hello, world", "hello", speaker="s-1"),
        scored("84-121-0", "three", "", speaker="84"),
        scored("x", "one", "one"),
        scored("X", "one", "two"),
    ]
    write_trn(tmp_path / "out.v1", scores)
    assert (tmp_path / "out.v1.ref.trn").read_text().splitlines() == [
        "hello world (s_1-a_1__b)",
        "three (84-121-0)",
        "one (unknown-x)",
        "one (unknown-X.2)",  # to sclite, x and X are one
    ]
    assert (tmp_path / "out.v1.hyp.trn").read_text().splitlines()[:2] == [
        "hello (s_1-a_1__b)",
        " (84-121-0)",
    ]


def test_words_have_their_times_and_confidence(tmp_path: Path) -> None:
    write_ctm(tmp_path / "out", [scored("b", "so it goes", "So it"), scored("a", "well", "")])
    assert (tmp_path / "out.ctm").read_text().splitlines() == [
        "unknown-b 1 0.00 0.50 so 0.750",
        "unknown-b 1 0.50 0.50 it 0.750",
    ]
    assert (tmp_path / "out.stm").read_text().splitlines() == [
        "unknown-a 1 unknown 0.00 0.50 well",
        "unknown-b 1 unknown 0.00 1.00 so it goes",
    ]


@pytest.mark.parametrize(
    ("recognised", "expected"),
    [
        ("I'm at st", ["i'm 0.0", "at 0.5", "street 1.0"]),
        ("st john", ["saint 0.0", "john 0.5"]),
        ("8:30 pm ok", ["eight 0.0", "thirty 0.25", "p 0.5", "m 0.75", "okay 1.0"]),
        ("... yes", ["yes 0.5"]),
        ("2 1/2", ["two 0.0", "and 0.5", "one 0.5", "half 0.75"]),  # "and" is of both
    ],
)
def test_normalised_words_share_the_time_of_what_was_recognised(
    recognised: str, expected: list[str]
) -> None:
    words = hypothesis_words(scored("a", "x", recognised))
    assert [f"{word.text} {word.start_s:g}" for word in words] == [
        f"{text} {float(start):g}" for text, start in (item.split() for item in expected)
    ]
    assert all(isinstance(word, Word) and word.end_s >= word.start_s for word in words)
