"""The page says all that the results say, is safe to open, and needs nothing else."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asr.evaluation.report.html import style_sheet, write_html
from asr.evaluation.report.results import read_results
from asr.evaluation.report.sections import build_report
from tests.asr.evaluation.report.fake_results import ALL, write_results

VOID = {"meta", "rect", "line", "circle", "path", "polyline"}


class Page(HTMLParser):
    """Reads a page; every element must be closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(html)
        assert self.open == []
        self.text = " ".join(" ".join(self.words).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def page_of(folder: Path, *kinds: str) -> str:
    return write_html(build_report(read_results(write_results(folder, *kinds))))


def test_all_results_are_in_it(tmp_path: Path) -> None:
    text = Page(page_of(tmp_path)).text
    for shown in (
        "41.9 % 95 %: 40.4 to 43.5 %",
        "431 / 486 / 3175",
        "n/a: whisper-normalizer is not installed",
        "n/a: no power counter on this machine",
        "9.4 mJ/s modelled",
        "4903456",
        "time in the encoder 74.0 %",
        "int8 fused",
        "+0.15 points",
        "beside 8 CPU hogs",
        "Sustained: temperature over time",
        "0.81 0.78 to 0.85 by CPU time 0.79",
        "n/a: its weights were not named: --checkpoint DIR",
        "n/a: its chunk alone makes a latency of 1318 ms",
        "pruned 8 x 250 x 40 x 500",
        "MatMul<int8> 900",
        "tiny_transducer_ctc small 1.24 M",
        "no audio file lost.wav",
    ):
        assert shown in text, shown


def test_every_figure_leads_to_command_commit_machine_and_date(tmp_path: Path) -> None:
    page = Page(page_of(tmp_path))
    for content in ALL.values():
        assert " ".join(content["command"].split()) in page.text
    for shown in (
        "0123456789ab with changes",
        "x86_64 AMD EPYC, 2 CPUs, Linux",
        "2026-11-21T18:02",
    ):
        assert shown in page.text
    links = {attrs["href"] or "" for tag, attrs in page.elements if tag == "a"}
    targets = {f"#{attrs['id']}" for _, attrs in page.elements if "id" in attrs}
    assert links <= targets, links - targets
    assert {f"#source-{number}" for number in range(1, len(ALL) + 1)} <= links


def test_it_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = page_of(tmp_path)
    page = Page(html)
    tags = {tag for tag, _ in page.elements}
    assert not tags & {"script", "link", "img", "iframe", "object", "embed", "use", "image", "base"}
    for _, attrs in page.elements:
        assert not [name for name in attrs if name.startswith("on") or name in ("src", "style")]
        assert (attrs.get("href") or "#").startswith("#")
    assert "url(" not in style_sheet() and "@import" not in style_sheet()
    [policy] = [a["content"] for t, a in page.elements if t == "meta" and "http-equiv" in a]
    digest = base64.b64encode(hashlib.sha256(style_sheet().encode()).digest()).decode()
    assert policy == f"default-src 'none'; style-src 'sha256-{digest}'"
    assert f"<style>{style_sheet()}</style>" in html


def test_nothing_of_a_result_is_markup(tmp_path: Path) -> None:
    html = page_of(tmp_path)
    for raw in ("<script", "<b>ls1069", "<i>first", "MatMul<int8>", "bread & butter"):
        assert raw not in html
    for escaped in ("&lt;script&gt;", "&lt;b&gt;ls1069", "&lt;i&gt;first", "bread &amp; butter"):
        assert escaped in html


def test_errors_are_shown_word_by_word(tmp_path: Path) -> None:
    html = page_of(tmp_path, "eval")
    assert "the <del>cat</del>&#8202;<ins>hat</ins> sat <del>down</del>&#8202;<ins>it</ins>" in html
    assert "right, " not in html, "one without errors"


def test_it_is_light_and_dark() -> None:
    style = style_sheet()
    light, dark = style.split("@media (prefers-color-scheme: dark)")
    names = re.findall(r"(--[a-z0-9-]+):", light)
    assert "--paper" in names and "--series5" in names
    assert set(names) == set(re.findall(r"(--[a-z0-9-]+):", dark))


@pytest.mark.parametrize("kind", list(ALL))
def test_any_result_alone_makes_a_page(kind: str, tmp_path: Path) -> None:
    """And it says why what can't be drawn isn't."""
    text = Page(page_of(tmp_path, kind)).text
    assert "Sources" in text
    if kind not in ("bench", "matrix"):
        assert "n/a: no file here has both; asr bench" in text
