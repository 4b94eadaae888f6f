"""What a server is told at its start."""

import ssl
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from asr.budget import Budget
from asr.errors import AsrError


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may not pass."""

    max_streams: int = 100
    max_message_bytes: int = 1 << 20  # 16 s at 16 kHz
    max_messages_per_s: int = 1000  # those above wait: one second of 128-sample blocks is 375
    queue_s: float = 10.0  # audio that waits in a stream; then its client is read no further
    max_stream_s: float = 4 * 3600.0  # audio of one stream, and its time, but for `idle_s`
    idle_s: float = 60.0  # without audio
    ping_s: float = 20.0  # a client that doesn't answer to a ping within this time is gone
    send_s: float = 20.0  # a client that takes no message for so long is gone
    max_unsent_bytes: int = 1 << 20  # told to a client, but not taken by it
    drain_s: float = 20.0  # at the end of the server, for what was heard


@dataclass(frozen=True, slots=True)
class Settings:
    """How a server serves."""

    host: str = "127.0.0.1"
    port: int = 6006  # 0: any free one
    token: str | None = None  # that clients must know
    allowed_origins: Sequence[str] = ()  # of web pages elsewhere that may connect
    tls: ssl.SSLContext | None = None
    budget: Budget | None = None  # of every stream
    limits: Limits = field(default_factory=Limits)


def load_tls(cert: Path | None, key: Path | None) -> ssl.SSLContext | None:
    """Return what serves https with a certificate chain and its key, None without them; without
    `key`, that is in the same file.

    Raises AsrError for files that can't be used.
    """
    if cert is None:
        if key is not None:
            raise AsrError(f"the key {key} without its certificate; name both")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(cert, key, password=_no_password)
    except OSError as error:  # SSLError is one
        raise AsrError(
            f"{cert}{f' and {key}' if key else ''} can't be used: {error.strerror or error}; "
            "expected a certificate chain and its key without a password, as PEM"
        ) from error
    return context


def _no_password() -> str:
    """Else OpenSSL asks for one in the terminal, where maybe nobody is."""
    return ""
