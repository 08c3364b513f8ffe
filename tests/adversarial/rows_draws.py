"""Who sits: attempts on the lot."""

from __future__ import annotations

from typing import Final

from arena import LIAR, POSTER, STAKE, TUSD, Arena
from cases import case
from eth_abi.abi import encode
from matrix import Outcome, Ruling, row

from marketplace.protocol.hashing import keccak

DRAWS: Final = 200
FRESH: Final = "newcomer"


def _lot(arena: Arena, value: bytes, size: int) -> list[str]:
    """The members that the contract draws with a value, in the present state; nothing is
    changed."""
    _, owners = arena.view_as("rounds", "stake", "draw", value, size, size, [], False)
    return [arena.name_of(owner) for owner in owners]


def _value(arena: Arena, hash_: bytes, round_: int) -> bytes:
    subject = bytes(arena.round(round_)["subject"])
    return keccak(encode(["bytes32", "uint64", "bytes32"], [hash_, round_, subject]))


def _due(arena: Arena, round_: int) -> list[str]:
    """The point of a round's draw is mined; the committee that is now certain."""
    point = arena.round(round_)["drawPoint"]
    arena.mine(arena.preset.randomness_delay + 1)
    hash_ = bytes(arena.view("randomness", "valueAt", point))
    return _lot(arena, _value(arena, hash_, round_), arena.p.committee_size)


@row("Predicting the draw", "miner", Ruling.CAUGHT)
def predicted_draw(arena: Arena, trial: int) -> Outcome:
    """A miner that wants its friends drawn predicts its committee before it commits, from the
    newest block. The lot uses the hash of a later block: what it predicts is right as often as
    chance."""
    liar = arena.watch(LIAR)
    one = case(arena, LIAR, traces=4)
    round_ = arena.batch(one.batch).round
    newest = arena.node.rpc("eth_getBlockByNumber", "latest", False)["hash"]
    guess = _lot(
        arena, _value(arena, keccak(bytes.fromhex(newest[2:])), round_), arena.p.committee_size
    )
    members = arena.draw(round_)
    truth = one.truth.attestation
    arena.attest(one.batch, truth, truth)
    arena.settle(one.batch)
    right = len(set(guess) & set(members))
    chance = arena.p.committee_size**2 / len(arena.verifiers)
    figures = {"members guessed": right, "by chance": chance}
    return Outcome(guess != members, liar.cost, liar.gain, 0, figures)


@row("Grinding the draw with stake", "verifier", Ruling.CAUGHT)
def ground_draw(arena: Arena, trial: int) -> Outcome:
    """Once the hash is known a verifier stakes or unstakes, so that the lot would fall on it. Both
    calls first make every draw that is due: the committee is the one that was certain before."""
    liar = arena.watch(FRESH)
    one = case(arena, LIAR, traces=4)
    round_ = arena.batch(one.batch).round
    certain = _due(arena, round_)
    outsiders = [who for who in arena.verifiers if who not in certain]
    if trial % 2:
        arena.send(outsiders[0], "stake", "requestUnstake", STAKE)
    else:
        arena.send(FRESH, "stake", "stake", 40 * STAKE)
    members = arena.members(round_)
    return Outcome(members == certain, liar.cost, liar.gain, 0, {"rounds drawn by the call": 1})


@row("A draw left to lapse", "verifiers and keepers", Ruling.CAUGHT)
def lapsed_draw(arena: Arena, trial: int) -> Outcome:
    """Those who dislike the committee don't call for its draw, so that the hash is forgotten and
    another one counts. Any stranger's call within 256 blocks pins it."""
    one = case(arena, LIAR, traces=4)
    liar = arena.watch(LIAR)
    round_ = arena.batch(one.batch).round
    certain = _due(arena, round_)
    arena.mine(200)
    arena.send("stranger", "rounds", "drawDue", 1)
    return Outcome(arena.members(round_) == certain, liar.cost, liar.gain)


@row("A proposer that chooses its block", "block proposer with a quarter of all stake", Ruling.OPEN)
def proposer(arena: Arena, trial: int) -> Outcome:
    """The proposer of the block whose hash decides the lot tries contents until most of the
    committee is its own, which then attests a lie; nobody looks. Price: one block at the right
    height, and the stake of its seats, as for any bribed majority. With drand there is no such
    choice."""
    own = set(arena.verifiers[: len(arena.verifiers) // 4])
    miner, poster = arena.watch(LIAR), arena.watch(POSTER)
    one = case(arena, LIAR)
    round_ = arena.batch(one.batch).round
    point = arena.round(round_)["drawPoint"]
    arena.mine(arena.preset.randomness_delay - 1)
    tries = 0
    while True:
        snapshot = arena.node.snapshot()
        tries += 1
        arena.node.rpc("evm_setNextBlockTimestamp", arena.now + tries)
        arena.mine(2)
        hash_ = bytes(arena.view("randomness", "valueAt", point))
        members = _lot(arena, _value(arena, hash_, round_), arena.p.committee_size)
        if sum(who in own for who in members) > arena.p.committee_size // 2:
            break
        arena.node.revert(snapshot)
    arena.send("keeper", "rounds", "draw", round_)
    signers = arena.watch(*(who for who in members if who in own))
    lie, truth = one.lie.attestation, one.truth.attestation
    arena.attest(one.batch, lambda seat, who: lie if who in own else truth, lie)
    arena.settle(one.batch)
    cost, gain = miner.cost + signers.cost, miner.gain + signers.gain
    return Outcome(False, cost, gain, poster.cost, {"blocks tried": tries})


@row("Sybil stake", "verifier", Ruling.CAUGHT, trials=5)
def sybil_stake(arena: Arena, trial: int) -> Outcome:
    """The same stake on twenty accounts instead of one is drawn no oftener than its share of all
    seats (within the noise of these draws). As one account it would be drawn less often, since
    nobody sits twice in a committee: majorities must be reckoned by seats, not by accounts."""
    amount, size = 20 * arena.p.seat_stake, arena.p.committee_size
    values = [keccak(b"draw %d %d" % (trial, number)) for number in range(DRAWS)]

    def seats(names: list[str]) -> float:
        with arena.aside():
            for name in names:
                arena.send(name, "stake", "stake", amount // len(names))
            leaves = {arena.view("stake", "get", arena.address(name))[4] - 1 for name in names}
            found = [
                len(
                    leaves
                    & set(arena.view_as("rounds", "stake", "draw", value, size, size, [], False))
                )
                for value in values
            ]
        return sum(found) / len(values)

    whole = seats(["whale"])
    split = seats([f"sybil {number}" for number in range(20)])
    others = len(arena.verifiers) * STAKE
    share = size * amount / (others + amount)
    figures = {
        "seats of a draw as one": whole,
        "as twenty": split,
        "by share of stake": share,
        "stake": amount / TUSD,
    }
    return Outcome(split <= share * 1.3, 0, 0, 0, figures)
