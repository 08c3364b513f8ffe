"""EIP-2612 permits: an approval as a signature instead of a transaction.

Source: https://eips.ethereum.org/EIPS/eip-2612, domains as in EIP-712.
"""

from __future__ import annotations

from typing import Any, Final

from eth_account.signers.local import LocalAccount
from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError, Web3RPCError

from marketplace.chain.calls import Function
from marketplace.chain.records import ZERO_ADDRESS, Token
from marketplace.chain.rpc import node_errors
from marketplace.protocol.hashing import abi_hash, keccak

Permit = tuple[int, int, int, bytes, bytes]
"""value, deadline, v, r, s: the struct of libraries/Types.sol."""

_PERMIT: Final = [
    {"name": "owner", "type": "address"},
    {"name": "spender", "type": "address"},
    {"name": "value", "type": "uint256"},
    {"name": "nonce", "type": "uint256"},
    {"name": "deadline", "type": "uint256"},
]
_PERMIT_TYPEHASH: Final = keccak(
    b"Permit(address owner,address spender,uint256 value,uint256 nonce,uint256 deadline)"
)
_DOMAIN_TYPEHASH: Final = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)
_VERSIONS: Final = ("1", "2")  # OpenZeppelin's default, and what USDC uses


def _view(name: str, output: str, *inputs: str) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "stateMutability": "view",
        "inputs": [{"name": "", "type": kind} for kind in inputs],
        "outputs": [{"name": "", "type": output}],
    }


_VIEWS: Final = {
    entry["name"]: Function(entry)
    for entry in (
        _view("nonces", "uint256", "address"),
        _view("DOMAIN_SEPARATOR", "bytes32"),
        _view("PERMIT_TYPEHASH", "bytes32"),
    )
}


def permit_version(w3: Web3, address: str, name: str, chain_id: int) -> str | None:
    """The version of a token's EIP-712 domain; None where it does not know EIP-2612 permits.

    Only a token whose domain separator can be rebuilt counts, and one that names another permit
    type (as DAI does) does not.
    """
    if _optional(w3, address, "nonces", ZERO_ADDRESS) is None:
        return None
    if _optional(w3, address, "PERMIT_TYPEHASH") not in (None, _PERMIT_TYPEHASH):
        return None
    separator = _optional(w3, address, "DOMAIN_SEPARATOR")
    for version in _VERSIONS:
        if separator == domain_separator(name, version, chain_id, address):
            return version
    return None


def domain_separator(name: str, version: str, chain_id: int, address: str) -> bytes:
    """The EIP-712 domain separator of a token."""
    return abi_hash(
        ("bytes32", "bytes32", "bytes32", "uint256", "address"),
        (_DOMAIN_TYPEHASH, keccak(name.encode()), keccak(version.encode()), chain_id, address),
    )


def sign_permit(
    w3: Web3,
    account: LocalAccount,
    token: Token,
    *,
    chain_id: int,
    spender: str,
    value: int,
    deadline: int,
) -> Permit:
    """A signed approval of `value` base units for `spender`, good until `deadline` (seconds).

    The token must know permits (token.permit_version).
    """
    with node_errors(w3, token):
        nonce = _VIEWS["nonces"].read(w3, token.address, [account.address])
    domain = {
        "name": token.name,
        "version": token.permit_version,
        "chainId": chain_id,
        "verifyingContract": token.address,
    }
    message = {
        "owner": account.address,
        "spender": spender,
        "value": value,
        "nonce": nonce,
        "deadline": deadline,
    }
    signed = account.sign_typed_data(domain, {"Permit": _PERMIT}, message)
    return value, deadline, signed.v, signed.r.to_bytes(32, "big"), signed.s.to_bytes(32, "big")


def _optional(w3: Web3, address: str, function: str, *args: Any) -> Any:
    """The result of a view that a token may not have; None where it has not."""
    with node_errors(w3):
        try:
            return _VIEWS[function].read(w3, address, args)
        except (BadFunctionCallOutput, ContractLogicError, Web3RPCError):
            return None
