"""Transcribed recordings in any layout that can be evaluated."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from asr.evaluation.corpora.cuts import is_cut, parse_cut
from asr.evaluation.corpora.librispeech import read_librispeech_rows
from asr.evaluation.corpora.manifest import (
    Manifest,
    Utterance,
    join_manifests,
    parse_row,
    read_json_rows,
    select_rows,
)


def read_corpora(
    paths: Sequence[str | Path], split: str | None = None, limit: int | None = None
) -> Manifest:
    """Read manifests (`manifest`), lhotse's cuts (`cuts`), both also gzipped, and folders of
    LibriSpeech (`librispeech`) as one set; `limit` holds for each of them.

    Raises ManifestError as `select_rows` and the readers do.
    """
    return join_manifests([_read_corpus(Path(path), split, limit) for path in paths])


def _read_corpus(path: Path, split: str | None, limit: int | None) -> Manifest:
    rows = read_librispeech_rows(path) if path.is_dir() else read_json_rows(path, _parse)
    return select_rows(rows, str(path), split, limit)


def _parse(row: Mapping[str, Any], folder: Path) -> Utterance:
    return parse_cut(row, folder) if is_cut(row) else parse_row(row, folder)
