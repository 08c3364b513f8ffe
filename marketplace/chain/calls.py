"""What a call of a contract's function says and what its answer means, worked out once for each
function.

web3 searches the whole interface at each call, for the function and for the types of every value,
which takes longer than the node's answer. A node that verifies reads all day.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache, lru_cache
from typing import Any, Final

from eth_abi.codec import ABIDecoder
from eth_abi.decoding import AddressDecoder
from eth_abi.exceptions import DecodingError
from eth_abi.registry import BaseEquals
from eth_abi.registry import registry as default_registry
from eth_utils.abi import collapse_if_tuple, function_abi_to_4byte_selector
from eth_utils.address import to_checksum_address
from web3 import Web3
from web3._utils.error_formatters_utils import raise_contract_logic_error_on_revert
from web3.exceptions import BadFunctionCallOutput
from web3.providers import BaseProvider
from web3.types import RPCEndpoint

from marketplace.chain.artifacts import artifact


class _ChecksumAddress(AddressDecoder):
    # A hash for each address, and the same few come again and again.
    decoder_fn = staticmethod(lru_cache(4096)(to_checksum_address))


def _decoder() -> ABIDecoder:
    """Decodes as eth_abi does, but addresses to their checksummed form."""
    types = default_registry.copy()
    types.unregister_decoder("address")
    types.register_decoder(BaseEquals("address"), _ChecksumAddress, label="address")
    return ABIDecoder(types)


_DECODER: Final = _decoder()
# Refuses bytes that are too short, which eth_abi by itself would fill up.
_ENCODER: Final = Web3(BaseProvider()).codec


class Function:
    """One function of a contract. inputs, outputs: ABI types."""

    __slots__ = ("inputs", "name", "outputs", "selector")

    def __init__(self, entry: Any) -> None:
        self.name: str = entry["name"]
        self.inputs = tuple(collapse_if_tuple(part) for part in entry["inputs"])
        self.outputs = tuple(collapse_if_tuple(part) for part in entry["outputs"])
        self.selector = bytes(function_abi_to_4byte_selector(entry))

    def encoded(self, args: Iterable[Any]) -> bytes:
        """The selector and the arguments; structs are tuples. EncodingError for other types."""
        return self.selector + _ENCODER.encode(self.inputs, list(args))

    def read(self, w3: Web3, address: str, args: Iterable[Any]) -> Any:
        """What the latest block answers: one value, or a tuple of several.

        Raises what web3 raises, among it ContractLogicError where the call reverts, and
        BadFunctionCallOutput where the answer is not of this function.
        """
        answer = w3.manager.request_blocking(
            RPCEndpoint("eth_call"),
            [{"to": address, "data": "0x" + self.encoded(args).hex()}, "latest"],
            error_formatters=raise_contract_logic_error_on_revert,
        )
        try:
            values = _DECODER.decode(self.outputs, bytes.fromhex(answer.removeprefix("0x")))
        except (DecodingError, ValueError, AttributeError):
            said = f"{self.name} at {address} gave {answer!r:.100}, which is no answer of it"
            raise BadFunctionCallOutput(said) from None
        return values[0] if len(values) == 1 else values


@cache
def functions(contract: str) -> dict[str, Function]:
    """The functions of a contract named in CONTRACTS, by name; none of ours is overloaded."""
    return {
        entry["name"]: Function(entry)
        for entry in artifact(contract).abi
        if entry["type"] == "function"
    }
