"""The server: takes clients in while there is room, and ends without losing what it heard."""

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

from websockets.asyncio.server import Server as WebsocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from asr import __version__
from asr.errors import AsrError, BudgetError
from asr.memory import resident_mb
from asr.profile import usable_cpus
from asr.recognizer import Recognizer
from asr.serving.capacity import Capacity, Footprint, Refused
from asr.serving.connection import Connection
from asr.serving.feed import Step
from asr.serving.http import (
    Door,
    Forbidden,
    error_response,
    json_response,
    load_pages,
    make_response,
    page_response,
    split_address,
)
from asr.serving.metrics import CONTENT_TYPE, Metrics
from asr.serving.protocol import ProtocolError, error_message, parse_request
from asr.serving.scheduler import Scheduler
from asr.serving.session import Session
from asr.serving.settings import Settings

_LOG = logging.getLogger("asr.serving")

_QUIET = logging.getLogger("asr.serving.websockets")
_QUIET.setLevel(logging.CRITICAL)  # anybody may send nonsense to a port; that is no news

_OPEN_S = 10.0  # to say what one wants
_CLOSE_S = 5.0  # to answer to a goodbye


class Server:
    """Serves a model.

    server = Server(recognizer, settings)
    await server.start()
    print(server.url)
    await server.stop()
    """

    def __init__(self, recognizer: Recognizer, settings: Settings) -> None:
        """Raises BudgetError if not even one stream could hold the budget of the settings. The
        first server of a model on a machine measures what its streams cost, for a second."""
        self._recognizer = recognizer
        self._settings = settings
        self.cpus = usable_cpus()
        rtf = recognizer.calibrated_rtf(settings.budget)
        self.capacity = Capacity(
            rtf,
            self.cpus,
            settings.limits.max_streams,
            settings.budget,
            Footprint(resident_mb(), recognizer.calibrated_growth_mb(settings.budget)),
        )
        self._first_point = recognizer.stream(settings.budget).point  # where streams begin
        self._metrics = Metrics(self.capacity)
        self._door = Door(settings)
        self._pages = load_pages()
        self._scheduler = Scheduler()
        self._sessions: dict[Session, asyncio.Task[object]] = {}
        self._server: WebsocketServer | None = None

    @property
    def url(self) -> str:
        """The address of the page; that of the websocket is the same, with ws for http."""
        host, port = self._settings.host, self._settings.port
        if self._server is not None:
            port = next(iter(self._server.sockets)).getsockname()[1]
        scheme = "https" if self._settings.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/"

    async def start(self) -> None:
        """Open the port, and the worker threads.

        Raises AsrError if the port can't be had.
        """
        limits = self._settings.limits
        try:
            self._server = await serve(
                self._serve_client,
                self._settings.host,
                self._settings.port,
                process_request=self._answer,
                create_connection=Connection,
                ssl=self._settings.tls,
                compression=None,  # noise doesn't shrink
                max_size=limits.max_message_bytes,
                max_queue=4,  # of messages that wait unread; two are read ahead
                ping_interval=limits.ping_s,
                ping_timeout=limits.ping_s,
                open_timeout=_OPEN_S,
                close_timeout=_CLOSE_S,
                server_header=None,
                logger=_QUIET,
            )
        except OSError as error:
            # asyncio's text says the address again. A name that isn't found is no system error.
            is_of_system = error.errno is not None and error.errno > 0
            reason = os.strerror(error.errno or 0) if is_of_system else error.strerror or error
            raise AsrError(
                f"{self._settings.host}:{self._settings.port} can't be listened to: {reason}; "
                "name another with --host and --port"
            ) from error
        self._scheduler.start(self.cpus)

    async def stop(self) -> None:
        """Take nobody in any more, recognise what was heard, tell it, and close."""
        if self._server is not None:
            self._server.close(close_connections=False)
        for session in self._sessions:
            session.stop("the server stops; this is what it heard")
        if self._sessions:
            await asyncio.wait(self._sessions.values(), timeout=self._settings.limits.drain_s)
        for session in self._sessions:
            session.abort()
        await asyncio.to_thread(self._scheduler.stop)

    def _answer(self, connection: ServerConnection, request: Request) -> Response | None:
        """Answer to a request, or let it go on as a websocket."""
        try:
            url = split_address(request.path)
            if "Upgrade" not in request.headers:
                return self._show(url.path, request)
            if url.path not in ("", "/"):
                raise Forbidden("path", HTTPStatus.NOT_FOUND, f"no websocket at {url.path}; use /")
            self._door.check_origin(request)
            self._door.check_token(request)
            parse_request(url.query)
        except Forbidden as error:
            self._metrics.count_refused(error.reason)
            return error_response(error.reason, error.status, str(error))
        except ProtocolError as error:
            self._metrics.count_refused("malformed")
            return error_response("malformed", HTTPStatus.BAD_REQUEST, str(error))
        return None

    def _show(self, path: str, request: Request) -> Response:
        if path == "/healthz":
            return json_response(HTTPStatus.OK, self._health())
        if path == "/metrics":
            self._door.check_token(request)
            return make_response(HTTPStatus.OK, self._metrics.to_text(), CONTENT_TYPE)
        if path in self._pages:
            return page_response(self._pages[path], request)
        return error_response("path", HTTPStatus.NOT_FOUND, f"nothing at {path}")

    def _health(self) -> dict[str, object]:
        return {
            "status": "ok",
            "version": __version__,
            "model": self._recognizer.bundle.name,
            "needs_token": self._settings.token is not None,
        }

    async def _serve_client(self, socket: ServerConnection) -> None:
        """Take a client in, or tell it why not."""
        point = self._first_point
        try:
            self.capacity.admit(point)
        except Refused as error:
            await self._refuse(socket, error.reason, error)
            return
        try:
            await self._serve_stream(socket)
        except BudgetError as error:
            await self._refuse(socket, "budget", error)
        finally:
            self.capacity.release(point)

    async def _serve_stream(self, socket: ServerConnection) -> None:
        query = split_address(socket.request.path).query if socket.request else ""
        request, budget = parse_request(query), self._settings.budget
        # In a thread, as the budget may have to be calibrated for.
        open_stream = partial(self._recognizer.stream, budget, endpoints=request.endpoints)
        stream = await asyncio.to_thread(open_stream)
        session = Session(
            socket,
            stream,
            request.sample_rate,
            self._scheduler,
            self._settings.limits,
            self._note_step,
        )
        task = asyncio.current_task()
        assert task is not None  # this is a coroutine
        self._sessions[session] = task
        self._metrics.count_opened()
        _LOG.info("a stream began; %d open", self.capacity.streams)
        how = "failed"
        try:
            how = (await session.run()).how
        except Exception:  # websockets closes the connection
            _LOG.exception("a session failed")
            raise
        finally:
            del self._sessions[session]
            self._metrics.count_ended(how)
            _LOG.info("a stream ended (%s) after %.1f s of audio", how, stream.audio_s)

    async def _refuse(self, socket: ServerConnection, reason: str, error: AsrError) -> None:
        self._metrics.count_refused(reason)
        _LOG.info("a stream was refused: %s", error)
        with contextlib.suppress(ConnectionClosed):
            await socket.send(error_message(reason, str(error)).text)
        await socket.close(CloseCode.TRY_AGAIN_LATER, reason)

    def _note_step(self, step: Step) -> None:
        self.capacity.observe(step.point, step.audio_s, step.compute_s)
        self._metrics.count_step(step)


def serve_until_signal(server: Server, ready: Callable[[], None]) -> None:
    """Serve until SIGINT or SIGTERM comes, then end as `stop` does; a second one doesn't wait for
    that. `ready` is called when clients may come."""
    asyncio.run(_serve_until_signal(server, ready))


async def _serve_until_signal(server: Server, ready: Callable[[], None]) -> None:
    loop, stopped = asyncio.get_running_loop(), asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    await server.start()
    ready()
    await stopped.wait()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.remove_signal_handler(number)
    await server.stop()
