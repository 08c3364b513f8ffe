"""Compiled contracts: interface and creation code, as package data (abi/*.json).

`generate_abi` writes the files from the compiler's output, so that a user of the command line
needs no Node.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

MARKET_CONTRACTS: Final[dict[str, str]] = {
    "environments": "EnvironmentRegistry",
    "randomness": "BlockHashRandomness",
    "ledger": "Ledger",
    "escrow": "BountyEscrow",
    "stake": "VerifierStake",
    "rounds": "Rounds",
    "assignments": "Assignments",
    "checkpoints": "CheckpointRegistry",
    "market": "BatchMarket",
    "openings": "Openings",
    "evidence": "Evidence",
    "court": "Court",
    "audits": "Audits",
    "royalties": "Royalties",
    "sheets": "ScoreSheets",
}
"""Short name -> contract, in the order in which they are deployed (the market checks what came
before it)."""

TOKEN_CONTRACT: Final = "TestStablecoin"
"""Stands for any ERC-20 with EIP-2612 where only the interface matters."""

BEACON_CONTRACT: Final = "DrandRandomness"
"""Takes the place of BlockHashRandomness where a deployment draws from the drand beacon."""

BLOCKHASH: Final = "blockhash"
DRAND: Final = "drand"
RANDOMNESS_CONTRACTS: Final[dict[str, str]] = {
    BLOCKHASH: MARKET_CONTRACTS["randomness"],
    DRAND: BEACON_CONTRACT,
}
"""Kind of randomness -> its contract."""

CONTRACTS: Final = (*MARKET_CONTRACTS.values(), TOKEN_CONTRACT, BEACON_CONTRACT)


@dataclass(frozen=True, slots=True)
class Artifact:
    """One compiled contract.

    abi: the JSON interface. bytecode: 0x hex of the creation code. solc: compiler version.
    source_hash: sha256 over the names and contents of all sources it is made of, 0x hex.
    """

    name: str
    abi: list[dict[str, Any]]
    bytecode: str
    solc: str
    source_hash: str


@cache
def market_contracts(randomness: str) -> dict[str, str]:
    """MARKET_CONTRACTS of a market with that kind of randomness."""
    return MARKET_CONTRACTS | {"randomness": RANDOMNESS_CONTRACTS[randomness]}


@cache
def artifact(name: str) -> Artifact:
    """The committed artifact of a contract named in CONTRACTS."""
    text = (resources.files(__package__) / "abi" / f"{name}.json").read_text("utf-8")
    data = json.loads(text)
    return Artifact(
        name=data["contract"],
        abi=data["abi"],
        bytecode=data["bytecode"],
        solc=data["solc"],
        source_hash=data["sourceHash"],
    )
