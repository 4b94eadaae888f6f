"""One client: it is listened to within its limits, told what is recognised, and let go."""

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConcurrencyError, ConnectionClosed
from websockets.frames import CloseCode

from asr.errors import BudgetExceeded
from asr.serving import protocol
from asr.serving.feed import Feed, Step
from asr.serving.protocol import Message, ProtocolError, error_message, parse_message
from asr.serving.scheduler import Scheduler
from asr.serving.settings import Limits
from asr.stream import Stream

_LOG = logging.getLogger("asr.serving")

_MAX_WAITING = 100
"""Messages that can't be replaced and wait for a client to take them: half an hour of segments."""


@dataclass(frozen=True, slots=True)
class Ending:
    """Why a session ends."""

    how: str  # a word for programs
    code: int  # with which the connection is closed
    message: str | None = None  # for the client; None: it ends as it should
    abrupt: bool = False  # nobody is there to be told anything


DONE = Ending("done", CloseCode.NORMAL_CLOSURE)
VANISHED = Ending("vanished", CloseCode.ABNORMAL_CLOSURE, abrupt=True)
SLOW = Ending("slow", CloseCode.POLICY_VIOLATION, abrupt=True)


class Outbox:
    """Messages for a client that may be slow. What a later message says again is replaced by it."""

    def __init__(self) -> None:
        self._lasting: deque[Message] = deque()
        self._newest: Message | None = None  # replaceable
        self._closed = False
        self._changed = asyncio.Event()

    def put(self, message: Message) -> None:
        """Take a message; what it replaces is dropped."""
        self._newest = message if message.replaceable else None
        if not message.replaceable:
            self._lasting.append(message)
        self._changed.set()

    def close(self) -> None:
        """Say that no more messages come."""
        self._closed = True
        self._changed.set()

    @property
    def is_full(self) -> bool:
        """Whether so much waits that its client can't be there any more."""
        return len(self._lasting) > _MAX_WAITING

    async def get(self) -> Message | None:
        """Return the next message when there is one; None after the last."""
        while True:
            if self._lasting:
                return self._lasting.popleft()
            if self._newest is not None:
                message, self._newest = self._newest, None
                return message
            if self._closed:
                return None
            self._changed.clear()
            await self._changed.wait()


