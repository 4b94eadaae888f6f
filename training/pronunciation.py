"""The phones of transcripts, looked up once and kept: targets for the lower encoder blocks."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from training.locking import exclusive
from training.synthesis import PHONES, SILENCE, SynthesizerRefusal, pronounce

_IDS = {phone: number for number, phone in enumerate(PHONES)}


class Pronunciations:
    """Phone ids of texts, silences left out; new ones are appended to a file of JSON lines.

    There are none for a text that flite can't say.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._phones: dict[str, list[int]] = {}
        self._read()

    def __getitem__(self, text: str) -> list[int]:
        return self._phones[text]

    def add(self, texts: Iterable[str]) -> None:
        """Look up what is missing. Raises CorpusError if flite is missing or broken."""
        asked = set(texts)
        if asked <= self._phones.keys():
            return
        with exclusive(self._path.with_suffix(".lock")):
            self._read()  # another run may have added some meanwhile
            self._drop_partial_line()
            self._look_up(sorted(asked - self._phones.keys()))

    def _look_up(self, texts: list[str]) -> None:
        with (
            self._path.open("a", encoding="utf-8") as file,
            ThreadPoolExecutor(os.cpu_count()) as pool,
        ):
            found = pool.map(_pronounce_or_nothing, texts)
            progress = track(found, "phones", len(texts), console=Console(stderr=True))
            for text, phones in zip(texts, progress, strict=True):
                file.write(json.dumps([text, " ".join(phones)]) + "\n")
                self._phones[text] = phone_ids(phones)

    def _read(self) -> None:
        if self._path.exists():
            for line in self._path.read_text(encoding="utf-8").split("\n")[:-1]:
                text, phones = json.loads(line)
                self._phones[text] = phone_ids(phones.split())

    def _drop_partial_line(self) -> None:
        """Remove a last line that a kill cut short."""
        if self._path.exists():
            content = self._path.read_bytes()
            complete = content.rfind(b"\n") + 1
            if complete < len(content):
                os.truncate(self._path, complete)


def _pronounce_or_nothing(text: str) -> list[str]:
    try:
        return pronounce(text)
    except SynthesizerRefusal:
        pronounce("yes")  # raises if it is flite that fails, and not only on this text
        return []


def phone_ids(phones: Iterable[str]) -> list[int]:
    """Return the ids of phones, silences left out: they are CTC's blank."""
    return [_IDS[phone] for phone in phones if phone != SILENCE]
