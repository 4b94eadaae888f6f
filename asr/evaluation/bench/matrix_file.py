"""What `asr bench --matrix` compares: a YAML file.

manifest: dev.jsonl        # relative to this file; texts give the WER; optional, as the next two
split: dev                 # of the manifest
limit: 40                  # recordings
repeat: 3                  # optional: passes over them
variants:
  - name: baseline         # the others' WER and times are set against it
    model: bundles/plain   # relative to this file; without: the built-in model
    precision: int8
    engine: onnx           # optional, where the bundle has several
    threads: 1
    chunk_ms: 320          # without: the model's own
  - {name: fused, model: bundles/fused}
grid:                      # all combinations, named for what they are
  precision: [int8, fp32]
  chunk_ms: [160, 320]
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Any

from asr.errors import AsrError
from asr.schema import suggestion

BASELINE = "baseline"

_KEYS = ("manifest", "split", "limit", "repeat", "variants", "grid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One way to run a model."""

    name: str
    model: Path | None = None  # None: the built-in one
    precision: str | None = None  # None: the first of the bundle
    engine: str | None = None  # None: the one that loads fastest
    threads: int = 1
    chunk_ms: int | None = None  # None: the model's own


@dataclass(frozen=True, slots=True)
class MatrixPlan:
    """What to compare, on what."""

    variants: tuple[Variant, ...]  # at least one, no two of a name
    manifest: Path | None  # None: the samples, or what the command names
    split: str | None = None
    limit: int | None = None
    repeat: int = 3

    @property
    def baseline(self) -> int:
        """Which variant times are set against: the one of that name, else the first."""
        names = [variant.name for variant in self.variants]
        return names.index(BASELINE) if BASELINE in names else 0


def read_matrix(path: Path) -> MatrixPlan:
    """Read a matrix. Raises AsrError that names the file and the key."""
    if find_spec("yaml") is None:
        raise AsrError("--matrix needs a YAML reader: pip install 'earshot-asr[eval]'")
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    # ValueError: not UTF-8, or a date that there never was; RecursionError: lists without end.
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        raise AsrError(f"can't read the matrix {path}: {error}") from error
    _check_keys(content, _KEYS, f"{path}")
    variants = [_variant(item, path) for item in _list(content, "variants", path)]
    variants += [_variant(item, path) for item in _combinations(content.get("grid"), path)]
    if not variants:
        raise AsrError(f"{path}: nothing to compare; expected variants or a grid")
    names = [variant.name for variant in variants]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise AsrError(f"{path}: two variants are named {twice!r}; name each otherwise")
    manifest = _typed(content, "manifest", str, path)
    repeat = _typed(content, "repeat", int, path)
    return MatrixPlan(
        tuple(variants),
        manifest=None if manifest is None else path.parent / manifest,
        split=_typed(content, "split", str, path),
        limit=_typed(content, "limit", int, path),
        repeat=3 if repeat is None else repeat,
    )


def _variant(content: Any, path: Path) -> Variant:
    _check_keys(content, [item.name for item in fields(Variant)], f"{path}: variants")
    if not isinstance(content.get("name"), str):
        raise AsrError(f"{path}: a variant without a name: {content!r}")
    where = Path(f"{path}: {content['name']}")
    model = _typed(content, "model", str, where)
    threads = _typed(content, "threads", int, where)
    return Variant(
        name=content["name"],
        model=None if model is None else path.parent / model,
        precision=_typed(content, "precision", str, where),
        engine=_typed(content, "engine", str, where),
        threads=1 if threads is None else threads,
        chunk_ms=_typed(content, "chunk_ms", int, where),
    )


def _combinations(grid: Any, path: Path) -> list[dict[str, Any]]:
    if grid is None:
        return []
    keys = [item.name for item in fields(Variant) if item.name != "name"]
    _check_keys(grid, keys, f"{path}: grid")
    lists = [_list(grid, key, path) for key in grid]
    combinations = []
    for values in product(*lists):
        combination = dict(zip(grid, values, strict=True))
        combinations.append(combination | {"name": _name(combination)})
    return combinations


def _name(values: Mapping[str, Any]) -> str:
    said = {"threads": "{} threads", "chunk_ms": "{} ms"}
    parts = [said.get(key, "{}").format(value) for key, value in values.items()]
    return " ".join(parts)


def _check_keys(content: Any, known: Any, where: str) -> None:
    if not isinstance(content, dict):
        raise AsrError(f"{where}: expected keys and values, got {content!r}")
    for key in content:
        if key not in known:
            raise AsrError(f"{where}: unknown key {key!r}; {suggestion(key, known)}")


def _list(content: Mapping[str, Any], key: str, path: Path) -> list[Any]:
    value = content.get(key) or []
    if not isinstance(value, list):
        raise AsrError(f"{path}: {key} is {value!r}; expected a list")
    return value


def _typed(content: Mapping[str, Any], key: str, kind: type, path: Path) -> Any:
    value = content.get(key)
    if value is None:
        return None
    if (
        not isinstance(value, kind)
        or isinstance(value, bool)
        or (isinstance(value, int) and value < 1)
    ):
        expected = "a number, 1 or more" if kind is int else "text"
        raise AsrError(f"{path}: {key} is {value!r}; expected {expected}")
    return value
