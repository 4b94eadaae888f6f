"""The phones of transcripts, looked up once and kept: targets for the lower encoder blocks."""

import json
import os
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from rich.console import Console
from rich.progress import track

from training.synthesis import PHONES, SILENCE, pronounce

_IDS = {phone: number for number, phone in enumerate(PHONES)}


class Pronunciations:
    """Phone ids of texts, silences left out; new ones are appended to a file of JSON lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._phones: dict[str, list[int]] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").split("\n")[:-1]:
                text, phones = json.loads(line)
                self._phones[text] = phone_ids(phones.split())

    def __getitem__(self, text: str) -> list[int]:
        return self._phones[text]

    def add(self, texts: Iterable[str]) -> None:
        """Look up what is missing. Raises CorpusError if flite is missing or fails."""
        missing = sorted(set(texts) - self._phones.keys())
        if not missing:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._drop_partial_line()
        with (
            self._path.open("a", encoding="utf-8") as file,
            ThreadPoolExecutor(os.cpu_count()) as pool,
        ):
            found = pool.map(pronounce, missing)
            progress = track(found, "phones", len(missing), console=Console(stderr=True))
            for text, phones in zip(missing, progress, strict=True):
                file.write(json.dumps([text, " ".join(phones)]) + "\n")
                self._phones[text] = phone_ids(phones)

    def _drop_partial_line(self) -> None:
        """Remove a last line that a kill cut short."""
        if self._path.exists():
            content = self._path.read_bytes()
            complete = content.rfind(b"\n") + 1
            if complete < len(content):
                os.truncate(self._path, complete)


def phone_ids(phones: Iterable[str]) -> list[int]:
    """Return the ids of phones, silences left out: they are CTC's blank."""
    return [_IDS[phone] for phone in phones if phone != SILENCE]
