"""`asr report`: the results of other commands on one page."""

from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import check_destination
from asr.whole_files import write_whole


def report_command(
    out: Annotated[Path, typer.Argument(metavar="OUT.html", help="The page to write.")],
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="FILE.json...",
            help="What --report of asr eval, asr bench, asr peers or asr tune wrote.",
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
    from asr.evaluation.report.html import write_html
    from asr.evaluation.report.markdown import write_markdown
    from asr.evaluation.report.results import read_results
    from asr.evaluation.report.sections import build_report

    check_destination("OUT.html", out)
    if markdown is not None:
        check_destination("--markdown", markdown)
    report = build_report(read_results(files))
    page = write_html(report)
    write_whole(out, lambda path: path.write_text(page, encoding="utf-8"))
    if markdown is not None:
        text = write_markdown(report)
        write_whole(markdown, lambda path: path.write_text(text, encoding="utf-8"))
