"""A relay of votes: takes members' signed commitments and secrets, and brings them on chain, all
of a round (and of several) in one transaction. It pays; members don't.

It can leave a vote out, never change one: what it takes is checked as the contract checks it, so
that one wrong message can't spoil a transaction. It keeps nothing on disk: members say their
votes again until they are on chain, and vote by themselves when half of a window is over.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from threading import Event as Signal
from typing import Any, TypeVar

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from marketplace.chain.carrying import (
    Secret,
    SignedCommit,
    carried_commitments,
    commit_signed,
    reveal_secrets,
    signer_of,
)
from marketplace.chain.client import MarketClient
from marketplace.chain.records import Round, RoundPhase, SeatState
from marketplace.protocol.commitments import commitment, sealed_salt, stored
from marketplace.protocol.errors import ChainError, InvalidValue, TracemarketError
from verifier_node.relay_link import Message

log = logging.getLogger("tracemarket.relay")

LARGEST_BODY = 4096
ROUNDS_A_CALL = 16
"""Rounds of one transaction: about a million gas."""

_Vote = TypeVar("_Vote", SignedCommit, Secret)


class Relay:
    """Votes that wait to be brought; safe to fill from other threads than run_once's.

    hold: share of a window (0 to 1) for which it waits for the members that are missing; then it
    brings what it has. Below the share that members leave to it.
    """

    def __init__(self, client: MarketClient, *, hold: float = 0.25) -> None:
        self._client = client
        self._hold = hold
        self._lock = threading.Lock()
        self._commits: dict[tuple[int, int], SignedCommit] = {}
        self._secrets: dict[tuple[int, int], Secret] = {}

    def take(self, message: Message) -> None:
        """Keeps a vote that the chain would take now. InvalidValue for any other, ChainError where
        the chain can't be asked."""
        deployment = self._client.deployment
        here = (deployment.chain_id, deployment.address("rounds"))
        if (message.chain_id, message.rounds) != here:
            raise InvalidValue(
                f"this relay serves rounds contract {here[1]} on chain {here[0]}, not "
                f"{message.rounds} on {message.chain_id}"
            )
        if message.commit is not None:
            self._take_commit(message.commit.vote())
        elif message.reveal is not None:
            self._take_secret(message.reveal.secret_of())

    def run_once(self) -> int:
        """Brings what is ready; how many votes that was."""
        now = self._client.head().timestamp
        windows = self._client.parameters
        with self._lock:
            commits, secrets = list(self._commits.values()), list(self._secrets.values())
        ready: list[SignedCommit] = []
        for round_, votes in self._rounds(commits):
            if round_.phase is not RoundPhase.COMMITTING:
                self._forget(self._commits, votes)
                continue
            assert round_.drawn_at is not None
            full = round_.committed + len(votes) >= round_.seats
            if full or now - round_.drawn_at >= self._hold * windows.commit_window:
                ready += votes
        open_: list[Secret] = []
        for round_, found in self._rounds(secrets):
            if round_.phase is not RoundPhase.REVEALING:
                self._forget(self._secrets, found)
                continue
            begun = round_.all_committed_at or (round_.drawn_at or 0) + windows.commit_window
            full = round_.revealed + len(found) >= round_.committed
            if full or now - begun >= self._hold * windows.reveal_window:
                open_ += found
        if ready:
            commit_signed(self._client, ready)
            self._forget(self._commits, ready)
            log.info("commits_brought votes=%d", len(ready))
        if open_:
            reveal_secrets(self._client, open_)
            self._forget(self._secrets, open_)
            log.info("reveals_brought votes=%d", len(open_))
        return len(ready) + len(open_)

    def follow(self, stop: Signal, poll: float) -> None:
        """Passes until `stop` is set, `poll` seconds apart; failures are logged and met again."""
        while not stop.is_set():
            try:
                self.run_once()
            except ChainError as error:
                log.error("pass_failed error=%s why=%s", type(error).__name__, error)
            stop.wait(poll)

    def _take_commit(self, vote: SignedCommit) -> None:
        round_ = self._in_phase(vote.round, RoundPhase.COMMITTING)
        seat = self._client.seat(vote.round, vote.seat)
        if seat.state is not SeatState.DRAWN:
            return  # it is on chain
        if vote.commitment != stored(vote.commitment) or not any(vote.commitment):
            raise InvalidValue("the commitment must have its last bit clear, and not be zero")
        signer = signer_of(self._client, round_, vote)
        if signer != seat.verifier:
            raise InvalidValue(
                f"seat {vote.seat} of round {vote.round} is that of {seat.verifier}, and {signer} "
                "signed for it",
                fix="sign with the key that was drawn, for this chain and round",
            )
        with self._lock:
            self._commits[vote.round, vote.seat] = vote

    def _take_secret(self, secret: Secret) -> None:
        round_ = self._in_phase(secret.round, RoundPhase.REVEALING)
        seat = self._client.seat(secret.round, secret.seat)
        if seat.state is SeatState.REVEALED:
            return
        brought = carried_commitments(self._client, round_)
        kept = brought[seat.index] if brought else seat.vote
        place = secret.verdicts
        opened = commitment(
            self._client.deployment.chain_id,
            self._client.deployment.address("rounds"),
            round_.id,
            round_.subject,
            seat.verifier,
            secret.attestation,
            sealed_salt(secret.secret, place.digest, place.codec),
        )
        if kept is None or stored(opened) != kept:
            raise InvalidValue(
                f"this does not open the commitment of seat {secret.seat} of round {secret.round}",
                fix="give the secret behind the sealed salt, and the verdict file's CID",
            )
        sums = secret.attestation.units + secret.attestation.faults
        if sums > round_.max_units:
            raise InvalidValue(f"units and faults add up to {sums}, above {round_.max_units}")
        with self._lock:
            self._secrets[secret.round, secret.seat] = secret

    def _in_phase(self, round_id: int, phase: RoundPhase) -> Round:
        round_ = self._client.round(round_id)
        if round_.phase is not phase:
            raise InvalidValue(
                f"round {round_id} is {round_.phase.name.lower()}, not {phase.name.lower()}"
            )
        return round_

    def _rounds(self, votes: Sequence[_Vote]) -> list[tuple[Round, list[_Vote]]]:
        """Votes by round, oldest rounds first, of those whose seats still wait for them."""
        by_round: dict[int, list[_Vote]] = {}
        for vote in votes:
            by_round.setdefault(vote.round, []).append(vote)
        return [
            (self._client.round(number), by_round[number])
            for number in sorted(by_round)[:ROUNDS_A_CALL]
        ]

    def _forget(self, kept: dict[tuple[int, int], Any], votes: Sequence[Any]) -> None:
        with self._lock:
            for vote in votes:
                if kept.get((vote.round, vote.seat)) == vote:
                    del kept[vote.round, vote.seat]


def create_app(relay: Relay) -> FastAPI:
    """POST /v1/votes: 202 where the vote is kept, 422 with why where it is not."""
    app = FastAPI(title="tracemarket relay", docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/v1/votes", status_code=202)
    async def votes(request: Request) -> JSONResponse:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                return JSONResponse({"error": "a vote is smaller"}, 413)
        try:
            relay.take(Message.model_validate_json(body))
        except ChainError as error:
            return JSONResponse({"error": f"the chain: {error}"}, 503)
        except (TracemarketError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 422)
        return JSONResponse({"kept": True}, 202)

    return app
