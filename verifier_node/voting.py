"""A seat's vote: recorded in the journal, then committed, then revealed.

The same for the committee of a batch and for a jury: a round is a round.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from marketplace.chain.client import MarketClient
from marketplace.chain.records import ContentId, Round, Seat
from marketplace.protocol.commitments import commitment, new_salt
from marketplace.protocol.verdict import Attestation
from marketplace.storage.cid import Cid
from verifier_node.journal import Journal, Question, Vote

log = logging.getLogger("tracemarket.verifier")


class Voter:
    """One verifier key's votes on one market.

    patience: share of the commit window (0 to 1) during which content that can't be fetched is
    asked for again before the verifier says "unavailable".
    """

    def __init__(
        self,
        client: MarketClient,
        journal: Journal,
        *,
        patience: float = 0.5,
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._client = client
        self._journal = journal
        self._patience = patience
        self._randbytes = randbytes

    def recorded(self, round_: Round) -> Vote | None:
        """What was decided for this round before, in this process or an earlier one."""
        return self._journal.find(self._question(round_))

    def decide(self, round_: Round, attestation: Attestation, cid: str | None) -> Vote:
        """Records a new vote, durably. cid: where its verdict file is, None where there is none."""
        vote = Vote(attestation, new_salt(self._randbytes), cid)
        self._journal.record(self._question(round_), vote)
        return vote

    def commit(self, round_: Round, seat: Seat, vote: Vote) -> None:
        """vote: a recorded one."""
        question = self._question(round_)
        digest = commitment(
            question.chain_id,
            question.rounds,
            question.round,
            question.subject,
            question.verifier,
            vote.attestation,
            vote.salt,
        )
        self._client.commit_verdict(round_.id, seat.index, digest)

    def reveal(self, round_: Round, seat: Seat) -> Vote | None:
        """Opens the commitment; None (logged) where this journal did not make it."""
        vote = self.recorded(round_)
        if vote is None:
            log.error(
                "salt_missing round=%d fix=run the node with the journal that committed", round_.id
            )
            return None
        where = ContentId(bytes(32), 0)
        if vote.cid is not None:
            cid = Cid.parse(vote.cid)
            where = ContentId(cid.digest, cid.codec)
        self._client.reveal_verdict(round_.id, seat.index, vote.attestation, vote.salt, where)
        return vote

    def must_wait(self, round_: Round) -> bool:
        """Whether it is too early to call content unavailable: it may still be published."""
        assert round_.drawn_at is not None  # it is committing
        waited = self._client.head().timestamp - round_.drawn_at
        return waited < self._patience * self._client.parameters.commit_window

    def _question(self, round_: Round) -> Question:
        deployment = self._client.deployment
        return Question(
            deployment.chain_id,
            deployment.address("rounds"),
            round_.id,
            round_.subject,
            self._client.address,
        )
