"""Reverts become sentences that name the values and the fix."""

from __future__ import annotations

import pickle
import string

import pytest
from eth_abi.abi import encode
from eth_utils.abi import collapse_if_tuple, function_signature_to_4byte_selector

from marketplace.chain.artifacts import CONTRACTS, artifact
from marketplace.chain.errors import ContractError, decode_revert, show_enum, show_time
from marketplace.chain.records import BatchPhase, RoundPhase, SeatState, Token
from marketplace.chain.sentences import SENTENCES
from marketplace.protocol.errors import InsufficientFunds, Reverted

USDC = Token("0x" + "11" * 20, "USD Coin", "USDC", 6, "2")
SOMEBODY = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"

ERRORS = {
    entry["name"]: entry
    for contract in CONTRACTS
    for entry in artifact(contract).abi
    if entry["type"] == "error"
}
SAMPLES = {
    "address": SOMEBODY,
    "bytes": b"\xab",
    "bytes32": b"\xab" * 32,
    "string": "seatStake",
    "uint256[2]": [1, 2],
    "uint256[4]": [1, 2, 3, 4],
}


def revert(name: str, *values) -> bytes:
    types = [collapse_if_tuple(part) for part in ERRORS[name]["inputs"]]
    selector = function_signature_to_4byte_selector(f"{name}({','.join(types)})")
    return selector + encode(types, values)


def test_an_empty_bounty_reads_as_a_sentence() -> None:
    data = revert("BountyEscrow_InsufficientFunds", 3, 1_500_000, 4_000_000)
    error = decode_revert(data, USDC)
    assert isinstance(error, ContractError)
    assert str(error) == (
        "bounty 3 has 1.50 USDC free, this batch needs 4.00 USDC. "
        "Fix: fund it or commit fewer traces"
    )
    assert error.name == "BountyEscrow_InsufficientFunds"
    assert error.values == {"bounty": 3, "available": 1_500_000, "needed": 4_000_000}
    assert "1500000 base units" in str(decode_revert(data, None))


@pytest.mark.parametrize("name", sorted(ERRORS))
def test_every_error_has_a_sentence_that_shows_its_values(name) -> None:
    entry = ERRORS[name]
    values = [SAMPLES.get(part["type"], 1) for part in entry["inputs"]]
    error = decode_revert(revert(name, *values), USDC)
    assert isinstance(error, Reverted | InsufficientFunds)
    message, _ = SENTENCES[name]
    used = {field.split(".")[0] for _, field, _, _ in string.Formatter().parse(message) if field}
    assert used <= {part["name"] for part in entry["inputs"]}
    assert error.message[0] != " "
    assert "{" not in error.message


def test_no_sentence_is_left_over() -> None:
    assert set(SENTENCES) == set(ERRORS)


def test_values_are_shown_in_words() -> None:
    phase = decode_revert(revert("Rounds_WrongPhase", 9, RoundPhase.AWAITING_RANDOMNESS), USDC)
    assert phase.message == "round 9 is awaiting randomness"
    seat = decode_revert(revert("Rounds_WrongSeatState", 9, 2, SeatState.REVEALED), USDC)
    assert seat.message == "seat 2 of round 9 is revealed"
    tier = decode_revert(revert("BountyEscrow_TrainerMissing", 1), USDC)
    assert tier.message == "a bounty of tier B names no trainer"
    past = decode_revert(revert("BountyEscrow_DeadlinePassed", 0, 86_400), USDC)
    assert "1970-01-01 00:00:00 UTC" in past.message
    assert "1970-01-02 00:00:00 UTC" in past.message
    who = decode_revert(revert("Assignments_NotOpen", 4, SOMEBODY.lower()), USDC)
    assert SOMEBODY in who.message
    unknown = decode_revert(
        revert("EnvironmentRegistry_AlreadyRegistered", b"\xab" * 32, SOMEBODY), None
    )
    assert "0x" + "ab" * 32 in unknown.message
    assert show_time(2**64 - 1) == f"second {2**64 - 1}"
    assert show_enum(BatchPhase, 99) == "BatchPhase 99"


def test_too_few_tokens_is_insufficient_funds() -> None:
    error = decode_revert(revert("ERC20InsufficientBalance", SOMEBODY, 10, 2_000_000), USDC)
    assert type(error) is InsufficientFunds
    assert "0.00001 USDC" in error.message
    assert "2.00 USDC" in error.message


def test_other_reverts() -> None:
    words = bytes.fromhex("08c379a0") + encode(["string"], ["Pausable: paused"])
    assert decode_revert(words, USDC).message == "the contract refused: Pausable: paused"
    panic = bytes.fromhex("4e487b71") + encode(["uint256"], [0x11])
    assert "arithmetic overflow" in decode_revert(panic, USDC).message
    assert "without saying why" in decode_revert(b"", USDC).message
    foreign = decode_revert(bytes.fromhex("deadbeef") + bytes(32), USDC)
    assert "0xdeadbeef" in foreign.message
    assert foreign.fix
    truncated = revert("BountyEscrow_InsufficientFunds", 3, 1, 2)[:-40]
    assert "unknown error" in decode_revert(truncated, USDC).message


def test_a_contract_error_survives_pickling() -> None:
    error = decode_revert(revert("BatchMarket_UnknownBatch", 7), USDC)
    again = pickle.loads(pickle.dumps(error))
    assert (again.name, again.values, str(again)) == (error.name, error.values, str(error))
