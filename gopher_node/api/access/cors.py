"""Lets the web pages of named origins call the API from a browser (CORS). Cookies play no part: pages send a key."""

from __future__ import annotations

from collections.abc import Collection

from aiohttp import web

from gopher_node.api.middleware import Handler

ANY = "*"
_PREFLIGHT = {
    "Access-Control-Allow-Methods": "GET, HEAD, POST, PUT, PATCH, DELETE",
    "Access-Control-Allow-Headers": "Authorization, X-API-Key, Content-Type, Idempotency-Key, X-Request-ID, "
    "Gopher-Lease, Last-Event-ID",
    "Access-Control-Max-Age": "600",
}
_EXPOSED = (
    "Location, Retry-After, X-Request-ID, Idempotency-Replayed, RateLimit, RateLimit-Policy, WWW-Authenticate, Allow"
)


def allow_origins(app: web.Application, origins: Collection[str]) -> None:
    """Any other origin gets no word of CORS, and its browser keeps the answers from it."""

    def allowed(request: web.Request) -> str | None:
        origin = request.headers.get("Origin")
        if origin is None or not (ANY in origins or origin in origins):
            return None
        return ANY if ANY in origins else origin

    async def add_headers(request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        if ANY not in origins:
            # Or a cache would give one origin the answer of another.
            headers["Vary"] = f"{headers['Vary']}, Origin" if "Vary" in headers else "Origin"
        origin = allowed(request)
        if origin is not None:
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Expose-Headers"] = _EXPOSED

    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        asks = request.method == "OPTIONS" and "Access-Control-Request-Method" in request.headers
        if asks and allowed(request) is not None:
            return web.Response(status=204, headers=_PREFLIGHT)
        return await handler(request)

    app.on_response_prepare.append(add_headers)
    app.middlewares.append(preflight)
