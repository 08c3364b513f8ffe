"""Task seeds and the content-based held-out split. All hashes are keccak256, 32 bytes."""

from __future__ import annotations

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import Address, abi_hash, address20, bytes32, keccak, uint

PPM = 1_000_000
"""Parts per million: the unit of scores, shares and split sizes."""

HELDOUT_TAG = b"tracemarket.heldout"
NOISE_TAG = b"tracemarket.noise"


def task_seed(
    environment: bytes, bounty: int, miner: Address, assignment_seed: bytes, task_index: int
) -> bytes:
    """The seed of one task, fixed by the market and never chosen by the miner.

    H(abi.encode(bytes32 environment, uint64 bounty, address miner, bytes32 assignmentSeed,
    uint256 taskIndex)). task_index is absolute: the batch's firstTask + line // groupSize.
    """
    return abi_hash(
        ("bytes32", "uint64", "address", "bytes32", "uint256"),
        (
            bytes32(environment, "environment"),
            uint(bounty, 64, "bounty"),
            address20(miner, "miner"),
            bytes32(assignment_seed, "assignment seed"),
            uint(task_index, 256, "task index"),
        ),
    )


def walk_seed(seed: bytes, counter: int) -> bytes:
    """H(seed || uint64 counter, big-endian): the counter-th try in a walk that starts at seed."""
    return keccak(bytes32(seed, "seed") + uint(counter, 64, "counter").to_bytes(8, "big"))


def noise_key(task_seed: bytes, sample: int, position: int) -> bytes:
    """What the sampling noise of one token is expanded from, under tier A.

    H("tracemarket.noise" || task seed || uint64 sample || uint64 position), big-endian. sample:
    place in the group. position: of the token in its completion, from 0.
    """
    return keccak(
        NOISE_TAG
        + bytes32(task_seed, "task seed")
        + uint(sample, 64, "sample").to_bytes(8, "big")
        + uint(position, 64, "position").to_bytes(8, "big")
    )


def is_heldout(question: str, holdout_ppm: int) -> bool:
    """True if a question belongs to the held-out split, decided by its text alone.

    So two environments with the same question agree, and no assignment can sell one.
    holdout_ppm: expected share of held-out questions, 0 (none) to 1_000_000 (all).
    """
    if uint(holdout_ppm, 32, "holdout_ppm") > PPM:
        raise InvalidValue(f"holdout_ppm is {holdout_ppm}, over {PPM}")
    digest = keccak(HELDOUT_TAG + question.encode("utf-8"))
    return int.from_bytes(digest[:8], "big") % PPM < holdout_ppm
