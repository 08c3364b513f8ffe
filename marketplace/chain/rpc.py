"""The connection to a node, and its failures as our errors.

URLs often hold an API key, so messages name the host only.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from eth_utils.conversions import to_bytes
from web3 import HTTPProvider, Web3
from web3.exceptions import BadResponseFormat, ContractLogicError, Web3Exception, Web3RPCError
from web3.providers.rpc.utils import REQUEST_RETRY_ALLOWLIST, ExceptionRetryConfiguration
from web3.types import RPCEndpoint, RPCResponse

from marketplace.chain.errors import NodeRefused, NodeTimeout, NodeUnreachable, decode_revert
from marketplace.chain.records import Token
from marketplace.protocol.errors import ChainError, ConfigError

# A transaction is never sent again by itself: only the sender knows whether that is right.
_RETRIED: Final = [name for name in REQUEST_RETRY_ALLOWLIST if name != "eth_sendRawTransaction"]


def connect(rpc_url: str, *, timeout: float = 30.0) -> Web3:
    """A connection to an http(s) JSON-RPC endpoint; nothing is sent yet.

    timeout: seconds for one request. ConfigError for another kind of URL.
    """
    parts = urlsplit(rpc_url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(
            f"the RPC URL of {parts.hostname or 'no host'} has scheme {parts.scheme!r}",
            fix="give an http:// or https:// URL",
        )
    retries = ExceptionRetryConfiguration(
        errors=(requests.ConnectionError, requests.Timeout, requests.HTTPError),
        retries=3,
        backoff_factor=0.1,
        method_allowlist=_RETRIED,
    )
    provider = _Provider(
        rpc_url,
        request_kwargs={"timeout": timeout},
        session=_session(rpc_url),
        exception_retry_configuration=retries,
    )
    provider.global_ccip_read_enabled = False  # no contract of ours sends us to other servers
    w3 = Web3(provider)
    # It asks for the chain id before every call, which the deployment's check settles once, and
    # refuses the longer extra data in the blocks of proof-of-authority chains.
    w3.middleware_onion.remove("validation")
    return w3


def _session(rpc_url: str) -> requests.Session:
    """Proxies, certificates and credentials as the environment and ~/.netrc name them, looked up
    once: by itself requests does so for every request."""
    session = requests.Session()
    found = session.merge_environment_settings(rpc_url, {}, None, None, None)
    session.proxies, session.verify = found["proxies"], found["verify"]
    session.auth = requests.utils.get_netrc_auth(rpc_url)
    session.trust_env = False
    return session


def node_name(w3: Web3) -> str:
    """The node without credentials, path or query: "host:port"."""
    parts = urlsplit(str(getattr(w3.provider, "endpoint_uri", "")))
    if not parts.hostname:
        return type(w3.provider).__name__
    return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname


class _Provider(HTTPProvider):
    """Refuses answers that are JSON, but no object: web3 would trip over them."""

    def make_request(self, method: RPCEndpoint, params: Any) -> RPCResponse:
        answer = super().make_request(method, params)
        if not isinstance(answer, dict):
            raise BadResponseFormat(f"a JSON {type(answer).__name__} instead of an object")
        return answer


@contextmanager
def node_errors(w3: Web3, token: Token | None = None) -> Iterator[None]:
    """Turn what web3 raises inside the block into ChainErrors."""
    try:
        yield
    except ContractLogicError as error:
        raise decode_revert(revert_data(error), token) from None
    except Web3RPCError as error:
        raise NodeRefused(f"the node {node_name(w3)} refused: {_rpc_message(error)}") from None
    except requests.HTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise NodeRefused(
            f"the node {node_name(w3)} answered with HTTP status {status}",
            fix="check the RPC URL and its key",
        ) from None
    except requests.Timeout:
        raise NodeTimeout(
            f"the node {node_name(w3)} did not answer in time",
            fix="try again, or use another node",
        ) from None
    except (requests.RequestException, json.JSONDecodeError, OSError) as error:
        raise NodeUnreachable(
            f"the node {node_name(w3)} does not answer ({type(error).__name__})",
            fix="check that it runs and that the RPC URL is right",
        ) from None
    except Web3Exception as error:
        raise ChainError(f"the node {node_name(w3)} gave an unusable answer: {error}") from None


def revert_data(error: ContractLogicError) -> bytes:
    """The bytes a call reverted with; empty where the node gave none."""
    data = error.data
    if isinstance(data, dict):  # some nodes wrap it
        data = next((value for value in data.values() if isinstance(value, str)), None)
    if not isinstance(data, str):
        return b""
    text = data.removeprefix("Reverted ")
    try:
        return to_bytes(hexstr=text) if text.startswith("0x") else b""
    except ValueError:
        return b""


def _rpc_message(error: Web3RPCError) -> str:
    answer = (error.rpc_response or {}).get("error")
    if isinstance(answer, dict) and answer.get("message"):
        return str(answer["message"])
    return str(error.message)
