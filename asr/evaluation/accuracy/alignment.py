"""Alignment of a hypothesis with its reference, word by word, as NIST's sclite aligns them.

The costs are sclite's: 3 for an insertion or a deletion, 4 for a substitution. Ties are resolved as
in its `net_dp.c`: the diagonal (hit or substitution) before an insertion before a deletion. With
these costs a substitution is preferred to an insertion plus a deletion (6), but two substitutions
are not forced across a word that fits (8 against 6), so hits are found that equal costs would miss.
The sum of errors can therefore exceed the Levenshtein distance a little.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

INSERTION_COST = 3
DELETION_COST = 3
SUBSTITUTION_COST = 4


class EditKind(Enum):
    """What happened to a word."""

    HIT = "hit"
    SUBSTITUTION = "substitution"
    INSERTION = "insertion"
    DELETION = "deletion"


@dataclass(frozen=True, slots=True)
class Edit:
    """One column of an alignment."""

    kind: EditKind
    reference: str | None  # None for an insertion
    hypothesis: str | None  # None for a deletion


@dataclass(frozen=True, slots=True)
class Alignment:
    """How a hypothesis differs from its reference."""

    edits: tuple[Edit, ...]  # in the order of the words

    def count(self, kind: EditKind) -> int:
        """How many edits are of this kind."""
        return sum(edit.kind is kind for edit in self.edits)

    @property
    def hits(self) -> int:
        return self.count(EditKind.HIT)

    @property
    def substitutions(self) -> int:
        return self.count(EditKind.SUBSTITUTION)

    @property
    def insertions(self) -> int:
        return self.count(EditKind.INSERTION)

    @property
    def deletions(self) -> int:
        return self.count(EditKind.DELETION)


# In the order of preference where costs are equal; a byte per cell of the table is its index here.
_MOVES = (EditKind.HIT, EditKind.SUBSTITUTION, EditKind.INSERTION, EditKind.DELETION)
_HIT, _SUBSTITUTION, _INSERTION, _DELETION = range(len(_MOVES))


def align(reference: Sequence[str], hypothesis: Sequence[str]) -> Alignment:
    """Align two sequences of words, R and H long, in O(R H) time and R H bytes.

    Words are compared as they are: normalise both first (`asr.text.normalize`).
    """
    moves = _cheapest_moves(reference, hypothesis)
    edits: list[Edit] = []
    row, column = len(reference), len(hypothesis)
    while row or column:
        kind = _MOVES[moves[row][column]]
        row -= kind is not EditKind.INSERTION
        column -= kind is not EditKind.DELETION
        spoken = None if kind is EditKind.INSERTION else reference[row]
        heard = None if kind is EditKind.DELETION else hypothesis[column]
        edits.append(Edit(kind, spoken, heard))
    return Alignment(tuple(reversed(edits)))


def _cheapest_moves(reference: Sequence[str], hypothesis: Sequence[str]) -> list[bytearray]:
    """Table (R + 1, H + 1): the last move of the cheapest alignment of the first words of each."""
    columns = len(hypothesis) + 1
    costs = [INSERTION_COST * column for column in range(columns)]
    moves = [bytearray([_INSERTION]) * columns]
    for spoken in reference:
        row = bytearray([_DELETION]) * columns
        diagonal, costs[0] = costs[0], costs[0] + DELETION_COST
        for column, heard in enumerate(hypothesis, start=1):
            if spoken == heard:
                cost, move = diagonal, _HIT
            else:
                cost, move = diagonal + SUBSTITUTION_COST, _SUBSTITUTION
            if costs[column - 1] + INSERTION_COST < cost:
                cost, move = costs[column - 1] + INSERTION_COST, _INSERTION
            if costs[column] + DELETION_COST < cost:
                cost, move = costs[column] + DELETION_COST, _DELETION
            diagonal, costs[column] = costs[column], cost
            row[column] = move
        moves.append(row)
    return moves
