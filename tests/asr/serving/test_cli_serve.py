"""`asr serve` as a user runs it: what it says, what it refuses, how it ends."""

import re
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner
from websockets.sync.client import connect

from asr.cli import app
from tests.asr.serving.live_server import listen
from tests.asr.signals import noise


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@contextmanager
def serve(*arguments: object) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command; give it and the address that it says."""
    command = [sys.executable, "-m", "asr", "serve", "--port", "0", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        try:
            assert process.stdout is not None
            yield process, process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_behind_what_was_heard(tiny_bundle: Path, number: int) -> None:
    with serve("--model", tiny_bundle) as (process, url):
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        with connect(url.replace("http", "ws"), proxy=None) as socket:
            socket.send(noise(3.0).astype("<f4").tobytes())
            socket.recv(timeout=30)
            process.send_signal(number)
            heard = listen(socket)
        assert heard.said_done and heard.text
        output, errors = process.communicate(timeout=30)
        assert (process.returncode, output) == (0, "")
        assert "a stream began; 1 open" in errors
        assert "a stream ended (stopped) after 3.0 s of audio" in errors


def test_tls_and_a_token(tiny_bundle: Path, tmp_path: Path, write_certificate: Path) -> None:
    arguments = ["--tls-cert", write_certificate, "--token", "a b", "--model", tiny_bundle]
    with serve(*arguments) as (_, url):
        address, _, fragment = url.partition("#")
        assert address.startswith("https://") and fragment == "token=a%20b"
        context = ssl.create_default_context(cafile=str(write_certificate))
        context.check_hostname = False
        socket_url = f"{address.replace('https', 'wss')}?token=a%20b"
        with connect(socket_url, ssl=context, proxy=None) as socket:
            socket.send(np.zeros(1600, "<f4").tobytes())
            socket.send("Done")
            assert listen(socket).said_done


@pytest.fixture
def write_certificate(tmp_path: Path) -> Path:
    path = tmp_path / "both.pem"
    request = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost".split()
    try:
        subprocess.run(
            ["openssl", *request, "-keyout", tmp_path / "key.pem", "-out", tmp_path / "cert.pem"],
            check=True,
            capture_output=True,
        )
    except FileNotFoundError:
        pytest.skip("openssl is not installed")
    path.write_bytes((tmp_path / "cert.pem").read_bytes() + (tmp_path / "key.pem").read_bytes())
    return path


def test_others_can_reach_it_only_with_a_warning(tiny_bundle: Path) -> None:
    with serve("--host", "0.0.0.0", "--model", tiny_bundle) as (process, url):
        assert url.startswith("http://0.0.0.0:")
        process.terminate()
        _, errors = process.communicate(timeout=30)
    assert "warning: 0.0.0.0 can be reached by others, and without --token anybody" in errors


@pytest.mark.filterwarnings("ignore:.*can be reached by others")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget-rtf", "1e-9"], "rtf=1e-09 can't be held"),
        (["--tls-key", "k.pem"], "the key k.pem without its certificate"),
        (["--tls-cert", "none.pem"], "none.pem can't be used: No such file or directory"),
        (["--host", "203.0.113.1"], "203.0.113.1:6006 can't be listened to: Cannot assign"),
        (["--host", "no such host"], "no such host:6006 can't be listened to: Name or service"),
        (["--host", ""], "an empty --host would mean everywhere"),
    ],
)
def test_what_can_not_be_served_is_refused(
    tiny_bundle: Path, options: list[str], message: str
) -> None:
    done = CliRunner().invoke(app, ["serve", "--model", str(tiny_bundle), *options])
    assert (done.exit_code, done.stdout) == (2, "")
    assert f"error: {message}" in done.stderr
