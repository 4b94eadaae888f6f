"""Protects that a set is read whole in each layout, and that what can't be read of it is named."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asr.errors import ManifestError
from asr.evaluation.corpora import read_corpora
from asr.evaluation.corpora.cuts import parse_cut
from asr.evaluation.corpora.manifest import Segment, Utterance
from asr.evaluation.corpora.recordings import read_utterance

SOURCE = {"type": "file", "channels": [0], "source": "audio/a.flac"}
RECORDING = {"id": "a", "sources": [SOURCE], "sampling_rate": 16_000, "duration": 3.0}
SUPERVISION = {"id": "s", "recording_id": "a", "start": 0.0, "duration": 1.5, "text": "Hello"}
CUT: dict[str, Any] = {
    "id": "c",
    "start": 0.5,
    "duration": 1.5,
    "channel": 0,
    "supervisions": [SUPERVISION],
    "recording": RECORDING,
    "type": "MonoCut",
}


def test_cuts_that_lhotse_wrote(tmp_path: Path, write_speech: Callable[..., Path]) -> None:
    lhotse = pytest.importorskip("lhotse")
    recording = lhotse.Recording.from_file(write_speech("a.wav", 3.0))
    supervision = lhotse.SupervisionSegment(
        id="s",
        recording_id=recording.id,
        start=0.0,
        duration=3.0,
        text="Hello",
        speaker="sp",
        gender="F",
        custom={"snr": 12},
    )
    cut = lhotse.MonoCut(
        id="whole",
        start=0.0,
        duration=3.0,
        channel=0,
        supervisions=[supervision],
        recording=recording,
        custom={"split": "dev"},
    )
    word = lhotse.SupervisionSegment("part", recording.id, start=1.0, duration=0.5, text="word")
    spoken = recording.to_cut()
    spoken.supervisions = [word]
    (part,) = spoken.trim_to_supervisions(keep_overlapping=False)
    cropped = cut.truncate(offset=1.0, duration=0.5).with_id("cropped")
    mixed, quick = cut.pad(duration=4.0).with_id("mixed"), cut.perturb_speed(1.1)
    path = tmp_path / "sub" / "cuts.jsonl.gz"
    path.parent.mkdir()
    lhotse.CutSet.from_cuts([cut, part, mixed, quick, cropped]).to_file(path)
    manifest = read_corpora([path])
    whole, short = manifest.utterances
    assert whole == Utterance(
        id="whole",
        audio=tmp_path / "a.wav",
        text="Hello",
        duration=3.0,
        speaker="sp",
        split="dev",
        fields={"gender": "F", "snr": 12},
    )
    assert (short.id, short.segment) == ("part", Segment(1.0, 0.5))
    assert sum(len(block) for block, _ in read_utterance(short)) == 8000
    reasons = [row.reason for row in manifest.skipped]
    assert "the cut 'mixed' is a MixedCut; expected a MonoCut" in reasons[0]
    assert "its recording has transforms; save the audio first" in reasons[1]
    assert "the cut 'cropped': its text is of more than it: -1 s to 2 s" in reasons[2]
    assert read_corpora([path], split="dev").utterances == (whole,)


def test_a_relative_path_is_taken_from_the_manifest_or_else_from_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    monkeypatch.chdir(here)
    assert parse_cut(CUT, there).audio == there / "audio" / "a.flac", "to be named as missing"
    for folder, expected in [(here, Path("audio/a.flac")), (there, there / "audio" / "a.flac")]:
        (folder / "audio").mkdir(parents=True)
        (folder / "audio" / "a.flac").touch()
        assert parse_cut(CUT, there).audio == expected


def test_one_channel_of_several() -> None:
    source = SOURCE | {"channels": [0, 3]}
    recording = RECORDING | {"sources": [source], "duration": 1.5}
    cut = CUT | {"recording": recording, "start": 0.0, "channel": 3}
    assert parse_cut(cut, Path()).segment == Segment(0.0, 1.5, channel=1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "MultiCut"}, "is a MultiCut; expected a MonoCut"),
        ({"supervisions": []}, "supervisions: 0; expected one"),
        ({"supervisions": [SUPERVISION] * 2}, "supervisions: 2; expected one"),
        ({"supervisions": [SUPERVISION | {"text": None}]}, "the text None; expected strings"),
        ({"recording": None}, "has no recording; expected cuts with audio"),
        ({"recording": RECORDING | {"sources": []}}, "sources: 0; expected one"),
        (
            {"recording": RECORDING | {"sources": [SOURCE | {"type": "url"}]}},
            "a source of type 'url'; expected 'file'",
        ),
        ({"channel": 1}, r"no channel 1 in \[0\]"),
        ({"start": "now"}, "start is 'now'; expected seconds"),
    ],
)
def test_cuts_that_cannot_be_read(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ManifestError, match=f"the cut 'c'.*{message}"):
        parse_cut(CUT | changes, Path())


def librispeech(folder: Path) -> Path:
    for chapter, lines in {
        "dev-clean/84/121": "84-121-0000 GO DO YOU HEAR\n84-121-0001 BUT IN LESS\n",
        "dev-clean/174/50": "174-50-0000 THE SITUATION\n174-50-0001 LOST\n",
        "test-other/84/9": "84-9-0000 CAF\xe9\n",
    }.items():
        place = folder / chapter
        place.mkdir(parents=True)
        name = "-".join(chapter.split("/")[1:])
        (place / f"{name}.trans.txt").write_bytes(lines.encode("latin-1"))
        for line in lines.splitlines():
            (place / f"{line.split()[0]}.flac").touch()
    (folder / "dev-clean/174/50/174-50-0001.flac").unlink()
    return folder


def test_a_librispeech_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = librispeech(tmp_path / "LibriSpeech")
    manifest = read_corpora([root])
    assert [row.id for row in manifest.utterances] == ["174-50-0000", "84-121-0000", "84-121-0001"]
    first = manifest.utterances[1]
    assert first.audio == root / "dev-clean/84/121/84-121-0000.flac"
    assert (first.text, first.speaker, first.split) == ("GO DO YOU HEAR", "84", "dev-clean")
    assert first.value("chapter") == "121"
    reasons = {row.id: row.reason for row in manifest.skipped}
    assert "no audio file" in reasons["174-50-0001"]
    assert "84-9.trans.txt:1: not UTF-8 (byte 0xe9)" in reasons["84-9-0000"]
    for part, split in ((root / "dev-clean", None), (root, "dev-clean")):
        assert read_corpora([part], split).utterances == manifest.utterances
    monkeypatch.chdir(root / "dev-clean")
    assert read_corpora(["."], "dev-clean", limit=1).utterances == manifest.utterances[:1]


def test_a_folder_without_transcripts(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"without \*.trans.txt; expected one of LibriSpeech"):
        read_corpora([tmp_path])


def test_layouts_may_be_mixed_and_the_limit_holds_for_each(tmp_path: Path) -> None:
    root = librispeech(tmp_path / "LibriSpeech")
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / "a.flac").touch()
    row = {"id": "r", "audio": "audio/a.flac", "duration": 1.0, "text": "row"}
    path = tmp_path / "both.jsonl.gz"
    path.write_bytes(gzip.compress("\n".join(map(json.dumps, [row, CUT, row])).encode()))
    manifest = read_corpora([path, root], limit=2)
    assert [row.id for row in manifest.utterances] == ["r", "c", "174-50-0000", "84-121-0000"]
