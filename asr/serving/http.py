"""Who may come in, and what is answered to those who only look."""

import hashlib
import hmac
import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from importlib.resources import files
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import SplitResult, parse_qs, urlsplit

from websockets.datastructures import Headers, MultipleValuesError
from websockets.http11 import Request, Response

from asr.errors import AsrError
from asr.serving.settings import Settings

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_SECURITY = {
    # Nothing but what is served here, no inline script or style; frames of others can't click it.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Forbidden(AsrError):
    """A request that is refused."""

    def __init__(self, reason: str, status: HTTPStatus, message: str) -> None:
        """`reason` is a word for programs."""
        super().__init__(message)
        self.reason = reason
        self.status = status


@dataclass(frozen=True, slots=True)
class Page:
    """A file of the web page."""

    body: bytes
    content_type: str
    etag: str


def load_pages() -> dict[str, Page]:
    """Return the files of the web page by their paths."""
    pages = {}
    for file in files("asr").joinpath("web").iterdir():
        content_type = _TYPES.get(PurePosixPath(file.name).suffix)
        if content_type is not None:
            body = file.read_bytes()
            etag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            pages[f"/{file.name}"] = Page(body, content_type, etag)
    pages["/"] = pages.pop("/index.html")
    return pages


class Door:
    """Checks those who want to come in."""

    def __init__(self, settings: Settings) -> None:
        self._token = settings.token
        self._scheme = "https" if settings.tls else "http"
        self._allowed = {origin.lower().rstrip("/") for origin in settings.allowed_origins}
        self._own_name = settings.host.lower()

    def check_token(self, request: Request) -> None:
        """Raises Forbidden unless the request has the token: `Authorization: Bearer TOKEN`, or, as
        a web page can't set that, `?token=TOKEN` in the address."""
        if self._token is None:
            return
        query = parse_qs(split_address(request.path).query)
        given = [item.encode() for item in query.get("token", [])]
        scheme, _, value = (get_header(request, "Authorization") or "").partition(" ")
        if scheme.lower() == "bearer":
            # The bytes that came: websockets 17 reads them as Latin-1, 15 as ASCII with surrogates.
            given.append(value.strip().encode("latin-1", "surrogateescape"))
        if not any(hmac.compare_digest(item, self._token.encode()) for item in given):
            raise Forbidden(
                "token",
                HTTPStatus.UNAUTHORIZED,
                "this server wants its token: ?token=TOKEN in the address, or the header "
                "Authorization: Bearer TOKEN",
            )

    def check_origin(self, request: Request) -> None:
        """Raises Forbidden for a web page of another site, which a browser names in the header.

        A page from here may come in if the browser called this server by its number, `localhost` or
        the name that it was started with: a name alone proves nothing, for whoever owns a domain
        may let it point at this machine.
        """
        origin = get_header(request, "Origin")
        if origin is None or origin.lower() in self._allowed:
            return
        host = get_header(request, "Host") or ""
        own = origin.lower() == f"{self._scheme}://{host.lower()}"
        if own and self._is_own_name(split_address(origin).hostname or ""):
            return
        raise Forbidden(
            "origin",
            HTTPStatus.FORBIDDEN,
            f"a page of {origin} may not connect; start the server with --allow-origin {origin}",
        )

    def _is_own_name(self, name: str) -> bool:
        if name in ("localhost", self._own_name):
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True


def split_address(address: str) -> SplitResult:
    """Return the parts of an address. Raises Forbidden for one that has none."""
    try:
        return urlsplit(address)
    except ValueError as error:
        raise _malformed(f"the address {address[:100]!r}: {error}") from error


def get_header(request: Request, name: str) -> str | None:
    """Return a header, None if it isn't there. Raises Forbidden if it is there more than once: then
    nobody knows which of them is meant."""
    try:
        return request.headers.get(name)
    except MultipleValuesError as error:
        raise _malformed(f"the header {name} more than once; expected one") from error


def _malformed(message: str) -> Forbidden:
    return Forbidden("malformed", HTTPStatus.BAD_REQUEST, message)


def page_response(page: Page, request: Request) -> Response:
    """Return a file of the page, or that the browser has it already."""
    headers = {"ETag": page.etag, "Cache-Control": "no-cache"}
    if get_header(request, "If-None-Match") == page.etag:
        return make_response(HTTPStatus.NOT_MODIFIED, b"", page.content_type, headers)
    return make_response(HTTPStatus.OK, page.body, page.content_type, headers)


def json_response(status: HTTPStatus, content: Mapping[str, Any]) -> Response:
    """Return a JSON object."""
    body = json.dumps(content).encode() + b"\n"
    return make_response(status, body, "application/json", {"Cache-Control": "no-store"})


def error_response(reason: str, status: HTTPStatus, message: str) -> Response:
    """Return why a request is refused, in the form that a message over the websocket has."""
    return json_response(status, {"error": {"reason": reason, "message": message}})


def make_response(
    status: HTTPStatus, body: bytes, content_type: str, headers: Mapping[str, str] | None = None
) -> Response:
    """Return a whole response; the connection ends with it."""
    all_headers = Headers(
        {
            "Content-Type": content_type,
            "Content-Length": str(len(body)),
            "Connection": "close",
            **_SECURITY,
            **(headers or {}),
        }
    )
    if status is HTTPStatus.UNAUTHORIZED:
        all_headers["WWW-Authenticate"] = "Bearer"
    return Response(status.value, status.phrase, all_headers, body)
