"""Where a market lives: chain, addresses, token, parameters; and the file that says so.

The file is JSON and made to be shared: whoever has it and a node can use the market.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from eth_utils.address import is_address, to_checksum_address
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from marketplace.chain.artifacts import BLOCKHASH, DRAND, market_contracts
from marketplace.chain.files import write_file
from marketplace.chain.parameters import Parameters
from marketplace.chain.records import Token
from marketplace.protocol.beacons import BeaconNetwork
from marketplace.protocol.errors import ConfigError

FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class Deployment:
    """One market.

    block: the block before its first contract, where reading events starts. addresses: short
    name (artifacts.MARKET_CONTRACTS) -> checksummed address. beacon: the drand network that
    decides draws and tasks; None where block hashes do. randomness_delay: blocks, with a beacon
    seconds. randomness_patience: seconds in which a beacon's round must be delivered; None for
    block hashes.
    """

    chain_id: int
    block: int
    addresses: Mapping[str, str]
    token: Token
    parameters: Parameters
    randomness_delay: int
    beacon: BeaconNetwork | None = None
    randomness_patience: int | None = None

    @property
    def randomness(self) -> str:
        """The kind: "blockhash" or "drand"."""
        return BLOCKHASH if self.beacon is None else DRAND

    @property
    def contracts(self) -> Mapping[str, str]:
        """Short name -> contract."""
        return market_contracts(self.randomness)

    def address(self, contract: str) -> str:
        return self.addresses[contract]


def save_deployment(deployment: Deployment, path: Path) -> None:
    """Write the file; readers see the old one or the new one, never a part. ConfigError where
    it can't be written."""
    content = _DeploymentFile.model_validate(
        {"format": FORMAT, "randomness": deployment.randomness, **asdict(deployment)}
    )
    try:
        write_file(path, content.model_dump_json(indent=2) + "\n")
    except OSError as error:
        raise ConfigError(
            f"the deployment file {path} can't be written: {error.strerror or error}"
        ) from None


def load_deployment(path: Path) -> Deployment:
    """Read a deployment file. ConfigError names the file, the field and the value."""
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        raise ConfigError(
            f"there is no deployment file {path}", fix="deploy a market, or give its file"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"the deployment file {path} can't be read: {error}") from None
    try:
        content = _DeploymentFile.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        given = "" if first["type"] in ("missing", "json_invalid") else f" (is {first['input']!r})"
        raise ConfigError(
            f"the deployment file {path} is not valid: {field}: {first['msg']}{given}",
            fix="use the file that `tracemarket deploy` wrote",
        ) from None
    return content.deployment()


# --- the file ------------------------------------------------------------------------


def _checksummed(value: str) -> str:
    if not is_address(value):
        raise ValueError("not an address")
    return str(to_checksum_address(value))


Address = Annotated[str, AfterValidator(_checksummed)]
Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[int, Field(ge=0, lt=2**32)]
Units = Annotated[int, Field(ge=0, lt=2**96)]
Bps = Annotated[int, Field(ge=0, le=10_000)]
FraudBps = Annotated[int, Field(ge=0, le=100_000)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class _TokenFile(_Strict):
    address: Address
    name: str
    symbol: str
    decimals: Annotated[int, Field(ge=0, le=77)]
    permit_version: str | None


class _ParametersFile(_Strict):
    committee_size: Count
    max_rounds: Count
    max_juries: Count
    min_verifiers: Count
    draw_timeout: Seconds
    commit_window: Seconds
    reveal_window: Seconds
    challenge_window: Seconds
    appeal_window: Seconds
    opening_window: Seconds
    unbonding_delay: Seconds
    seat_stake: Units
    absence_bps: Bps
    late_bps: Bps
    incoherence_bps: Bps
    fraud_bps: FraudBps
    bond_per_trace: Units
    fault_multiple: Count
    wrong_bps: Bps
    min_fee_per_trace: Units
    juror_fee: Units
    max_traces: Count


class _AddressesFile(_Strict):
    environments: Address
    randomness: Address
    ledger: Address
    escrow: Address
    stake: Address
    rounds: Address
    assignments: Address
    checkpoints: Address
    market: Address
    openings: Address
    evidence: Address
    court: Address
    audits: Address
    royalties: Address
    sheets: Address


class _BeaconFile(_Strict):
    name: str
    chain_hash: Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
    public_key: Annotated[str, Field(pattern=r"^0x[0-9a-f]{256}$")]
    genesis: Annotated[int, Field(ge=0, lt=2**64)]
    period: Annotated[int, Field(gt=0, lt=2**64)]


class _DeploymentFile(_Strict):
    """randomness and what follows it are missing in files from before there was a choice: block
    hashes."""

    format: Literal[1]
    chain_id: Annotated[int, Field(gt=0)]
    block: Count
    addresses: _AddressesFile
    token: _TokenFile
    parameters: _ParametersFile
    randomness_delay: Annotated[int, Field(gt=0)]
    randomness: Literal["blockhash", "drand"] = "blockhash"
    beacon: _BeaconFile | None = None
    randomness_patience: Annotated[int, Field(gt=0, lt=2**64)] | None = None

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for field in ("beacon", "randomness_patience"):
            if (getattr(self, field) is not None) != (self.randomness == DRAND):
                wanted = "needs" if self.randomness == DRAND else "has no"
                raise ValueError(f"randomness {self.randomness!r} {wanted} {field}")
        return self

    def deployment(self) -> Deployment:
        content: dict[str, Any] = self.model_dump()
        return Deployment(
            chain_id=self.chain_id,
            block=self.block,
            addresses=content["addresses"],
            token=Token(**content["token"]),
            parameters=Parameters(**content["parameters"]),
            randomness_delay=self.randomness_delay,
            beacon=None if self.beacon is None else BeaconNetwork(**content["beacon"]),
            randomness_patience=self.randomness_patience,
        )
