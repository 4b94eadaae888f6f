"""Earshot itself, measured as its peers are."""

import asr
from asr.evaluation.isolated import Loaded
from asr.profile import profile_key


def load(
    model: str | None = None,
    precision: str | None = None,
    engine: str | None = None,
    chunk_ms: int | None = None,
    threads: int = 1,
) -> Loaded:
    """Load a bundle, the built-in one if none is named, as `asr.load` does; what `asr tune` chose
    is not used."""
    recognizer = asr.load(
        model, precision=precision, engine=engine, chunk_ms=chunk_ms, threads=threads
    )
    bundle, graphs = recognizer.bundle, recognizer.graphs
    return Loaded(
        open=recognizer.stream,
        runs_on=profile_key(bundle, graphs.precision, threads, graphs.engine).runtime,
        model=f"{bundle.name} {graphs.precision} for {graphs.engine}, chunks of "
        f"{recognizer.chunk_ms} ms, {recognizer.search} search",
        model_mb=bundle.megabytes(graphs),
    )
