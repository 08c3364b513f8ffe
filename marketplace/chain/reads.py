"""MarketReader: everything that can be read from a market, without a key.

All reads are of the latest block. Whole seconds of chain time decide phases, and a node answers
for its latest block: a phase changes with a block, never between two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eth_utils.address import to_checksum_address

from marketplace.chain.blocks import Event
from marketplace.chain.checkpoint_reads import CheckpointReader
from marketplace.chain.records import (
    ZERO_ADDRESS,
    Announced,
    Appeal,
    Assignment,
    Audit,
    Batch,
    BatchPhase,
    Bounty,
    BountyTerms,
    ContentId,
    Dispute,
    DisputePhase,
    Kind,
    Opening,
    OpeningStatus,
    Planting,
    RandomnessStatus,
    Round,
    RoundPhase,
    Seat,
    SeatState,
    Standing,
    Verifier,
)
from marketplace.chain.royalty_reads import RoyaltyReader
from marketplace.chain.rpc import node_errors
from marketplace.chain.sheet_reads import SheetReader
from marketplace.protocol import commitments
from marketplace.protocol.disputes import Children, LeafVerdict, Subtree
from marketplace.protocol.errors import InvalidValue
from marketplace.protocol.hashing import ZERO32, address20, bytes32, uint
from marketplace.protocol.payout import PayRule
from marketplace.protocol.trace import Tier
from marketplace.protocol.verdict import Attestation, SumNode


class MarketReader(CheckpointReader, RoyaltyReader, SheetReader):
    """Typed reads of one deployment; made as a Connection is."""

    # --- money -----------------------------------------------------------------------

    def native_balance(self, account: str) -> int:
        """Wei of the chain's own coin."""
        with node_errors(self._w3):
            return int(self._w3.eth.get_balance(_address(account)))  # type: ignore[arg-type]

    def token_balance(self, account: str) -> int:
        """Tokens that the account itself holds, in base units."""
        return int(self._read("token", "balanceOf", _address(account)))

    def allowance(self, account: str) -> int:
        """Tokens of the account that the ledger may take."""
        spender = self.deployment.address("ledger")
        return int(self._read("token", "allowance", _address(account), spender))

    def balance(self, account: str) -> int:
        """What the account can withdraw from the ledger."""
        return int(self._read("ledger", "balanceOf", _address(account)))

    def held_for(self, module: str) -> int:
        """What the ledger holds for a module: "escrow", "stake", "market", "court" or
        "royalties"."""
        return int(self._read("ledger", "heldFor", self.deployment.address(module)))

    def ledger_tokens(self) -> int:
        """The tokens that the ledger owns: all balances and holdings, and what was given to it."""
        return self.token_balance(self.deployment.address("ledger"))

    # --- environments and bounties -----------------------------------------------------

    def environment_author(self, environment: bytes) -> str | None:
        """Who registered an environment; None where nobody did."""
        return _or_none(self._read("environments", "authorOf", environment))

    def bounty_count(self) -> int:
        """Ids run from 1 to this."""
        return int(self._read("escrow", "count"))

    def bounty(self, bounty: int) -> Bounty:
        poster, available, reserved, terms = self._read("escrow", "get", _id(bounty, "bounty"))
        environment, trainer, deadline, size, tier, rule, price, fee = terms
        return Bounty(
            id=bounty,
            poster=poster,
            available=available,
            reserved=reserved,
            terms=BountyTerms(
                environment=bytes(environment),
                trainer=_or_none(trainer),
                deadline=deadline,
                group_size=size,
                tier=Tier(tier),
                pay_rule=PayRule(rule),
                price_per_unit=price,
                fee_per_trace=fee,
            ),
        )

    def assignment(self, bounty: int, miner: str) -> Assignment | None:
        """A miner's enrolment; None where it never requested one."""
        account = _address(miner)
        seed, point, task = self._read("assignments", "get", _id(bounty, "bounty"), account)
        if point == 0:
            return None
        return Assignment(bounty, account, _or_no_hash(seed), point, task)

    def randomness(self, point: int) -> RandomnessStatus:
        """Whether the randomness of a point (a block number, with drand a beacon round) can be
        read."""
        return RandomnessStatus(self._read("randomness", "statusOf", uint(point, 64, "point")))

    # --- batches ---------------------------------------------------------------------

    def batch_count(self) -> int:
        return int(self._read("market", "count"))

    def batch(self, batch: int) -> Batch:
        market = "market"
        data = self._read(market, "get", _id(batch, "batch"))
        phase = BatchPhase(self._read(market, "phaseOf", batch))
        miner, bounty, count, root, bond, round_, attested_at, rounds, _, task, *rest = data
        agreed, disputes, overturned = rest
        return Batch(
            id=batch,
            phase=phase,
            miner=miner,
            bounty=bounty,
            count=count,
            root=bytes(root),
            bond=bond,
            round=round_,
            rounds=rounds,
            first_task=task,
            attested_at=attested_at or None,
            attestation=_attestation(agreed) if attested_at else None,
            disputes=disputes,
            overturned=overturned,
        )

    def batch_committed(self, batch: int) -> Event:
        """The event of a batch's commit: its content's CID stands nowhere else."""
        rounds = self.rounds_of(batch)
        if rounds:
            # The first round opens with the commit, and the round knows when.
            opened = self.round(rounds[0]).opened_at
            where = {"batch": _id(batch, "batch")}
            for event in self.events_between(opened, opened, "BatchCommitted", where):
                return event
        raise InvalidValue(f"there is no batch {batch}", fix="list the batches")

    def batch_content(self, batch: int) -> ContentId:
        """Where a batch's file is."""
        content = self.batch_committed(batch).args["content"]
        return ContentId(content["digest"], content["codec"])

    def rounds_of(self, batch: int) -> tuple[int, ...]:
        """A batch's rounds, oldest first."""
        return tuple(self._read("market", "roundsOf", _id(batch, "batch")))

    def bond_for(self, bounty: int, traces: int) -> int:
        """The bond of a batch of so many traces."""
        size = uint(traces, 32, "traces")
        return int(self._read("market", "bondFor", _id(bounty, "bounty"), size))

    def subject(self, batch: int) -> bytes:
        """What rounds on this batch vote on."""
        return bytes(self._read("market", "subjectOf", _id(batch, "batch")))

    # --- rounds ----------------------------------------------------------------------

    def round_count(self) -> int:
        return int(self._read("rounds", "count"))

    def round(self, round: int) -> Round:
        data = self._read("rounds", "get", _id(round, "round"))
        phase = RoundPhase(self._read("rounds", "phaseOf", round))
        if phase is RoundPhase.NONE:
            raise InvalidValue(f"there is no round {round}")
        subject, point, opened, drawn, all_in, units, size, seats, committed, revealed, *rest = data
        judged, jury, fresh, previous = rest
        return Round(
            id=round,
            phase=phase,
            subject=bytes(subject),
            draw_point=point,
            opened_at=opened,
            drawn_at=drawn or None,
            all_committed_at=all_in or None,
            max_units=units,
            size=size,
            seats=seats,
            committed=committed,
            revealed=revealed,
            judged=judged,
            jury=jury,
            fresh=fresh,
            previous=previous or None,
        )

    def seat(self, round: int, index: int) -> Seat:
        ident, place = _id(round, "round"), uint(index, 8, "seat")
        verifier, state, vote = self._read("rounds", "seatOf", ident, place)
        if SeatState(state) is SeatState.NONE:
            raise InvalidValue(f"round {round} has no seat {index}")
        return Seat(round, index, verifier, SeatState(state), _or_no_hash(vote))

    def seats(self, round: int) -> tuple[Seat, ...]:
        """The drawn seats of a round; none before the draw."""
        return tuple(self.seat(round, index) for index in range(self.round(round).seats))

    def seat_of(self, round: int, verifier: str) -> Seat | None:
        """A verifier's seat in a round; None where it was not drawn."""
        account = _address(verifier)
        return next((seat for seat in self.seats(round) if seat.verifier == account), None)

    def leader(self, round: int) -> tuple[bytes, int]:
        """The vote with most revealed seats, and how many; (32 zero bytes, 0) where none."""
        vote, votes = self._read("rounds", "leaderOf", _id(round, "round"))
        return bytes(vote), votes

    def leading_attestation(self, round: int) -> Attestation | None:
        """The attestation behind leader(); None where nobody revealed."""
        vote, votes = self.leader(round)
        if votes == 0:
            return None
        for event in self.reveals(round):
            attestation = revealed_attestation(event)
            if commitments.vote(attestation) == vote:
                return attestation
        raise InvalidValue(f"the reveals of round {round} do not hold its leading vote")

    def reveals(self, round: int) -> tuple[Event, ...]:
        """The VerdictRevealed and VerdictsRevealed events of a round."""
        found = self.round(round)
        if found.drawn_at is None:
            return ()
        windows = self.parameters.commit_window + self.parameters.reveal_window
        end = found.drawn_at + windows
        where = {"round": _id(round, "round")}
        alone = self.events_between(found.drawn_at, end, "VerdictRevealed", where)
        return (*alone, *self.events_between(found.drawn_at, end, "VerdictsRevealed", where))

    def announced(self, round: int) -> tuple[Announced, ...]:
        """What the members of a round attested and where they say their verdict files are.
        Nobody vouches that there is such a file: rebuild the tree from what is fetched."""
        found: list[Announced] = []
        for event in self.reveals(round):
            said, places = revealed_attestation(event), event.args["verdicts"]
            if event.name == "VerdictRevealed":
                seat, verifier = event.args["seat"], event.args["verifier"]
                found.append(Announced(round, seat, verifier, said, _place(places)))
                continue
            for one in self.seats(round):  # all of them, at one place or each at its own
                place = places[one.index if len(places) > 1 else 0]
                found.append(Announced(round, one.index, one.verifier, said, _place(place)))
        return tuple(found)

    def verdict_files(self, round: int, attestation: Attestation) -> tuple[ContentId, ...]:
        """Where members of a round that revealed this attestation say their verdicts are."""
        found = [one.content for one in self.announced(round) if one.attestation == attestation]
        return tuple(dict.fromkeys(found))

    def votes_for(self, round: int, attestation: Attestation) -> int:
        """Seats of a round that revealed this attestation."""
        vote = commitments.vote(attestation)
        return int(self._read("rounds", "votesFor", _id(round, "round"), vote))

    def payable_seats(self, round: int) -> int:
        """Seats of a round whose members were not convicted."""
        return int(self._read("rounds", "payableSeats", _id(round, "round")))

    def next_draw(self) -> int | None:
        """The round whose draw is next; None where none is open."""
        return self._read("rounds", "nextDraw") or None

    def drawn_with(self, round: int) -> bytes | None:
        """The randomness (32 bytes) that a round's committee was drawn with; None before that."""
        drawn_at = self.round(round).drawn_at
        if drawn_at is None:
            return None
        where = {"round": _id(round, "round")}
        for event in self.events_between(drawn_at, drawn_at, "RoundDrawn", where):
            return bytes(event.args["randomness"])
        raise InvalidValue(f"round {round} was drawn, but its event is not there")

    def first_drawn_with(self, batch: int) -> bytes | None:
        """The randomness (32 bytes) of a batch's first draw that took place; None before that.
        Nobody could know it when the batch was committed."""
        drawn = map(self.drawn_with, self.rounds_of(batch))
        return next((randomness for randomness in drawn if randomness is not None), None)

    # --- disputes ---------------------------------------------------------------------

    def dispute_count(self) -> int:
        return int(self._read("court", "count"))

    def dispute(self, dispute: int) -> Dispute:
        data = self._read("court", "get", _id(dispute, "dispute"))
        phase = DisputePhase(self._read("court", "phaseOf", dispute))
        challenger, batch, index, jury, bond, decided, juries, kind, standing, *rest = data
        last, _, attestation, paid, wronged, vote, rival, standing_vote = rest
        return Dispute(
            id=dispute,
            phase=phase,
            kind=Kind(kind),
            standing=Standing(standing),
            challenger=challenger,
            batch=batch,
            index=index,
            bond=bond,
            jury=jury or None,
            juries=juries,
            decided_at=decided or None,
            last=last,
            attestation=attestation,
            paid=paid,
            miner_wronged=wronged,
            vote=_or_no_hash(vote),
            rival_vote=_or_no_hash(rival),
            standing_vote=_or_no_hash(standing_vote),
        )

    def disputes_of(self, batch: int) -> tuple[int, ...]:
        """All disputes of a batch, oldest first."""
        rounds = self.rounds_of(batch)
        if not rounds:
            raise InvalidValue(f"there is no batch {batch}", fix="list the batches")
        opened, now = self.round(rounds[0]).opened_at, self.head().timestamp
        where = {"batch": _id(batch, "batch")}
        found = self.events_between(opened, now, "DisputeOpened", where)
        return tuple(event.args["dispute"] for event in found)

    def juries_of(self, dispute: int) -> tuple[int, ...]:
        """The rounds of a dispute's juries, oldest first."""
        found = self.dispute(dispute)
        rounds: list[int] = []
        jury = found.jury
        while jury is not None and len(rounds) < found.juries:
            rounds.append(jury)
            jury = self.round(jury).previous
        return tuple(reversed(rounds))

    def appeals(self, dispute: int) -> tuple[Appeal, ...]:
        """The appeals of a dispute, oldest first."""
        return tuple(
            Appeal(appellant, Standing(against), bond)
            for appellant, against, bond in self._read(
                "court", "appealsOf", _id(dispute, "dispute")
            )
        )

    def dispute_bond(self, batch: int) -> int:
        """The bond of a dispute about a batch."""
        return int(self._read("court", "bondFor", _id(batch, "batch")))

    def appeal_bond(self, dispute: int) -> int:
        """The bond of the next appeal."""
        found = self.dispute(dispute)
        return found.bond << found.juries

    def pool(self) -> int:
        """What the court holds beside the bonds of open disputes."""
        return int(self._read("court", "pool"))

    def opening(self, dispute: int) -> Opening | None:
        """The opening of a withheld tree; None where the dispute never had one."""
        ident = _id(dispute, "dispute")
        status = OpeningStatus(self._read("openings", "statusOf", ident))
        if status is OpeningStatus.NONE:
            return None
        (node, first, size), deadline = self._read("openings", "nodeOf", ident)
        children = verdict = None
        if status is OpeningStatus.ANSWERED:
            children = self._children_open(ident, deadline - self.parameters.opening_window)
        elif status is OpeningStatus.OPENED:
            index, score, reason, units, faults = self._read("openings", "openedOf", ident)
            verdict = LeafVerdict(index, score, reason, units, faults)
        subtree = Subtree(_sum_node(*node), first, size)
        return Opening(dispute, status, subtree, deadline, children, verdict)

    def _children_open(self, dispute: int, answered_at: int) -> Children:
        """The children that were answered last: they stand in an event only."""
        where = {"dispute": dispute}
        found = [*self.events_between(answered_at, answered_at, "NodeAnswered", where)]
        if not found:
            raise InvalidValue(f"the answer in dispute {dispute} is not there")
        left, right = (found[-1].args["children"][side] for side in ("left", "right"))
        return Children(_sum_node(**left), _sum_node(**right))

    # --- audits ------------------------------------------------------------------------

    def planting(self, root: bytes) -> Planting | None:
        """Who planted a root of plantings, and when; None where nobody did."""
        planter, planted_at = self._read("audits", "plantingOf", bytes32(root, "root"))
        return None if planted_at == 0 else Planting(root, planter, planted_at)

    def audit(self, batch: int) -> Audit | None:
        """What came of a planted batch; None where it was not opened as one."""
        planter, index, missed = self._read("audits", "auditOf", _id(batch, "batch"))
        return None if planter == ZERO_ADDRESS else Audit(batch, planter, index, missed)

    # --- verifiers and checkpoints -----------------------------------------------------

    def verifier(self, account: str) -> Verifier:
        """A verifier's stake; all zero where it never staked."""
        address = _address(account)
        stake, unbonding, claimable_at, open_seats, _ = self._read("stake", "get", address)
        return Verifier(
            address=address,
            stake=stake,
            unbonding=unbonding,
            claimable_at=claimable_at if unbonding else None,
            open_seats=open_seats,
            free_seats=self._read("stake", "weightOf", address),
        )

    def eligible_verifiers(self) -> int:
        """Verifiers with at least one free seat."""
        return int(self._read("stake", "eligible"))

    def free_seats(self) -> int:
        """Free seats of all verifiers."""
        return int(self._read("stake", "totalWeight"))


def _place(content: Mapping[str, Any]) -> ContentId:
    return ContentId(content["digest"], content["codec"])


def revealed_attestation(event: Event) -> Attestation:
    """The attestation in a VerdictRevealed, VerdictsRevealed or BatchAttested event."""
    fields = event.args["attestation"]
    return Attestation(fields["verdictRoot"], fields["units"], fields["faults"])


def _attestation(fields: tuple[bytes, int, int]) -> Attestation:
    root, units, faults = fields
    return Attestation(bytes(root), units, faults)


def _sum_node(hash: bytes, units: int, faults: int) -> SumNode:
    return SumNode(bytes(hash), units, faults)


def _address(account: str) -> str:
    return str(to_checksum_address(address20(account, "address")))


def _id(value: int, name: str) -> int:
    return uint(value, 64, name)


def _or_none(address: str) -> str | None:
    return None if address == ZERO_ADDRESS else address


def _or_no_hash(value: bytes) -> bytes | None:
    return None if bytes(value) == ZERO32 else bytes(value)
