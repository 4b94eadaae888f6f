"""`asr-train prepare`: manifests of corpora, and of one's own recordings."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

prepare = typer.Typer(
    no_args_is_help=True, help="Write manifests of a corpus, or of a folder of recordings."
)

Out = Annotated[
    Path | None, typer.Option(help="Where to write manifests; without it, into FOLDER.")
]


@prepare.command()
def librispeech(
    folder: Annotated[Path, typer.Argument(help="The folder LibriSpeech: train-clean-100 ...")],
    out: Out = None,
    subset: Annotated[
        list[str] | None, typer.Option(help="One of its subsets; may be given several times.")
    ] = None,
    download: Annotated[
        bool, typer.Option("--download", help="First fetch what is missing from openslr.org.")
    ] = False,
    base_url: Annotated[
        str | None, typer.Option(help="A mirror, in place of https://www.openslr.org/resources.")
    ] = None,
) -> None:
    """Write a manifest for each subset of LibriSpeech."""
    from training.corpora.librispeech import (
        BASE_URL,
        DEFAULT_SUBSETS,
        download_librispeech,
        prepare_librispeech,
    )

    console = Console(stderr=True)
    subsets = subset or (list(DEFAULT_SUBSETS) if download else [])
    if download:
        download_librispeech(folder, console, subsets, base_url or BASE_URL)
    prepare_librispeech(folder, console, out, subsets)


@prepare.command("common-voice")
def common_voice(
    folder: Annotated[
        Path, typer.Argument(help="A language of a release: validated.tsv, clips ...")
    ],
    out: Out = None,
) -> None:
    """Write manifests of train, dev, test and validated of a release of Common Voice."""
    from training.corpora.common_voice import prepare_common_voice

    prepare_common_voice(folder, Console(stderr=True), out)


@prepare.command("folder")
def recordings(
    folder: Annotated[Path, typer.Argument(help="Recordings, a .txt file beside each.")],
    table: Annotated[
        Path | None,
        typer.Option(
            "--table", help="In place of .txt files: a CSV or TSV with columns audio and text."
        ),
    ] = None,
    dev_share: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=0.9,
            help="Share of the sentences to measure on; those of an earlier manifest stay.",
        ),
    ] = 0.1,
) -> None:
    """Write a manifest of your own recordings, to fine-tune on."""
    from training.corpora.recordings import prepare_recordings

    prepare_recordings(folder, Console(stderr=True), dev_share, table)
