"""`asr report`: the results of other commands on one page."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from asr.cli.options import check_destination
from asr.errors import AsrError
from asr.whole_files import write_whole

if TYPE_CHECKING:
    from asr.evaluation.report.results import Result

_PAGES = (".html", ".htm")
_DAMAGED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What a text where a number should be leads to, and the like."""


def report_command(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE.json...",
            help="What --report of asr eval, bench, peers or tune, or of asr-train bench-loss "
            "wrote.",
        ),
    ],
    markdown: Annotated[
        Path | None,
        typer.Option(metavar="OUT.md", help="Write the tables as Markdown too."),
    ] = None,
) -> None:
    """Make one page of the results of several measurements.

    It has tables and charts, stands beside what others have published, and says of each figure
    which command made it, where and when. It is one file that loads nothing and runs nothing.
    """
    from asr.evaluation.report.results import read_results

    if out.suffix not in _PAGES:  # it may be the first of the results
        raise AsrError(f"OUT.html {out}: expected a name that ends in {' or '.join(_PAGES)}")
    check_destination("OUT.html", out, files)
    if markdown is not None:
        check_destination("--markdown", markdown, files)
    page, tables = _write(read_results(files))
    write_whole(out, lambda path: path.write_bytes(page))
    if markdown is not None:
        write_whole(markdown, lambda path: path.write_bytes(tables))


def _write(results: "Sequence[Result]") -> tuple[bytes, bytes]:
    """Return the page and the Markdown. Raises AsrError that names the file which is to blame."""
    from asr.evaluation.report.html import write_html
    from asr.evaluation.report.markdown import write_markdown
    from asr.evaluation.report.sections import build_report

    try:
        report = build_report(results)
        return write_html(report).encode(), write_markdown(report).encode()
    except _DAMAGED as error:
        if len(results) == 1:
            raise AsrError(
                f"{results[0].path}: not as this version writes it ({error!r}); measure it again"
            ) from error
        for result in results:
            _write([result])
        raise