class Session:
    """Runs one stream for one client."""

    def __init__(
        self,
        socket: ServerConnection,
        stream: Stream,
        sample_rate: int,
        scheduler: Scheduler,
        limits: Limits,
        on_step: Callable[[Step], None],
    ) -> None:
        """`stream` is new; `sample_rate` is that of the client. `on_step` is told of each step, in
        the event loop."""
        self._socket = socket
        self._rate = sample_rate
        self._scheduler = scheduler
        self._limits = limits
        self._on_step = on_step
        self._loop = asyncio.get_running_loop()
        self._feed = Feed(stream, sample_rate, self._deliver)
        self._outbox = Outbox()
        self._stepped = asyncio.Event()
        self._listened: asyncio.Future[Ending] = self._loop.create_future()
        self._stopped: asyncio.Future[Ending] = self._loop.create_future()
        self._recognised: asyncio.Future[Ending | None]  # None: to its end, else why not
        self._recognised = self._loop.create_future()
        self._window_s, self._window_messages = 0.0, 0

    def stop(self, message: str) -> None:
        """Listen no more, and end with what was heard."""
        if not self._stopped.done():
            self._stopped.set_result(Ending("stopped", CloseCode.GOING_AWAY, message))

    def abort(self) -> None:
        """Drop the client."""
        self._socket.transport.abort()

    async def run(self) -> Ending:
        """Serve the client to its end."""
        sender = asyncio.create_task(self._send())
        reader = asyncio.create_task(self._read())
        watcher = asyncio.create_task(self._watch())
        try:
            ends = (self._listened, self._stopped, self._recognised, sender, watcher)
            await asyncio.wait((*ends, reader), return_when=asyncio.FIRST_COMPLETED)
            if reader.done():
                reader.result()  # raises what went wrong in it
            ending = next(end.result() for end in ends if end.done()) or VANISHED
            if ending.abrupt:
                self.abort()
            else:
                ending = await self._take_leave(ending, sender)
            return ending
        finally:
            self._feed.abandon()
            for task in (reader, sender, watcher):
                task.cancel()

    async def _read(self) -> None:
        """Listen, and behind that read on until the connection is closed. If what a client goes on
        to send were left unread, it would lose what it is told last."""
        self._listened.set_result(await self._listen())
        with suppress(ConnectionClosed, ConcurrencyError):  # listening may end within a message
            while True:
                await self._receive()

    async def _listen(self) -> Ending:
        """Take audio until the client is done, or says what it may not."""
        limits = self._limits
        left = limits.max_stream_s * self._rate  # samples
        heard_s = self._loop.time()
        # Who sends a sample in a minute would else keep a place for months.
        over_s = heard_s + limits.max_stream_s + limits.idle_s
        over = _over(f"a stream may have {limits.max_stream_s:g} s; open another one")
        try:
            while True:
                async with asyncio.timeout_at(min(heard_s + limits.idle_s, over_s)):
                    samples = parse_message(await self._receive())
                if samples is None:
                    return DONE
                if not len(samples):
                    continue
                self._feed.push(samples[: math.ceil(min(left, len(samples)))])
                self._scheduler.submit(self._feed)
                left -= len(samples)
                if left <= 0:
                    return over
                while self._feed.queued_s > limits.queue_s:
                    self._stepped.clear()
                    await self._stepped.wait()
                heard_s = self._loop.time()
        except TimeoutError:
            if self._loop.time() >= over_s:
                return over
            message = f"no audio for {limits.idle_s:g} s; send some, or {protocol.DONE!r} to end"
            return Ending("idle", CloseCode.POLICY_VIOLATION, message)
        except ProtocolError as error:
            return Ending("malformed", CloseCode.INVALID_DATA, str(error))
        except ConnectionClosed as error:
            return _closed(error)

    async def _receive(self) -> str | bytes:
        """Return the next message. In parts, for a message may consist of any number of them."""
        parts: list[Any] = []  # all text, or all bytes
        async for part in self._socket.recv_streaming():
            if part or not parts:
                parts.append(part)
            await self._slow_down()
        whole: str | bytes = parts[0][:0].join(parts)
        return whole

    async def _slow_down(self) -> None:
        """Let a client wait that sends too many messages, or parts of them: each costs the event
        loop some time, however small it is."""
        now_s = self._loop.time()
        if now_s - self._window_s >= 1.0:
            self._window_s, self._window_messages = now_s, 0
        self._window_messages += 1
        if self._window_messages > self._limits.max_messages_per_s:
            await asyncio.sleep(self._window_s + 1.0 - now_s)

    async def _send(self) -> Ending | None:
        """Tell the client what there is to tell, until the outbox is closed."""
        try:
            while (message := await self._outbox.get()) is not None:
                async with asyncio.timeout(self._limits.send_s):
                    await self._socket.send(message.text)
        except TimeoutError:
            return SLOW
        except ConnectionClosed as error:
            return _closed(error)
        return None

    async def _watch(self) -> Ending:
        """Wait until too much waits for the client: messages, or answers to its pings."""
        while True:
            await asyncio.sleep(1.0)
            unsent = self._socket.transport.get_write_buffer_size()
            if unsent > self._limits.max_unsent_bytes or self._outbox.is_full:
                return SLOW

    def _deliver(self, step: Step) -> None:
        """Take what came of a step, in a worker thread."""
        self._loop.call_soon_threadsafe(self._take, step)

    def _take(self, step: Step) -> None:
        self._on_step(step)
        for message in step.messages:
            self._outbox.put(message)
        self._stepped.set()
        if step.is_last and not self._recognised.done():
            self._recognised.set_result(_failed(step.error) if step.error else None)

    async def _take_leave(self, ending: Ending, sender: "asyncio.Task[Ending | None]") -> Ending:
        """Recognise what was heard, tell it, say why it ends, and close; return how that went."""
        self._feed.close()
        self._scheduler.submit(self._feed)
        await asyncio.wait((self._recognised, sender), return_when=asyncio.FIRST_COMPLETED)
        if self._recognised.done():
            ending = self._recognised.result() or ending
        if ending.message is not None:
            self._outbox.put(error_message(ending.how, ending.message))
        if ending.how in ("done", "stopped"):
            self._outbox.put(Message(protocol.DONE_REPLY))
        self._outbox.close()
        if (failure := await sender) is not None:
            self.abort()
            return failure
        await self._socket.close(ending.code, ending.how)
        return ending


def _over(message: str) -> Ending:
    return Ending("too-long", CloseCode.POLICY_VIOLATION, message)


def _failed(error: Exception) -> Ending:
    if isinstance(error, BudgetExceeded):
        return Ending("memory", CloseCode.TRY_AGAIN_LATER, str(error))
    _LOG.error("a stream failed", exc_info=error)
    return Ending("failed", CloseCode.INTERNAL_ERROR, "the server failed; its log says why")


def _closed(error: ConnectionClosed) -> Ending:
    """Return what became of a connection that is no more."""
    code = error.sent.code if error.sent and not error.rcvd_then_sent else None
    if code == CloseCode.MESSAGE_TOO_BIG:
        return replace(VANISHED, how="oversized")
    return VANISHED
