"""What goes into a report, and how it is written as Markdown."""

import json
from pathlib import Path
from typing import Any

import pytest

from asr.errors import AsrError
from asr.evaluation.report.anchors import read_anchors, wer_points
from asr.evaluation.report.document import Picture, Report, SideBySide, Table
from asr.evaluation.report.formats import ROW_GROUPS, number, rate, row, short
from asr.evaluation.report.markdown import write_markdown
from asr.evaluation.report.results import read_results
from asr.evaluation.report.sections import build_report
from tests.asr.evaluation.report import fake_results
from tests.asr.evaluation.report.fake_results import BENCH, EVAL, PEERS, write_results


def report_of(folder: Path, **contents: dict[str, Any]) -> Report:
    paths = []
    for name, content in contents.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps(content), encoding="utf-8")
    return build_report(read_results(paths))


def pictures(report: Report) -> dict[str, list[Picture]]:
    found: dict[str, list[Picture]] = {}
    for section in report.sections:
        for block in section.blocks:
            if isinstance(block, Picture):
                found.setdefault(block.title, []).append(block)
    return found


def tables(report: Report) -> list[Table]:
    blocks = [block for section in report.sections for block in section.blocks]
    pairs = [table for b in blocks if isinstance(b, SideBySide) for table in b.tables]
    return [block for block in blocks if isinstance(block, Table)] + pairs


def test_kinds_are_told_apart(tmp_path: Path) -> None:
    results = read_results(write_results(tmp_path))
    assert [result.kind for result in results] == list(fake_results.ALL)
    assert [result.number for result in results] == list(range(1, len(results) + 1))
    assert results[0].data == "bread & butter (dev)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "can't be read as JSON"),
        ("[" * 100_000, "can't be read as JSON"),
        ("[1]", "not a result of this program"),
        ('{"wer": 0.1}', "not a result of this program"),
        ('{"schema_version": 1, "kind": "poem"}', "not a result of this program"),
        ('{"schema_version": 1, "kind": "bench"}', "a result of kind 'bench' without rows"),
    ],
)
def test_another_file_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "other.json"
    path.write_text(text)
    with pytest.raises(AsrError, match=message) as caught:
        read_results([path])
    assert str(path) in str(caught.value)


def test_error_rates_of_other_recordings_are_not_in_one_chart(tmp_path: Path) -> None:
    other = PEERS | {"manifests": ["other/manifest.jsonl"]}
    report = report_of(tmp_path, one=PEERS, two=other, bench=BENCH)
    first, second = pictures(report)["Word error rate against time per chunk"]
    assert (first.sources, second.sources) == ([1], [2])
    assert "On dev." in first.note and "On other." in second.note
    assert "PocketSphinx" in (first.svg or "")
    [energy] = pictures(report)["Word error rate against energy"]
    assert energy.sources == [3], "a single system is better than none"


def test_benches_are_side_by_side(tmp_path: Path) -> None:
    slower = BENCH | {"rows": {"rtf": fake_results.row(0.9), "new_row": fake_results.row(7)}}
    report = report_of(tmp_path, one=BENCH, two=slower)
    [speed] = [table for table in tables(report) if table.title == "Speed"]
    assert speed.columns == ["", "en int8 [1]", "en int8 [2]"]
    assert [str(cell) for cell in speed.rows[0]] == [
        "real-time factor",
        "0.0132 (0.0129 to 0.0141)",
        "0.9",
    ]
    assert str(speed.rows[1][2]) == "n/a: not in this file"
    [others] = [table for table in tables(report) if table.title == "Others"]
    assert [str(cell) for cell in others.rows[0]] == ["new row", "n/a: not in this file", "7"]


def test_the_headline_is_the_largest_set(tmp_path: Path) -> None:
    small = EVAL | {"wer": 0.1, "ci95": [0.0, 0.2], "words": 10}
    text = write_markdown(report_of(tmp_path, small=small, large=EVAL))
    assert "| word error rate | 41.9 % (95 %: 40.4 to 43.5 %) | 2 |" in text


def test_markdown_has_all_tables_and_no_markup_of_others(tmp_path: Path) -> None:
    text = write_markdown(build_report(read_results(write_results(tmp_path))))
    assert "| int8, 1280 ms | n/a: its chunk alone makes a latency of 1318 ms |" in text
    assert "lost\\|one" in text
    assert "\\<b\\>ls1069" in text
    assert "<" not in text.replace("\\<", "")
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.endswith(" |")
    alone = write_markdown(report_of(tmp_path, eval=EVAL))
    assert "Word error rate against energy: n/a: no file here has both" in alone


def test_published_figures_have_sources_and_are_kept_apart() -> None:
    anchors = read_anchors()
    assert "not a comparison" in anchors.note
    assert all(i.source for i in (*anchors.wer, *anchors.rtf, *anchors.size, *anchors.latency))
    points = wer_points(anchors)
    assert len(points) >= 8
    assert all(point.kind == "published" and "LibriSpeech" in point.detail for point in points)
    assert not {"Zipformer-S", "Conformer RNN-T"} & {point.label for point in points}, "offline"


def test_figures_as_they_are_written() -> None:
    assert [short(value) for value in (0, 0.013249, 4.1, 92.44, 1234.5)] == [
        "0",
        "0.0132",
        "4.1",
        "92.4",
        "1 234",
    ]
    assert str(number(4.1, "ms", (4.0, 4.2))) == "4.1 ms (4 to 4.2)"
    assert str(number(None, "ms", reason="no clock")) == "n/a: no clock"
    assert str(rate(0.5, (0.4, 0.6))) == "50.0 % (95 %: 40.0 to 60.0 %)"
    assert str(row("share_encoder", fake_results.row(0.742))) == "74.2 %"
    assert str(row("state_bytes", fake_results.row(884_736, "bytes"))) == "0.885 MB"
    assert str(row("temp_max_c", fake_results.row(61.5, "c"))) == "61.5 °C"
    names = [name for group in ROW_GROUPS.values() for name in group]
    assert len(names) == len(set(names))
