"""A node that serves one deployment: checked once, then blocks, events and raw reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from web3 import Web3
from web3.types import RPCEndpoint

from marketplace.chain.artifacts import TOKEN_CONTRACT
from marketplace.chain.blocks import Block, Event
from marketplace.chain.calls import Function, functions
from marketplace.chain.deployment import Deployment
from marketplace.chain.events import DEFAULT_PAGE, EventDecoder, read_events
from marketplace.chain.parameters import Parameters
from marketplace.chain.rpc import connect, node_errors, node_name
from marketplace.protocol.errors import MissingContract, WrongChain


class Connection:
    """A node and the contracts of one deployment: blocks, events, raw reads.

    node: an RPC URL or a Web3. confirmations: how many blocks on top of the last one that
    events() reads by itself. Raises WrongChain and MissingContract where the node does not serve
    this deployment (check=False leaves these checks out).
    """

    def __init__(
        self,
        node: str | Web3,
        deployment: Deployment,
        *,
        confirmations: int = 0,
        check: bool = True,
    ) -> None:
        self.deployment = deployment
        self.token = deployment.token
        self.parameters: Parameters = deployment.parameters
        self._w3 = connect(node) if isinstance(node, str) else node
        self._confirmations = confirmations
        self._decoder = EventDecoder(deployment)
        if check:
            check_deployment(self._w3, deployment)

    # --- blocks ----------------------------------------------------------------------

    def head(self) -> Block:
        """The latest block; its timestamp is the chain's clock."""
        found = self._block("latest")
        assert found is not None
        return found

    def block(self, number: int) -> Block | None:
        """A block by number; None where the chain does not reach it."""
        return self._block(number)

    def _block(self, which: str | int) -> Block | None:
        # Not get_block, which works through every field of the block at each look at the clock.
        name = which if isinstance(which, str) else hex(which)
        with node_errors(self._w3):
            data = self._w3.manager.request_blocking(
                RPCEndpoint("eth_getBlockByNumber"), [name, False]
            )
        if data is None:
            return None
        return Block(
            int(data["number"], 16),
            bytes.fromhex(data["hash"][2:]),
            bytes.fromhex(data["parentHash"][2:]),
            int(data["timestamp"], 16),
        )

    # --- events ----------------------------------------------------------------------

    def events(
        self,
        from_block: int,
        to_block: int | None = None,
        names: Iterable[str] | None = None,
        *,
        where: Mapping[str, Any] | None = None,
        page: int = DEFAULT_PAGE,
    ) -> Iterator[Event]:
        """The market's events in [from_block, to_block], in chain order.

        to_block: None for the last one with `confirmations` blocks on top. names: only events of
        these names. where: of one event name only, values of its indexed arguments. page: blocks
        of one request, fewer where the node refuses.
        """
        end = self.head().number - self._confirmations if to_block is None else to_block
        return read_events(
            self._w3,
            self.deployment,
            self._decoder,
            from_block,
            end,
            names=names,
            where=where,
            page=page,
        )

    def events_between(
        self, start: int, end: int, name: str, where: Mapping[str, Any]
    ) -> Iterator[Event]:
        """Events of one name in blocks with timestamps in [start, end], as `events`.

        The blocks are found by bisection: on a chain of millions of blocks a scan for one event
        would take hundreds of requests.
        """
        head = self.head().number
        first = self._search(start - 1, self.deployment.block, head + 1)
        # The last one is seldom far from the first.
        low, step = first, 1
        while low + step <= head and not self._is_after(low + step, end):
            low, step = low + step + 1, 2 * step
        last = self._search(end, low, min(low + step, head + 1)) - 1
        return self.events(first, last, names=[name], where=where)

    def first_block_after(self, timestamp: int) -> int:
        """Number of the first block with a later timestamp; one over the head where none has."""
        return self._search(timestamp, self.deployment.block, self.head().number + 1)

    def _search(self, timestamp: int, low: int, high: int) -> int:
        """The first block after the timestamp, if `high` is one or there is none below it."""
        while low < high:
            middle = (low + high) // 2
            if self._is_after(middle, timestamp):
                high = middle
            else:
                low = middle + 1
        return low

    def _is_after(self, number: int, timestamp: int) -> bool:
        block = self.block(number)
        return block is None or block.timestamp > timestamp

    # --- parts -----------------------------------------------------------------------

    def _read(self, contract: str, function: str, *args: Any) -> Any:
        with node_errors(self._w3, self.token):
            return self._function(contract, function).read(self._w3, self._place(contract), args)

    def _encoded(self, contract: str, function: str, args: Iterable[Any]) -> bytes:
        """What a call of the function says."""
        return self._function(contract, function).encoded(args)

    def _place(self, contract: str) -> str:
        if contract == "token":
            return self.deployment.token.address
        return self.deployment.address(contract)

    def _function(self, contract: str, function: str) -> Function:
        compiled = TOKEN_CONTRACT if contract == "token" else self.deployment.contracts[contract]
        return functions(compiled)[function]


def check_deployment(w3: Web3, deployment: Deployment) -> None:
    """WrongChain or MissingContract where the node does not serve the deployment."""
    with node_errors(w3):
        served = int(w3.eth.chain_id)
    if served != deployment.chain_id:
        raise WrongChain(
            f"the node {node_name(w3)} serves chain id {served}, "
            f"the deployment is on chain id {deployment.chain_id}",
            fix="use a node of that chain, or the deployment file of this one",
        )
    places = [
        (deployment.contracts[short], address) for short, address in deployment.addresses.items()
    ]
    for name, address in [*places, (f"token {deployment.token.symbol}", deployment.token.address)]:
        with node_errors(w3):
            code = w3.eth.get_code(address)  # type: ignore[arg-type]
        if not code:
            raise MissingContract(
                f"there is no contract at {address}, where {name} should be "
                f"(chain id {served}, node {node_name(w3)})",
                fix="deploy again where the chain was reset, or use the right deployment file",
            )
