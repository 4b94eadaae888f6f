"""The shipped recipes find what `asr-train prepare` writes where their comments say to."""

from pathlib import Path

import pytest
from rich.console import Console

from tests.training.corpora.folders import record, write_chapter, write_table
from training.corpora.common_voice import prepare_common_voice
from training.corpora.librispeech import ARCHIVES, DEFAULT_SUBSETS, prepare_librispeech
from training.corpora.recordings import prepare_recordings
from training.corpus import Rejections, read_cuts
from training.recipe import load_recipe

QUIET = Console(quiet=True)


def librispeech(data: Path, subsets: tuple[str, ...]) -> None:
    for number, subset in enumerate(subsets):
        write_chapter(data / "LibriSpeech" / subset, str(number), "1", ["SOME WORDS"])
    prepare_librispeech(data / "LibriSpeech", QUIET)


def common_voice(data: Path) -> None:
    folder = data / "cv-corpus-21.0-2025-03-14" / "en"
    write_table(folder, "dev", ("ann", "1", "Some words."))
    write_table(folder, "validated", ("ann", "1", "Some words."), ("bob", "2", "Others."))
    prepare_common_voice(folder, QUIET)


def recordings(data: Path) -> None:
    record(data, "one", "Some words.")
    record(data, "two", "Others.")
    prepare_recordings(data, QUIET)


MAKERS = {
    "librispeech-100": lambda data: librispeech(data, DEFAULT_SUBSETS),
    "librispeech-960": lambda data: librispeech(
        data, tuple(name for name, (number, _) in ARCHIVES.items() if number == 12)
    ),
    "common-voice": common_voice,
    "finetune": recordings,
}


@pytest.mark.parametrize("name", MAKERS)
def test_a_recipe_finds_what_prepare_writes(name: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    MAKERS[name](data)
    recipe = load_recipe(Path(f"training/recipes/{name}.yaml"))
    rejections = Rejections()
    trained_on: set[str] = set()
    for source in recipe.data.train:
        cuts = read_cuts(data, source.manifests, source.split, rejections)  # raises if none
        trained_on |= {cut.id for cut in cuts}
    for dev in recipe.data.dev:
        measured_on = {cut.id for cut in read_cuts(data, dev.manifests, dev.split, rejections)}
        assert not trained_on & measured_on
    assert not rejections.counts
