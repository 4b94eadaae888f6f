"""Which sentences of a novel are spoken: each once, and only those with one reading."""

import lzma
from pathlib import Path

import pytest

from asr.errors import CorpusError
from training.sentences import sentences

NOVEL = [f"The captain saw {word} boats, and went home." for word in ["red", "blue", "old", "fine"]]


def write_text(folder: Path, *paragraphs: str) -> Path:
    path = folder / "text.txt"
    path.write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("paragraph", "expected"),
    [
        ('"Well, then," said he. "Shall we go now?"', ["Well, then, said he.", "Shall we go now?"]),
        ('"It can’t be true!" he would say.', ["It can't be true! he would say."]),
        ("He went--so they said—to the sea.", ["He went, so they said, to the sea."]),
        ("I saw Mr. Smith go home. He was tired.", ["He was tired."]),
        ("They met J. Smith by the sea. It was late.", ["It was late."]),
        ("There were 12 of them here. None came back.", ["None came back."]),
        ("SO MUCH FOR THE SEA! It was so cold.", ["It was so cold."]),
        ("Then Henry V was the king. I was there.", ["I was there."]),
        ("The 'great' man came home. He sat down.", ["He sat down."]),
        ("The café was quite full. We sat outside.", ["We sat outside."]),
        ("Hush. Go on. Say that again.", ["Say that again."]),
        ("A heading without a period", []),
        (" ".join(["Words"] + ["and more"] * 13) + ".", []),
    ],
)
def test_only_sentences_that_can_be_read_one_way_are_kept(
    tmp_path: Path, paragraph: str, expected: list[str]
) -> None:
    text = write_text(tmp_path, paragraph)
    assert list(sentences(text, seed=0)) == expected


def test_each_sentence_is_drawn_once_in_an_order_given_by_the_seed(tmp_path: Path) -> None:
    text = write_text(tmp_path, *NOVEL, *NOVEL)
    drawn = list(sentences(text, seed=3))
    assert sorted(drawn) == sorted(NOVEL)
    assert drawn == list(sentences(text, seed=3))
    assert drawn != list(sentences(text, seed=4))


def test_compressed_text_is_the_same_text(tmp_path: Path) -> None:
    plain = write_text(tmp_path, *NOVEL)
    compressed = tmp_path / "text.txt.xz"
    compressed.write_bytes(lzma.compress(plain.read_bytes()))
    assert list(sentences(compressed, seed=1)) == list(sentences(plain, seed=1))


def test_a_text_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    damaged = tmp_path / "text.txt.xz"
    damaged.write_bytes(b"not xz at all")
    with pytest.raises(CorpusError, match=r"text\.txt\.xz"):
        list(sentences(damaged, seed=0))
