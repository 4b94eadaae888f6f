"""A server and its clients: those who behave get every word, and nobody harms the others."""

import json
import math
import random
import socket as sockets
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from urllib.parse import urlsplit

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.frames import Opcode
from websockets.sync.client import ClientConnection

from asr.budget import Budget
from asr.errors import AsrError, BudgetExceeded
from asr.memory import resident_mb, trim_heap
from asr.recognizer import Recognizer
from asr.serving.capacity import Refused
from asr.serving.settings import Limits, Settings
from asr.stream import Stream
from tests.asr.serving.live_server import LiveServer, listen, serving
from tests.asr.signals import noise

SPEECH = noise(3.0)
SECOND = np.zeros(16_000, "<f4").tobytes()
QUICK = Limits(
    idle_s=1.0, max_stream_s=30.0, ping_s=0.5, send_s=1.0, drain_s=10.0, max_unsent_bytes=100_000
)


@pytest.fixture(scope="module")
def text(recognizer: Recognizer) -> str:
    stream = recognizer.stream()
    stream.accept(SPEECH)
    return stream.finish().text


@pytest.fixture(scope="module", autouse=True)
def any_load() -> Iterator[None]:
    """The clients of these tests load the machine as no others do, and are not to be refused."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("asr.serving.capacity.FULL_AT", 1000)
        yield


@pytest.fixture(scope="module")
def server(recognizer: Recognizer) -> Iterator[LiveServer]:
    with serving(recognizer, Settings(port=0)) as live:
        yield live


def test_the_message_sequence_of_sherpa_onnx(server: LiveServer, text: str) -> None:
    heard = server.speak(SPEECH)
    assert heard.text == text != ""
    assert heard.said_done and heard.code == 1000 and heard.error is None
    assert [m["is_eof"] for m in heard.messages] == [False] * (len(heard.messages) - 1) + [True]


def test_many_at_once_hear_what_one_hears(server: LiveServer, text: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        blocks = [123 * number + 77 for number in range(12)]
        heards = list(pool.map(lambda block: server.speak(SPEECH, block=block), blocks))
    assert {heard.text for heard in heards} == {text}
    wait_until(lambda: server.server.capacity.streams == 0)


def test_segments_by_length_change_no_word(recognizer: Recognizer, server: LiveServer) -> None:
    samples = np.concatenate([SPEECH, np.zeros(48_000, np.float32)] * 5)
    stream = recognizer.stream()
    stream.accept(samples)
    heard = server.speak(samples, "?endpoints=length")
    assert heard.text == stream.finish().text
    finals = [message for message in heard.messages if message["is_final"]]
    assert len(finals) == 2, "30 s, cut after 20 s"


def test_another_rate(recognizer: Recognizer, server: LiveServer) -> None:
    samples = noise(3.0, 44_100)
    stream = recognizer.stream()
    stream.accept(samples, 44_100)
    assert server.speak(samples, "?sample_rate=44100").text == stream.finish().text


def test_a_stream_without_audio(server: LiveServer) -> None:
    heard = server.speak(np.empty(0, np.float32))
    assert (heard.text, heard.said_done, heard.code) == ("", True, 1000)


def test_health_and_metrics(server: LiveServer) -> None:
    server.speak(SPEECH)
    status, headers, body = server.get("/healthz")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert json.loads(body)["status"] == "ok" and json.loads(body)["model"] == "tiny"
    assert server.metric("asr_audio_seconds_total") >= 3.0
    assert server.metric("asr_compute_seconds_total") > 0
    assert server.metric('asr_streams_ended_total{how="done"}') >= 1
    assert server.metric("asr_streams") == 0
    assert server.metric("process_resident_memory_bytes") > 1e7


def test_the_page_comes_whole_and_brings_nothing_else(server: LiveServer) -> None:
    status, headers, body = server.get("/")
    assert status == 200 and headers["Content-Type"] == "text/html; charset=utf-8"
    policy = headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy
    assert b"http" not in body.replace(b"http-equiv", b""), "no external resource"
    for name in ("app.js", "capture.js", "style.css", "icon.svg"):
        status, headers, _ = server.get(f"/{name}")
        assert status == 200 and headers["X-Content-Type-Options"] == "nosniff"
        assert server.get(f"/{name}", **{"If-None-Match": headers["ETag"]})[0] == 304
    assert server.get("/../settings.py")[0] == 404
    assert server.get("/index.html")[0] == 404, "one address for one thing"


def test_an_impossible_request_says_why(server: LiveServer) -> None:
    with pytest.raises(InvalidStatus) as refused:
        server.connect("?sample_rate=1")
    assert refused.value.response.status_code == 400
    assert b"expected a rate in Hz" in refused.value.response.body
    with pytest.raises(InvalidStatus) as refused:
        server.connect("elsewhere")
    assert refused.value.response.status_code == 404


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("//[", []),
        ("/", ["Origin: http://["]),
        ("/", ["Origin: http://x", "Origin: http://y"]),
        ("/", ["Origin: http://x", "Host: y"]),
        ("/", ["If-None-Match: x", "If-None-Match: y"]),
        ("/metrics", ["Authorization: Bearer x", "Authorization: Bearer y"]),
        (f"/?sample_rate={'9' * 5000}", []),
    ],
)
@pytest.mark.parametrize("upgrade", ["", "Upgrade: websocket\r\n"])
def test_a_request_that_makes_no_sense_is_no_failure_of_the_server(
    recognizer: Recognizer, path: str, headers: list[str], upgrade: str
) -> None:
    host = "[" if "http://[" in str(headers) else "x"
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", *headers, f"{upgrade}"]
    with serving(recognizer, Settings(port=0, token="x")) as live, dial(live) as raw:
        raw.sendall("\r\n".join([*lines, ""]).encode())
        status = int(raw.recv(12).split()[1])
    assert status in (200, 400, 401, 403, 404)


def test_only_who_knows_the_token(recognizer: Recognizer, text: str) -> None:
    with serving(recognizer, Settings(port=0, token="s3cret ü")) as live:
        header = {"Authorization": "Bearer s3cret ü".encode().decode("latin1")}
        assert live.get("/metrics", **header)[0] == 200
        for query in ("", "?token=", "?token=S3cret"):
            with pytest.raises(InvalidStatus) as refused:
                live.connect(query)
            assert refused.value.response.status_code == 401
        assert live.get("/metrics")[0] == 401
        assert live.get("/healthz")[0] == 200 and live.get("/")[0] == 200
        assert live.speak(SPEECH, "?token=s3cret%20%C3%BC").text == text


def test_only_pages_from_here(recognizer: Recognizer) -> None:
    """Any page that a browser shows may try to open a websocket to this machine."""
    settings = Settings(port=0, allowed_origins=("https://friend.example",))
    with serving(recognizer, settings) as live:
        port = urlsplit(live.url).port
        for origin in ("https://evil.example", "null", "http://127.0.0.1:1"):
            with pytest.raises(InvalidStatus) as refused:
                live.connect(origin=origin)
            assert refused.value.response.status_code == 403
            assert b"--allow-origin" in refused.value.response.body
        # A name that its owner lets point here: the browser thinks it is the same site.
        rebound = {"Host": f"evil.example:{port}", "Origin": f"http://evil.example:{port}"}
        with pytest.raises(InvalidStatus):
            live.connect(additional_headers=rebound)
        for origin in (f"http://127.0.0.1:{port}", "https://friend.example"):
            with live.connect(origin=origin):
                pass


def test_too_many_are_refused_with_the_reason(recognizer: Recognizer, text: str) -> None:
    with serving(recognizer, Settings(port=0, limits=Limits(max_streams=2))) as live:
        with live.connect(), live.connect():
            wait_until(lambda: live.server.capacity.streams == 2)
            with live.connect() as third:
                heard = listen(third)
        assert heard.error == {
            "reason": "full",
            "message": "all 2 streams are taken; try again later",
        }
        assert heard.code == 1013
        assert live.metric('asr_streams_refused_total{reason="full"}') == 1
        wait_until(lambda: live.server.capacity.streams == 0)
        assert live.speak(SPEECH).text == text


def test_a_budget_that_can_not_be_held_is_refused_before_it_starts(recognizer: Recognizer) -> None:
    with (
        pytest.raises(AsrError, match="rtf=1e-09 can't be held"),
        serving(recognizer, Settings(port=0, budget=Budget(rtf=1e-9))),
    ):
        pass


def test_a_budget_is_told_and_held(recognizer: Recognizer) -> None:
    with serving(recognizer, Settings(port=0, budget=Budget(rtf=100, latency_ms=60_000))) as live:
        *_, last = live.speak(SPEECH).messages
    assert last["status"]["budget"] == {"rtf": 100, "memory_mb": None, "latency_ms": 60_000}


def test_a_memory_budget_limits_the_streams(recognizer: Recognizer) -> None:
    growth_mb = recognizer.calibrated_growth_mb()
    budget = Budget(memory_mb=resident_mb() + 2 * growth_mb + 40)
    with serving(recognizer, Settings(port=0, budget=budget)) as live:
        capacity, point = live.server.capacity, live.server._first_point
        with pytest.raises(Refused, match=r"streams may need .* MB of memory"):
            [capacity.admit(point) for _ in range(100)]
        assert capacity.streams >= 2


def test_memory_that_is_gone_ends_one_stream_with_its_text(
    recognizer: Recognizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    accept = Stream.accept

    def exhaust(stream: Stream, samples: np.ndarray, rate: int) -> list:
        events = accept(stream, samples, rate)
        if stream.audio_s > 2.0:
            raise BudgetExceeded("no memory", recognizer.stream().finish().result)
        return events

    monkeypatch.setattr(Stream, "accept", exhaust)
    with serving(recognizer, Settings(port=0)) as live:
        heard = live.speak(SPEECH)
    assert heard.error == {"reason": "memory", "message": "no memory"}
    assert heard.code == 1013 and heard.text


def test_the_end_of_the_server_loses_nothing_that_was_heard(
    recognizer: Recognizer, text: str
) -> None:
    with serving(recognizer, Settings(port=0)) as live:
        with live.connect() as socket:
            socket.send(SPEECH.astype("<f4").tobytes())
            wait_until(lambda: live.metric("asr_audio_seconds_total") > 2.9)
            stopping = threading.Thread(target=live.stop)
            stopping.start()
            heard = listen(socket)
            stopping.join()
        assert heard.text == text
        assert heard.said_done and heard.code == 1001
        assert heard.error and heard.error["reason"] == "stopped"
        with pytest.raises(ConnectionRefusedError), live.connect():
            pass


# Those who don't behave. Beside each of them, another client must hear every word.


def beside(live: LiveServer, text: str) -> None:
    heard = live.speak(SPEECH)
    assert heard.text == text and heard.code == 1000
    wait_until(lambda: live.server.capacity.streams == 0)


@pytest.fixture
def quick(recognizer: Recognizer) -> Iterator[LiveServer]:
    with serving(recognizer, Settings(port=0, limits=QUICK)) as live:
        yield live


def test_a_silent_client_is_ended(quick: LiveServer, text: str) -> None:
    with quick.connect() as socket:
        socket.send(SPEECH.astype("<f4").tobytes())
        with suppress(ConnectionClosed):
            for _ in range(100):  # pings and empty messages are no audio
                socket.send(b"")
                time.sleep(0.1)
        heard = listen(socket)
    assert heard.error and heard.error["reason"] == "idle"
    assert heard.text == text, "what it had said is recognised"
    assert heard.code == 1008
    beside(quick, text)


def test_a_stream_that_is_too_long_is_ended(recognizer: Recognizer, text: str) -> None:
    with serving(recognizer, Settings(port=0, limits=Limits(max_stream_s=2.0))) as live:
        with live.connect() as socket:
            for _ in range(4):
                socket.send(SECOND)
            heard = listen(socket)
        assert heard.error and heard.error["reason"] == "too-long"
        assert heard.messages[-2]["status"]["audio_s"] == 2.0


def test_who_sends_a_sample_now_and_then_keeps_no_place(recognizer: Recognizer) -> None:
    limits = Limits(max_stream_s=0.5, idle_s=0.5)
    with serving(recognizer, Settings(port=0, limits=limits)) as live, live.connect() as socket:
        with suppress(ConnectionClosed):
            for _ in range(200):
                socket.send(bytes(4))
                time.sleep(0.1)
        heard = listen(socket)
    assert heard.error and heard.error["reason"] == "too-long"


def test_no_limit_at_all(recognizer: Recognizer, text: str) -> None:
    limits = Limits(max_stream_s=math.inf, idle_s=math.inf)
    with serving(recognizer, Settings(port=0, limits=limits)) as live:
        assert live.speak(SPEECH).text == text


@pytest.mark.parametrize(
    "message", [b"abc", "hello", np.array([np.nan], "<f4").tobytes(), b"\xff" * 400]
)
def test_nonsense_ends_its_stream_with_what_was_heard(
    server: LiveServer, text: str, message: str | bytes
) -> None:
    with server.connect() as socket:
        socket.send(SPEECH.astype("<f4").tobytes())
        socket.send(message)
        heard = listen(socket)
    assert heard.error and heard.error["reason"] == "malformed"
    assert (heard.text, heard.code) == (text, 1007)
    beside(server, text)


def test_a_message_that_is_too_large(server: LiveServer, text: str) -> None:
    with server.connect() as socket:
        try:
            socket.send(b"\0" * (4 << 20))
            code = listen(socket).code
        except ConnectionClosed as closed:
            code = closed.rcvd.code if closed.rcvd else None
    assert code in (1009, None), "None: it closed while we were sending"
    beside(server, text)


def test_clients_that_vanish(server: LiveServer, text: str) -> None:
    for number in range(10):
        with server.connect() as socket:
            socket.send(SPEECH[: 4000 * number].astype("<f4").tobytes())
            reset(socket)
    beside(server, text)


def test_one_who_floods_waits_and_harms_nobody(quick: LiveServer, text: str) -> None:
    """Audio as fast as it can: it is read no faster than it is recognised."""
    with quick.connect() as socket:
        flood = threading.Thread(target=send_until_closed, args=(socket, SECOND))
        flood.start()
        beside_code = quick.speak(SPEECH)
        flood.join(60)
    assert (beside_code.text, beside_code.code) == (text, 1000)
    wait_until(lambda: quick.server.capacity.streams == 0)
    assert quick.metric('asr_streams_ended_total{how="too-long"}') == 1


def test_tiny_messages_are_slowed_down(recognizer: Recognizer, text: str) -> None:
    limits = Limits(max_messages_per_s=50)
    with serving(recognizer, Settings(port=0, limits=limits)) as live, live.connect() as socket:
        started = time.monotonic()
        for _ in range(120):
            socket.send(b"")
        socket.send("Done")
        assert live.speak(SPEECH).text == text
        listen(socket)
        assert time.monotonic() - started > 1.0


def test_a_message_in_endless_parts_is_no_way_to_stay(quick: LiveServer, text: str) -> None:
    with quick.connect() as socket:

        def parts() -> Iterator[bytes]:
            while True:
                yield b"\0"
                time.sleep(0.01)

        with pytest.raises(ConnectionClosed):
            socket.send(parts())
    beside(quick, text)


def test_one_who_pings_without_end_is_dropped(quick: LiveServer, text: str) -> None:
    """Each ping costs the event loop an answer, and nobody reads them one by one."""
    pings = 100 * frame(Opcode.PING, b"")
    deadline = time.monotonic() + 20
    with open_raw(quick) as raw, suppress(ConnectionError):
        while time.monotonic() < deadline:
            raw.sendall(pings)
            raw.recv(65536)
        pytest.fail("its pings are answered for ever")
    beside(quick, text)


def test_one_who_takes_no_messages_is_dropped(
    quick: LiveServer, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pings are answered until nobody takes the answers."""
    monkeypatch.setattr("asr.serving.connection.Connection.max_pings_per_s", math.inf)
    pings = 300 * frame(Opcode.PING, b"\0" * 125)
    deadline = time.monotonic() + 20
    with open_raw(quick) as raw, suppress(ConnectionError):
        while time.monotonic() < deadline:
            raw.sendall(pings)
        pytest.fail("gigabytes of answers are kept for it")
    beside(quick, text)


