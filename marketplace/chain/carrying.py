"""Votes that somebody else brings on chain: members sign, a relay pays one transaction for all.

A member signs its commitment (EIP-712, bound to chain, rounds contract, round, subject and the
end of the commit window) and later gives what opens it. The commitment must be made with a
sealed salt (protocol.commitments.sealed_salt): then a relay can't change where the verdict file
is. A relay can leave a vote out, never change one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from eth_account import Account
from eth_account.messages import encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature, ValidationError

from marketplace.chain.blocks import Sent
from marketplace.chain.client import MarketClient
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import ContentId, Round
from marketplace.protocol import commitments
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import ZERO32, bytes32
from marketplace.protocol.verdict import Attestation

_TYPES: Final = {
    "Vote": [
        {"name": "round", "type": "uint64"},
        {"name": "subject", "type": "bytes32"},
        {"name": "commitment", "type": "bytes32"},
        {"name": "until", "type": "uint64"},
    ]
}


@dataclass(frozen=True, slots=True)
class SignedCommit:
    """commitment: as stored. signature: 64 bytes in the short form of EIP-2098."""

    round: int
    seat: int
    commitment: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Secret:
    """What opens one seat's commitment for anybody. verdicts: CID of the verdict file."""

    round: int
    seat: int
    attestation: Attestation
    secret: bytes
    verdicts: ContentId


_Vote = TypeVar("_Vote", SignedCommit, Secret)


def sign_commit(
    reader: MarketReader, account: LocalAccount, round_: Round, seat: int, commitment: bytes
) -> SignedCommit:
    """A member's commitment for a relay. round_: a drawn one."""
    kept = commitments.stored(commitment)
    signed = account.sign_typed_data(_domain(reader), _TYPES, _message(reader, round_, kept))
    short = signed.r.to_bytes(32, "big") + (signed.s | (signed.v - 27) << 255).to_bytes(32, "big")
    return SignedCommit(round_.id, seat, kept, short)


def signer_of(reader: MarketReader, round_: Round, vote: SignedCommit) -> str | None:
    """Who signed a commitment for this round (a drawn one); None for what is no signature."""
    if len(vote.signature) != 64:
        return None
    message = _message(reader, round_, commitments.stored(vote.commitment))
    signable = encode_typed_data(_domain(reader), _TYPES, message)
    r, top = vote.signature[:32], int.from_bytes(vote.signature[32:], "big")
    s = (top & ((1 << 255) - 1)).to_bytes(32, "big")
    try:
        return str(Account.recover_message(signable, signature=r + s + bytes([27 + (top >> 255)])))
    except (BadSignature, ValidationError, ValueError):
        return None


def carried_commitments(reader: MarketReader, round_: Round) -> tuple[bytes, ...]:
    """All seats' commitments of a round where one call brought them; else none."""
    if round_.drawn_at is None or round_.committed != round_.seats or round_.seats == 0:
        return ()
    end = round_.drawn_at + reader.parameters.commit_window
    where = {"round": round_.id}
    for event in reader.events_between(round_.drawn_at, end, "VerdictsCommitted", where):
        return tuple(map(bytes, event.args["commitments"]))
    return ()


def commit_signed(client: MarketClient, votes: Iterable[SignedCommit]) -> Sent:
    """Brings signed commitments of any number of rounds in one transaction. What was committed
    meanwhile is left as it is."""
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for round_id, given in _by_round(votes).items():
        places: list[tuple[bytes, bytes, bytes]] = [(ZERO32, ZERO32, ZERO32)] * client.round(
            round_id
        ).seats
        for vote in given:
            if vote.seat >= len(places):
                raise InvalidValue(f"round {round_id} has no seat {vote.seat}")
            places[vote.seat] = (vote.commitment, vote.signature[:32], vote.signature[32:])
        calls.append(("commitVerdicts", (round_id, places)))
    return client.send_rounds("commit_signed", calls)


def reveal_secrets(client: MarketClient, secrets: Iterable[Secret]) -> Sent:
    """Opens commitments of any number of rounds in one transaction: a round's together where all
    its commitments came in one call and say the same, else seat by seat. What was revealed
    meanwhile is left as it is."""
    calls: list[tuple[str, tuple[Any, ...]]] = []
    for round_id, given in _by_round(secrets).items():
        round_ = client.round(round_id)
        brought = carried_commitments(client, round_)
        attested = {one.attestation for one in given}
        if brought and len(given) == round_.seats and len(attested) == 1:
            places = [(one.verdicts.digest, one.verdicts.codec) for one in given]
            said = _attested(given[0].attestation)
            same = places[:1] if len(set(places)) == 1 else places
            calls.append(("revealVerdicts", (round_id, said, [one.secret for one in given], same)))
            continue
        for one in given:
            calls.append(("revealFor", _opening(one, brought)))
    return client.send_rounds("reveal_secrets", calls)


def reveal_own(client: MarketClient, round_: Round, secret: Secret) -> Sent:
    """Opens the signer's own commitment, however it came on chain."""
    brought = carried_commitments(client, round_)
    return client.send_rounds("reveal_verdict", [("revealFor", _own(secret, brought))])


def _own(one: Secret, brought: Sequence[bytes]) -> tuple[Any, ...]:
    # The member itself gives the salt, and keeps the secret.
    salt = commitments.sealed_salt(one.secret, one.verdicts.digest, one.verdicts.codec)
    round_id, seat, said, _, verdicts, listed = _opening(one, brought)
    return round_id, seat, said, salt, verdicts, listed


def _opening(one: Secret, brought: Sequence[bytes]) -> tuple[Any, ...]:
    return (
        one.round,
        one.seat,
        _attested(one.attestation),
        bytes32(one.secret, "secret"),
        (one.verdicts.digest, one.verdicts.codec),
        list(brought),
    )


def _attested(attestation: Attestation) -> tuple[bytes, int, int]:
    return attestation.root, attestation.units, attestation.faults


def _by_round(votes: Iterable[_Vote]) -> dict[int, list[_Vote]]:
    found: dict[int, list[_Vote]] = defaultdict(list)
    for vote in sorted(votes, key=lambda one: (one.round, one.seat)):
        found[vote.round].append(vote)
    return found


def _domain(reader: MarketReader) -> dict[str, Any]:
    return {
        "name": "tracemarket rounds",
        "version": "1",
        "chainId": reader.deployment.chain_id,
        "verifyingContract": reader.deployment.address("rounds"),
    }


def _message(reader: MarketReader, round_: Round, kept: bytes) -> dict[str, Any]:
    if round_.drawn_at is None:
        raise InvalidValue(f"round {round_.id} is not drawn: there is nothing to vote on")
    return {
        "round": round_.id,
        "subject": round_.subject,
        "commitment": kept,
        "until": round_.drawn_at + reader.parameters.commit_window,
    }
