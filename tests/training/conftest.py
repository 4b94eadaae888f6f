"""A language of tones: enough like speech to be learned in seconds, and made on the spot."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

PHONES = {"red": "r", "green": "g", "blue": "b", "white": "w", "black": "k"}

WORDS = {"red": 300, "green": 600, "blue": 1200, "white": 2400, "black": 4800}
"""Each word is a tone that rises by half; its frequency in Hz."""


def speak(text: str, seed: int) -> np.ndarray:
    """Say words of WORDS: samples `(n,)` at 16 kHz, a little noisy."""
    generator = np.random.default_rng(seed)
    time = np.arange(4800) / 16_000
    parts = [np.zeros(1600)]
    for word in text.split():
        hertz = WORDS[word] * (1 + time / 0.6)
        parts += [0.2 * np.sin(2 * np.pi * np.cumsum(hertz) / 16_000), np.zeros(1600)]
    samples = np.concatenate(parts)
    return (samples + generator.normal(0, 0.003, len(samples))).astype(np.float32)


def phone_times(text: str) -> list[tuple[str, float]]:
    """One phone for each word of `speak`, and the silences, with end times in s."""
    phones = [("pau", 0.1)]
    for number, word in enumerate(text.split()):
        start = 0.1 + 0.4 * number
        phones += [(PHONES[word], start + 0.3), ("pau", start + 0.4)]
    return phones


def write_corpus(folder: Path, split: str, texts: list[str]) -> Path:
    """Write recordings and their rows; rows are added to those that are there."""
    folder.mkdir(parents=True, exist_ok=True)
    manifest = folder / "manifest.jsonl"
    with manifest.open("a", encoding="utf-8") as rows:
        for number, text in enumerate(texts):
            name = f"{split}-{number}"
            samples = speak(text, number)
            soundfile.write(folder / f"{name}.flac", samples, 16_000)
            row = {
                "id": name,
                "split": split,
                "speaker": "tones",
                "audio": f"{name}.flac",
                "duration": len(samples) / 16_000,
                "text": text,
                "phones": phone_times(text),
            }
            rows.write(json.dumps(row) + "\n")
    return manifest


def sentences(count: int, seed: int = 0) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(list(WORDS), generator.integers(2, 6))) for _ in range(count)]


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the corpus `tones`: 24 utterances to train on, the first 6 also to test."""
    root = tmp_path_factory.mktemp("corpora")
    texts = sentences(24)
    write_corpus(root / "tones", "train", texts)
    write_corpus(root / "tones", "dev", texts[:6])
    return root
