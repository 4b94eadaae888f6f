"""No file is ever half of itself, whoever else writes it."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asr.entry import run_command
from asr.whole_files import DISK_FULL, write_whole


def test_a_file_is_on_the_disk_before_it_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renamed first, a file may be empty after a power cut."""
    path = tmp_path / "a"
    path.write_text("old")
    seen: list[str] = []
    monkeypatch.setattr("os.fsync", lambda descriptor: seen.append(path.read_text()))
    write_whole(path, lambda partial: partial.write_text("new"))
    assert seen == ["old"]
    assert path.read_text() == "new"
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_what_fails_leaves_the_file_before_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("old")

    def fail(partial: Path) -> None:
        partial.write_text("ne")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("code", DISK_FULL)
def test_a_full_disk_says_what_there_was_no_room_for(
    code: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a"

    def fail(partial: Path) -> None:
        raise OSError(code, os.strerror(code), "somewhere else")

    with pytest.raises(SystemExit, match="2"):
        run_command(lambda: write_whole(path, fail), "asr-train", extra="train")
    message = capsys.readouterr().err
    assert f"{os.strerror(code)}: '{path}'; make room, and give the same command again" in message


def test_the_name_that_a_file_has_while_it_is_made_is_not_told(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "a"
    with pytest.raises(FileNotFoundError) as missing:
        write_whole(path, lambda partial: partial.write_text("new"))
    assert missing.value.filename == str(path)


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    """Which `write` may read."""
    other = tmp_path / "other"
    with pytest.raises(FileNotFoundError) as missing:
        write_whole(tmp_path / "a", lambda partial: other.read_text())
    assert missing.value.errno == errno.ENOENT
    assert missing.value.filename == str(other)


def test_any_number_may_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "a"
    texts = [str(number) * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        writes = [
            pool.submit(write_whole, path, lambda partial, text=text: partial.write_text(text))
            for text in texts
        ]
        for write in writes:
            write.result()
    assert path.read_text() in texts
    assert list(tmp_path.iterdir()) == [path]
