"""`asr conditions`: word error rates by precision, chunk length and noise."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from asr.cli.options import Jobs, Limit, Model, Noise, Search, Split, check_destination
from asr.errors import AsrError


def conditions_command(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST...", help="As of asr eval; one set together.")
    ],
    model: Model = None,
    split: Split = None,
    limit: Limit = None,
    jobs: Jobs = 1,
    precision: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="May be repeated; default: the model's first."),
    ] = None,
    chunk_ms: Annotated[
        list[int] | None,
        typer.Option(metavar="MS", help="May be repeated; default: 160, 320, 640, or one."),
    ] = None,
    search: Search = None,
    noise: Noise = None,
    snr_db: Annotated[
        list[float] | None,
        typer.Option(metavar="DB", help="With noise; may be repeated; default: 20, 10, 5, 0."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="OUT.json", help="Write all figures to this JSON file.")
    ] = None,
) -> None:
    """Measure the word error rate under several conditions: what int8, a chunk or noise costs.

    Each precision is measured with each chunk length and offline, in chunks of 10.24 s, which hold
    most utterances whole; then the first of them, with the model's own chunk, through noise. The
    table is Markdown. Below it: how many words that one hears in the noises alone, and in silence.
    In two passes the chunk makes no difference to the words, so only the model's own is measured;
    --search beam shows what it does to the first pass.
    """
    from rich.console import Console
    from rich.progress import track

    from asr import load
    from asr.evaluation.conditions import HEAD, conditions, evaluate_under, figures_of, markdown_row
    from asr.evaluation.corpora import read_corpora
    from asr.evaluation.envelope import describe_evaluation, write_result
    from asr.evaluation.noise import held_out_noises
    from asr.evaluation.speechless import hear_speechless

    if snr_db and noise is None:
        raise AsrError("--snr-db: of which noise? Give --noise FOLDER as well")
    if report is not None:
        check_destination("--report", report, manifests)
    noises = held_out_noises(noise) if noise is not None else ()  # or raise now, not in an hour
    manifest = read_corpora(manifests, split, limit)
    first = precision[0] if precision else None
    recognizer = load(model, precision=first, threads=1, search=search)
    envelope = describe_evaluation(recognizer, manifests, split, limit, jobs, noise)
    default_chunks = [160, 320, 640]
    if recognizer.search == "two-pass":
        default_chunks = [recognizer.chunk_ms]
    rows = conditions(
        precision or [recognizer.precision],
        chunk_ms or default_chunks,
        recognizer.chunk_ms,
        (snr_db or [20.0, 10.0, 5.0, 0.0]) if noise is not None else [],
    )
    for row in rows:  # the same: a precision or a length that the model hasn't
        load(model, precision=row.precision, chunk_ms=row.chunk_ms, threads=1)
    console = Console(stderr=True)
    results = []
    typer.echo(HEAD)
    for row in track(rows, "conditions", console=console, transient=True):
        of_row = evaluate_under(row, model, manifest, noise, jobs, search)
        results.append((row, of_row))
        typer.echo(markdown_row(row, of_row))  # now: the rest may take an hour
    speechless = hear_speechless(recognizer, noises) if noises else None
    if speechless is not None:
        typer.echo(f"\n{recognizer.precision}, {recognizer.chunk_ms} ms: {speechless}")
    # Once, though they are in each condition; a noise that can't be read is only in some.
    skipped = [each for _, of_row in results for each in of_row.skipped]
    skipped += speechless.skipped if speechless else ()
    for each in dict.fromkeys(skipped):
        console.print(f"skipped {each.id}: {each.reason}", style="yellow", markup=False)
    if report is not None:
        figures = [figures_of(row, of_row) for row, of_row in results]
        heard = None if speechless is None else speechless.figures()
        write_result(report, {**asdict(envelope), "rows": figures, "speechless": heard})
