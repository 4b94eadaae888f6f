"""No file is ever half of itself, whoever else writes it."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from asr.whole_files import write_whole


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
