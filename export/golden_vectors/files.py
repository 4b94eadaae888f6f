"""Writing and reading golden vectors: the same content gives the same bytes."""

import gzip
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from asr.results import Event

Json = Any
"""What `json` reads and writes."""


def write_json(path: Path, content: Json) -> None:
    """Write JSON with a line for each member of the outermost object or list; `.gz` is packed."""
    dump = lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":"))  # noqa: E731
    if isinstance(content, Mapping):
        lines = [f"{dump(key)}:{dump(value)}" for key, value in content.items()]
        text = "{\n" + ",\n".join(lines) + "\n}\n"
    else:
        text = "[\n" + ",\n".join(map(dump, content)) + "\n]\n"
    data = text.encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)


def read_json(path: Path) -> Json:
    """Read what `write_json` wrote."""
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write arrays as a packed `.npz`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(path, allow_pickle=False, **arrays)


def read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read what `write_arrays` wrote."""
    with np.load(path, allow_pickle=False) as file:
        return dict(file)


def event_json(event: Event) -> Json:
    """Return an event as plain data: its fields and its type."""
    return {"type": type(event).__name__, **asdict(event)}
