"""Who asks, and what they may do: the keys that requests show, and the scopes those keys have."""

from __future__ import annotations

from typing import Literal

from aiohttp import web

Scope = Literal["submit", "read", "work", "admin"]


async def authorize(request: web.Request, scope: Scope) -> None:
    """Let the request pass, or raise the Problem that says why not."""
