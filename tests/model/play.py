"""Moves of the players, right and wrong ones, from plain numbers: what the test's rules call."""

from __future__ import annotations

from collections.abc import Sequence

import reference_batches as batches
import reference_court as court
import reference_lot as lot
from driven_chain import DrivenChain
from eth_utils.crypto import keccak
from reference import Reference
from reference_court import Claim
from reference_money import MALFORMED, SOUND, UNAVAILABLE, Attestation, Terms
from reference_trees import NO_FAULT, Node, verdicts, walks
from twins import Twins

from marketplace.chain.parameters import Preset

TUSD = 10**6
ACCOUNTS = 26
"""Accounts: a deployer, a poster, two miners, a challenger, a poor one, twenty verifiers."""
ENVIRONMENT = keccak(b"an environment")
USUAL = Preset(
    name="usual",
    committee_size=3,
    max_rounds=3,
    max_juries=3,
    min_verifiers=3,
    draw_timeout=900,
    commit_window=120,
    reveal_window=60,
    challenge_window=300,
    appeal_window=120,
    opening_window=90,
    # Sums that don't divide evenly, so that every rounding shows.
    seat_stake="100.000007",
    absence_bps=501,
    late_bps=2503,
    incoherence_bps=2003,
    fraud_bps=20_001,
    bond_per_trace="6.300001",
    fault_multiple=2,
    wrong_bps=7_001,
    min_fee_per_trace="0.5",
    juror_fee="0.333333",
    max_traces=64,
    randomness_delay=1,
)

NOBODY = "0x" + "00" * 20


def setting(chain: DrivenChain) -> Play:
    """A market with three bounties, two enrolled miners and twenty verifiers. A fee above the bond
    for a trace, one below it, and a price so low that a bond is worth more than its batch."""
    accounts = [one.address.lower() for one in chain.node.accounts]
    twins = Twins(chain, accounts)
    for place, who in enumerate(accounts):
        wallet = 0 if place == 5 else 10**12
        twins.model.ledger.wallets[who] = wallet
        assert chain.send(who, ("token", "mint", [who, wallet])) is None
        assert (
            chain.send(who, ("token", "approve", [chain.addresses["ledger"], 2**256 - 1])) is None
        )
    assert chain.send(accounts[1], ("environments", "register", [ENVIRONMENT])) is None
    twins.model.environments.add(ENVIRONMENT)
    twins.wait(1)
    play = Play(twins)
    now = twins.model.now.time
    bounties = ((10 * TUSD + 1, 6_500_003, 400_000), (10 * TUSD + 1, 500_001, 4_000))
    for price, fee, life in (*bounties, (1, 500_003, 400_000)):
        terms = Terms(ENVIRONMENT, None, now + life, 2, 2, 0, price, fee)
        assert twins.create_bounty(accounts[1], terms, 2_000 * TUSD)
    for bounty in (1, 2, 3):
        for miner in accounts[2:4]:
            assert twins.request(miner, bounty)
            twins.wait(1, blocks=2)
            assert twins.open_assignment(bounty, miner)
    for place, who in enumerate(accounts[6:]):
        assert twins.stake(who, (100 + 75 * (place % 4)) * TUSD + 50)
    twins.keep()
    return play


