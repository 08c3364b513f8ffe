"""A seat's vote: recorded in the journal, then committed, then revealed.

The same for the committee of a batch and for a jury: a round is a round.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable

from marketplace.chain.carrying import Secret, reveal_own
from marketplace.chain.client import MarketClient
from marketplace.chain.records import ContentId, Round, Seat
from marketplace.protocol.commitments import commitment, new_salt, sealed_salt
from marketplace.protocol.errors import RelayError
from marketplace.protocol.verdict import Attestation
from marketplace.storage.cid import Cid
from verifier_node.journal import Journal, Question, Vote
from verifier_node.relay_link import RelayLink

log = logging.getLogger("tracemarket.verifier")


class Voter:
    """One verifier key's votes on one market.

    patience: share of the commit window (0 to 1) during which content that can't be fetched is
    asked for again before the verifier says "unavailable".
    relay: brings this member's votes on chain and pays for them; None votes by itself. The relay
    has `relay_share` of each window (0 to 1): what it has not brought by then the member does
    itself, so that a relay that leaves it out costs it nothing but gas.
    """

    def __init__(
        self,
        client: MarketClient,
        journal: Journal,
        *,
        patience: float = 0.5,
        relay: RelayLink | None = None,
        relay_share: float = 0.5,
        randbytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._client = client
        self._journal = journal
        self._patience = patience
        self._relay = relay
        self._relay_share = relay_share
        self._randbytes = randbytes

    def recorded(self, round_: Round) -> Vote | None:
        """What was decided for this round before, in this process or an earlier one."""
        return self._journal.find(self._question(round_))

    def decide(self, round_: Round, attestation: Attestation, cid: str | None) -> Vote:
        """Records a new vote, durably. cid: where its verdict file is, None where there is none."""
        vote = Vote(attestation, new_salt(self._randbytes), cid)
        self._journal.record(self._question(round_), vote)
        return vote

    def commit(self, round_: Round, seat: Seat, vote: Vote) -> bool:
        """vote: a recorded one. Its salt is sealed with the verdict file's CID: whoever opens the
        commitment can't name another file. Returns whether it went on chain; False where a relay
        was given it, again on each pass."""
        question = self._question(round_)
        digest = commitment(
            question.chain_id,
            question.rounds,
            question.round,
            question.subject,
            question.verifier,
            vote.attestation,
            _sealed(vote),
        )
        assert round_.drawn_at is not None  # it is committing
        if self._relay is not None and self._early(
            round_.drawn_at, self._client.parameters.commit_window
        ):
            try:
                self._relay.commit(self._client, round_, seat, digest)
                return False
            except RelayError as error:
                log.warning("relay_failed round=%d why=%s", round_.id, error)
        self._client.commit_verdict(round_.id, seat.index, digest)
        return True

    def reveal(self, round_: Round, seat: Seat) -> Vote | None:
        """Opens the commitment; None (logged) where this journal did not make it, and where a
        relay was given what opens it."""
        vote = self.recorded(round_)
        if vote is None:
            log.error(
                "salt_missing round=%d fix=run the node with the journal that committed", round_.id
            )
            return None
        secret = Secret(round_.id, seat.index, vote.attestation, vote.salt, _where(vote))
        window = self._client.parameters
        begun = round_.all_committed_at or (round_.drawn_at or 0) + window.commit_window
        if self._relay is not None and self._early(begun, window.reveal_window):
            try:
                self._relay.reveal(self._client, secret)
                return None
            except RelayError as error:
                log.warning("relay_failed round=%d why=%s", round_.id, error)
        reveal_own(self._client, round_, secret)
        return vote

    def _early(self, begun: int, window: int) -> bool:
        """Whether a window is still the relay's."""
        return self._client.head().timestamp - begun < self._relay_share * window

    def must_wait(self, round_: Round, age: float = 0.0) -> bool:
        """Whether it is too early to call content unavailable: it may still be published.

        age: seconds since it was last looked for. What comes before the patience is over must
        have been found.
        """
        assert round_.drawn_at is not None  # it is committing
        waited = self._client.head().timestamp - round_.drawn_at - age
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


def _where(vote: Vote) -> ContentId:
    if vote.cid is None:
        return ContentId(bytes(32), 0)
    cid = Cid.parse(vote.cid)
    return ContentId(cid.digest, cid.codec)


def _sealed(vote: Vote) -> bytes:
    where = _where(vote)
    return sealed_salt(vote.salt, where.digest, where.codec)
