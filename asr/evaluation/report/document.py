"""What a report says, before it is written as HTML or Markdown."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from asr.evaluation.accuracy.alignment import Alignment


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure with its unit, or the reason why there is none."""

    text: str | None  # the number and its unit
    spread: str = ""  # how far it can be trusted, in words
    note: str = ""  # where it comes from, if that isn't evident, or why there is none

    def __str__(self) -> str:
        if self.text is None:
            return f"n/a: {self.note}"
        beside = "; ".join(part for part in (self.spread, self.note) if part)
        return f"{self.text} ({beside})" if beside else self.text


Cell: TypeAlias = str | Figure


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under columns; the first column names the row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    title: str = ""
    sources: Sequence[int] = ()  # numbers of the files that it is from
    marked: frozenset[int] = frozenset()  # rows that stand out
    folded: bool = False  # long: shown when it is asked for
    is_sources: bool = False  # row n is file n + 1, where the numbers of sources lead


@dataclass(frozen=True, slots=True)
class SideBySide:
    """Small tables, two in a row where there is room."""

    tables: Sequence[Table]


@dataclass(frozen=True, slots=True)
class Picture:
    """A chart, or the reason why there is none."""

    title: str
    svg: str | None
    note: str = ""
    sources: Sequence[int] = ()


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Some sentences."""

    text: str


@dataclass(frozen=True, slots=True)
class Tile:
    """One of the few figures that come first."""

    name: str
    figure: Figure
    source: int


@dataclass(frozen=True, slots=True)
class Tiles:
    """The few figures that come first."""

    tiles: Sequence[Tile]


@dataclass(frozen=True, slots=True)
class AlignedUtterance:
    """An utterance, and what was heard."""

    id: str
    alignment: Alignment
    wer: str


@dataclass(frozen=True, slots=True)
class AlignedUtterances:
    """Utterances, word by word."""

    title: str
    utterances: Sequence[AlignedUtterance]
    sources: Sequence[int] = ()


Block: TypeAlias = Table | SideBySide | Picture | Paragraph | Tiles | AlignedUtterances


@dataclass(frozen=True, slots=True)
class Section:
    """One part of a report."""

    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    title: str
    subtitle: str
    sections: Sequence[Section]
