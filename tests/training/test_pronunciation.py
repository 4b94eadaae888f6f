"""Pronunciations are looked up once, and a killed look-up goes on."""

import shutil
from pathlib import Path

import pytest

import training.pronunciation
from training.pronunciation import Pronunciations, phone_ids
from training.synthesis import PHONES

SPOKEN = {"red": ["pau", "r", "eh", "d", "pau"], "blue": ["pau", "b", "l", "uw", "pau"]}


def test_each_text_is_looked_up_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def pronounce(text: str) -> list[str]:
        asked.append(text)
        return SPOKEN[text]

    monkeypatch.setattr(training.pronunciation, "pronounce", pronounce)
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
