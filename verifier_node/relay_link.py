"""What members and a relay of votes say to each other, and a member's way to its relay.

One POST of one JSON object, {"commit": {...}} or {"reveal": {...}}: hashes and signatures are 0x
hex. A member says it again on every pass until the vote is on chain, so a relay keeps nothing on
disk.
"""

from __future__ import annotations

from typing import Annotated, Any

import httpx
from eth_account.signers.local import LocalAccount
from pydantic import BaseModel, ConfigDict, StringConstraints, model_validator

from marketplace.chain.carrying import Secret, SignedCommit, sign_commit
from marketplace.chain.reads import MarketReader
from marketplace.chain.records import ContentId, Round, Seat
from marketplace.protocol.errors import RelayError
from marketplace.protocol.verdict import Attestation

_Hex32 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{64}$")]
_Hex64 = Annotated[str, StringConstraints(pattern=r"^0x[0-9a-f]{128}$")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CommitBody(_Body):
    round: int
    seat: int
    commitment: _Hex32
    signature: _Hex64

    def vote(self) -> SignedCommit:
        return SignedCommit(self.round, self.seat, _bytes(self.commitment), _bytes(self.signature))


class RevealBody(_Body):
    round: int
    seat: int
    root: _Hex32
    units: int
    faults: int
    secret: _Hex32
    digest: _Hex32
    codec: int

    def secret_of(self) -> Secret:
        """InvalidValue for an attestation that there can't be."""
        attestation = Attestation(_bytes(self.root), self.units, self.faults)
        place = ContentId(_bytes(self.digest), self.codec)
        return Secret(self.round, self.seat, attestation, _bytes(self.secret), place)


class Message(_Body):
    """chain_id, rounds: which deployment it is about."""

    chain_id: int
    rounds: str
    commit: CommitBody | None = None
    reveal: RevealBody | None = None

    @model_validator(mode="after")
    def _one(self) -> Message:
        if (self.commit is None) == (self.reveal is None):
            raise ValueError("a message is a commit or a reveal")
        return self


class RelayLink:
    """A member's relay at `url`. timeout: seconds for one message; the member's pass waits."""

    def __init__(self, url: str, signer: LocalAccount, *, timeout: float = 5.0) -> None:
        self._signer = signer
        self._http = httpx.Client(base_url=url, timeout=timeout, trust_env=False)

    def commit(self, reader: MarketReader, round_: Round, seat: Seat, commitment: bytes) -> None:
        """Sign a commitment (recorded before) and give it away. Raises RelayError."""
        vote = sign_commit(reader, self._signer, round_, seat.index, commitment)
        body = CommitBody(
            round=vote.round,
            seat=vote.seat,
            commitment=_hex(vote.commitment),
            signature=_hex(vote.signature),
        )
        self._post(reader, commit=body)

    def reveal(self, reader: MarketReader, secret: Secret) -> None:
        """Give away what opens a commitment; only once the round is revealing. Raises
        RelayError."""
        body = RevealBody(
            round=secret.round,
            seat=secret.seat,
            root=_hex(secret.attestation.root),
            units=secret.attestation.units,
            faults=secret.attestation.faults,
            secret=_hex(secret.secret),
            digest=_hex(secret.verdicts.digest),
            codec=secret.verdicts.codec,
        )
        self._post(reader, reveal=body)

    def _post(self, reader: MarketReader, **body: Any) -> None:
        deployment = reader.deployment
        message = Message(chain_id=deployment.chain_id, rounds=deployment.address("rounds"), **body)
        try:
            answer = self._http.post("/v1/votes", json=message.model_dump(exclude_none=True))
        except httpx.HTTPError as error:
            raise RelayError(f"the relay does not answer ({type(error).__name__})") from error
        if answer.status_code != 202:
            raise RelayError(f"the relay refused a vote: {answer.status_code} {answer.text[:200]}")


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text[2:])
