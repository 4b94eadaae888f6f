"""`asr serve`: a server for many streams, and its web page."""

import logging
import sys
import warnings
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import typer

from asr.cli.options import (
    BudgetLatencyMs,
    BudgetMemoryMb,
    BudgetRtf,
    ChunkMs,
    Engine,
    Model,
    Precision,
    Search,
    make_budget,
)
from asr.errors import AsrError
from asr.recognizer import load

_EXTRA = ("websockets", "prometheus_client")


def serve_command(
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Where to listen; default: this machine only.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 6006,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="ASR_TOKEN", help="What clients must know; better in the environment: ASR_TOKEN."
        ),
    ] = None,
    tls_cert: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A certificate chain (PEM), for https.")
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its key; default: in the same file.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="A web page elsewhere that may connect; repeat for more."),
    ] = None,
    max_streams: Annotated[
        int, typer.Option(min=1, help="Most streams at once, if the machine can hold so many.")
    ] = 100,
    max_minutes: Annotated[
        float, typer.Option(min=0.1, help="Most audio, or time, of one stream.")
    ] = 240,
    idle_seconds: Annotated[
        float, typer.Option(min=1, help="A stream without audio for so long is ended.")
    ] = 60,
    model: Model = None,
    precision: Precision = None,
    engine: Engine = None,
    chunk_ms: ChunkMs = None,
    search: Search = None,
    budget_rtf: BudgetRtf = None,
    budget_memory_mb: BudgetMemoryMb = None,
    budget_latency_ms: BudgetLatencyMs = None,
) -> None:
    """Serve streams over a websocket, in sherpa-onnx's protocol, and a web page to speak to.

    Each stream is held to the budgets, and a new one is refused where it would break those of the
    others. /healthz and /metrics (Prometheus) say how it does. Ctrl-C or SIGTERM end it, and what
    was heard is recognised still.
    """
    try:
        # Here, for it costs the other commands their start-up time.
        from asr.serving.server import Server, serve_until_signal
        from asr.serving.settings import Limits, Settings, load_tls
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise  # our own mistake
        raise AsrError(f"asr serve needs {error.name}: pip install 'earshot-asr[serve]'") from error
    if not host:
        raise AsrError("an empty --host would mean everywhere; say so with --host 0.0.0.0")
    settings = Settings(
        host=host,
        port=port,
        token=token or None,
        allowed_origins=tuple(allow_origin or ()),
        tls=load_tls(tls_cert, tls_key),
        budget=make_budget(budget_rtf, budget_memory_mb, budget_latency_ms),
        limits=Limits(max_streams, max_stream_s=60 * max_minutes, idle_s=idle_seconds),
    )
    if settings.token is None and not _is_loopback(host):
        warnings.warn(
            f"{host} can be reached by others, and without --token anybody may speak to it",
            stacklevel=2,
        )
    logging.basicConfig(format="%(asctime)s %(message)s", stream=sys.stderr)
    logging.getLogger("asr.serving").setLevel(logging.INFO)
    recognizer = load(model, precision=precision, engine=engine, chunk_ms=chunk_ms, search=search)
    server = Server(recognizer, settings)
    serve_until_signal(server, lambda: _announce(server.url, settings.token))


def _announce(url: str, token: str | None) -> None:
    """Say where the page is. The browser keeps what is behind the # to itself."""
    typer.echo(url if token is None else f"{url}#token={quote(token, safe='')}")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
