"""The API and its indexer in one process: requests in the main thread's loop, the chain in a
thread of its own."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import uvicorn

from marketplace.api.app import create_app
from marketplace.chain.deployment import Deployment
from marketplace.indexer.follow import Indexer
from marketplace.indexer.source import ChainSource
from marketplace.indexer.store import IndexStore
from marketplace.protocol.errors import ConfigError

_log = logging.getLogger(__name__)

GRACE_SECONDS: Final = 5
"""How long open requests may take once the server is told to stop."""

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class Service:
    """One server and one indexer, which end together.

    run() blocks until stop(), a signal (in the main thread) or a failure of the indexer.
    """

    def __init__(
        self,
        index: Path,
        source: ChainSource,
        deployment: Deployment,
        *,
        host: str = "127.0.0.1",
        port: int = 8000,
        confirmations: int = 0,
        poll_interval: float = 2.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """source: a chain.reads.MarketReader of the deployment. port: 0 for any free one, which
        `port` then names. poll_interval: seconds between looks at the chain.

        ConfigError where the port can't be had.
        """
        self._index = index
        self._source = source
        self._deployment = deployment
        self._confirmations = confirmations
        self._poll_interval = poll_interval
        self._clock = clock
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._socket = _listen(host, port)
        self.port: Final[int] = self._socket.getsockname()[1]
        config = uvicorn.Config(
            create_app(index, clock),
            log_config=None,  # the program that calls us decides where logs go
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
        self._server = uvicorn.Server(config)

    def run(self) -> None:
        """Serve until told to stop.

        Raises ConfigError or WrongChain where the file is of another market, and whatever ended
        the indexer.
        """
        with self._socket, _ended_by_signals(self.stop):
            # Opened here first: a wrong file is an error at the start, not in a thread.
            IndexStore(self._index, self._deployment).close()
            follower = threading.Thread(target=self._follow, name="indexer")
            follower.start()
            _log.info("serving port=%d index=%s", self.port, self._index)
            try:
                self._server.run(sockets=[self._socket])
            finally:
                self._stop.set()
                follower.join()
        if self._failure is not None:
            raise self._failure

    def stop(self) -> None:
        """End run(); from any thread."""
        self._server.should_exit = True

    def _follow(self) -> None:
        try:
            with IndexStore(self._index, self._deployment) as store:
                indexer = Indexer(
                    self._source,
                    store,
                    clock=self._clock,
                    confirmations=self._confirmations,
                )
                indexer.follow(self._stop, self._poll_interval)
        except BaseException as error:
            _log.exception("indexer_failed")
            self._failure = error
            self.stop()


def serve(
    index: Path,
    source: ChainSource,
    deployment: Deployment,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    confirmations: int = 0,
    poll_interval: float = 2.0,
) -> None:
    """Serve until interrupted; see Service."""
    Service(
        index,
        source,
        deployment,
        host=host,
        port=port,
        confirmations=confirmations,
        poll_interval=poll_interval,
    ).run()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            f"the API can't listen on {host} port {port}: {reason}",
            fix="stop what uses it, or choose another port",
        ) from None


@contextmanager
def _ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Let SIGINT and SIGTERM call `stop` and do nothing else.

    The server takes them while it runs, but raises them again when it has ended: by default that
    would end the process before the indexer has.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {each: signal.signal(each, lambda *_: stop()) for each in _SIGNALS}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
