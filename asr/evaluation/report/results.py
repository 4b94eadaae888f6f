"""The JSON files of measurements: which kind each is, and where, when and how it was made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from asr.errors import AsrError

EVAL, STRESS = "eval", "stress"
"""Kinds that their files don't name."""

_SHAPES = {
    EVAL: ("wer", "ci95", "words", "utterances", "rows"),
    STRESS: ("ladder", "series", "budget_rtf"),
}
_NEEDED = {
    "bench": ("rows",),
    "sustained": ("rows", "samples"),
    "matrix": ("variants",),
    "peers": ("peers", "block_ms"),
    "tune": ("trials", "budget"),
    "loss": ("variants",),
}


@dataclass(frozen=True, slots=True)
class Result:
    """One file."""

    number: int  # in the report, from 1
    path: Path
    kind: str
    content: Mapping[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.content[key]

    def get(self, key: str) -> Any:
        """The value of a key; None where it isn't there."""
        return self.content.get(key)

    @property
    def model(self) -> str:
        """The model and its precision, in words."""
        name = (self.get("model") or {}).get("name", "")
        return " ".join(part for part in (name, self.get("precision")) if part)

    @property
    def parameters(self) -> float | None:
        """Parameters of the model."""
        return (self.get("model") or {}).get("parameters")

    @property
    def machine(self) -> str:
        """Where it ran, in words."""
        machine = self.get("machine") or {}
        cpus = machine.get("usable_cpus")
        parts = [
            machine.get("processor"),
            f"{cpus} CPUs" if cpus else None,
            machine.get("platform"),
        ]
        return ", ".join(part for part in parts if part) or "not stated"

    @property
    def data(self) -> str:
        """What was recognised, in words."""
        named = self.get("manifests") or self.get("recordings") or self.get("sources") or []
        names = ", ".join(_short(name) for name in named)
        split = f" ({self.get('split')})" if self.get("split") else ""
        return names + split


def read_results(paths: Sequence[Path]) -> tuple[Result, ...]:
    """Read what `asr eval`, `bench`, `peers` and `tune` wrote with --report.

    Raises AsrError for a file that can't be read, or is something else.
    """
    return tuple(_read(number, path) for number, path in enumerate(paths, start=1))


def _read(number: int, path: Path) -> Result:
    try:
        content: Any = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError, RecursionError) as error:
        raise AsrError(f"{path}: can't be read as JSON: {error}") from error
    kind = _kind(content)
    if kind is None:
        raise AsrError(
            f"{path}: not a result of this program; expected what --report of asr eval, asr bench, "
            "asr peers or asr tune wrote"
        )
    missing = [key for key in (_SHAPES | _NEEDED)[kind] if key not in content]
    if missing:
        raise AsrError(
            f"{path}: a result of kind {kind!r} without {', '.join(missing)}; measure it again "
            "with this version"
        )
    return Result(number, path, kind, content)


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is no number")


def _kind(content: Any) -> str | None:
    if not isinstance(content, dict) or "schema_version" not in content:
        return None
    named = content.get("kind")
    if named is not None:
        return named if named in _SHAPES | _NEEDED else None
    return next((kind for kind, keys in _SHAPES.items() if all(k in content for k in keys)), None)


def _short(name: str) -> str:
    """A corpus by its folder: all manifests have the same name."""
    path = Path(name)
    return path.parent.name if path.name == "manifest.jsonl" and path.parent.name else path.name
