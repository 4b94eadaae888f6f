"""What is kept of a machine holds for what it was found out of, and a damaged file is none."""

import json
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from asr.bundle import open_bundle
from asr.profile import ProfileKey, profile_key, profile_path, read_section, write_section

KEY = ProfileKey("sha", "int8", "onnx", 1, "onnxruntime 1", "cpu", 2, "beam")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "earshot"


def test_sections_are_kept_beside_each_other(cache: Path) -> None:
    assert read_section(KEY, "one") is None
    write_section(KEY, "one", {"a": 1})
    write_section(KEY, "two", [2.5])
    write_section(KEY, "one", {"a": 3})
    assert (read_section(KEY, "one"), read_section(KEY, "two")) == ({"a": 3}, [2.5])
    assert list(cache.iterdir()) == [profile_path(KEY)]


@pytest.mark.parametrize(
    "other",
    [{"bundle": "b"}, {"precision": "fp32"}, {"engine": "ort"}, {"threads": 2}, {"runtime": "x"}],
)
def test_a_profile_of_something_else_is_not_used(other: dict) -> None:
    write_section(KEY, "one", 1)
    assert read_section(replace(KEY, **other), "one") is None


DAMAGES: list[Callable[[dict], str]] = [
    lambda content: "",
    lambda content: "[]",
    lambda content: "3",
    lambda content: "[" * 100_000,
    lambda content: json.dumps(content)[:-5],
    lambda content: json.dumps({**content, "version": 0}),
    lambda content: json.dumps({**content, "key": {**content["key"], "cpu": "slower"}}),
]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_profile_is_none_and_is_made_again(damage: Callable[[dict], str]) -> None:
    write_section(KEY, "one", 1)
    path = profile_path(KEY)
    path.write_text(damage(json.loads(path.read_text())))
    assert read_section(KEY, "one") is None
    write_section(KEY, "one", 2)
    assert read_section(KEY, "one") == 2


def test_the_key_tells_versions_of_executorch_apart(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new one may miscompute: its self-test runs again. Without one, `asr info` still works."""
    bundle = open_bundle(tiny_bundle)
    graphs = replace(bundle.graphs(), engine="executorch")
    bundle = replace(bundle, variants=(graphs,))
    monkeypatch.setattr("importlib.metadata.version", lambda name: "1.4")
    assert profile_key(bundle, "int8", threads=1).runtime == "executorch 1.4"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("importlib.metadata.version", missing)
    assert profile_key(bundle, "int8", threads=1).runtime == "executorch"


def test_the_key_tells_bundles_apart(tiny_bundle: Path) -> None:
    bundle = open_bundle(tiny_bundle)
    key = profile_key(bundle, "int8", threads=1)
    assert key.bundle == bundle.sha256 and len(key.bundle) == 64
    assert key.engine == "onnx" and key.runtime.startswith("onnxruntime 1.")
    assert key != profile_key(bundle, "int8", threads=2)
