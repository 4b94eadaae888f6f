"""Shards give what their manifests gave, and of a damaged one the rest is used."""

import functools
import gzip
import http.server
import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lhotse import CutSet, MonoCut
from typer.testing import CliRunner

import training.feature_cache
import training.shards
from asr.errors import CorpusError
from tests.training.conftest import speak, write_corpus
from training.cli import app
from training.corpus import Rejections, phones_of, read_cuts
from training.feature_cache import FeatureCache
from training.shards import INDEX, read_shards, write_shards

TEXTS = ["red", "green blue", "white red black", "blue", "black white"]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with the corpus `tones` as a manifest, and as shards of two utterances."""
    manifest = write_corpus(tmp_path / "tones", "train", TEXTS)
    write_corpus(tmp_path / "tones", "dev", ["red"])
    write_shards([manifest], tmp_path / "shards", 2, Rejections())
    return tmp_path


@pytest.fixture
def url(root: Path) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


def features(cuts: CutSet, folder: Path) -> tuple[FeatureCache, Rejections]:
    cache, rejections = FeatureCache(folder), Rejections()
    cache.add(cuts, rejections, processes=1)
    return cache, rejections


@pytest.mark.parametrize("behind_a_url", [False, True])
def test_shards_give_what_their_manifests_gave(root: Path, url: str, behind_a_url: bool) -> None:
    rejections = Rejections()
    files = read_cuts(root, "tones/*.jsonl", "train", rejections)
    shards = read_shards(root, f"{url}/shards/" if behind_a_url else "shards", "train", rejections)
    assert [content(cut) for cut in shards] == [content(cut) for cut in files]
    expected, _ = features(files, root / "of-files")
    shutil.rmtree(root / "tones")
    cache, faults = features(shards, root / "of-shards")
    assert not rejections.counts + faults.counts
    for cut in files:
        np.testing.assert_array_equal(cache[cut.id], expected[cut.id])


def content(cut: MonoCut) -> tuple:
    supervision = cut.supervisions[0]
    phones = [(phone, round(end, 6)) for phone, end in phones_of(cut)]
    return cut.id, cut.duration, supervision.text, supervision.speaker, phones


def test_lhotse_reads_the_shards(root: Path) -> None:
    (root / "shards" / INDEX).unlink()  # other tools than ours write none
    assert len(read_shards(root, "shards", "train", Rejections())) == len(TEXTS)
    cuts = list(CutSet.from_shar(in_dir=root / "shards"))
    assert [cut.supervisions[0].text for cut in cuts] == [*TEXTS, "red"]
    np.testing.assert_allclose(cuts[1].load_audio()[0], speak(TEXTS[1], 1), atol=1e-4)


def test_the_same_recordings_make_the_same_shards(root: Path) -> None:
    write_shards([root / "tones" / "manifest.jsonl"], root / "again", 2, Rejections())
    for file in (root / "shards").iterdir():
        assert (root / "again" / file.name).read_bytes() == file.read_bytes(), file.name


def test_what_is_computed_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoiled = root / "tones" / "train-1.flac"
    spoiled.write_bytes(spoiled.read_bytes()[:-400])
    write_shards([root / "tones" / "manifest.jsonl"], root / "spoiled", 2, Rejections())
    cuts = read_shards(root, "spoiled", "train", Rejections())
    _, first = features(cuts, root / "cache")
    monkeypatch.setattr(training.feature_cache, "ProcessPoolExecutor", None)  # none is started
    cache, again = features(cuts, root / "cache")
    assert [cut.id in cache for cut in cuts] == [True, False, True, True, True]
    for rejections in (first, again):
        assert rejections.counts == {"audio that can't be decoded": 1}
        assert "train-1" in "".join(rejections.lines())


@pytest.mark.parametrize("damage", ["cut in a recording", "cut between", "spoiled header"])
def test_of_a_damaged_shard_the_rest_is_used(root: Path, damage: str) -> None:
    """Each damage loses the second recording of the second shard, and only that."""
    tar = root / "shards" / "recording.000001.tar"
    whole = tar.read_bytes()
    at = whole.index(b"train-3.flac")
    if damage == "spoiled header":
        tar.write_bytes(whole[:at] + b"\xff" * 512 + whole[at + 512 :])
    else:
        tar.write_bytes(whole[: at + (700 if damage == "cut in a recording" else 0)])
    cuts = read_shards(root, "shards", "train", Rejections())
    cache, rejections = features(cuts, root / "cache")
    assert [cut.id in cache for cut in cuts] == [True, True, True, False, True]
    assert rejections.counts == {"shard that is damaged": 1}
    (line,) = rejections.lines()
    assert f"train-3 ({tar}: " in line
    tar.write_bytes(whole)  # copied again: the next start finds it
    cache, rejections = features(cuts, root / "cache")
    assert not rejections.counts
    assert "train-3" in cache


@pytest.mark.parametrize(("kept", "usable"), [(0.6, None), (0.0, 3)])
def test_damaged_cuts_are_counted(root: Path, kept: float, usable: int | None) -> None:
    cuts = root / "shards" / "cuts.000001.jsonl.gz"
    data = cuts.read_bytes()
    cuts.write_bytes(data[: round(len(data) * kept)])
    rejections = Rejections()
    ids = [cut.id for cut in read_shards(root, "shards", "train", rejections)]
    assert ids[:2] == ["train-0", "train-1"] and ids[-1] == "train-4"
    assert usable is None or len(ids) == usable
    (line,) = rejections.lines()
    assert "shard that is damaged" in line and str(cuts) in line


def test_a_row_that_is_no_cut_is_named(root: Path) -> None:
    cuts = root / "shards" / "cuts.000000.jsonl.gz"
    rows = gzip.decompress(cuts.read_bytes()).splitlines()
    without_text = json.loads(rows[1])
    del without_text["supervisions"][0]["text"]
    cuts.write_bytes(gzip.compress(b"[1]\n" + json.dumps(without_text).encode() + b"\n"))
    rejections = Rejections()
    assert len(read_shards(root, "shards", "train", rejections)) == 3
    assert f"{cuts}:1" in "".join(rejections.lines())
    assert f"{cuts}:2" in "".join(rejections.lines())


def test_what_can_not_be_reached_is_an_error_that_says_what_to_do(root: Path, url: str) -> None:
    with pytest.raises(CorpusError, match=r"absent/cuts\.index\.json: can't be read.*404.*address"):
        read_shards(root, f"{url}/absent", "train", Rejections())
    with pytest.raises(CorpusError, match=r"127\.0\.0\.1:1/.*can't be read.*check the address"):
        read_shards(root, "http://127.0.0.1:1/shards", "train", Rejections())
    with pytest.raises(CorpusError, match=r"no shards in .*absent.*asr-train shard"):
        read_shards(root, "absent", "train", Rejections())
    cuts = read_shards(root, f"{url}/shards", "train", Rejections())
    (root / "shards" / "recording.000001.tar").unlink()
    with pytest.raises(CorpusError, match=r"recording\.000001\.tar: can't be read.*is kept"):
        features(cuts, root / "cache")
    assert "train-0" in FeatureCache(root / "cache"), "what was computed is kept"


def test_an_interrupted_writing_is_not_taken_for_all_there_is(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest, out = root / "tones" / "manifest.jsonl", root / "out"
    write_cuts = training.shards._write_cuts

    def interrupted(path: Path, part: list) -> None:
        if "cuts.000001" in path.name:
            raise KeyboardInterrupt
        write_cuts(path, part)

    with monkeypatch.context() as patched:
        patched.setattr(training.shards, "_write_cuts", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_shards([manifest], out, 2, Rejections())
    with pytest.raises(CorpusError, match="not all of its shards are there"):
        read_shards(root, "out", "train", Rejections())
    write_shards([manifest], out, 2, Rejections())
    assert sorted(path.name for path in out.iterdir()) == sorted(
        path.name for path in (root / "shards").iterdir()
    )
    assert len(read_shards(root, "out", "train", Rejections())) == len(TEXTS)
    (root / "empty.jsonl").touch()
    with pytest.raises(CorpusError, match="nothing to write"):
        write_shards([root / "empty.jsonl"], root / "nothing", 2, Rejections())
    assert not any((root / "nothing").iterdir())


def test_the_command_counts_what_it_leaves_out(root: Path) -> None:
    manifest = root / "tones" / "manifest.jsonl"
    row = {"audio": "train-0.flac", "duration": 0.5, "text": "red"}
    with manifest.open("a") as file:
        file.write(json.dumps({"id": "absent", **row, "audio": "absent.flac"}) + "\n")
        file.write(json.dumps({"id": "train-0", **row}) + "\n{\n")
    out = root / "out"
    result = CliRunner().invoke(app, ["shard", str(manifest), str(out), "--utterances", "4"])
    assert result.exit_code == 0, result.output
    assert "6 utterances in 2 shards" in result.output
    for left_out in ("absent", "train-0", "tones/manifest.jsonl:9"):
        assert f"such as {left_out}" in result.output
    with pytest.raises(CorpusError, match="holds shards already"):
        write_shards([manifest], out, 4, Rejections())
