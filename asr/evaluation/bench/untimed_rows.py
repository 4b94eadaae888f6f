"""Rows that need no clock of their own: accuracy, sizes, loading and memory."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from asr.bundle import Bundle, GraphFiles
from asr.engines import EncoderState
from asr.errors import AsrError
from asr.evaluation.accuracy.edit_distance import edit_distance
from asr.evaluation.accuracy.wer import WordErrors, bootstrap_interval
from asr.evaluation.bench.installation import describe_installation, folder_mb
from asr.evaluation.bench.probe import ProbeError, ProbePlan, ProbeResult
from asr.evaluation.bench.rows import Row, all_not_available, figure, not_available
from asr.evaluation.cost.costs import call_costs
from asr.evaluation.cost.energy_model import model_energy, modelled_rows, no_modelled_rows
from asr.evaluation.playback import Recording
from asr.text import normalize

PROBED_ROWS = (
    ("load_ms", "ms"),
    ("import_load_ms", "ms"),
    ("first_chunk_ms", "ms"),
    ("rss_load_mb", "MB"),
    ("rss_peak_mb", "MB"),
    ("growth_mb_per_h", "MB/h"),
)

_PROBED = "fresh process"


def accuracy_rows(recordings: Sequence[Recording], texts: Sequence[str]) -> dict[str, Row]:
    """Return error rates of `texts`, one a recording; those without a known text don't count."""
    names = [("wer", ""), ("ins", "words"), ("del", "words"), ("sub", "words"), ("cer", "")]
    names += [("ci95_low", ""), ("ci95_high", ""), ("words", "words")]
    pairs = [
        (normalize(recording.text), normalize(text))
        for recording, text in zip(recordings, texts, strict=True)
        if recording.text is not None and normalize(recording.text)
    ]
    if not pairs:
        return all_not_available(names, "what is said is not known; name a manifest with texts")
    scored = [WordErrors.between(*pair) for pair in pairs]
    total = WordErrors.total(scored)
    letters = sum(len(reference) for reference, _ in pairs)
    cer = sum(edit_distance(*pair) for pair in pairs) / letters
    low, high = bootstrap_interval(scored)
    values: list[float] = [total.rate, total.insertions, total.deletions, total.substitutions]
    values += [cer, low, high, total.words]
    return {name: figure(v, unit) for (name, unit), v in zip(names, values, strict=True)}


def size_rows(bundle: Bundle, graphs: GraphFiles) -> dict[str, Row]:
    """Return sizes of the model's files and of its networks; `graphs` are those that run."""

    def megabytes(precision: str) -> Row:
        if precision not in bundle.precisions:
            return not_available("MB", f"the bundle has no {precision}")
        return figure(bundle.megabytes(bundle.graphs(precision)), "MB")

    rows = {
        "size_mb": figure(bundle.megabytes(graphs), "MB"),
        "size_fp32_mb": megabytes("fp32"),
        "size_int8_mb": megabytes("int8"),
        "bundle_mb": figure(_bundle_mb(bundle.path), "MB"),
        "params": figure(bundle.model.parameters, ""),
    }
    frames = bundle.streaming.chunk_frames
    for name, cost in call_costs(bundle, "int8", frames).items():
        rows[f"params_{name}"] = figure(cost.parameters, "", "from the dimensions")
    return rows


def installation_rows() -> dict[str, Row]:
    """Return what a plain install brings along."""
    try:
        installation = describe_installation()
    except AsrError as error:
        return all_not_available([("installed_mb", "MB"), ("dependencies", "")], str(error))
    return {
        "installed_mb": figure(installation.megabytes, "MB", "without extras"),
        "dependencies": figure(len(installation.dependencies), "", "without extras"),
    }


def probe_rows(
    plan: ProbePlan,
    repeat: int,
    measure: Callable[[ProbePlan], ProbeResult],
) -> dict[str, Row]:
    """Return loading and memory: of `repeat` fresh processes, the first of which also hears the
    recordings and the long stream."""
    short = dataclasses.replace(plan, recordings=(), growth_s=0.0)
    try:
        first = measure(plan)
        probes = [first, *(measure(short) for _ in range(repeat - 1))]
    except ProbeError as error:
        return all_not_available(PROBED_ROWS, str(error))
    growth = first.growth_mb_per_h
    return {
        "load_ms": figure([probe.load_ms for probe in probes], "ms", _PROBED),
        "import_load_ms": figure([p.import_ms + p.load_ms for p in probes], "ms", _PROBED),
        "first_chunk_ms": not_available("ms", "the recordings are shorter than a chunk")
        if first.first_chunk_ms is None
        else figure(first.first_chunk_ms, "ms", _PROBED),
        "rss_load_mb": figure([probe.rss_load_mb for probe in probes], "MB", _PROBED),
        "rss_peak_mb": figure(first.rss_peak_mb, "MB", _PROBED),
        "growth_mb_per_h": not_available("MB/h", "the long stream was too short; --growth-minutes")
        if growth is None
        else figure(growth, "MB/h", f"fresh process, {plan.growth_s / 60:g} min of audio"),
    }


def energy_model_rows(
    bundle: Bundle, precision: str, chunk_frames: int, tokens_per_s: float
) -> dict[str, Row]:
    """Return the modelled energy, `tokens_per_s` being tokens in a second of audio."""
    try:
        return modelled_rows(model_energy(bundle, precision, chunk_frames, tokens_per_s))
    except ValueError as error:
        return no_modelled_rows(str(error))


def state_bytes(state: EncoderState) -> int:
    """Return the bytes of all arrays in an encoder state, whatever holds them."""
    if isinstance(state, np.ndarray):
        return state.nbytes
    parts: Sequence[Any] = ()
    if dataclasses.is_dataclass(state):
        parts = [getattr(state, item.name) for item in dataclasses.fields(state)]
    elif isinstance(state, dict):
        parts = list(state.values())
    elif isinstance(state, list | tuple):
        parts = state
    return sum(map(state_bytes, parts))


def _bundle_mb(path: Path) -> float:
    return folder_mb(path) if path.is_dir() else path.stat().st_size / 1e6
