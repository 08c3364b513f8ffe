"""What others would charge: EAS attestations, a slot for each trace, Merkle claims.

EAS and the Merkle distributor are their authors' compiled contracts, unchanged (package.json);
Slots.sol is ours. The distributor pays out our test token, so that both sides move the same one.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from eth_abi.abi import encode as abi_encode
from eth_abi.packed import encode_packed
from web3 import Web3
from web3.contract import Contract

from marketplace.chain.artifacts import TOKEN_CONTRACT, artifact
from marketplace.protocol.hashing import ZERO32, keccak

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
MODULES: Final = HERE / "node_modules"
EAS_ARTIFACTS: Final = MODULES / "@ethereum-attestation-service/eas-contracts/artifacts/contracts"
DISTRIBUTOR: Final = MODULES / "@uniswap/merkle-distributor/build/MerkleDistributor.json"

BLOCK_GAS: Final = 30_000_000
FULL_TRANSACTIONS: Final = 5
"""Whole blocks from which the figures for more traces than were sent are extrapolated."""
FIELDS: Final = ("bytes32", "uint64", "uint32", "uint32", "uint8", "uint32")
SCHEMA: Final = "bytes32 line,uint64 batch,uint32 index,uint32 score,uint8 reason,uint32 units"
PACKED_SCHEMA: Final = "bytes verdict"

_COMPILE: Final = """
const solc = require("solc");
const content = require("fs").readFileSync(0, "utf8");
const outputSelection = { "*": { "*": ["abi", "evm.bytecode.object"] } };
const optimizer = { enabled: true, runs: 10000 };
const settings = { outputSelection, optimizer, evmVersion: "cancun" };
const input = { language: "Solidity", sources: { slots: { content } }, settings };
process.stdout.write(solc.compile(JSON.stringify(input)));
"""


class Sender:
    """One of Anvil's accounts. Gas of everything it sends is that of the receipt."""

    def __init__(self, w3: Web3, address: str) -> None:
        self.w3 = w3
        self.address = address

    def send(self, call: Any) -> int:
        receipt = self._receipt(call)
        return int(receipt["gasUsed"])

    def create(self, abi: list[Any], bytecode: str, *args: Any) -> Contract:
        factory = self.w3.eth.contract(abi=abi, bytecode=bytecode)
        receipt = self._receipt(factory.constructor(*args))
        return self.w3.eth.contract(receipt["contractAddress"], abi=abi)

    def _receipt(self, call: Any) -> Any:
        fields = {"from": self.address, "gas": BLOCK_GAS}
        receipt = self.w3.eth.wait_for_transaction_receipt(
            call.transact(fields), timeout=120, poll_latency=0.02
        )
        if receipt["status"] != 1:
            raise RuntimeError(f"a transaction of the benchmark failed: {call}")
        return receipt

    def fits(self, call: Any) -> bool:
        """Whether the call succeeds with a block's gas."""
        try:
            call.call({"from": self.address, "gas": BLOCK_GAS})
        except Exception:
            return False
        return True


# --- many traces in many transactions ------------------------------------------------