def test_half_open_connections_are_closed(quick: LiveServer, text: str) -> None:
    """A client that is cut off answers to no ping."""
    raw = open_raw(quick)
    raw.sendall(frame(Opcode.BINARY, SECOND))
    wait_until(lambda: quick.server.capacity.streams == 1)
    wait_until(lambda: quick.server.capacity.streams == 0)
    raw.close()
    beside(quick, text)


def test_those_who_never_ask_and_those_who_ask_nonsense(server: LiveServer, text: str) -> None:
    with ExitStack() as stack:
        for words in (b"", b"\0" * 99, b"GET", b"POST / HTTP/1.1\r\n\r\n", b"\r\n"):
            stack.enter_context(dial(server)).sendall(words)
        beside(server, text)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_bytes_at_all(recognizer: Recognizer, text: str, count: int) -> None:
    """No crash and no growth, whatever the frames are: good ones, bad ones, none."""
    chance = random.Random(1)
    with serving(recognizer, Settings(port=0, limits=QUICK)) as live:
        fuzz(live, chance, 300)
        trim_heap()
        before_mb = resident_mb()
        fuzz(live, chance, count)
        wait_until(lambda: live.server.capacity.streams == 0)
        trim_heap()
        assert resident_mb() - before_mb < 10
        beside(live, text)


