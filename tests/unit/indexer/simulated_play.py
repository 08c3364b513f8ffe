"""Random lives of batches and disputes, within the rules of the contracts."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from simulated_batches import HONEST, LIE, USD, Log, account

from marketplace.chain.records import Kind
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation

if TYPE_CHECKING:
    from simulated import SimulatedChain, SimulatedMarket


def play(chain: SimulatedChain, dice: random.Random, blocks: int) -> None:
    """Mine blocks of allowed random actions."""
    for _ in range(blocks):
        chain.mine(*(_action(chain.market, dice, chain) for _ in range(dice.randint(0, 6))))


def _action(market: SimulatedMarket, dice: random.Random, chain: SimulatedChain) -> list[Log]:
    someone = account(dice.randint(1, 8))
    open_batches = [id for id, batch in market.batches.items() if not batch["closed"]]
    kind = dice.choice(["deposit", "withdraw", "commit", "fund", "stake", "checkpoint"])
    if open_batches and dice.random() < 0.7:
        return _advance(market, dice.choice(open_batches), dice)
    if kind == "withdraw" and market.balances.get(someone):
        return market.withdraw(someone, dice.randint(1, market.balances[someone]))
    if kind == "commit" and market.bounties[1]["available"] >= 16 * USD:
        return market.commit(1, account(dice.randint(20, 22)), dice.choice([2, 4]))
    if kind == "fund":
        return market.fund(1, someone, dice.randint(1, 10**30))
    if kind == "stake":
        return market.stake(someone, dice.randint(100, 300) * USD)
    if kind == "checkpoint":
        return market.register_checkpoint(someone, dice.randint(0, market.checkpoints))
    return market.deposit(someone, dice.randint(1, 10**30))


def _advance(market: SimulatedMarket, batch: int, dice: random.Random) -> list[Log]:
    entry = market.batches[batch]
    disputes = [
        id for id, one in market.disputes.items() if one["batch"] == batch and not one["closed"]
    ]
    if disputes and dice.random() < 0.9:
        return _argue(market, dice.choice(disputes), dice)
    if entry["final"] is not None:
        return _answer(market, batch, dice)
    if entry["disputes"]:
        return []
    id = entry["rounds"][-1]
    round = market.rounds[id]
    if not round["seats"]:
        before = entry["rounds"][:-1] if entry["overturned"] else []
        free = _free(market, before)
        if len(free) >= round["size"]:
            return market.draw(id, dice.sample(free, round["size"]))
        return market.void(batch)
    truth = round.setdefault("truth", dice.choice([HONEST, HONEST, LIE, UNAVAILABLE, MALFORMED]))
    if voting := _vote(market, id, dice, [truth, truth, truth, LIE], 2):
        return voting
    votes = list(round["votes"].values())
    if votes[0] == votes[1]:
        return market.attest(batch, votes[0])
    if dice.random() < 0.5 and not round.get("narrowed"):
        round["narrowed"] = True
        return market.dispute(batch, account(30), dice.randint(0, 3), Kind.CONFLICT)
    return market.void(batch) if len(entry["rounds"]) > 2 else market.next_round(batch, 3)


def _answer(market: SimulatedMarket, batch: int, dice: random.Random) -> list[Log]:
    """What may come of an attestation."""
    entry, someone = market.batches[batch], account(dice.randint(30, 32))
    chance = dice.random()
    if entry["final"] in (UNAVAILABLE, MALFORMED):
        kind = Kind.MALFORMED if entry["final"] == MALFORMED else Kind.UNAVAILABLE
        if chance < 0.3 and not entry["disputes"]:
            return market.dispute(batch, someone, 0, kind)
    elif chance < 0.4:
        kind = dice.choice([Kind.LEAF, Kind.LEAF, Kind.OPENING])
        return market.dispute(batch, someone, dice.randint(0, 3), kind)
    elif chance < 0.6:
        return market.prove_fault(batch, someone)
    return [] if entry["disputes"] else market.settle(batch)


def _argue(market: SimulatedMarket, dispute: int, dice: random.Random) -> list[Log]:
    """One step of a dispute."""
    entry = market.disputes[dispute]
    if entry["decided"]:
        if not entry["last"] and dice.random() < 0.4:
            return market.appeal(dispute, account(dice.randint(30, 32)))
        return market.close(dispute)
    if not entry["juries"]:
        if (left := entry.setdefault("moves", dice.randint(0, 3))) > 0:
            entry["moves"] -= 1
            return market.answer(dispute) if left % 2 else market.ask(dispute, 0, left)
        if dice.random() < 0.3:
            return market.conclude_opening(dispute, None)
        return [*market.answer_verdict(dispute, 1), *market.conclude_opening(dispute, 1)]
    id = entry["juries"][-1]
    round = market.rounds[id]
    if not round["seats"]:
        free = _free(market, [*market.batches[entry["batch"]]["rounds"], *entry["juries"]])
        if len(free) <= round["size"] // 2:
            return market.tally_jury(dispute) if dice.random() < 0.5 else []  # stalled, or waits
        return market.draw(id, dice.sample(free, min(len(free), round["size"])))
    said, other = market.claimed(dispute), market.rival(dispute)
    truth = round.setdefault("truth", dice.choice([said, other, other, UNAVAILABLE]))
    if voting := _vote(market, id, dice, [truth, truth, truth, other], 6):
        return voting
    return market.tally_jury(dispute)


def _free(market: SimulatedMarket, before: list[int]) -> list[str]:
    """Verifiers with a free seat that sat in none of these rounds."""
    seat_stake = market.parameters.seat_stake
    sat = {who for id in before for who in market.rounds[id]["seats"]}
    return [
        who
        for who, (stake, seats, _) in market.stakes.items()
        if stake // seat_stake > seats and who not in sat
    ]


def _vote(
    market: SimulatedMarket, id: int, dice: random.Random, say: list[Attestation], most: int
) -> list[Log]:
    """The next commitment or reveal of a round, empty where all have acted. Some stay away, and
    of those who committed only `most` reveal."""
    round = market.rounds[id]
    seats = len(round["seats"])
    started = round.setdefault("started", 0)
    if started < seats and dice.random() < 0.9:
        round["started"] += 1
        return market.commit_verdict(id, started)
    round["started"] = seats
    missing = [seat for seat in sorted(round["committed"]) if seat not in round["votes"]]
    if missing and len(round["votes"]) < most:
        return market.reveal(id, missing[0], dice.choice(say))
    if len(round["votes"]) < 2:  # enough for a batch to be counted
        late = next(seat for seat in range(seats) if seat not in round["votes"])
        return [*market.commit_verdict(id, late), *market.reveal(id, late, dice.choice(say))]
    return []