def by_size(
    sender: Sender, call: Callable[[int], Any], sizes: Sequence[int], sent_up_to: int
) -> dict[str, Any]:
    """Gas for n traces, for each n of `sizes`. call(n): a transaction for n traces.

    As many traces as fit a block go into one transaction. Up to `sent_up_to` traces all of it is
    sent; beyond, n is extrapolated from the mean of full transactions.
    """
    fit = _most(lambda n: sender.fits(call(n)))
    full = [sender.send(call(fit)) for _ in range(FULL_TRANSACTIONS)]
    per_trace = sum(full) / len(full) / fit
    found: dict[str, Any] = {}
    for size in sizes:
        if size <= sent_up_to:
            parts = [fit] * (size // fit) + ([size % fit] if size % fit else [])
            gas = float(sum(sender.send(call(part)) for part in parts))
        else:
            gas = per_trace * size
        found[str(size)] = {"gas": gas, "per_trace": gas / size, "measured": size <= sent_up_to}
    return {
        "per_transaction": fit,
        "full_transactions": full,
        "per_trace_when_full": per_trace,
        "sizes": found,
    }


def _most(fits: Callable[[int], bool]) -> int:
    """The largest n that fits."""
    if not fits(1):
        raise RuntimeError("not even one trace fits a transaction")
    low, high = 1, 2
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


# --- EAS -----------------------------------------------------------------------------


def eas(sender: Sender, sizes: Sequence[int], sent_up_to: int) -> dict[str, Any]:
    """multiAttest of one verdict for each trace: with the fields as EAS's own tools encode them,
    and packed as tightly as can be, which those tools can't read."""
    registry = sender.create(*_eas("SchemaRegistry"))
    service = sender.create(*_eas("EAS"), registry.address)
    found = {}
    for name, schema, encode in (
        ("fields", SCHEMA, abi_encode),
        ("packed", PACKED_SCHEMA, encode_packed),
    ):
        uid = keccak(encode_packed(("string", "address", "bool"), (schema, _ZERO_ADDRESS, False)))
        sender.send(registry.functions.register(schema, _ZERO_ADDRESS, False))

        def call(number: int, uid: bytes = uid, encode: Any = encode) -> Any:
            requests = [
                (sender.address, 0, False, ZERO32, bytes(encode(FIELDS, _verdict(index))), 0)
                for index in range(number)
            ]
            return service.functions.multiAttest([(uid, requests)])

        found[name] = {"schema": schema, **by_size(sender, call, sizes, sent_up_to)}
    return found


def _verdict(index: int) -> tuple[Any, ...]:
    return os.urandom(32), 123_456, index, 1_000_000, 1, 1


def _eas(name: str) -> tuple[list[Any], str]:
    built = _json(EAS_ARTIFACTS / f"{name}.sol" / f"{name}.json")
    return built["abi"], built["bytecode"]


# --- a slot for each trace -----------------------------------------------------------


def slots(sender: Sender, sizes: Sequence[int], sent_up_to: int) -> dict[str, Any]:
    """A fresh slot for each trace: with a hash from calldata, and with nothing in particular."""
    source = (HERE / "Slots.sol").read_text("utf-8")
    done = subprocess.run(
        ["node", "-e", _COMPILE], input=source, capture_output=True, text=True, check=True, cwd=ROOT
    )
    built = json.loads(done.stdout)["contracts"]["slots"]["Slots"]
    code = built["evm"]["bytecode"]["object"]
    contract = sender.create(built["abi"], code)

    def first() -> int:
        return int.from_bytes(os.urandom(24), "big") << 40

    def store(number: int) -> Any:
        return contract.functions.store(first(), [os.urandom(32) for _ in range(number)])

    def fill(number: int) -> Any:
        return contract.functions.fill(first(), number)

    return {
        "hash": by_size(sender, store, sizes, sent_up_to),
        "bare": by_size(sender, fill, sizes, sent_up_to),
    }


# --- Merkle claims -------------------------------------------------------------------

HOLDER_PLACES: Final = (0, 300, 301)
"""Of these leaves the first two open a word of the bitmap of claims; the third finds it open."""
FRESH_PLACE: Final = 302


def claims(sender: Sender, token: str, holder: Sender, sizes: Sequence[int]) -> dict[str, Any]:
    """Claims of `holder`, who has tokens and sends them itself, and for an address without."""
    stablecoin = sender.w3.eth.contract(token, abi=artifact(TOKEN_CONTRACT).abi)
    built = _json(DISTRIBUTOR)
    found = {}
    for size in sizes:
        accounts = [Web3.to_checksum_address(os.urandom(20)) for _ in range(size)]
        for place in HOLDER_PLACES:
            accounts[place] = holder.address
        amount = 123_456_789
        leaves = [
            keccak(encode_packed(("uint256", "address", "uint256"), (place, account, amount)))
            for place, account in enumerate(accounts)
        ]
        levels = _levels(leaves)
        code = built["bytecode"]
        distributor = sender.create(built["abi"], code, token, levels[-1][0])
        sender.send(stablecoin.functions.mint(distributor.address, amount * size))

        def claim(
            place: int,
            who: Sender,
            levels: list[list[bytes]] = levels,
            contract: Contract = distributor,
            account: list[str] = accounts,
            amount: int = amount,
        ) -> int:
            proof = _proof(levels, place)
            before = stablecoin.functions.balanceOf(account[place]).call()
            gas = who.send(contract.functions.claim(place, account[place], amount, proof))
            assert stablecoin.functions.balanceOf(account[place]).call() == before + amount
            return gas

        claim(HOLDER_PLACES[0], holder)  # the distributor's first
        found[str(size)] = {
            "to a holder, first claim of a bitmap word": claim(HOLDER_PLACES[1], holder),
            "to a holder": claim(HOLDER_PLACES[2], holder),
            "to a fresh address": claim(FRESH_PLACE, sender),
        }
    return found


def _levels(leaves: list[bytes]) -> list[list[bytes]]:
    """All levels of the distributor's tree: pairs are sorted. Only for powers of two."""
    levels = [leaves]
    while len(levels[-1]) > 1:
        row = levels[-1]
        assert len(row) % 2 == 0
        levels.append(
            [keccak(b"".join(sorted(row[place : place + 2]))) for place in range(0, len(row), 2)]
        )
    return levels


def _proof(levels: list[list[bytes]], place: int) -> list[bytes]:
    return [row[(place >> depth) ^ 1] for depth, row in enumerate(levels[:-1])]


_ZERO_ADDRESS: Final = "0x" + "00" * 20


def _json(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))
