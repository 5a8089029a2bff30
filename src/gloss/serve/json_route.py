"""Routes that parse the JSON of a large body beside the event loop."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute

from gloss.serve.side_thread import SideThread

_SMALL_BYTES = 2**16


def json_route(thread: SideThread) -> type[APIRoute]:
    """The class of routes whose large bodies are parsed in a thread."""

    class BesideRequest(Request):
        async def json(self) -> Any:
            if not hasattr(self, "_json"):
                body = await self.body()
                beside = len(body) > _SMALL_BYTES
                self._json = await thread.run(json.loads, body) if beside else json.loads(body)
            return self._json

    class JSONRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handler = super().get_route_handler()

            async def handle(request: Request) -> Response:
                return await handler(BesideRequest(request.scope, request.receive))

            return handle

    return JSONRoute
