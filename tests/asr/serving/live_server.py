"""A server in a thread of its own, for tests that are its clients."""

import asyncio
import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from asr.recognizer import Recognizer
from asr.serving.server import Server
from asr.serving.settings import Settings


@dataclass(frozen=True)
class Heard:
    """What a client was told, up to the end of its connection."""

    messages: list[dict[str, Any]]
    said_done: bool
    code: int | None  # with which the server closed

    @property
    def text(self) -> str:
        finals = [message for message in self.messages if message.get("is_final")]
        return " ".join(message["text"] for message in finals if message["text"])

    @property
    def error(self) -> dict[str, str] | None:
        errors = [message["error"] for message in self.messages if "error" in message]
        return errors[0] if errors else None


class LiveServer:
    """The server, seen by a client."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop
        self.url = server.url

    def connect(self, query: str = "", **options: Any) -> ClientConnection:
        return connect(f"{self.url.replace('http', 'ws', 1)}{query}", proxy=None, **options)

    def speak(self, samples: np.ndarray, query: str = "", block: int = 8000) -> Heard:
        """Send audio as sherpa-onnx's clients do."""
        with self.connect(query) as socket:
            for start in range(0, len(samples), block):
                socket.send(samples[start : start + block].astype("<f4").tobytes())
            socket.send("Done")
            return listen(socket)

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], bytes]:
        """Return status, headers and body."""
        request = urllib.request.Request(self.url.rstrip("/") + path, headers=headers)
        try:
            with urllib.request.urlopen(request) as answer:
                return answer.status, dict(answer.headers), answer.read()
        except urllib.error.HTTPError as error:
            return error.code, dict(error.headers), error.read()

    def metric(self, name: str) -> float:
        """Return a metric by its name and labels."""
        lines = self.get("/metrics")[2].decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.split()[0] == name)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self.server.stop(), self._loop).result(30)


def listen(socket: ClientConnection) -> Heard:
    """Take what the server says until it closes."""
    messages, said_done = [], False
    try:
        while True:
            message = socket.recv(timeout=30)
            if message == "Done!":
                said_done = True
            else:
                messages.append(json.loads(message))
    except ConnectionClosed as closed:
        return Heard(messages, said_done, closed.rcvd.code if closed.rcvd else None)


@contextmanager
def serving(recognizer: Recognizer, settings: Settings) -> Iterator[LiveServer]:
    """Run a server; it has stopped when this ends, and nothing in it failed."""
    server = Server(recognizer, settings)
    loop = asyncio.new_event_loop()
    failures: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: failures.append(context))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    asyncio.run_coroutine_threadsafe(server.start(), loop).result(30)
    live = LiveServer(server, loop)
    try:
        yield live
    finally:
        live.stop()
        loop.call_soon_threadsafe(loop.stop)
        thread.join(30)
        loop.close()
    assert failures == []
