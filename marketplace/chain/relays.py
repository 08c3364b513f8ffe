"""drand relays: a network's chain info, and its beacons over HTTP.

Version 1 of the API, which all relays serve: GET {url}/{chain hash}/public/{round}.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import httpx

from marketplace.protocol import strict_json
from marketplace.protocol.beacons import EVMNET, SCHEME, BeaconNetwork, check_beacon
from marketplace.protocol.errors import (
    BeaconError,
    BeaconInvalid,
    BeaconUnavailable,
    ConfigError,
    InvalidValue,
)

NETWORKS: Final = {network.name: network for network in (EVMNET,)}
_NOT_YET: Final = frozenset({404, 425})
"""How relays answer for a round of the future."""
_MOST_BYTES: Final = 65_536
_LEVELS: Final = 4
"""Beacons have one level of JSON, chain info two."""


class Relays:
    """Relays of one network, tried in order until one gives the right signature.

    urls: such as https://api.drand.sh, without the chain hash. timeout: seconds for one relay.
    Nothing is trusted: what a relay gives is verified before it is used.
    """

    def __init__(
        self,
        network: BeaconNetwork,
        urls: Sequence[str],
        *,
        timeout: float = 10.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not urls:
            raise ConfigError(
                "no drand relay is configured",
                fix="give one with --drand or TRACEMARKET_DRAND, such as https://api.drand.sh",
            )
        self.network: Final = network
        self._urls = tuple(_checked(url) for url in urls)
        self._timeout = timeout
        self._clock = clock
        self._http = httpx.Client(timeout=timeout)

    def fetch(self, round: int) -> bytes:
        """The network's signature of a round, verified.

        Raises BeaconInvalid where a relay gave something else and no other one the right one,
        BeaconUnavailable where none has the round (yet) or none answers.
        """
        failures: list[tuple[str, BeaconError]] = []
        for url in self._urls:
            try:
                signature = self._ask(url, round)
                check_beacon(self.network, round, signature)
                return signature
            except BeaconError as error:
                failures.append((_shown(url), error))
        said = "; ".join(f"{url}: {error.message}" for url, error in failures)
        if any(isinstance(error, BeaconInvalid) for _, error in failures):
            raise BeaconInvalid(
                f"no relay gave the signature of {self.network.name} for round {round}: {said}",
                fix="use another relay",
            )
        raise BeaconUnavailable(
            f"beacon round {round} of {self.network.name} can't be had: {said}",
            fix="try again in some seconds, or name another relay with --drand",
        )

    def _ask(self, url: str, round: int) -> bytes:
        where = f"{url.rstrip('/')}/{self.network.chain_hash[2:]}/public/{round}"
        deadline = self._clock() + self._timeout
        body = b""
        try:
            with self._http.stream("GET", where) as response:
                if response.status_code in _NOT_YET:
                    raise BeaconUnavailable(
                        f"it has no such round yet (HTTP {response.status_code})"
                    )
                if response.status_code != 200:
                    raise BeaconUnavailable(f"HTTP {response.status_code}")
                for chunk in response.iter_bytes():
                    body += chunk
                    if len(body) > _MOST_BYTES:
                        raise BeaconInvalid(f"more than {_MOST_BYTES} bytes for one beacon")
                    if self._clock() > deadline:
                        raise BeaconUnavailable(f"no whole answer within {self._timeout:g} s")
        except httpx.TimeoutException:
            raise BeaconUnavailable(f"no answer within {self._timeout:g} s") from None
        except httpx.HTTPError as error:
            raise BeaconUnavailable(
                f"it can't be reached ({error or type(error).__name__})"
            ) from None
        return _signature(body, round)


def load_network(name: str) -> BeaconNetwork:
    """A network by name ("evmnet"), or from a file with the chain info that its relays serve
    (GET {url}/{chain hash}/info). ConfigError for anything else."""
    if name in NETWORKS:
        return NETWORKS[name]
    path = Path(name)
    if not path.is_file():
        raise ConfigError(
            f"there is no drand network {name!r}, and no such file",
            fix=f"use one of {', '.join(NETWORKS)}, or a file with the network's chain info",
        )
    try:
        info = strict_json.loads(path.read_text("utf-8"), depth=_LEVELS)
        scheme = info["schemeID"]
        network = BeaconNetwork(
            name=info.get("metadata", {}).get("beaconID") or path.stem,
            chain_hash="0x" + info["hash"],
            public_key="0x" + info["public_key"],
            genesis=info["genesis_time"],
            period=info["period"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        said = error.message if isinstance(error, InvalidValue) else repr(error)
        raise ConfigError(f"{path} is no chain info of a drand network: {said}") from None
    if scheme != SCHEME:
        raise ConfigError(
            f"{path} is of a network with scheme {scheme!r}", fix=f"the contract needs {SCHEME}"
        )
    return network


def _signature(body: bytes, round: int) -> bytes:
    try:
        answer: Any = strict_json.loads(body.decode("utf-8"), depth=_LEVELS)
        got, text = answer["round"], answer["signature"]
        if got != round:
            raise BeaconInvalid(f"it answered with round {got!r}")
        if not re.fullmatch("[0-9a-f]*", text):
            raise BeaconInvalid("its signature is no hex")
        return bytes.fromhex(text)
    except (ValueError, KeyError, TypeError):
        raise BeaconInvalid("its answer is no beacon") from None


def _checked(url: str) -> str:
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL:
        parsed = httpx.URL("")
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ConfigError(
            f"the drand relay {url!r} is no URL", fix="give one such as https://api.drand.sh"
        )
    return url


def _shown(url: str) -> str:
    """Without path, query and password: these may hold keys."""
    parsed = httpx.URL(url)
    port = "" if parsed.port is None else f":{parsed.port}"
    return f"{parsed.scheme}://{parsed.host}{port}"
