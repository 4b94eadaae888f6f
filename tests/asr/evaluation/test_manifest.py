"""Protects that a manifest's mistakes are named, and that one lost recording costs only itself."""

import json
from pathlib import Path
from typing import Any

import pytest

from asr.errors import ManifestError
from asr.evaluation.manifest import Skipped, read_manifest, read_manifests

ROW: dict[str, Any] = {"id": "a", "audio": "a.wav", "duration": 1.5, "text": "Hello"}


def write(folder: Path, *rows: Any) -> Path:
    """A manifest of rows, given as dictionaries or as raw lines, beside an `a.wav`."""
    folder.mkdir(exist_ok=True)
    (folder / "a.wav").touch()
    path = folder / "manifest.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_reads_rows_beside_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path / "set", ROW | {"speaker": "s", "split": "dev", "phones": []}, "", ROW)
    first, second = read_manifest(path).utterances
    assert first.audio == tmp_path / "set" / "a.wav"
    assert (first.id, first.text, first.duration) == ("a", "Hello", 1.5)
    assert (first.speaker, first.split) == ("s", "dev")
    assert (second.speaker, second.split) == (None, None)


def test_a_text_may_hold_what_splitlines_takes_for_an_end(tmp_path: Path) -> None:
    """U+2028 is no end of a line in JSON, and other writers leave it as it is."""
    path = write(tmp_path, '{"id": "a", "audio": "a.wav", "duration": 1, "text": "one\u2028two"}')
    (row,) = read_manifest(path).utterances
    assert row.text == "one\u2028two"


def test_a_file_name_that_the_system_refuses_costs_only_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, ROW | {"id": "long", "audio": "x" * 300}, ROW)
    manifest = read_manifest(path)
    assert [row.id for row in manifest.utterances] == ["a"]
    assert [row.id for row in manifest.skipped] == ["long"]


def test_split_and_limit(tmp_path: Path) -> None:
    rows = [ROW | {"id": str(n), "split": "dev" if n % 2 else "train"} for n in range(6)]
    path = write(tmp_path, *rows)
    assert [row.id for row in read_manifest(path, split="dev").utterances] == ["1", "3", "5"]
    assert [row.id for row in read_manifest(path, "dev", limit=2).utterances] == ["1", "3"]
    with pytest.raises(ManifestError, match=r"no row has split 'test'.*'dev', 'train'"):
        read_manifest(path, split="test")


def test_unusable_rows_are_skipped_and_named(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        ROW | {"id": "silent", "text": "..."},
        ROW | {"id": "lost", "audio": "lost.wav"},
        ROW | {"id": "instant", "duration": 0},
        '{"id": "endless", "audio": "a.wav", "duration": NaN, "text": "x"}',
        ROW,
    )
    manifest = read_manifest(path, limit=1)  # the limit counts usable rows
    assert [row.id for row in manifest.utterances] == ["a"]
    assert manifest.skipped == (
        Skipped("silent", "no words in its text '...'"),
        Skipped("lost", f"no audio file {tmp_path / 'lost.wav'}"),
        Skipped("instant", "a duration of 0.0 s"),
        Skipped("endless", "a duration of nan s"),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{oops", "not JSON"),
        ("[1, 2]", r"expected a JSON object, got '\[1, 2\]'"),
        ({"id": "b", "audio": "a.wav"}, "missing duration, text; expected id, audio"),
        (ROW | {"duration": "long"}, "duration is 'long'; expected seconds"),
        (ROW | {"duration": True}, "duration is True; expected seconds"),
        (ROW | {"text": None}, "text is None; expected a string"),
        (ROW | {"speaker": 7}, "speaker is 7; expected a string"),
    ],
)
def test_malformed_rows_are_named_by_file_and_line(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path, ROW, row)
    with pytest.raises(ManifestError, match=rf"manifest\.jsonl:2: .*{message}"):
        read_manifest(path)


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00")
    for name in ("missing.jsonl", "binary.jsonl", "."):
        with pytest.raises(ManifestError, match="can't read the manifest"):
            read_manifest(tmp_path / name)


def test_several_manifests_are_one_set(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "one", ROW | {"id": "1", "text": ""}, ROW | {"id": "2"}, ROW),
        write(tmp_path / "two", ROW | {"id": "3"}, ROW),
    ]
    pooled = read_manifests(paths, limit=1)
    assert [row.id for row in pooled.utterances] == ["2", "3"]
    assert [row.id for row in pooled.skipped] == ["1"]
