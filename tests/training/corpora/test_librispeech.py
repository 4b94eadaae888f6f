"""LibriSpeech's folders become manifests that training reads; its archives arrive whole or not."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
from rich.console import Console

import training.corpora.librispeech as librispeech
from asr.errors import CorpusError, ManifestError
from tests.training.corpora.folders import write_chapter
from training.corpora.archives import fetch, unpack
from training.corpora.librispeech import download_librispeech, prepare_librispeech
from training.corpus import Rejections, read_cuts

QUIET = Console(quiet=True)


def rows(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text().splitlines()]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "LibriSpeech"
    write_chapter(folder / "train-clean-100", "19", "198", ["NORTHANGER ABBEY", "THIS LITTLE WORK"])
    write_chapter(folder / "dev-clean", "84", "121123", ["GO DO YOU HEAR"])
    (folder / "SPEAKERS.TXT").write_text("; not a subset\n")
    return folder


def test_a_subset_becomes_a_manifest_that_training_reads(corpus: Path) -> None:
    written = prepare_librispeech(corpus, QUIET)
    assert [item.path.parent.name for item in written] == ["dev-clean", "train-clean-100"]
    first = rows(corpus / "train-clean-100" / "manifest.jsonl")[0]
    assert first == {
        "id": "19-198-0000",
        "split": "train",
        "speaker": "19",
        "audio": "19/198/19-198-0000.flac",
        "duration": 1.0,
        "text": "NORTHANGER ABBEY",
    }
    rejections = Rejections()
    for pattern, split, count in (("train-*/*.jsonl", "train", 2), ("dev-*/*.jsonl", "dev", 1)):
        assert len(read_cuts(corpus, pattern, split, rejections)) == count
    assert not rejections.counts


def test_manifests_of_a_corpus_that_can_not_be_written_to(corpus: Path, tmp_path: Path) -> None:
    before = sorted(corpus.rglob("*"))
    (written,) = prepare_librispeech(corpus, QUIET, tmp_path / "lists", ["dev-clean"])
    assert written.path == tmp_path / "lists" / "dev-clean" / "manifest.jsonl"
    assert len(read_cuts(tmp_path, "lists/*/manifest.jsonl", "dev", Rejections())) == 1
    assert sorted(corpus.rglob("*")) == before


def test_what_can_not_be_used_is_counted_and_listed(corpus: Path) -> None:
    chapter = write_chapter(corpus / "train-clean-100", "26", "495", ["ONE", "", "TWO 中", "THREE"])
    (chapter / "26-495-0003.flac").unlink()
    soundfile.write(chapter / "26-495-0000.flac", np.zeros(31 * 16_000), 16_000)
    with (chapter / "26-495.trans.txt").open("a") as transcript:
        transcript.write("26-495-0004 FOUR\n26-495-0001 AGAIN\n26-495-0001 AGAIN\n")
    (chapter / "26-495-0004.flac").write_bytes(b"not audio")
    (written,) = prepare_librispeech(corpus, QUIET, subsets=["train-clean-100"])
    assert written.utterances == 3
    listed = (corpus / "train-clean-100" / "skipped.tsv").read_text().splitlines()
    assert listed == [
        "26-495-0000\tduration outside 0.2 to 30 s",
        "26-495-0001\tan earlier one has its id",
        "26-495-0001\tempty text",
        "26-495-0002\ttext with letters that are not English",
        "26-495-0003\tmissing audio",
        "26-495-0004\taudio that can't be decoded",
    ]
    assert sum(written.skipped.counts.values()) == len(listed)


def test_a_folder_that_is_not_librispeech_is_named(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"did you mean .*LibriSpeech"):
        prepare_librispeech(corpus.parent, QUIET)
    with pytest.raises(CorpusError, match=r"did you mean .*LibriSpeech"):
        prepare_librispeech(corpus / "dev-clean", QUIET)
    with pytest.raises(CorpusError, match="no such folder"):
        prepare_librispeech(tmp_path / "absent", QUIET)
    with pytest.raises(CorpusError, match="no subset dev-other in it, but dev-clean, train-clean"):
        prepare_librispeech(corpus, QUIET, subsets=["dev-other"])
    (corpus / "test-clean").mkdir()
    with pytest.raises(ManifestError, match=r"without .*trans\.txt"):
        prepare_librispeech(corpus, QUIET, subsets=["test-clean"])
    assert not list((corpus / "test-clean").iterdir())


# --- archives ----------------------------------------------------------------------------------


class _Server(http.server.SimpleHTTPRequestHandler):
    """Sends files, also from an offset; `cut` bytes into a file it hangs up, as often as told."""

    cuts: dict[str, int]  # times that are left, by path
    cut_after = 1000
    ranges: list[str | None]

    def do_GET(self) -> None:
        path = Path(self.directory + self.path)
        if not path.is_file():
            return self.send_error(404)
        content, given = path.read_bytes(), self.headers.get("Range")
        self.ranges.append(given)
        start = int(given.removeprefix("bytes=").rstrip("-")) if given else 0
        if start >= len(content):
            return self.send_error(416)
        self.send_response(206 if given else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = None
        if self.cuts.get(self.path, 0):
            self.cuts[self.path] -= 1
            end = start + self.cut_after
        self.wfile.write(content[start:end])

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def mirror(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, type[_Server]]]:
    """A server of archives like openslr.org's; their sums are known in place of the real ones."""
    folder = tmp_path / "mirror" / "12"
    folder.mkdir(parents=True)
    sums = {}
    for subset in ("train-clean-100", "dev-clean"):
        archive = folder / f"{subset}.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            tar.add(corpus / subset, f"LibriSpeech/{subset}")
            tar.add(corpus / "SPEAKERS.TXT", "LibriSpeech/SPEAKERS.TXT")
        sums[subset] = (12, hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(librispeech, "ARCHIVES", sums)
    monkeypatch.setattr(librispeech, "fetch", partial(fetch, pause_s=0.0))
    handler = type("Handler", (_Server,), {"cuts": {}, "ranges": []})
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(handler, directory=str(folder.parent))
    )
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", handler
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_archives_are_fetched_and_unpacked(
    mirror: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    folder = tmp_path / "new" / "LibriSpeech"
    subsets = ["train-clean-100", "dev-clean"]
    download_librispeech(folder, QUIET, subsets, mirror[0])
    assert sorted(path.name for path in folder.iterdir()) == sorted(subsets), "nothing else stays"
    written = prepare_librispeech(folder, QUIET, subsets=subsets)
    assert [item.utterances for item in written] == [2, 1]
    asked = len(mirror[1].ranges)
    download_librispeech(folder, QUIET, subsets, mirror[0])
    assert len(mirror[1].ranges) == asked, "what is there is not fetched again"


def test_a_download_that_is_cut_off_goes_on(
    mirror: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    url, server = mirror
    server.cuts["/12/dev-clean.tar.gz"] = 3
    download_librispeech(tmp_path / "new", QUIET, ["dev-clean"], url)
    assert server.ranges == [None, "bytes=1000-", "bytes=2000-", "bytes=3000-"]
    assert (tmp_path / "new" / "dev-clean" / "84").is_dir()


def test_another_start_goes_on_with_what_has_come(
    mirror: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    url, server = mirror
    whole = (tmp_path / "mirror" / "12" / "dev-clean.tar.gz").read_bytes()
    for come in (500, len(whole)):
        folder = tmp_path / f"new-{come}"
        folder.mkdir()
        (folder / "dev-clean.tar.gz.part").write_bytes(whole[:come])
        download_librispeech(folder, QUIET, ["dev-clean"], url)
        assert server.ranges[-1] == f"bytes={come}-"
        assert (folder / "dev-clean" / "84").is_dir()


def test_a_server_that_sends_nothing_is_given_up_and_what_has_come_stays(
    mirror: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    url, server = mirror
    part = tmp_path / "dev-clean.tar.gz.part"
    part.write_bytes(b"what has come")
    server.cuts["/12/dev-clean.tar.gz"], server.cut_after = 99, 0
    with pytest.raises(CorpusError, match=r"can't be fetched .*; what has come is in .*\.part"):
        download_librispeech(tmp_path, QUIET, ["dev-clean"], url)
    assert part.read_bytes() == b"what has come"
    assert len(server.ranges) == 5


def test_an_archive_with_another_sum_is_removed(
    mirror: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    archive = tmp_path / "mirror" / "12" / "dev-clean.tar.gz"
    archive.write_bytes(archive.read_bytes() + b"x")
    with pytest.raises(CorpusError, match=r"has the MD5 sum .*; expected .* It was removed"):
        download_librispeech(tmp_path / "new", QUIET, ["dev-clean"], mirror[0])
    assert not list((tmp_path / "new").iterdir())


def test_what_the_server_does_not_have_is_named(
    mirror: tuple[str, type[_Server]], tmp_path: Path
) -> None:
    (tmp_path / "mirror" / "12" / "dev-clean.tar.gz").unlink()
    with pytest.raises(CorpusError, match=r"dev-clean\.tar\.gz: the server says 404"):
        download_librispeech(tmp_path / "new", QUIET, ["dev-clean"], mirror[0])
    with pytest.raises(CorpusError, match="no subset 'dev-cleen'; expected some of train-clean"):
        download_librispeech(tmp_path / "new", QUIET, ["dev-cleen"], mirror[0])


def test_a_damaged_or_malicious_archive_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "a" / "x.tar.gz"
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for name in ("LibriSpeech/x/good.txt", "../outside.txt"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            tar.addfile(entry, io.BytesIO(b"text"))
    target = archive.parent / "x"
    with pytest.raises(CorpusError, match=r"damaged, or not to be trusted .*outside"):
        unpack(archive, "LibriSpeech/x", target, QUIET)
    archive.write_bytes(archive.read_bytes()[:60])
    with pytest.raises(CorpusError, match="damaged"):
        unpack(archive, "LibriSpeech/x", target, QUIET)
    with tarfile.open(archive, "w:gz"):
        pass
    with pytest.raises(CorpusError, match="no folder LibriSpeech/x in it"):
        unpack(archive, "LibriSpeech/x", target, QUIET)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a", "x.tar.gz"]


def test_a_subset_appears_when_it_is_complete(
    mirror: tuple[str, type[_Server]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is unpacked leaves the archive, which the next start unpacks again."""

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    folder = tmp_path / "new"
    with monkeypatch.context() as patch:
        patch.setattr(tarfile.TarFile, "extractall", killed)
        with pytest.raises(KeyboardInterrupt):
            download_librispeech(folder, QUIET, ["dev-clean"], mirror[0])
    assert [path.name for path in folder.iterdir()] == ["dev-clean.tar.gz"]
    (folder / "dev-clean.partial").mkdir()  # a kill that nothing can tidy up after
    download_librispeech(folder, QUIET, ["dev-clean"], mirror[0])
    assert [path.name for path in folder.iterdir()] == ["dev-clean"]
    assert len(mirror[1].ranges) == 1
