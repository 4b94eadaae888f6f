"""LibriSpeech, and the smaller Mini LibriSpeech: folders as their archives unpack to.

FOLDER/SUBSET/SPEAKER/CHAPTER holds the recordings and a transcript. The manifest of a subset is
FOLDER/SUBSET/manifest.jsonl, and its split is the first word of the subset's name: train-clean-100
is `train`. https://www.openslr.org/12, https://www.openslr.org/31, CC BY 4.0.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from asr.errors import CorpusError
from asr.evaluation.corpora.librispeech import read_librispeech_rows
from asr.evaluation.corpora.manifest import Row
from training.corpora.archives import fetch, unpack
from training.corpora.manifest import WrittenManifest, usable, write_manifest
from training.corpus import Rejections

BASE_URL = "https://www.openslr.org/resources"

ARCHIVES: Mapping[str, tuple[int, str]] = {
    "train-clean-100": (12, "2a93770f6d5c6c964bc36631d331a522"),
    "train-clean-360": (12, "c0e676e450a7ff2f54aeade5171606fa"),
    "train-other-500": (12, "d1a0fd59409feb2c614ce4d30c387708"),
    "dev-clean": (12, "42e2234ba48799c1f50f24a7926300a1"),
    "dev-other": (12, "c8d0bcc9cca99d4f8b62fcc847357931"),
    "test-clean": (12, "32fa31d27d2e1cad72775fee3f4849a9"),
    "test-other": (12, "fb5a50374b501bb3bac4815ee91d3135"),
    "train-clean-5": (31, "5df7d4e78065366204ca6845bb08f490"),
    "dev-clean-2": (31, "6d7ab67ac6a1d2c993d050e16d61080d"),
}
"""By subset: its number at openslr.org, and the MD5 sum that is published there."""

DEFAULT_SUBSETS = ("train-clean-100", "dev-clean", "dev-other")
"""What is fetched if nothing is named: all that `training/recipes/librispeech-100.yaml` needs."""

_SUBSET = re.compile(r"(train|dev|test)-[\w-]+")
_ROOT = "LibriSpeech"  # the folder that all archives have


def prepare_librispeech(
    folder: Path, console: Console, out: Path | None = None, subsets: Sequence[str] = ()
) -> list[WrittenManifest]:
    """Write OUT/SUBSET/manifest.jsonl for each of `subsets`, or for all that are in `folder`.

    out: where to write if not into `folder` itself. Raises CorpusError for a subset that isn't
    there, and one without usable utterances.
    """
    subsets = subsets or _subsets_in(folder)
    for subset in subsets:
        if not (folder / subset).is_dir():
            there = ", ".join(_subsets_in(folder))
            raise CorpusError(f"{folder}: no subset {subset} in it, but {there}")
    written = []
    for subset in subsets:
        skipped = Rejections()
        with console.status(f"reading {subset}"):
            utterances = usable(_rows(folder / subset), skipped)
            written.append(write_manifest((out or folder) / subset, utterances, skipped))
        written[-1].report(console)
    return written


def download_librispeech(
    folder: Path, console: Console, subsets: Sequence[str] = (), base_url: str = BASE_URL
) -> None:
    """Fetch the archives of `subsets` that aren't in `folder` yet, and unpack them there.

    Cut off, it goes on where it was when it is started again. An archive is removed when it is
    unpacked. Raises CorpusError for an unknown subset, and as `fetch` and `unpack` do.
    """
    subsets = subsets or DEFAULT_SUBSETS
    for subset in subsets:
        if subset not in ARCHIVES:
            raise CorpusError(f"no subset {subset!r}; expected some of {', '.join(ARCHIVES)}")
    folder.mkdir(parents=True, exist_ok=True)
    for subset in subsets:
        if (folder / subset).exists():
            console.print(f"{folder / subset} is there already", soft_wrap=True)
            continue
        number, md5 = ARCHIVES[subset]
        archive = folder / f"{subset}.tar.gz"
        fetch(f"{base_url}/{number}/{archive.name}", archive, md5, console)
        unpack(archive, f"{_ROOT}/{subset}", folder / subset, console)
        archive.unlink()


def _subsets_in(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise CorpusError(f"{folder}: no such folder; expected one of LibriSpeech, or --download")
    found = sorted(p.name for p in folder.iterdir() if p.is_dir() and _SUBSET.fullmatch(p.name))
    if not found:
        inner = folder / _ROOT
        name = folder.resolve()
        advice = f"; did you mean {inner}?" if inner.is_dir() else ""
        advice = f"; did you mean {name.parent}?" if _SUBSET.fullmatch(name.name) else advice
        raise CorpusError(f"{folder}: no folder such as train-clean-100 or dev-clean in it{advice}")
    return found


def _rows(folder: Path) -> Iterator[Row]:
    """Yield the rows of a subset; `split` is train, dev or test."""
    split = folder.name.partition("-")[0]
    for row in read_librispeech_rows(folder):
        assert row.utterance is not None  # a line of a transcript always gives one
        yield replace(row, utterance=replace(row.utterance, split=split))
