"""A report as Markdown: all tables, and of the pictures what they would show."""

from collections.abc import Sequence

from asr.evaluation.report.document import (
    AlignedUtterances,
    Block,
    Cell,
    Paragraph,
    Picture,
    Report,
    SideBySide,
    Table,
    Tiles,
)


def write_markdown(report: Report) -> str:
    """Return the whole text."""
    parts = [f"# {report.title}", _escape(report.subtitle)]
    for section in report.sections:
        blocks = [part for block in section.blocks if (part := _block(block))]
        if blocks:
            parts += [f"## {_escape(section.title)}", *blocks]
    return "\n\n".join(parts) + "\n"


def _block(block: Block) -> str:
    match block:
        case Table():
            heading = f"**{_escape(block.title)}**{_references(block.sources)}\n\n"
            return (heading if block.title else "") + _table(block.columns, block.rows)
        case SideBySide():
            return "\n\n".join(map(_block, block.tables))
        case Tiles():
            rows = [(tile.name, tile.figure, f"{tile.source}") for tile in block.tiles]
            return _table(("", "figure", "source"), rows)
        case Picture():
            # Its figures are in the tables, and an SVG without the page's style says nothing.
            return "" if block.svg else f"{_escape(block.title)}: {_escape(block.note)}"
        case Paragraph():
            return _escape(block.text)
        case AlignedUtterances():
            return ""  # long, and in the file that it is from


def _table(columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_cell(cell) for cell in cells) + " |" for cells in lines)


def _cell(cell: Cell) -> str:
    return _escape(str(cell))


def _references(sources: Sequence[int]) -> str:
    return "".join(f" [{number}]" for number in sources)


def _escape(text: str) -> str:
    """Write text so that nothing in it is markup, on one line."""
    for character in "\\`*_[]<>|#":
        text = text.replace(character, f"\\{character}")
    return " ".join(text.split())
