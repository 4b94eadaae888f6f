"""Pronunciations are looked up once, and a killed look-up goes on."""

import shutil
from pathlib import Path

import pytest

import training.pronunciation
from asr.errors import CorpusError
from training.pronunciation import Pronunciations, phone_ids
from training.synthesis import PHONES, SynthesizerRefusal

SPOKEN = {"red": ["pau", "r", "eh", "d", "pau"], "blue": ["pau", "b", "l", "uw", "pau"]}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Texts that were looked up, by a synthesiser that says only SPOKEN."""
    texts: list[str] = []

    def pronounce(text: str) -> list[str]:
        texts.append(text)
        return SPOKEN[text]

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)
    return texts


def test_each_text_is_looked_up_once(tmp_path: Path, asked: list[str]) -> None:
    path = tmp_path / "phones.jsonl"
    Pronunciations(path).add(["red", "red"])
    with path.open("a") as file:
        file.write('["blue", "pau b')  # killed here
    again = Pronunciations(path)
    again.add(["blue", "red"])
    assert sorted(asked) == ["blue", "red"]
    assert [PHONES[i] for i in Pronunciations(path)["blue"]] == ["b", "l", "uw"]
    assert [PHONES[i] for i in again["red"]] == ["r", "eh", "d"]


def test_silence_is_left_to_the_blank() -> None:
    assert PHONES[0] == "pau", "CTC's blank is 0"
    assert 0 not in phone_ids(["pau", "r", "pau", "eh"])


@pytest.mark.skipif(shutil.which("flite") is None, reason="flite is not installed")
def test_flite_knows_english(tmp_path: Path) -> None:
    found = Pronunciations(tmp_path / "phones.jsonl")
    found.add(["the house"])
    assert [PHONES[i] for i in found["the house"]] == ["dh", "ax", "hh", "aw", "s"]


def test_a_text_that_flite_refuses_has_no_phones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pronounce(text: str) -> list[str]:
        if text == "unspeakable":
            raise SynthesizerRefusal("flite failed with status 1")
        return SPOKEN.get(text, ["y", "eh", "s"])

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)
    path = tmp_path / "phones.jsonl"
    found = Pronunciations(path)
    found.add(["red", "unspeakable"])
    for each in (found, Pronunciations(path)):
        assert each["unspeakable"] == []
        assert len(each["red"]) == 3


def test_a_flite_that_says_nothing_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or every text would be kept as one without phones."""

    def pronounce(text: str) -> list[str]:
        raise SynthesizerRefusal("flite failed with status 127: no libflite.so")

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)
    with pytest.raises(CorpusError, match="libflite"):
        Pronunciations(tmp_path / "phones.jsonl").add(["red"])
    assert (tmp_path / "phones.jsonl").read_text() == ""


def test_what_another_run_looked_up_meanwhile_is_not_looked_up_again(
    tmp_path: Path, asked: list[str]
) -> None:
    path = tmp_path / "phones.jsonl"
    late = Pronunciations(path)
    Pronunciations(path).add(["red"])
    late.add(["red", "blue"])
    assert asked == ["red", "blue"]
    assert len(path.read_text().splitlines()) == 2
