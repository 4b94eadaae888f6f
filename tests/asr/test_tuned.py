"""What was chosen for a model on this machine is used where nothing is named, and only there."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

import asr
from asr.bundle import Bundle, open_bundle
from asr.cli import app
from asr.errors import AsrError
from asr.profile import profile_key, profile_path
from asr.tuned import TunedPoint, read_tuned, write_tuned

POINT = TunedPoint("int8", "onnx", 2, 640, 0.4, 0.01, 700.0, 90.0, "2026-11-21T12:00:00+00:00")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "earshot"


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return open_bundle(tiny_bundle)


def test_a_point_is_kept_and_forgotten(bundle: Bundle) -> None:
    assert read_tuned(bundle) is None
    write_tuned(bundle, POINT)
    assert read_tuned(bundle) == POINT
    write_tuned(bundle, None)
    assert read_tuned(bundle) is None


def test_it_is_used_where_nothing_is_named(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    open_engine = asr.recognizer.open_engine

    def spy(bundle: Bundle, precision: str, threads: int, engine: str) -> object:
        opened.append((precision, threads, engine))
        return open_engine(bundle, precision, threads, engine)

    monkeypatch.setattr("asr.recognizer.open_engine", spy)
    assert asr.load(bundle.path).chunk_ms == 320
    write_tuned(bundle, POINT)
    assert asr.load(bundle.path).chunk_ms == 640
    assert opened == [("int8", 1, "onnx"), ("int8", 2, "onnx")]


@pytest.mark.parametrize(
    "named", [{"precision": "int8"}, {"engine": "onnx"}, {"chunk_ms": 320}, {"threads": 1}]
)
def test_any_option_wins(bundle: Bundle, named: dict) -> None:
    write_tuned(bundle, POINT)
    assert asr.load(bundle.path, **named).chunk_ms == 320


def test_info_says_so(bundle: Bundle) -> None:
    def info() -> str:
        return CliRunner().invoke(app, ["info", "--model", str(bundle.path)]).stdout

    assert "runs with" not in info()
    write_tuned(bundle, POINT)
    assert "int8, chunks of 640 ms, 2 threads, unless an option is given: asr tune, 2026" in info()


@pytest.mark.parametrize(
    "damage",
    [
        {"precision": "int3"},
        {"engine": "abacus"},
        {"threads": 0},
        {"threads": "2"},
        {"chunk_ms": None},
        {"surplus": 1},
    ],
)
def test_a_damaged_one_is_none(bundle: Bundle, damage: dict) -> None:
    write_tuned(bundle, POINT)
    path = profile_path(profile_key(bundle, None, 1))
    content = json.loads(path.read_text())
    content["tuned"] |= damage
    path.write_text(json.dumps(content))
    assert read_tuned(bundle) is None
    assert asr.load(bundle.path).chunk_ms == 320


def test_where_nothing_can_be_kept_that_is_said(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(AsrError, match=r"can't be kept in .*file/earshot"):
        write_tuned(bundle, POINT)
