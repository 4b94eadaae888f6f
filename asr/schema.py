"""Plain data from a file to dataclasses, with errors that name the key."""

import sys
from collections.abc import Collection, Iterable
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")


class SchemaError(Exception):
    """Data that doesn't fit. The message names the key; the caller adds the file."""


def check_keys(content: Any, expected: Iterable[str], where: str) -> None:
    """Check that `content` is a mapping with exactly the expected keys.

    `where` is the dotted path of `content` in its file, empty at the top. Raises SchemaError.
    """
    prefix = f"{where}." if where else ""
    known = list(expected)
    if not isinstance(content, dict):
        raise SchemaError(f"{where or 'the file'}: expected an object, got {content!r}")
    for key in content:
        if key not in known:
            raise SchemaError(f"unknown key '{prefix}{key}'; {suggestion(key, known)}")
    for key in known:
        if key not in content:
            raise SchemaError(f"missing key '{prefix}{key}'")


def suggestion(key: object, known: Collection[str]) -> str:
    """Return what to say about an unknown key: the nearest known one, or all of them."""
    nearest = get_close_matches(str(key), known, n=1, cutoff=0.5)
    return f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(known)}"


def read_dataclass(cls: type[T], content: Any, where: str) -> T:
    """Return `cls(**content)` for a dataclass with fields of int, float and str.

    A whole number is taken for a float. Raises SchemaError for an unknown or missing key, a value
    of another type, or a float that is not finite.
    """
    check_keys(content, [item.name for item in fields(cls)], where)  # type: ignore[arg-type]
    kinds = get_type_hints(cls)
    values: dict[str, Any] = {}
    for key, value in content.items():
        kind = kinds[key]
        fits = is_finite(value) if kind is float else isinstance(value, kind)
        if not fits or isinstance(value, bool):
            raise SchemaError(f"{where}.{key}: expected {kind.__name__}, got {value!r}")
        values[key] = kind(value)
    return cls(**values)


def is_finite(value: Any) -> bool:
    """Whether `value` is a number that a float can hold: not NaN or Infinity, which Python's JSON
    and YAML readers let through, nor a whole number beyond every float."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max
