"""Web applications on free ports, over real HTTP."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI, Request


class _Server(uvicorn.Server):
    """Tells when it listens, so that no test has to poll or sleep."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


@contextmanager
def serving(app: FastAPI) -> Iterator[str]:
    """The base URL (ending in /v1) of a server of the application."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        config = uvicorn.Config(app, log_level="error", lifespan="off")
        server = _Server(config)
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            assert server.listening.wait(20)
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        finally:
            server.should_exit = True
            thread.join()


def completing(answer: Callable[[dict[str, Any]], dict[str, Any]]) -> AbstractContextManager[str]:
    """A server whose completions are what `answer` makes of a request's body."""
    app = FastAPI()

    @app.post("/v1/completions")
    async def completions(request: Request) -> dict[str, Any]:
        return answer(await request.json())

    return serving(app)
