"""A chart as a file of its own: the page's style is in it, light or dark as the viewer is."""

import re

from asr.evaluation.report.html import style_sheet

_MARGIN = 16


def standalone(svg: str) -> str:
    """Return a chart with all it needs to be seen outside a report, and a margin."""
    head, tag, rest = svg.partition(">")
    head = re.sub(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', _with_margin, head)
    background = (
        f'<rect x="-{_MARGIN}" y="-{_MARGIN}" width="100%" height="100%" fill="var(--card)"/>'
    )
    return f"{head}{tag}<style>{style_sheet()}</style>{background}{rest}\n"


def _with_margin(box: re.Match[str]) -> str:
    width, height = (float(side) + 2 * _MARGIN for side in box.groups())
    return f'viewBox="-{_MARGIN} -{_MARGIN} {width:g} {height:g}"'
