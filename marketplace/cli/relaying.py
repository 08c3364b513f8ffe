"""`verifier relay`: the server in a thread, the relay's passes in this one."""

from __future__ import annotations

import socket
import threading

import uvicorn

from marketplace.chain.client import MarketClient
from marketplace.cli.output import say
from marketplace.cli.watching import stop_signal
from marketplace.protocol.errors import ConfigError
from verifier_node.relay import Relay, create_app


def serve_relay(client: MarketClient, host: str, port: int, poll: float) -> None:
    """Until Ctrl-C or SIGTERM. ConfigError where the port can't be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listening = socket.create_server((host, port), family=family)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"the relay can't listen on {host} port {port}: {error}",
            fix="stop what uses it, or choose another port",
        ) from None
    relay = Relay(client)
    config = uvicorn.Config(create_app(relay), log_config=None, timeout_graceful_shutdown=5)
    server = uvicorn.Server(config)
    stop = stop_signal()
    # In a thread, uvicorn leaves signals alone.
    serving = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, name="relay")
    with listening:
        serving.start()
        say(f"relay of {client.address} listens on {host} port {listening.getsockname()[1]}")
        try:
            relay.follow(stop, poll)
        finally:
            server.should_exit = True
            serving.join()
