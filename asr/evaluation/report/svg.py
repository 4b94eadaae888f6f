"""Writes SVG: elements with escaped text, and nothing that could run or load anything."""

from collections.abc import Sequence
from html import escape
from typing import TypeAlias

Attribute: TypeAlias = str | float


def element(name: str, *children: str, **attributes: Attribute) -> str:
    """Return an element. `children` are markup: `text` escapes what is not.

    An underscore in the name of an attribute is a hyphen, one at its end is left out (`class_`).
    Numbers are rounded to a hundredth of a pixel.
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_value(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{written}>{''.join(children)}</{name}>" if children else f"<{name}{written}/>"


def text(content: str, x: float, y: float, style: str = "", **attributes: Attribute) -> str:
    """Return a line of text at a place; `style` is its class."""
    return element("text", escape(content), x=x, y=y, class_=style, **attributes)


def title(content: str) -> str:
    """Return what a browser shows where the pointer rests on the element around it."""
    return element("title", escape(content))


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=style)


def polyline(points: Sequence[tuple[float, float]], style: str) -> str:
    """Return a line through points."""
    return element(
        "polyline", points=" ".join(f"{_value(x)},{_value(y)}" for x, y in points), class_=style
    )


def picture(width: float, height: float, label: str, *children: str) -> str:
    """Return a whole picture, for a page whose style sheet has its classes."""
    return element(
        "svg",
        *children,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {_value(width)} {_value(height)}",
        role="img",
        aria_label=label,
    )


def text_width(content: str, size: float = 12) -> float:
    """Return about how wide a line of text is, in pixels: fonts differ."""
    return 0.55 * size * len(content)


def _value(value: Attribute) -> str:
    if isinstance(value, str):
        return escape(value)
    return f"{value:.2f}".rstrip("0").rstrip(".") if value else "0"
