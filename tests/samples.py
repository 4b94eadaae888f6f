"""The recordings in data/samples and what is said in them."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

FOLDER = Path("data/samples")


@dataclass(frozen=True)
class Sample:
    """One recording."""

    name: str
    path: Path
    text: str


def _read() -> list[Sample]:
    rows = [json.loads(line) for line in (FOLDER / "manifest.jsonl").read_text().splitlines()]
    return [Sample(row["id"], FOLDER / row["audio"], row["text"]) for row in rows]


SAMPLES = _read()


def read_samples(sample: Sample) -> np.ndarray:
    """Return the recording `(n,)` at 16 kHz."""
    samples, rate = soundfile.read(sample.path, dtype="float32")
    assert rate == 16_000
    return samples
