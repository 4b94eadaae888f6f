"""The edit distance of two sequences, where only its size matters: of characters, for example."""

from collections.abc import Hashable, Sequence


def edit_distance(one: Sequence[Hashable], other: Sequence[Hashable]) -> int:
    """Return the fewest insertions, deletions and substitutions that make `other` of `one`.

    A bit of a number is a row of the table, so a column costs a few operations: Myers, "A fast
    bit-vector algorithm for approximate string matching" (J. ACM 1999), in the form that Hyyrö gave
    it for the distance of whole strings (2003).
    """
    if not one:
        return len(other)
    positions: dict[Hashable, int] = {}
    for row, item in enumerate(one):
        positions[item] = positions.get(item, 0) | 1 << row
    mask, last = (1 << len(one)) - 1, 1 << (len(one) - 1)
    # Bit i: the cell in row i is larger (up) or smaller (down) by one than that in the row before.
    up, down, distance = mask, 0, len(one)
    for item in other:
        match = positions.get(item, 0)
        vertical = match | down
        diagonal = (((match & up) + up) ^ up) | match
        # The same between this column and the one before.
        grows, falls = down | ~(diagonal | up) & mask, up & diagonal
        distance += bool(grows & last) - bool(falls & last)
        grows, falls = (grows << 1 | 1) & mask, falls << 1 & mask  # the first row grows by one
        up, down = (falls | ~(vertical | grows)) & mask, grows & vertical
    return distance