class Play:
    def __init__(self, twins: Twins) -> None:
        self.twins = twins
        self.accounts = twins.accounts

    @property
    def model(self) -> Reference:
        return self.twins.model

    def go_back(self) -> None:
        self.twins.go_back()

    # --- batches ---------------------------------------------------------------------

    def new_batch(self, miner: int, bounty: int, count: int) -> None:
        self.twins.commit_batch(self.accounts[2 + miner], bounty, count)

    def push_batch(self, batch: int, ballot: Sequence[int], move: int, place: int = 0) -> None:
        """The next natural step of a batch (by its number modulo how many there are)."""
        if not self.model.market.batches:
            return self.new_batch(0, 1, 4)
        twins, model = self.twins, self.model
        batch = batch % len(model.market.batches) + 1
        one, phase = model.market[batch], model.market.phase(batch)
        who = self.accounts[4]
        if phase == batches.IN_ROUND:
            round_phase = model.rounds.phase(one.round)
            if round_phase == lot.STALLED:
                twins.void_stalled(who, batch)
            elif round_phase != lot.CLOSED:
                self.push_round(one.round, self.papers(batch), ballot)
            else:
                self._tally(who, batch, move)
        elif phase == batches.CHALLENGEABLE:
            self._challenge(who, batch, move, place)
        elif phase == batches.SETTLEABLE:
            twins.settle(self.accounts[0], batch)
        elif phase == batches.DISPUTED:
            open_ = [
                i for i, d in enumerate(model.court.disputes) if d.batch == batch and not d.closed
            ]
            self.push_dispute(open_[0], ballot, move)
        return None

    def _tally(self, who: str, batch: int, move: int) -> None:
        model, one = self.model, self.model.market[batch]
        seen = model.rounds[one.round]
        leader = seen.leader[0] or UNAVAILABLE
        if model.market.conflict(batch):
            if move % 3 and self._narrow(who, batch, move):
                return
            if move == 3:
                self.twins.wait(400)
        self.twins.tally(who, batch, leader)

    def _narrow(self, who: str, batch: int, move: int) -> bool:
        """The first verdict on which the leader and another vote differ."""
        forest, seen = self.twins.forests[batch], self.model.rounds[self.model.market[batch].round]
        found = [tree for vote in seen.votes if (tree := forest.attested(vote))]
        sides = [tree for tree in found if tree.attestation == seen.leader[0]]
        sides += [tree for tree in found if tree.attestation != seen.leader[0]]
        if len(sides) < 2 or any(len(verdicts(tree)) != forest.count for tree in sides[:2]):
            return False
        first, second = (verdicts(tree) for tree in sides[:2])
        differ = [i for i in range(forest.count) if first[i] != second[i]]
        place = (differ or [0])[0]
        if move == 5:
            place = (place + 1) % forest.count
        claims = [Claim(tree, forest.count, place) for tree in sides[:2]]
        if move == 7:
            claims.reverse()
        return self.twins.narrow(who, batch, *claims)

    def _challenge(self, who: str, batch: int, move: int, place: int) -> None:
        twins, model = self.twins, self.model
        attested = model.market[batch].attestation
        forest = twins.forests[batch]
        tree = forest.attested(attested)
        if move <= 1:
            twins.wait(self.twins.rules.challenge_window + 1)
        elif tree is None:
            twins.dispute_outcome(who, batch, meant=batch + 1 if move == 7 else None)
        elif move <= 4:
            self.any_leaf(4, batch - 1, place, forest.trees.index(tree), False)
        elif move <= 6:
            twins.demand_opening(who, batch, meant=batch - 1 if move == 6 else None)
        else:
            self._prove(who, batch, tree, place)

    def _prove(self, who: str, batch: int, tree: Node, place: int) -> None:
        ways = list(walks(tree, batch, 0, self.twins.forests[batch].count))
        lies = [turns for turns, fault in ways if fault != NO_FAULT]
        all_ = lies or [turns for turns, _ in ways]
        self.twins.prove_fault(who, batch, tree, all_[place % len(all_)])

    # --- rounds ----------------------------------------------------------------------

    def papers(self, batch: int) -> list[Attestation]:
        trees = self.twins.forests[batch].trees
        found = [tree.attestation for tree in trees]
        return [*found[:3], UNAVAILABLE, MALFORMED, *found[3:]]

    def jury_papers(self, dispute: int) -> list[Attestation]:
        """What jurors may say, the disputed vote first."""
        one = self.model.court[dispute]
        found = [one.vote, one.rival]
        if one.said:
            trees = self.twins.forests[one.batch].trees
            places = [verdicts(tree) for tree in trees]
            found += [said[one.index].vote for said in places if one.index < len(said)]
            found[3:3] = [UNAVAILABLE]
        else:
            found += [SOUND, UNAVAILABLE, MALFORMED]
        return list(dict.fromkeys(vote for vote in found if vote))

    def push_round(self, number: int, papers: Sequence[Attestation], ballot: Sequence[int]) -> None:
        """ballot: for each seat a paper, -1 for an absent member, -2 for one that never reveals."""
        twins, rounds = self.twins, self.model.rounds
        phase = rounds.phase(number)
        if phase == lot.AWAITING:
            twins.wait(1, blocks=2)
        if rounds.phase(number) == lot.DRAWABLE:
            twins.draw(self.accounts[0], number)
            if not rounds[number].drawn_at:
                # Too few verifiers, and there will be no more: it stalls.
                twins.wait(twins.rules.draw_timeout // 2)
            return
        seats = [(place, seat.member) for place, seat in enumerate(rounds[number].seats)]
        if phase == lot.COMMITTING:
            for place, who in seats:
                vote = papers[ballot[place] % len(papers)]
                if ballot[place] != -1 and rounds[number].seats[place].state == lot.DRAWN:
                    twins.commit(who, number, place, twins.hidden(number, who, vote))
            if rounds.phase(number) == lot.COMMITTING:
                twins.wait(twins.rules.commit_window + 1)
        for place, who in seats:
            seat = rounds[number].seats[place]
            if rounds.phase(number) != lot.REVEALING or ballot[place] < 0:
                continue
            vote = papers[ballot[place] % len(papers)]
            if seat.state == lot.COMMITTED:
                twins.reveal(who, number, place, vote)
        if rounds.phase(number) == lot.REVEALING:
            twins.wait(twins.rules.reveal_window + 1)

    # --- disputes --------------------------------------------------------------------

    def push_dispute(self, dispute: int, ballot: Sequence[int], move: int) -> None:
        twins, model = self.twins, self.model
        if not model.court.disputes:
            return self.push_batch(0, [ballot[0]] * 31, 2)
        dispute = dispute % len(model.court.disputes) + 1
        one, phase, who = model.court[dispute], model.court.phase(dispute), self.accounts[4]
        if phase == court.OPENING:
            self._push_opening(dispute, move)
        elif phase == court.IN_JURY:
            round_phase = model.rounds.phase(one.jury)
            if round_phase in (lot.CLOSED, lot.STALLED):
                leader = model.rounds[one.jury].leader[0] or UNAVAILABLE
                twins.tally_jury(who, dispute, leader)
            else:
                self.push_round(one.jury, self.jury_papers(dispute), ballot)
        elif phase == court.APPEALABLE:
            if move % 2:
                twins.appeal(self.accounts[move % 6], dispute, dispute + 1 if move == 7 else None)
            else:
                twins.wait(twins.rules.appeal_window + 1)
        elif phase == court.DECIDED:
            twins.close(self.accounts[0], dispute)
        return None

    def _push_opening(self, dispute: int, move: int) -> None:
        twins, model = self.twins, self.model
        game, status = model.court[dispute].game, model.court.status(dispute)
        assert game is not None
        if move == 7 and status in (court.ASKED, court.ANSWERED):
            twins.wait(twins.rules.opening_window + 1)
        elif status == court.ASKED:
            twins.answer(self.accounts[1], dispute, game.node)
        elif status == court.ANSWERED:
            twins.ask(self.accounts[4], dispute, bool(move & 1))
        else:
            twins.conclude(self.accounts[0], dispute)

    # --- anything --------------------------------------------------------------------

    def any_leaf(self, who: int, batch: int, place: int, tree: int, bad: bool) -> None:
        if not self.model.market.batches:
            return
        batch = batch % len(self.model.market.batches) + 1
        forest = self.twins.forests[batch]
        if not forest.trees:
            return
        said = forest.trees[tree % len(forest.trees)]
        place %= forest.count
        if len(verdicts(said)) != forest.count:
            return
        index = verdicts(said)[place].index
        line = keccak(b"another line") if bad else forest.lines[index]
        self.twins.dispute_leaf(self.accounts[who], batch, said, place, line)

    def any_call(self, who: int, what: int, target: int, tree: int) -> None:
        """target: a batch, round or dispute that may not exist."""
        twins, caller, model = self.twins, self.accounts[who], self.model
        vote = (UNAVAILABLE, MALFORMED, SOUND)[tree % 3]
        match what:
            case 0:
                twins.settle(caller, target)
            case 1:
                twins.void_stalled(caller, target)
            case 2:
                twins.tally(caller, target, vote)
            case 3:
                twins.draw(caller, target)
            case 4:
                twins.draw_due(caller, target)
            case 5:
                twins.tally_jury(caller, target, vote)
            case 6:
                twins.appeal(caller, target)
            case 7:
                twins.close(caller, target)
            case 8:
                twins.conclude(caller, target)
            case _:
                self._any_claim(caller, target, tree)
        assert model is self.model

    def _any_claim(self, caller: str, target: int, tree: int) -> None:
        twins = self.twins
        known = target in twins.forests
        trees = (
            twins.forests[target].trees
            if known
            else twins.forests[1].trees
            if 1 in twins.forests
            else ()
        )
        match tree:
            case 0 | 1 | 2 if trees:
                self.twins.prove_fault(caller, target, trees[tree], [False])
            case 3:
                twins.dispute_outcome(caller, target)
            case 4:
                twins.demand_opening(caller, target)
            case 5:
                twins.ask(caller, target, True)
            case 6 if trees:
                twins.answer(caller, target, trees[0])
            case 7 if known and trees:
                claims = [Claim(trees[i], twins.forests[target].count, 0) for i in (0, 2)]
                twins.narrow(caller, target, *claims)

    def any_vote(self, who: int, target: int, seat: int, what: int) -> None:
        """A commitment or reveal, mostly wrong in one thing."""
        twins, rounds = self.twins, self.model.rounds
        seats = rounds[target].seats if 1 <= target <= len(rounds.rounds) else []
        caller = seats[seat].member if what and seat < len(seats) else self.accounts[who]
        too_many = Attestation(keccak(b"a root"), 60, 10)
        if not seats or what < 2:
            twins.commit(caller, target, seat, keccak(b"something") if what else bytes(31) + b"\1")
        elif what == 2:
            hidden = twins.hidden(target, caller, too_many)
            twins.commit(caller, target, seat, hidden)
        elif what == 3:
            twins.commit(caller, target, seat, twins.hidden(target, caller, SOUND))
        else:
            twins.reveal(caller, target, seat, too_many if what == 4 else SOUND)

    def any_batch(self, who: int, bounty: int, what: int, count: int) -> None:
        caller = self.accounts[2 + who % 3]
        good = 2 + 2 * (who % 3)
        match what:
            case 0:
                self.twins.commit_batch(caller, bounty, count)
            case 1:
                self.twins.commit_batch(caller, bounty, good, skip=1)
            case 2:
                self.twins.commit_batch(caller, bounty, good, seed=keccak(b"a seed"))
            case 3:
                self.twins.commit_batch(caller, bounty, good, root=bytes(32))
            case 4:
                self.twins.commit_batch(caller, bounty, good, codec=0x71)
            case 5:
                self.twins.request(caller, bounty)
            case 6:
                self.twins.open_assignment(bounty, caller)
            case _:
                self.twins.commit_batch(caller, bounty, good)

    def any_money(self, who: int, amount: int, what: int, bounty: int) -> None:
        twins, caller = self.twins, self.accounts[who]
        match what:
            case 0:
                twins.deposit(caller, amount)
            case 1:
                twins.withdraw(caller, self.accounts[(who + 1) % ACCOUNTS], amount)
            case 2:
                target = (NOBODY, self.model.addresses["ledger"])[bounty % 2]
                twins.withdraw(caller, target, amount)
            case 3:
                twins.fund(caller, bounty, amount)
            case 4:
                twins.refund(caller, bounty)
            case 5:
                twins.stake(caller, amount)
            case 6 | 7:
                twins.unstake(caller, amount)
            case 8:
                twins.fund(caller, bounty, amount, meant=bounty + 1)
            case _:
                twins.claim(self.accounts[0], caller)

    def any_bounty(self, who: int, what: int, deadline: int) -> None:
        now = self.model.now.time
        life = (1, 3_000, 366 * 86_400, 366 * 86_400 + 2, -5)[deadline]
        terms = Terms(ENVIRONMENT, None, now + life, 2, 2, 0, 7_000_003, 750_007)
        changes = {
            1: {"environment": keccak(b"another")},
            2: {"price": 0},
            3: {"group_size": 0},
            4: {"group_size": 1, "pay_rule": 1},
            5: {"tier": 0},
            6: {"tier": 1, "trainer": self.accounts[0]},
            7: {"fee": 499_999},
            8: {"price": 200 * TUSD},
        }
        amount = 0 if what == 9 else 300 * TUSD
        self.twins.create_bounty(
            self.accounts[who], terms._replace(**changes.get(what, {})), amount
        )
