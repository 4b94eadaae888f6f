"""What others have published, with its sources: `anchors.json`."""

import json
from dataclasses import dataclass
from importlib import resources

from asr.evaluation.report import charts
from asr.evaluation.report.document import Block, Paragraph, Section, Table
from asr.schema import read_dataclass


@dataclass(frozen=True, slots=True)
class PublishedWer:
    """A published word error rate, in percent on LibriSpeech."""

    system: str
    params_m: float  # million parameters
    latency_ms: float | None  # algorithmic; None: not stated, or the whole utterance
    decoding: str | None
    streaming: bool
    data: str  # that it was trained on
    clean: float | None
    other: float | None
    source: str


@dataclass(frozen=True, slots=True)
class PublishedRtf:
    """A published real-time factor."""

    device: str
    model: str
    threads: int
    precision: str
    rtf: float
    source: str


@dataclass(frozen=True, slots=True)
class PublishedItem:
    """Any other published figure, as it was stated."""

    item: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Anchors:
    """All published figures."""

    note: str
    wer: tuple[PublishedWer, ...]
    rtf: tuple[PublishedRtf, ...]
    size: tuple[PublishedItem, ...]
    latency: tuple[PublishedItem, ...]


def read_anchors() -> Anchors:
    """Return the published figures that come with the package."""
    file = resources.files("asr.evaluation.report") / "anchors.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    return Anchors(
        note=content["note"],
        wer=tuple(PublishedWer(**item) for item in content["wer"]),
        rtf=tuple(read_dataclass(PublishedRtf, item, "rtf") for item in content["rtf"]),
        size=tuple(read_dataclass(PublishedItem, item, "size") for item in content["size"]),
        latency=tuple(
            read_dataclass(PublishedItem, item, "latency") for item in content["latency"]
        ),
    )


def wer_points(anchors: Anchors) -> list[charts.Point]:
    """Return the streaming systems as points: million parameters, WER on test-other in percent."""
    return [
        charts.Point(
            item.params_m,
            item.other,
            item.system,
            charts.PUBLISHED,
            f"{item.system}, {item.data}: {item.clean} / {item.other} % on LibriSpeech test-clean "
            f"/ test-other. {item.source}",
        )
        for item in anchors.wer
        if item.streaming and item.other is not None
    ]


def anchors_section(anchors: Anchors) -> Section:
    """Return the tables of published figures."""
    wer = Table(
        (
            "system",
            "parameters",
            "latency",
            "search",
            "trained on",
            "test-clean",
            "test-other",
            "source",
        ),
        [
            (
                item.system,
                f"{item.params_m:g} M",
                _latency(item),
                item.decoding or "not stated",
                item.data,
                _percent(item.clean),
                _percent(item.other),
                item.source,
            )
            for item in sorted(anchors.wer, key=lambda item: item.params_m)
        ],
        "Published word error rates",
        folded=True,
    )
    rtf = Table(
        ("device", "model", "threads", "precision", "RTF", "source"),
        [
            (
                item.device,
                item.model,
                str(item.threads),
                item.precision,
                f"{item.rtf:g}",
                item.source,
            )
            for item in anchors.rtf
        ],
        "Published real-time factors",
        folded=True,
    )
    others = Table(
        ("what", "figure", "source"),
        [(item.item, item.value, item.source) for item in (*anchors.size, *anchors.latency)],
        "Published sizes and latencies",
        folded=True,
    )
    blocks: list[Block] = [Paragraph(anchors.note), wer, rtf, others]
    return Section("Published by others", blocks)


def _percent(value: float | None) -> str:
    return "not stated" if value is None else f"{value:g} %"


def _latency(item: PublishedWer) -> str:
    if not item.streaming:
        return "whole utterance"
    return "not stated" if item.latency_ms is None else f"{item.latency_ms:g} ms"
