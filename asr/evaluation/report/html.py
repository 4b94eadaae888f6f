"""A report as one HTML file: no script, nothing loaded, and a content security policy that says so.

Every text is escaped; charts come as SVG from `asr.evaluation.report.charts`.
"""

import base64
import hashlib
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources

from asr.evaluation.accuracy.alignment import EditKind
from asr.evaluation.report.document import (
    AlignedUtterance,
    AlignedUtterances,
    Block,
    Cell,
    Figure,
    Paragraph,
    Picture,
    Report,
    Section,
    SideBySide,
    Table,
    Tiles,
)


def write_html(report: Report) -> str:
    """Return the whole page."""
    style = style_sheet()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    links = "".join(
        f'<a href="#{_slug(section.title)}">{escape(section.title)}</a>'
        for section in report.sections
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; '
        f"style-src 'sha256-{digest}'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(report.title)}</title>\n<style>{style}</style>\n</head>\n<body>\n"
        f"<header><h1>{escape(report.title)}</h1><p>{escape(report.subtitle)}</p>"
        f"<nav>{links}</nav></header>\n<main>\n"
        + "\n".join(map(_section, report.sections))
        + "\n</main>\n</body>\n</html>\n"
    )


def style_sheet() -> str:
    """Return the style of the page; it has the classes of the charts."""
    return (resources.files("asr.evaluation.report") / "style.css").read_text(encoding="utf-8")


def _section(section: Section) -> str:
    blocks = "\n".join(map(_block, section.blocks))
    return (
        f'<section id="{_slug(section.title)}"><h2>{escape(section.title)}</h2>\n{blocks}</section>'
    )


def _block(block: Block) -> str:
    match block:
        case Table():
            return _table(block)
        case SideBySide():
            return f'<div class="pairs">{"".join(map(_table, block.tables))}</div>'
        case Picture():
            return _picture(block)
        case Tiles():
            return _tiles(block)
        case AlignedUtterances():
            return _aligned(block)
        case Paragraph():
            return f"<p>{escape(block.text)}</p>"


def _table(table: Table) -> str:
    names = "".join(f"<th>{escape(column)}</th>" for column in table.columns)
    head = f"<thead><tr>{names}</tr></thead>" if any(table.columns) else ""
    rows = "".join(
        f"<tr{_row_attributes(table, number)}>"
        + "".join(f"<td>{_cell(cell)}</td>" for cell in cells)
        + "</tr>"
        for number, cells in enumerate(table.rows)
    )
    heading = f"{escape(table.title)}{_references(table.sources)}"
    content = f'<div class="wide"><table>{head}<tbody>{rows}</tbody></table></div>'
    if table.folded:
        return f'<details class="card"><summary>{heading}</summary>{content}</details>'
    return f'<div class="card"><h3>{heading}</h3>{content}</div>'


def _row_attributes(table: Table, number: int) -> str:
    if table.is_sources:
        return f' id="source-{number + 1}"'
    return ' class="marked"' if number in table.marked else ""


def _cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escape(cell)
    return _figure(cell)


def _figure(figure: Figure) -> str:
    if figure.text is None:
        return f'<span class="missing">n/a: {escape(figure.note)}</span>'
    spread = f'<small class="spread">{escape(figure.spread)}</small>' if figure.spread else ""
    note = f"<small>{escape(figure.note)}</small>" if figure.note else ""
    return f"<b>{escape(figure.text)}</b>{spread}{note}"


def _picture(picture: Picture) -> str:
    note = f"<figcaption>{escape(picture.note)}</figcaption>" if picture.note else ""
    content = picture.svg or '<p class="missing">n/a</p>'
    heading = f"<h3>{escape(picture.title)}{_references(picture.sources)}</h3>"
    return f'<figure class="card">{heading}{content}{note}</figure>'


def _tiles(tiles: Tiles) -> str:
    return (
        '<div class="tiles">'
        + "".join(
            f'<div class="card"><h3>{escape(tile.name)}{_references([tile.source])}</h3>'
            f'<p class="figure">{_figure(tile.figure)}</p></div>'
            for tile in tiles.tiles
        )
        + "</div>"
    )


def _aligned(block: AlignedUtterances) -> str:
    utterances = "".join(map(_utterance, block.utterances))
    heading = f"{escape(block.title)}{_references(block.sources)}"
    return f'<details class="card"><summary>{heading}</summary>{utterances}</details>'


def _utterance(utterance: AlignedUtterance) -> str:
    words = []
    for edit in utterance.alignment.edits:
        said, heard = escape(edit.reference or ""), escape(edit.hypothesis or "")
        words.append(
            {
                EditKind.HIT: said,
                EditKind.INSERTION: f"<ins>{heard}</ins>",
                EditKind.DELETION: f"<del>{said}</del>",
                EditKind.SUBSTITUTION: f"<del>{said}</del>&#8202;<ins>{heard}</ins>",
            }[edit.kind]
        )
    name = f"<small>{escape(utterance.id)}, {escape(utterance.wer)}</small>"
    return f'<p class="aligned">{name}{" ".join(words)}</p>'


def _references(sources: Sequence[int]) -> str:
    return "".join(f'<a class="source" href="#source-{number}">{number}</a>' for number in sources)


def _slug(title: str) -> str:
    return "-".join(_words(title))


def _words(title: str) -> Iterable[str]:
    return "".join(c if c.isalnum() else " " for c in title.lower()).split()
