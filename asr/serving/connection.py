"""A connection whose client may not keep the event loop busy."""

import logging

from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event

_LOG = logging.getLogger("asr.serving")


class Connection(ServerConnection):
    """Drops a client that sends pings without end.

    `asr.serving.session` reads messages no faster than it likes, but pings are answered by
    websockets before anybody reads, and each costs the event loop as much as a message.
    """

    max_pings_per_s = 100
    """Pings and pongs; a browser sends none but answers, others one in some seconds."""

    _window_s = 0.0
    _pings = 0

    def process_event(self, event: Event) -> None:
        """Take what the client sent."""
        if isinstance(event, Frame) and event.opcode in (Opcode.PING, Opcode.PONG):
            now_s = self.loop.time()
            if now_s - self._window_s >= 1.0:
                self._window_s, self._pings = now_s, 0
            self._pings += 1
            if self._pings == self.max_pings_per_s:
                _LOG.info("a client sent %d pings in a second and is dropped", self._pings)
                self.transport.abort()
        super().process_event(event)