def fuzz(live: LiveServer, chance: random.Random, messages: int) -> None:
    raw = open_raw(live)
    for _ in range(messages):
        try:
            raw.sendall(random_frame(chance))
            if chance.random() < 0.02:
                raise OSError("vanish")
        except OSError:
            raw.close()
            raw = open_raw(live)
    raw.close()


def random_frame(chance: random.Random) -> bytes:
    kind = chance.random()
    if kind < 0.1:
        return chance.randbytes(chance.randrange(1, 40))
    if kind < 0.6:
        return frame(Opcode.BINARY, np.zeros(chance.randrange(900), "<f4").tobytes())
    opcode = chance.choice([*Opcode, 3, 11])
    payload = chance.choice([b"Done", b"", chance.randbytes(chance.randrange(300))])
    return frame(opcode, payload, fin=chance.random() < 0.7)


def frame(opcode: int, payload: bytes, fin: bool = True) -> bytes:
    """Return a frame of a client, masked with zeros."""
    head = bytes([(0x80 if fin else 0) | opcode])
    if len(payload) < 126:
        length = bytes([0x80 | len(payload)])
    elif len(payload) < 1 << 16:
        length = bytes([0x80 | 126]) + struct.pack(">H", len(payload))
    else:
        length = bytes([0x80 | 127]) + struct.pack(">Q", len(payload))
    return head + length + bytes(4) + payload


def dial(live: LiveServer) -> sockets.socket:
    url = urlsplit(live.url)
    return sockets.create_connection((url.hostname, url.port), timeout=20)


def open_raw(live: LiveServer) -> sockets.socket:
    """Return a connection behind its handshake that answers to nothing by itself."""
    for _ in range(100):
        raw = dial(live)
        raw.sendall(
            b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        if raw.recv(12) == b"HTTP/1.1 101":
            return raw
        raw.close()
        time.sleep(0.1)
    raise AssertionError("no handshake")


def reset(socket: ClientConnection) -> None:
    """Break a connection off, without a goodbye of any kind."""
    raw = socket.socket
    raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))
    raw.shutdown(sockets.SHUT_RDWR)
    raw.close()


def send_until_closed(socket: ClientConnection, message: bytes) -> None:
    try:
        while True:
            socket.send(message)
    except ConnectionClosed:
        pass


def wait_until(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "never came true"
        time.sleep(0.01)
