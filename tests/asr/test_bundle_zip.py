"""A bundle in one file is as good as a directory, and no zip makes the reader do what it says."""

import os
import shutil
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import asr
from asr.bundle import open_bundle
from asr.errors import BundleError
from tests.asr.signals import noise
from tests.asr.tiny_bundle import write_manifest

Entry = tuple[zipfile.ZipInfo, bytes]


def entries(folder: Path) -> list[Entry]:
    return [(zipfile.ZipInfo(path.name), path.read_bytes()) for path in sorted(folder.iterdir())]


def pack(path: Path, content: list[Entry], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for info, data in content:
            archive.writestr(info, data, compress_type=method)
    return path


def refusal(path: Path) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    return str(caught.value)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zip_hears_what_the_directory_hears(
    tiny_bundle: Path, tmp_path: Path, method: int
) -> None:
    path = pack(tmp_path / "tiny.zip", entries(tiny_bundle), method)
    results = []
    for model in (tiny_bundle, path):
        stream = asr.load(model).stream()
        stream.accept(noise(3.0))
        results.append(stream.finish().result)
    assert results[0] == results[1]
    assert results[0].tokens
    assert list(tmp_path.iterdir()) == [path], "something was unpacked"
    assert open_bundle(path).sha256 == open_bundle(tiny_bundle).sha256


@pytest.mark.parametrize("name", ["bundle.json", "encoder.int8.onnx", "tokens.txt"])
def test_missing_truncated_and_altered_files_are_named(
    tiny_bundle: Path, tmp_path: Path, name: str
) -> None:
    whole = entries(tiny_bundle)
    others = [entry for entry in whole if entry[0].filename != name]
    (content,) = (data for info, data in whole if info.filename == name)
    assert name in refusal(pack(tmp_path / "missing.zip", others))
    for number, data in enumerate((content[:-1], content[:-3] + b"xyz", b"")):
        path = pack(tmp_path / f"{number}.zip", [*others, (zipfile.ZipInfo(name), data)])
        assert name in refusal(path)


@pytest.mark.parametrize("kept", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_zip_is_refused(tiny_bundle: Path, tmp_path: Path, kept: float) -> None:
    path = pack(tmp_path / "tiny.zip", entries(tiny_bundle))
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    assert "tiny.zip" in refusal(path)


def test_flipped_bytes_never_escape_as_another_error(tiny_bundle: Path, tmp_path: Path) -> None:
    """Wherever it is damaged, it is refused, or the damage is in nothing that counts."""
    good = pack(tmp_path / "good.zip", entries(tiny_bundle), zipfile.ZIP_DEFLATED).read_bytes()
    expected = open_bundle(tmp_path / "good.zip").to_dict()
    rng = np.random.default_rng(0)
    refused = 0
    # The lists of names and sizes are at the end: half of the damage goes there.
    places = [*rng.integers(0, len(good), 60), *rng.integers(len(good) - 600, len(good), 60)]
    for place in places:
        bad = bytearray(good)
        bad[place] ^= int(rng.integers(1, 256))
        path = tmp_path / "bad.zip"
        path.write_bytes(bad)
        try:
            assert open_bundle(path).to_dict() == expected
        except BundleError:
            refused += 1
    assert refused > 60


def named(name: str) -> Callable[[list[Entry]], list[Entry]]:
    return lambda content: [*content, (zipfile.ZipInfo(name), b"x")]


def linked(content: list[Entry]) -> list[Entry]:
    link = zipfile.ZipInfo("link")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    return [*content, (link, b"/etc/passwd")]


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (named("../outside"), "is not the name of a file; a bundle's zip has its files at the top"),
        (named("/etc/passwd"), "is not the name of a file"),
        (named("tiny/bundle.json"), "is not the name of a file"),
        (named("C:\\x"), "is not the name of a file"),
        (named(".."), "is not the name of a file"),
        (named("tokens.txt"), "'tokens.txt' is in it twice"),
        (linked, "'link' in it is a symbolic link"),
        (lambda content: content[:1] * 0, "no bundle.json in it"),
        (
            lambda content: content + [(zipfile.ZipInfo(f"x{n}"), b"") for n in range(1000)],
            "entries",
        ),
    ],
)
def test_entries_that_no_exporter_writes_are_refused(
    tiny_bundle: Path, tmp_path: Path, edit: Callable[[list[Entry]], list[Entry]], message: str
) -> None:
    assert message in refusal(pack(tmp_path / "tiny.zip", edit(entries(tiny_bundle))))


def test_other_compression_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    path = pack(tmp_path / "tiny.zip", entries(tiny_bundle), zipfile.ZIP_LZMA)
    assert "by another method than deflate" in refusal(path)


def test_no_more_is_decompressed_than_was_stated(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bomb: 50 MB of zeros in 50 kB, in the place of a small file, and its header lies too."""
    content = [entry for entry in entries(tiny_bundle) if entry[0].filename != "tokens.txt"]
    stated = (tiny_bundle / "tokens.txt").stat().st_size
    bomb = (zipfile.ZipInfo("tokens.txt"), bytes(50_000_000))
    path = pack(tmp_path / "bomb.zip", [*content, bomb], zipfile.ZIP_DEFLATED)
    assert "'tokens.txt' in it unpacks from" in refusal(path)
    data = path.read_bytes()
    lying = data.replace((50_000_000).to_bytes(4, "little"), stated.to_bytes(4, "little"))
    assert lying != data
    path.write_bytes(lying)
    read = 0
    original = zipfile.ZipExtFile.read

    def counting(self: zipfile.ZipExtFile, n: int = -1) -> bytes:
        nonlocal read
        block = original(self, n)
        read += len(block)
        return block

    monkeypatch.setattr(zipfile.ZipExtFile, "read", counting)
    assert "tokens.txt" in refusal(path)
    assert read < 2_000_000


def test_a_bomb_that_the_bundle_states_is_refused_unread(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its size and its checksum are right, so nothing else is in its way."""
    folder = Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))
    (folder / "joiner.int8.onnx").write_bytes(bytes(20_000_000))
    write_manifest(folder)
    path = pack(tmp_path / "bomb.zip", entries(folder), zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zipfile.ZipFile, "open", None)
    assert "'joiner.int8.onnx' in it unpacks from" in refusal(path)
    assert "to 20000000 bytes, which no model does" in refusal(path)


def test_a_device_is_no_bundle(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert "neither a directory nor a zip" in refusal(tmp_path / "pipe")
