"""Serves the application on a socket, and holds clients to its limits before a request has taken shape."""

from __future__ import annotations

import asyncio
from types import CoroutineType
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from gopher_node.api.middleware import log, new_request_id
from gopher_node.api.parts import PARTS
from gopher_node.api.problems import MAX_HEADER, MAX_LINE, answer, problem_of

MAX_HEADERS = 100
KEEP_ALIVE = 15.0
"""Seconds that a connection may be idle, and that the headers of a request may take."""
LINGER = 1.0
"""Seconds in which the rest of a refused body is read and dropped, so that the client sees the answer."""
BACKLOG = 1024


class Connection(web.RequestHandler):
    """
    One client's connection.

    What aiohttp refuses by itself is answered as a problem too. A client that reads nothing of an answer for
    `write_timeout` seconds is cut off, so that it holds neither memory nor a handler.
    """

    __slots__ = ("_stalled", "_write_timeout")

    def __init__(self, server: web.Server, *, write_timeout: float, **options: Any) -> None:
        super().__init__(server, **options)
        self._write_timeout = write_timeout
        self._stalled: asyncio.TimerHandle | None = None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = asyncio.get_running_loop().call_later(self._write_timeout, self._cut_off)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._forget_stall()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._forget_stall()
        super().connection_lost(exc)

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None

    def _cut_off(self) -> None:
        if self.transport is not None:
            self.transport.abort()

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
        self.address: tuple[str, int] | None = None
        """Host and port that are really listened on, while there are any."""

    @property
    def url(self) -> str | None:
        if self.address is None:
            return None
        host, port = self.address
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @property
    def connections(self) -> int:
        """How many clients are connected."""
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    async def start(self) -> None:
        """Listen where the settings say; port 0 takes any free one. Raises OSError if that cannot be had."""
        settings = self._parts.settings.server
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
                loop=loop,
                access_log=None,
                keepalive_timeout=KEEP_ALIVE,
                lingering_time=LINGER,
                max_line_size=MAX_LINE,
                max_field_size=MAX_HEADER,
                max_headers=MAX_HEADERS,
            )

        try:
            self._listener = await loop.create_server(connection, settings.host, settings.port, backlog=BACKLOG)
        except OSError:
            await self._runner.cleanup()
            raise
        self.address = self._listener.sockets[0].getsockname()[:2]

    def drain(self) -> None:
        self._parts.draining.set()

    async def stop(self) -> None:
        """Accept nobody more, let requests under way end, cancel those that do not, and close every connection."""
        self.drain()
        if self._listener is not None:
            self._listener.close()
            self._listener = None
        self.address = None
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
