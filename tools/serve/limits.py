"""The limits of the server: what one request may take, and how many may be under way at once.

Every connection is a `TimedConnection`, and every request passes through `Guard`. So memory stays level, whatever
clients do.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import ip_address
from urllib.parse import SplitResult, urlsplit

import h11
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tools.serve.metrics import Metrics

# One request
BODY = 16 * 1024**2  # bytes
DISCARDED = 4 * BODY  # bytes of a body that is too large: the client reads the answer only after it has sent all
PICTURES = 256
PIXELS = 25_000_000  # of a picture as it is stored
HEADER_SECONDS = 10  # until the headers are whole
BODY_SECONDS = 20  # until the body is whole
SECONDS = 60  # until the answer

# All at once
CONNECTIONS = 512
REQUESTS = 128  # that are computed or wait for it
HELD = 16 * BODY  # bytes of the bodies

REFUSED = b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nretry-after: 1\r\nconnection: close\r\n\r\n"
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "same-origin",  # with "no-referrer", a browser may send `Origin: null` for the server's own page
    "X-Content-Type-Options": "nosniff",
}
RAW_HEADERS = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]


class TimedConnection(H11Protocol):
    """Closes a connection whose next request does not come whole, and refuses connections when there are too many.

    uvicorn waits for headers without an end. h11 itself bounds their size.
    """

    deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS:
            transport.write(REFUSED)
            transport.close()
        else:
            self.start_timer()

    def data_received(self, data: bytes) -> None:
        if self.transport.is_closing():
            return
        if self.deadline is None and self.conn.their_state is h11.IDLE:
            self.start_timer()
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self.stop_timer()

    def connection_lost(self, exc: Exception | None) -> None:
        self.stop_timer()
        super().connection_lost(exc)

    def start_timer(self) -> None:
        self.deadline = self.loop.call_later(HEADER_SECONDS, self.transport.close)

    def stop_timer(self) -> None:
        if self.deadline is not None:
            self.deadline.cancel()
            self.deadline = None


class Guard:
    """Ends requests that take too long, refuses those of other sites, counts all, and sets headers of all answers."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status = 0
        limit = asyncio.timeout(SECONDS)

        async def send_on(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *RAW_HEADERS]
            await send(message)

        with self.metrics.request() as done:
            try:
                async with limit:
                    reason = objection(scope)
                    await (refusal(403, reason) if reason else self.app)(scope, receive, send_on)
            except TimeoutError:
                if not limit.expired():
                    status = 500
                    raise  # such as that of a disk
                if status:
                    raise  # within an answer: uvicorn closes the connection
                await refusal(503, f"no answer within {SECONDS} s")(scope, receive, send_on)
            except ClientDisconnect:
                status = 499  # as nginx names it
            except Exception:
                status = 500
                raise
            finally:
                done(scope["path"], status)


def objection(scope: Scope) -> str | None:
    """Say why a browser may not send this request: it sends it for a page of another site."""
    headers = Headers(scope=scope)
    address, port = scope["server"]
    try:
        host, origin = urlsplit(f"//{headers.get('host', '')}"), urlsplit(headers.get("origin", ""))
        if is_rebound(host, address, port):
            return f"{host.netloc} is not this server; open http://127.0.0.1:{port}"
        same = "origin" not in headers or origin.hostname == host.hostname
    except ValueError:
        return "expected a host and a port in Host and Origin"
    # Browsers send this header only to their own machine and to servers with TLS, but the origin with each POST.
    site = headers.get("sec-fetch-site", "same-origin" if same else "cross-site")
    if scope["method"] in {"GET", "HEAD"} or site in {"none", "same-origin"}:
        return None
    return "a page of another site may not use this server"


def is_rebound(host: SplitResult, address: str, port: int) -> bool:
    """Tell whether a page of another site reached this machine because the DNS of that site named it.

    Such a page has a name of its own and the port of the server. A proxy on this machine sends its own port or none.
    A server that listens with IPv6 has ::ffff:127.0.0.1 for a connection with IPv4.
    """
    address = address.removeprefix("::ffff:")
    if host.hostname is None or (host.port or 80) != port or not ip_address(address).is_loopback:
        return False
    try:
        ip_address(host.hostname)
    except ValueError:
        return host.hostname.rpartition(".")[2] != "localhost"
    return False


def refusal(status: int, message: str) -> JSONResponse:
    headers = {"Retry-After": "1"} if status == 503 else {"Connection": "close"} if status in {408, 413} else {}
    return JSONResponse({"error": message}, status, headers)


class Load:
    """Counts the requests and the bytes of bodies that are under way, and refuses more than the limits."""

    def __init__(self) -> None:
        self.requests = 0
        self.held = 0  # bytes of bodies

    @asynccontextmanager
    async def body(self, request: Request) -> AsyncIterator[bytes]:
        """Read the body of a request, and hold it for this block."""
        parts: list[bytes] = []
        held = size = 0
        limit = asyncio.timeout(BODY_SECONDS)
        try:
            async with limit:
                async for part in request.stream():
                    size += len(part)
                    if size <= BODY:
                        parts.append(part)
                        held += len(part)
                        self.held += len(part)
                    elif size > DISCARDED:
                        break
                    if self.held > HELD:
                        raise HTTPException(503, "too many large requests at once")
            if size > BODY:
                raise HTTPException(413, f"expected at most {BODY:,} bytes")
            body = b"".join(parts)
            parts.clear()
            yield body
        except TimeoutError:
            if not limit.expired():
                raise  # of the block
            raise HTTPException(408, f"expected the whole body within {BODY_SECONDS} s") from None
        finally:
            self.held -= held

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Count a request that is computed or waits for it."""
        if self.requests >= REQUESTS:
            raise HTTPException(503, f"more than {REQUESTS} requests at once")
        self.requests += 1
        try:
            yield
        finally:
            self.requests -= 1
