"""Corpora in the layouts that they come in, made on the spot, of noise."""

from pathlib import Path

import numpy as np
import soundfile

COLUMNS = "client_id path sentence_id sentence up_votes".split()


def write_table(folder: Path, name: str, *clips: tuple[str, str, str]) -> None:
    """Write a table of (speaker, number of the clip, sentence), and the clips, of 1 s."""
    lines = ["\t".join(COLUMNS)]
    (folder / "clips").mkdir(parents=True, exist_ok=True)
    for speaker, number, sentence in clips:
        path = f"common_voice_en_{number}.mp3"
        noise = np.random.default_rng(int(number)).normal(0, 0.1, 32_000)
        soundfile.write(folder / "clips" / path, noise, 32_000, format="MP3")
        lines.append("\t".join([speaker, path, "0a1b", sentence, "2"]))
    (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_chapter(subset: Path, speaker: str, chapter: str, texts: list[str]) -> Path:
    """Write recordings of 1 s, and their transcript."""
    folder = subset / speaker / chapter
    folder.mkdir(parents=True)
    lines = []
    for number, text in enumerate(texts):
        name = f"{speaker}-{chapter}-{number:04d}"
        noise = np.random.default_rng(number).normal(0, 0.1, 16_000)
        soundfile.write(folder / f"{name}.flac", noise, 16_000)
        lines.append(f"{name} {text}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return folder


def record(folder: Path, name: str, text: str | None = None, suffix: str = ".wav") -> None:
    path = folder / f"{name}{suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(len(name)).normal(0, 0.1, 8000), 8000)
    if text is not None:
        path.with_suffix(".txt").write_text(text, encoding="utf-8")
