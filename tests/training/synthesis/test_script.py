"""What a corpus says: every sentence once, frequent words early, made-up forms between them."""

import json
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from asr.errors import CorpusError
from training.sentences import sentences
from training.synthesis.script import covering, script
from training.synthesis.sentence import Sentence

VOWELS = ("a", "ai", "e", "ea", "i", "o", "oa", "u")


def test_a_text_is_spoken_as_its_sentences_come(text: Path) -> None:
    said = list(script(text, seed=3))
    assert [sentence.spoken for sentence in said] == list(sentences(text, seed=3))
    assert said[0].text.startswith("the old captain saw ")


def test_only_transcripts_to_train_on_are_spoken(tmp_path: Path) -> None:
    rows = [
        {"text": "Press 1 for A.M.", "split": "train"},
        {"text": "stop"},
        {"text": "stop"},
        {"text": "never heard", "split": "dev"},
        {"text": "hmm"},
        {"text": ""},
        {"text": " ".join(["word"] * 26)},
    ]
    manifest = tmp_path / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows))
    said = {sentence.text: sentence.spoken for sentence in script(manifest, seed=1)}
    assert said == {"press one for a m": "press one for eigh m.", "stop": "stop."}


def test_a_manifest_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    manifest = tmp_path / "manifest.jsonl"
    for content in ("not json\n", '{"id": "no text"}\n', "[1]\n"):
        manifest.write_text(content)
        with pytest.raises(CorpusError, match=r"manifest\.jsonl.*`text`"):
            list(script(manifest, seed=1))


def test_words_that_are_frequent_and_not_yet_said_come_early() -> None:
    dull = [Sentence("", f"he was there and he was {word}") for word in ("a", "b", "c", "d")]
    new = [Sentence("", "horses ran home"), Sentence("", "horses ran away")]
    counts = Counter(he=900, was=900, there=100, horses=300, ran=300, home=200, away=200)
    said = list(covering(iter([*dull, *new, *dull, *dull, *dull]), counts))
    assert said[0] == new[0]
    assert said[3] == new[1], "of all that was passed over, it is the newest"
    assert Counter(said) == Counter([*dull, *new, *dull, *dull, *dull]), "none is lost"


def test_coverage_says_more_of_the_frequent_words(tmp_path: Path) -> None:
    names = [
        f"{a}{b}ne" for a in ("b", "d", "f", "g", "k", "l", "m", "r", "s", "t") for b in VOWELS
    ]
    draw = np.random.default_rng(1)
    frequency = 1 / np.arange(1, len(names) + 1)
    three = draw.choice(names, (900, 3), p=frequency / frequency.sum())
    text = tmp_path / "text.txt"
    text.write_text("".join(f"The {a} saw {b} near {c}.\n" for a, b, c in three))
    frequent = {name for name, _ in Counter(three.flatten().tolist()).most_common(60)}

    def covered(choice: str) -> int:
        said = islice(script(text, seed=2, choice=choice), 40)
        return len(frequent & {word for sentence in said for word in sentence.text.split()})

    assert covered("coverage") > 1.25 * covered("random")
    assert Counter(script(text, 2, "coverage")) == Counter(script(text, 2)), "none is lost"


def test_a_share_of_what_is_said_is_made_up(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    names = [f"{a}a{b}{c}e" for a in "bdfgklmnprst" for b in "lmnrst" for c in "kdt"]
    text.write_text("".join(f"They saw {a} and {b}.\n" for a in names[:25] for b in names[25:50]))
    plain = list(script(text, seed=1))
    mixed = list(script(text, seed=1, spoken_forms=0.2))
    assert [sentence for sentence in mixed if sentence in set(plain)] == plain
    assert 0.15 < 1 - len(plain) / len(mixed) < 0.25
    assert mixed == list(script(text, seed=1, spoken_forms=0.2))
    assert mixed != list(script(text, seed=2, spoken_forms=0.2))
