"""Protects that a manifest's mistakes are named, and that each costs only its own row."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from asr.errors import ManifestError
from asr.evaluation.corpora.manifest import Skipped, join_manifests, read_manifest

ROW: dict[str, Any] = {"id": "a", "audio": "a.wav", "duration": 1.5, "text": "Hello"}
OTHER = ROW | {"id": "b"}


def write(folder: Path, *rows: Any) -> Path:
    """A manifest of rows, given as dictionaries or as raw lines, beside an `a.wav`."""
    folder.mkdir(exist_ok=True)
    (folder / "a.wav").touch()
    path = folder / "manifest.jsonl"
    lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_reads_rows_beside_the_manifest(tmp_path: Path) -> None:
    path = write(tmp_path / "set", ROW | {"speaker": "s", "split": "dev", "phones": []}, "", OTHER)
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
        ROW,
    )
    manifest = read_manifest(path, limit=1)  # the limit counts usable rows
    assert [row.id for row in manifest.utterances] == ["a"]
    assert manifest.skipped == (
        Skipped("silent", "no words in its text '...'"),
        Skipped("lost", f"no audio file {tmp_path / 'lost.wav'}"),
        Skipped("instant", "a duration of 0.0 s"),
    )


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{oops", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ('{"id": ' + "9" * 5000 + "}", "not JSON"),
        ('{"id": "\\ud800"}', "surrogates not allowed"),
        ("[1, 2]", "expected a JSON object, got '[1, 2]'"),
        ({"id": "b", "audio": "a.wav"}, "missing duration, text; expected id, audio"),
        (ROW | {"duration": "long"}, "duration is 'long'; expected seconds"),
        (ROW | {"duration": True}, "duration is True; expected seconds"),
        (ROW | {"duration": float("nan")}, "duration is nan; expected seconds"),
        (ROW | {"duration": 10**400}, "expected seconds"),
        (ROW | {"text": None}, "text is None; expected a string"),
        (ROW | {"speaker": 7}, "speaker is 7; expected a string"),
    ],
)
def test_what_is_no_row_is_named_by_file_and_line(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path, ROW, row, ROW | {"id": "c"})
    manifest = read_manifest(path)
    assert [row.id for row in manifest.utterances] == ["a", "c"]
    (skipped,) = manifest.skipped
    assert skipped.id == f"{path}:2"
    assert message in skipped.reason


def test_bytes_that_are_no_utf8_cost_their_row(tmp_path: Path) -> None:
    path = write(tmp_path, ROW, ROW | {"id": "b", "text": "caf?"}, ROW | {"id": "c"})
    path.write_bytes(path.read_bytes().replace(b"?", b"\xe9"))
    manifest = read_manifest(path)
    assert [row.id for row in manifest.utterances] == ["a", "c"]
    reason = f"{path}:2: not UTF-8 (byte 0xe9); save it as UTF-8"
    assert manifest.skipped == (Skipped("b", reason),)
    assert read_manifest(path, limit=1).skipped == (), "it isn't reached"


def test_a_second_row_with_an_id_is_left_out(tmp_path: Path) -> None:
    path = write(tmp_path, ROW, ROW | {"id": "b", "text": ""}, ROW | {"text": "other"}, ROW)
    manifest = read_manifest(path)
    assert [row.text for row in manifest.utterances] == ["Hello"]
    assert [(row.id, row.reason) for row in manifest.skipped] == [
        ("b", "no words in its text ''"),
        ("a", f"{path}:3: its id was used before, at {path}:1"),
        ("a", f"{path}:4: its id was used before, at {path}:1"),
    ]


def test_what_else_is_known_of_an_utterance_is_kept(tmp_path: Path) -> None:
    fields = {"snr": 12.5, "device": "phone", "far": True, "phones": ["a"], "note": None}
    path = write(tmp_path, ROW | fields, ROW | {"id": "b", "speaker": "s"})
    manifest = read_manifest(path)
    assert manifest.fields() == ["device", "far", "snr", "speaker"]
    first, second = manifest.utterances
    assert [first.value(name) for name in ("snr", "far", "phones", "speaker")] == [
        12.5,
        True,
        None,
        None,
    ]
    assert (second.value("speaker"), second.value("snr")) == ("s", None)


def test_gzipped_and_with_a_byte_order_mark(tmp_path: Path) -> None:
    content = b"\xef\xbb\xbf" + write(tmp_path, ROW).read_bytes().replace(b"\n", b"\r\n")
    path = tmp_path / "manifest.jsonl.gz"
    path.write_bytes(gzip.compress(content))
    assert [row.id for row in read_manifest(path).utterances] == ["a"]
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ManifestError, match="can't read the manifest"):
        read_manifest(path)


def test_files_that_are_no_manifests(tmp_path: Path) -> None:
    (tmp_path / "binary.jsonl").write_bytes(b"\xff\xfe\x00\n\xff")
    for name, message in [
        ("missing.jsonl", "can't read the manifest"),
        (".", "can't read the manifest"),
        ("binary.jsonl", r"no line of it is a row; .*binary.jsonl:1: .*not UTF-8 \(byte 0xff\)"),
    ]:
        with pytest.raises(ManifestError, match=message):
            read_manifest(tmp_path / name)


def test_several_manifests_are_one_set(tmp_path: Path) -> None:
    paths = [
        write(tmp_path / "one", ROW | {"id": "1", "text": ""}, ROW | {"id": "2"}),
        write(tmp_path / "two", ROW | {"id": "2"}, ROW | {"id": "1"}),
    ]
    joined = join_manifests([read_manifest(path) for path in paths])
    assert [row.id for row in joined.utterances] == ["2", "1"]
    assert joined.skipped == (
        Skipped("1", "no words in its text ''"),
        Skipped("2", f"an earlier manifest has its id, with {tmp_path / 'one' / 'a.wav'}"),
    )
