"""Commit-reveal of an attestation. All hashes are keccak256 over standard ABI encoding.

A commitment binds chain, rounds contract, round, subject, verifier, attestation and salt:
nobody can copy another verifier's, and none can be replayed elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import Address, abi_hash, address20, bytes32, keccak, uint
from marketplace.protocol.verdict import Attestation


def subject(chain_id: int, market: Address, batch: int, batch_root: bytes) -> bytes:
    """What a round judges: H(abi.encode(uint256 chainId, address market, uint64 batch,
    bytes32 batchRoot)).

    Bound to the content, so that a commitment can't be reused after a reorg renumbers batches.
    """
    return abi_hash(
        ("uint256", "address", "uint64", "bytes32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(market, "market"),
            uint(batch, 64, "batch"),
            bytes32(batch_root, "batch root"),
        ),
    )


def jury_subject(
    chain_id: int, court: Address, dispute: int, batch: int, index: int, vote: bytes
) -> bytes:
    """What a jury judges: H(abi.encode(uint256 chainId, address court, uint64 dispute,
    uint64 batch, uint32 index, bytes32 vote)); vote is the disputed one."""
    return abi_hash(
        ("uint256", "address", "uint64", "uint64", "uint32", "bytes32"),
        (
            uint(chain_id, 256, "chain id"),
            address20(court, "court"),
            uint(dispute, 64, "dispute"),
            uint(batch, 64, "batch"),
            uint(index, 32, "index"),
            bytes32(vote, "vote"),
        ),
    )


def commitment(
    chain_id: int,
    rounds: Address,
    round_id: int,
    subject: bytes,
    verifier: Address,
    attestation: Attestation,
    salt: bytes,
) -> bytes:
    """H(abi.encode(uint256 chainId, address rounds, uint64 round, bytes32 subject,
    address verifier, bytes32 verdictRoot, uint32 units, uint32 faults, bytes32 salt)).

    The chain keeps it without its last bit (see `stored`).
    """
    return abi_hash(
        (
            "uint256",
            "address",
            "uint64",
            "bytes32",
            "address",
            "bytes32",
            "uint32",
            "uint32",
            "bytes32",
        ),
        (
            uint(chain_id, 256, "chain id"),
            address20(rounds, "rounds"),
            uint(round_id, 64, "round"),
            bytes32(subject, "subject"),
            address20(verifier, "verifier"),
            attestation.root,
            attestation.units,
            attestation.faults,
            bytes32(salt, "salt"),
        ),
    )


def sealed_salt(secret: bytes, digest: bytes, codec: int) -> bytes:
    """The salt of a commitment that a relay may open: H(abi.encode(bytes32 secret,
    bytes32 digest, uint8 codec)), digest and codec being the verdict file's CID. Whoever opens it
    with the secret can't name another file."""
    return abi_hash(
        ("bytes32", "bytes32", "uint8"),
        (bytes32(secret, "secret"), bytes32(digest, "content digest"), uint(codec, 8, "codec")),
    )


def common(kept: Sequence[bytes]) -> bytes:
    """What the chain keeps of commitments that one call brought for all seats: the hash of them
    as stored, with its last bit cleared. kept: as stored, in the order of seats."""
    return stored(keccak(b"".join(bytes32(one, "commitment") for one in kept)))


def vote(attestation: Attestation) -> bytes:
    """What revealed votes are counted by: H(abi.encode(bytes32 verdictRoot, uint32 units,
    uint32 faults)) with its last bit set, which tells it from a commitment.
    """
    digest = abi_hash(
        ("bytes32", "uint32", "uint32"),
        (attestation.root, attestation.units, attestation.faults),
    )
    return digest[:-1] + bytes([digest[-1] | 1])


def stored(commitment: bytes) -> bytes:
    """A commitment as the chain keeps it: with its last bit cleared."""
    word = bytes32(commitment, "commitment")
    return word[:-1] + bytes([word[-1] & 0xFE])


def new_salt(randbytes: Callable[[int], bytes]) -> bytes:
    """A fresh 32-byte salt; randbytes is secrets.token_bytes outside tests.

    The salt is all that hides a guessable attestation until the reveal, so a source that gives
    nothing but zeros is refused (InvalidValue).
    """
    salt = bytes32(randbytes(32), "salt")
    if not any(salt):
        raise InvalidValue("the salt is all zeros", fix="use secrets.token_bytes")
    return salt
