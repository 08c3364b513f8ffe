"""Put a market on a chain.

The contracts name each other in immutable fields, so every address is known before the first
contract exists: CREATE derives it from the deployer and its nonce.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from eth_account.signers.local import LocalAccount
from eth_utils.address import is_address, to_checksum_address
from web3 import Web3
from web3.exceptions import BadFunctionCallOutput, ContractLogicError
from web3.utils.address import get_create_address

from marketplace.chain.artifacts import (
    BEACON_CONTRACT,
    BLOCKHASH,
    DRAND,
    RANDOMNESS_CONTRACTS,
    TOKEN_CONTRACT,
    artifact,
    market_contracts,
)
from marketplace.chain.calls import functions
from marketplace.chain.connection import check_deployment
from marketplace.chain.deployment import Deployment
from marketplace.chain.parameters import Parameters, Preset
from marketplace.chain.permits import permit_version
from marketplace.chain.records import Token
from marketplace.chain.rpc import connect, node_errors
from marketplace.chain.sending import GasHook, Sender
from marketplace.protocol.beacons import EVMNET, BeaconNetwork
from marketplace.protocol.errors import ChainError, ConfigError, MissingContract, TracemarketError
from marketplace.protocol.hashing import uint

log = logging.getLogger(__name__)

LOCAL_CHAIN_IDS: Final = frozenset({31337, 1337})

_LINKS: Final = {
    "ledger": {
        "escrow": "escrow",
        "stake": "stake",
        "market": "market",
        "court": "court",
        "royalties": "royalties",
    },
    "escrow": {
        "ledger": "ledger",
        "environments": "environments",
        "market": "market",
        "court": "court",
    },
    "stake": {"ledger": "ledger", "rounds": "rounds"},
    "rounds": {
        "stake": "stake",
        "randomness": "randomness",
        "market": "market",
        "court": "court",
    },
    "assignments": {"escrow": "escrow", "randomness": "randomness", "market": "market"},
    "market": {
        "ledger": "ledger",
        "escrow": "escrow",
        "rounds": "rounds",
        "assignments": "assignments",
        "court": "court",
    },
    "openings": {"court": "court"},
    "court": {
        "market": "market",
        "escrow": "escrow",
        "ledger": "ledger",
        "rounds": "rounds",
        "openings": "openings",
        "evidence": "evidence",
    },
    "audits": {"market": "market", "evidence": "evidence"},
    "royalties": {"ledger": "ledger", "checkpoints": "checkpoints"},
    "sheets": {"market": "market", "rounds": "rounds", "escrow": "escrow"},
}
"""contract -> its getter -> the contract it must name."""


@dataclass(frozen=True, slots=True)
class DrandSource:
    """Randomness from a drand beacon.

    delay: seconds between asking and the round that counts, at least: it must exceed the time by
    which a block can be known or changed after its timestamp. patience: seconds in which a round
    must be delivered. docs/ASSUMPTIONS.md says what fits which kind of chain.
    """

    network: BeaconNetwork = EVMNET
    delay: int = 36
    patience: int = 3600

    def __post_init__(self) -> None:
        for field in ("delay", "patience"):
            if uint(getattr(self, field), 64, field) == 0:
                raise ConfigError(f"the {field} of the beacon's rounds is 0 s", fix="give seconds")


def deploy(
    node: str | Web3,
    signer: LocalAccount,
    preset: Preset,
    *,
    token: str | None = None,
    drand: DrandSource | None = None,
    timeout: float = 300.0,
    poll: float = 1.0,
    on_gas: GasHook | None = None,
    progress: Callable[[str, str], None] | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Deployment:
    """Deploy all contracts and check that they belong together.

    token: address of the stablecoin; None deploys a TestStablecoin, on local chains only.
    drand: the beacon that decides draws and tasks; None for block hashes.
    progress: called with contract name and address after each one. The signer must send nothing
    else meanwhile.

    Raises ConfigError (no token on a public chain, a beacon that comes after the draw timeout),
    MissingContract (no token there), ChainError;
    after a failure the message says what was deployed already.
    """
    if drand is not None and drand.delay + drand.network.period >= preset.draw_timeout:
        raise ConfigError(
            f"beacon rounds come up to {drand.delay + drand.network.period} s after they are asked "
            f"for, and a draw must be made within {preset.draw_timeout} s (preset {preset.name})",
            fix="take a shorter delay, or a preset with a longer draw timeout",
        )
    w3 = connect(node) if isinstance(node, str) else node
    with node_errors(w3):
        chain_id = int(w3.eth.chain_id)
        block = int(w3.eth.block_number)
    if token is None and chain_id not in LOCAL_CHAIN_IDS:
        raise ConfigError(
            f"chain id {chain_id} is no local chain, so there is no test stablecoin",
            fix="give the address of the token that bounties are paid in",
        )
    sender = Sender(
        w3, signer, chain_id, timeout=timeout, poll=poll, on_gas=on_gas, clock=clock, sleep=sleep
    )
    deployed: dict[str, str] = {}

    def create(name: str, *args: Any) -> str:
        address = _create(w3, sender, name, args)
        deployed[name] = address
        log.info("contract_deployed contract=%s address=%s", name, address)
        if progress is not None:
            progress(name, address)
        return address

    try:
        described = describe_token(w3, token or create(TOKEN_CONTRACT), chain_id)
        parameters = preset.parameters(described.decimals)
        first = sender.next_nonce()
        contracts = market_contracts(BLOCKHASH if drand is None else DRAND)
        where = {
            short: str(get_create_address(signer.address, first + offset))  # type: ignore[arg-type]
            for offset, short in enumerate(contracts)
        }
        arguments = _arguments(where, described.address, parameters, _source(preset, drand))
        for short, contract in contracts.items():
            address = create(contract, *arguments[short])
            if address != where[short]:
                raise ChainError(
                    f"{contract} came to be at {address} instead of {where[short]}: "
                    f"the key {signer.address} sent something else meanwhile",
                    fix="deploy again with a key that nothing else uses",
                )
        deployment = Deployment(
            chain_id=chain_id,
            block=block,
            addresses=where,
            token=described,
            parameters=parameters,
            randomness_delay=preset.randomness_delay if drand is None else drand.delay,
            beacon=None if drand is None else drand.network,
            randomness_patience=None if drand is None else drand.patience,
        )
        check_deployment(w3, deployment)
        check_links(w3, deployment)
    except TracemarketError as error:
        done = ", ".join(f"{name} at {address}" for name, address in deployed.items())
        error.message += f" (deployed before: {done or 'nothing'})"
        error.args = (error.message,)
        raise
    return deployment


def describe_token(w3: Web3, address: str, chain_id: int) -> Token:
    """Name, symbol, decimals and permit version of an ERC-20, from the token itself.

    Raises ConfigError for no address, MissingContract where there is no ERC-20.
    """
    if not is_address(address):
        raise ConfigError(
            f"the token {address!r} is not an address", fix="give 0x and 40 hex digits"
        )
    address = str(to_checksum_address(address))
    views = functions(TOKEN_CONTRACT)
    with node_errors(w3):
        try:
            name, symbol, decimals = (
                views[function].read(w3, address, ()) for function in ("name", "symbol", "decimals")
            )
        except (BadFunctionCallOutput, ContractLogicError):
            raise MissingContract(
                f"there is no ERC-20 token at {address} (chain id {chain_id})",
                fix="give the address of a token on this chain",
            ) from None
    version = permit_version(w3, address, name, chain_id)
    return Token(address, name, symbol, int(decimals), version)


def check_links(w3: Web3, deployment: Deployment) -> None:
    """ChainError where a contract names another one, or other parameters, than the deployment, or
    where the randomness is of another kind."""
    _check_kind(w3, deployment)

    def view(short: str, getter: str) -> Any:
        function = functions(deployment.contracts[short])[getter]
        with node_errors(w3):
            return function.read(w3, deployment.address(short), ())

    expected: list[tuple[str, str, Any]] = [
        ("randomness", "delay", deployment.randomness_delay),
        ("ledger", "token", deployment.token.address),
        ("market", "parameters", deployment.parameters.as_tuple()),
    ]
    if deployment.beacon is not None:
        expected += [
            ("randomness", "publicKey", tuple(deployment.beacon.key)),
            ("randomness", "genesis", deployment.beacon.genesis),
            ("randomness", "period", deployment.beacon.period),
            ("randomness", "patience", deployment.randomness_patience),
        ]
    expected += [
        (short, getter, deployment.address(other))
        for short, links in _LINKS.items()
        for getter, other in links.items()
    ]
    for short, getter, value in expected:
        found = view(short, getter)
        if found != value:
            raise ChainError(
                f"{deployment.contracts[short]} at {deployment.address(short)} has {found} as its "
                f"{getter}, the deployment says {value}",
                fix="use the file that belongs to these contracts, or deploy again",
            )


def _check_kind(w3: Web3, deployment: Deployment) -> None:
    """Only a beacon has a patience."""
    address = deployment.address("randomness")
    patience = functions(BEACON_CONTRACT)["patience"]
    with node_errors(w3):
        try:
            patience.read(w3, address, ())
            found = DRAND
        except (BadFunctionCallOutput, ContractLogicError):
            found = BLOCKHASH
    if found != deployment.randomness:
        raise ChainError(
            f"the randomness at {address} is a {RANDOMNESS_CONTRACTS[found]} ({found}), the "
            f"deployment says {deployment.randomness}",
            fix="use the file that belongs to these contracts, or deploy again",
        )


def _source(preset: Preset, drand: DrandSource | None) -> tuple[Any, ...]:
    """Constructor arguments of the randomness."""
    if drand is None:
        return (preset.randomness_delay,)
    network = drand.network
    return ((network.key, network.genesis, network.period), drand.delay, drand.patience)


def _arguments(
    where: dict[str, str], token: str, parameters: Parameters, source: tuple[Any, ...]
) -> dict[str, tuple[Any, ...]]:
    """Constructor arguments by short name."""
    numbers = parameters.as_tuple()
    return {
        "environments": (),
        "randomness": source,
        "ledger": (
            token,
            where["escrow"],
            where["stake"],
            where["market"],
            where["court"],
            where["royalties"],
        ),
        "escrow": (where["ledger"], where["environments"], where["market"], where["court"]),
        "stake": (where["ledger"], where["rounds"], numbers),
        "rounds": (where["stake"], where["randomness"], where["market"], where["court"], numbers),
        "assignments": (where["escrow"], where["randomness"], where["market"]),
        "checkpoints": (),
        "market": (
            where["ledger"],
            where["escrow"],
            where["rounds"],
            where["assignments"],
            where["court"],
            numbers,
        ),
        "openings": (where["court"], numbers),
        "evidence": (),
        "court": (
            where["market"],
            where["escrow"],
            where["ledger"],
            where["rounds"],
            where["openings"],
            where["evidence"],
            numbers,
        ),
        "audits": (where["market"], where["evidence"]),
        "royalties": (where["ledger"], where["checkpoints"]),
        "sheets": (where["market"],),
    }


def _create(w3: Web3, sender: Sender, name: str, args: tuple[Any, ...]) -> str:
    compiled = artifact(name)
    factory = w3.eth.contract(abi=compiled.abi, bytecode=compiled.bytecode)
    data = factory.constructor(*args).data_in_transaction
    receipt = sender.send(f"deploy_{name}", None, data)
    return str(to_checksum_address(receipt["contractAddress"]))
