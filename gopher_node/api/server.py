"""Serves the application on a socket, and holds clients to its limits before a request has taken shape."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from ipaddress import ip_address
from types import CoroutineType
from typing import Any, cast

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError, PayloadEncodingError

from gopher_node.api.access.auth import ACCESS
from gopher_node.api.access.limits import ConnectionLimits, refusal_bytes
from gopher_node.api.access.tls import Certificate
from gopher_node.api.answers.problems import MAX_HEADER, MAX_LINE, answer, problem_of
from gopher_node.api.http_work.http_workers import HTTP_WORKERS
from gopher_node.api.middleware import log, new_request_id
from gopher_node.api.parts import PARTS

MAX_HEADERS = 100
KEEP_ALIVE = 15.0
"""Seconds that a connection may be idle, and that the headers of a request may take."""
LINGER = 1.0
"""Seconds in which the rest of a refused body is read and dropped, so that the client sees the answer."""
BACKLOG = 1024
HANDSHAKE_TIMEOUT = 5.0
"""Seconds that a TLS handshake may take. Connections count only from its end."""


class Connection(web.RequestHandler):
    """
    One client's connection.

    What aiohttp refuses by itself is answered as a problem too. A client that reads nothing of an answer for
    `write_timeout` seconds is cut off, so that it holds neither memory nor a handler.
    """

    __slots__ = ("_limits", "_place", "_stalled", "_write_timeout")

    def __init__(self, server: web.Server, *, write_timeout: float, limits: ConnectionLimits, **options: Any) -> None:
        super().__init__(server, **options)
        self._write_timeout = write_timeout
        self._stalled: asyncio.TimerHandle | None = None
        self._limits = limits
        self._place: str | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("peername")
        self._place = self._limits.enter(peer[0] if peer else "")
        if self._place is not None:
            super().connection_made(transport)
            return
        # Nothing of what makes a connection costly has been set up yet.
        refused = cast("asyncio.Transport", transport)
        refused.write(refusal_bytes(new_request_id()))
        refused.close()

    def data_received(self, data: bytes) -> None:
        if self._place is not None:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._place is not None:
            super().eof_received()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(self._write_timeout, self._cut_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_stall()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_stall()
        if self._place is not None:
            self._limits.leave(self._place)
            super().connection_lost(exc)

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _cut_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

    def log_exception(self, *args: Any, **kw: Any) -> None:
        # The rest of a refused body is read here too, and what is wrong with it is the client's doing.
        if isinstance(kw.get("exc_info"), (web.RequestPayloadError, HttpProcessingError, PayloadEncodingError)):
            log.debug("http.broken_body", fault=type(kw["exc_info"]).__name__)
        else:
            super().log_exception(*args, **kw)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        request_id = new_request_id()
        if exc is not None and not isinstance(exc, HttpProcessingError):
            log.error("http.failed", request_id=request_id, method=request.method, exc_info=exc)
        if request.writer.output_size > 0:
            raise ConnectionError("The answer has been begun, so no other one can be sent.")
        response = answer(problem_of(exc or RuntimeError()), request_id)
        response.force_close()
        return response

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> CoroutineType[Any, Any, tuple[web.StreamResponse, bool]]:
        # Raised where no middleware is: for an Expect header that means nothing to us.
        if isinstance(resp, web.HTTPException):
            resp = answer(problem_of(resp), new_request_id())
        return super().finish_response(request, resp, start_time)


class ApiServer:
    """
    Owns the listening socket and all connections.

    `drain` comes first when the node shuts down: jobs are refused, waiting requests are answered, and all else goes on.
    `stop` ends the rest.
    """

    def __init__(self, app: web.Application, *, grace: float = 5.0) -> None:
        """`grace` is how many seconds requests under way are given when the server stops."""
        self._app = app
        self._grace = grace
        self._parts = app[PARTS]
        self._runner: web.AppRunner | None = None
        self._listener: asyncio.Server | None = None
        self._certificate: Certificate | None = None
        self.address: tuple[str, int] | None = None
        """Host and port that are really listened on, while there are any."""

    @property
    def url(self) -> str | None:
        if self.address is None:
            return None
        host, port = self.address
        scheme = "https" if self._certificate else "http"
        base = self._parts.settings.server.base_path
        return f"{scheme}://[{host}]:{port}{base}" if ":" in host else f"{scheme}://{host}:{port}{base}"

    def http_workers(self) -> list[dict[str, Any]]:
        """The workers over HTTP that this node has seen lately, as JSON values."""
        return self._app[HTTP_WORKERS].records(most=100)

    def ended_over_http(self) -> Mapping[str, int]:
        """Of the runs of these, how many brought their job into which state. It only ever grows."""
        return self._app[HTTP_WORKERS].ended

    def certificate_failure(self) -> str | None:
        """Why a renewed certificate is not in use, or None."""
        return self._certificate.failure if self._certificate else None

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    async def start(self) -> None:
        """
        Listen where the settings say; port 0 takes any free one.

        Raises OSError if that cannot be had, SettingError if the certificate is of no use.
        """
        settings = self._parts.settings.server
        if settings.tls_cert and settings.tls_key:
            self._certificate = Certificate(settings.tls_cert, settings.tls_key)
        limits = ConnectionLimits(settings)
        self._runner = web.AppRunner(
            self._app, access_log=None, handler_cancellation=True, shutdown_timeout=self._grace
        )
        await self._runner.setup()
        server = self._runner.server
        assert server is not None
        loop = asyncio.get_running_loop()

        def connection() -> Connection:
            return Connection(
                server,
                write_timeout=settings.write_timeout,
                limits=limits,
                loop=loop,
                access_log=None,
                keepalive_timeout=KEEP_ALIVE,
                lingering_time=LINGER,
                max_line_size=MAX_LINE,
                max_field_size=MAX_HEADER,
                max_headers=MAX_HEADERS,
            )

        try:
            self._listener = await loop.create_server(
                connection,
                settings.host,
                settings.port,
                backlog=BACKLOG,
                ssl=self._certificate.context if self._certificate else None,
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT if self._certificate else None,
            )
        except OSError:
            await self._runner.cleanup()
            raise
        addresses = [socket.getsockname()[:2] for socket in self._listener.sockets]
        self.address = addresses[0]
        self._app[ACCESS].loopback = all(ip_address(host).is_loopback for host, _ in addresses)
        if self._certificate:
            self._certificate.watch()

    async def check_access(self) -> None:
        """Once the store is open: raises SettingError if other machines reach the node and nothing keeps them out."""
        access = self._app[ACCESS]
        if access.needs_keys and not access.keys.in_force:
            await access.keys.ensure_known()
        access.refuse_to_be_open()

    def drain(self) -> None:
        self._parts.draining.set()

    async def stop(self) -> None:
        """Accept nobody more, let requests under way end, cancel those that do not, and close every connection."""
        self.drain()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.address = None
        if self._certificate is not None:
            self._certificate.forget()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
