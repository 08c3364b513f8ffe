"""Posters that cheat miners, and money that should not move."""

from __future__ import annotations

from arena import DAY, FEE, LIAR, TUSD, VICTIM, Arena
from cases import LARGE, case
from matrix import Outcome, Ruling, row

from marketplace.protocol.verdict import UNAVAILABLE


@row("Refund before the deadline", "poster", Ruling.CAUGHT)
def early_refund(arena: Arena, trial: int) -> Outcome:
    """A poster takes its money back while miners are at work. Not before the deadline; and a
    deadline can neither be moved nor lie beyond a year."""
    bounty = arena.open_bounty(300 * TUSD, poster=LIAR)
    liar = arena.watch(LIAR)
    arena.pass_time(DAY * (trial % 29))
    errors = [
        arena.refusal(LIAR, "escrow", "refund", bounty),
        arena.refusal(LIAR, "escrow", "reserve", bounty, TUSD),
        arena.refusal(LIAR, "escrow", "release", bounty, 0, TUSD),
    ]
    proper = [
        "BountyEscrow_DeadlineNotPassed",
        "BountyEscrow_NotMarket",
        "BountyEscrow_NotMarket",
    ]
    return Outcome(errors == proper, liar.cost, liar.gain)


@row("Refund during a pending batch", "poster", Ruling.CAUGHT)
def pending_refund(arena: Arena, trial: int) -> Outcome:
    """The deadline passes while a batch is being checked, and the poster takes everything back.
    What the batch can cost was reserved at its commit: the refund leaves it, and the miner is
    paid."""
    bounty = arena.open_bounty(400 * TUSD, poster=LIAR, deadline=arena.now + 2 * 3600)
    victim = arena.watch(VICTIM)
    one = case(arena, VICTIM, good=True, bounty=bounty)
    reserved = arena.view("escrow", "get", bounty)[2]
    arena.draw(arena.batch(one.batch).round)
    arena.pass_time(2 * 3600 + 1)
    arena.send(LIAR, "escrow", "refund", bounty)
    again = arena.refusal(LIAR, "escrow", "refund", bounty)
    truth = one.truth.attestation
    arena.attest(one.batch, truth, truth)
    arena.settle(one.batch)
    paid = victim.gain == arena.view("market", "get", one.batch)[10][1] * TUSD // 10
    held = again == "BountyEscrow_NothingToRefund" and reserved == LARGE * (TUSD // 10 + FEE)
    return Outcome(paid and held, 0, 0, victim.cost, {"paid to the miner": victim.gain / TUSD})


@row("Race for the last money of a bounty", "poster that also mines", Ruling.UNPROFITABLE)
def funding_race(arena: Arena, trial: int) -> Outcome:
    """A poster sees a miner's commit coming and has an empty batch of its own reserve the money
    first. The miner's commit is refused before any bond is taken; the poster's batch is
    unavailable, and its checking comes out of its bond. The miner loses no money, but its work
    waits."""
    bounty = arena.open_bounty(300 * TUSD, poster=LIAR)
    arena.enrol(VICTIM, bounty)
    arena.enrol("shill", bounty)
    liar, shill, victim = arena.watch(LIAR), arena.watch("shill"), arena.watch(VICTIM)
    one = case(arena, "shill", bounty=bounty)
    seed = arena.enrol(VICTIM, bounty)
    place = (b"\x22" * 32, 0x55)
    error = arena.refusal(VICTIM, "market", "commitBatch", bounty, b"\x11" * 32, 8, 0, seed, place)
    assert error == "BountyEscrow_InsufficientFunds"
    arena.attest(one.batch, UNAVAILABLE, UNAVAILABLE)
    arena.settle(one.batch)
    return Outcome(False, liar.cost + shill.cost, liar.gain + shill.gain, victim.cost)


@row("Fee too low to be checked for", "poster", Ruling.CAUGHT)
def starved_fee(arena: Arena, trial: int) -> Outcome:
    """A bounty that offers verifiers nothing, so that work lies unchecked until its deadline: no
    batch can be committed to it, so no miner's bond is caught in it."""
    bounty = arena.open_bounty(300 * TUSD, poster=LIAR, fee=arena.p.min_fee_per_trace - 1)
    seed = arena.enrol(VICTIM, bounty)
    victim, liar = arena.watch(VICTIM), arena.watch(LIAR)
    place = (b"\x22" * 32, 0x55)
    error = arena.refusal(VICTIM, "market", "commitBatch", bounty, b"\x11" * 32, 8, 0, seed, place)
    return Outcome(error == "BatchMarket_FeeTooLow", liar.cost, liar.gain, victim.cost)


@row("A batch worth more than a lie costs", "miner", Ruling.CAUGHT)
def too_dear(arena: Arena, trial: int) -> Outcome:
    """One batch so large, or a price so high, that bribing a committee would pay although it is
    caught: more than what a majority surely loses can't be committed."""
    price = TUSD // 10 if trial % 2 else 100 * TUSD
    bounty = arena.open_bounty(9_000 * TUSD, price=price)
    count = 2_504 if trial % 2 else 4
    liar = arena.watch(LIAR)
    seed = arena.enrol(LIAR, bounty)
    place = (b"\x22" * 32, 0x55)
    error = arena.refusal(
        LIAR, "market", "commitBatch", bounty, b"\x11" * 32, count, 0, seed, place
    )
    return Outcome(error == "BatchMarket_BatchTooDear", liar.cost, liar.gain)


@row("A market too thin for a jury", "miner", Ruling.CAUGHT)
def thin_market(arena: Arena, trial: int) -> Outcome:
    """A miner waits until nearly all verifiers have left and only its friends are eligible. Below
    the least number of verifiers nothing is sold."""
    for who in arena.verifiers[arena.p.min_verifiers - 1 :]:
        staked = arena.view("stake", "get", arena.address(who))[0]
        arena.send(who, "stake", "requestUnstake", staked)
    liar = arena.watch(LIAR)
    seed = arena.enrol(LIAR)
    place = (b"\x22" * 32, 0x55)
    error = arena.refusal(
        LIAR, "market", "commitBatch", arena.bounty, b"\x11" * 32, 8, 0, seed, place
    )
    return Outcome(error == "BatchMarket_TooFewVerifiers", liar.cost, liar.gain)


@row("Calls that only modules may make", "stranger", Ruling.CAUGHT)
def foreign_calls(arena: Arena, trial: int) -> Outcome:
    """A stranger credits itself, moves holdings, opens rounds, judges, convicts, overturns, attests
    and closes seats. Every one is refused."""
    one = case(arena, VICTIM, traces=4, good=True)
    liar = arena.watch(LIAR)
    me = arena.address(LIAR)
    vote = (b"\x01" * 32, 0, 0)
    round_ = arena.batch(one.batch).round
    calls = [
        ("ledger", "credit", [me], [TUSD]),
        ("ledger", "shift", arena.deployment.address("court"), TUSD),
        ("ledger", "collect", arena.address(VICTIM), TUSD),
        ("rounds", "open", b"\x01" * 32, 5, 1, 0, False),
        ("rounds", "judge", round_, b"\x01" * 32),
        ("rounds", "convict", round_, b"\x01" * 32, True),
        ("market", "overturn", one.batch, True),
        ("market", "attest", one.batch, vote),
        ("market", "beginDispute", one.batch),
        ("market", "endDispute", one.batch),
        ("escrow", "replenish", arena.bounty, TUSD),
        ("stake", "closeSeats", [0], [TUSD], me, False),
        ("assignments", "take", arena.bounty, me, 1, 0, bytes(32)),
        ("openings", "start", 1, one.batch, me, vote, 4),
    ]
    errors = [arena.refusal(LIAR, *call) for call in calls]
    proper = ("NotModule", "NotOpener", "NotAuthorized", "NotCourt", "NotMarket", "NotRounds")
    caught = all(error is not None and error.endswith(proper) for error in errors)
    return Outcome(caught, liar.cost, liar.gain, 0, {"calls": len(calls)})
