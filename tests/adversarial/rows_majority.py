"""Committees that lie: bribed or lazy, a few or most, watched or not."""

from __future__ import annotations

from arena import (
    LIAR,
    POSTER,
    TUSD,
    VICTIM,
    WATCHER,
    Arena,
    Refused,
    majority,
)
from cases import Case, again, case, close, dispute, jury, node, path_to, root_of
from matrix import Outcome, Ruling, row

from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import (
    MALFORMED,
    UNAVAILABLE,
    Attestation,
    VerdictTree,
)

SOUND = Attestation(keccak(b"tracemarket.outcome.sound"), 0, 0)


class Bribed:
    """A worthless batch, and most of its committee signing what its miner wants."""

    def __init__(self, arena: Arena, lie: Attestation | None = None) -> None:
        self.arena = arena
        self.miner, self.poster, self.watcher = (
            arena.watch(name) for name in (LIAR, POSTER, WATCHER)
        )
        self.case: Case = case(arena)
        self.members = arena.draw(arena.batch(self.case.batch).round)
        size = len(self.members)
        self.signers = arena.watch(*self.members[: size // 2 + 1])
        self.others = arena.watch(*self.members[size // 2 + 1 :])
        self.lie = lie or self.case.lie.attestation
        truth = self.case.truth.attestation
        arena.attest(self.case.batch, majority(self.lie, truth, size), self.lie)

    def outcome(self, caught: bool, **figures: float) -> Outcome:
        """The liars are the miner and the signers."""
        return Outcome(
            caught,
            self.miner.cost + self.signers.cost,
            self.miner.gain + self.signers.gain,
            self.poster.cost + self.watcher.cost + self.others.cost,
            {name.replace("_", " "): value for name, value in figures.items()},
        )

    @property
    def reward(self) -> float:
        return (self.watcher.gain - self.watcher.cost) / TUSD


@row("Bribed minority", "2 of 5 members, with the miner", Ruling.CAUGHT)
def bribed_minority(arena: Arena, trial: int) -> Outcome:
    """Two members sign that a worthless batch is all right. The other three attest the truth; the
    two lose a share of their seats' stake, the miner bears the checking."""
    miner, poster = arena.watch(LIAR), arena.watch(POSTER)
    one = case(arena)
    members = arena.draw(arena.batch(one.batch).round)
    bribed = arena.watch(*members[:2])
    lie, truth = one.lie.attestation, one.truth.attestation
    arena.attest(one.batch, lambda seat, who: lie if seat < 2 else truth, truth)
    arena.settle(one.batch)
    units = arena.batch(one.batch).attestation[1]
    cost, gain = miner.cost + bribed.cost, miner.gain + bribed.gain
    return Outcome(units == 0, cost, gain, poster.cost)


@row("Bribed majority, one verdict disputed", "3 of 5 members, with the miner", Ruling.CAUGHT)
def bribed_majority(arena: Arena, trial: int) -> Outcome:
    """A watcher names one leaf; a jury that did not sit before re-checks that trace. The
    attestation falls, its signers lose twice their seats' stake, a fresh committee pays nothing."""
    told = Bribed(arena)
    index = trial * 97 % told.case.count
    ident = dispute(arena, WATCHER, told.case, index)
    jury(arena, ident, told.case.juror(index), told.case.juror(index))
    close(arena, ident)
    again(arena, told.case)
    fell = arena.batch(told.case.batch).overturned == 1
    return told.outcome(fell, earned_by_the_watcher=told.reward)


@row("Bribed majority that withholds its tree", "3 of 5 members, with the miner", Ruling.CAUGHT)
def bribed_majority_withheld(arena: Arena, trial: int) -> Outcome:
    """The signers publish no verdict file, so nobody can name a leaf. A watcher demands the opening
    of the tree; in even trials they never answer, in odd ones they fall silent on the way down."""
    told = Bribed(arena)
    batch = told.case.batch
    done = arena.send(WATCHER, "court", "demandOpening", batch, arena.attested(batch))
    ident = done.event("DisputeOpened")["dispute"]
    if trial % 2:
        path, rights = path_to(told.case.lie, 5)
        for children, right in list(zip(path, rights, strict=True))[:3]:
            arena.send(LIAR, "openings", "answer", ident, children)
            arena.send(WATCHER, "openings", "ask", ident, right)
    arena.pass_time(arena.p.opening_window + 1)
    arena.send("keeper", "court", "concludeOpening", ident)
    close(arena, ident)
    again(arena, told.case)
    fell = arena.batch(told.case.batch).overturned == 1
    return told.outcome(fell, earned_by_the_watcher=told.reward)


@row("Bribed majority that opens its tree", "3 of 5 members, with the miner", Ruling.CAUGHT)
def bribed_majority_opened(arena: Arena, trial: int) -> Outcome:
    """As above, but the signers answer each move: the game ends on one verdict, and the jury
    decides it."""
    told = Bribed(arena)
    batch = told.case.batch
    done = arena.send(WATCHER, "court", "demandOpening", batch, arena.attested(batch))
    ident = done.event("DisputeOpened")["dispute"]
    index = trial * 131 % told.case.count
    path, rights = path_to(told.case.lie, index)
    for children, right in zip(path, rights, strict=True):
        arena.send(LIAR, "openings", "answer", ident, children)
        arena.send(WATCHER, "openings", "ask", ident, right)
    verdict = told.case.verdict(index, true=False)
    arena.send(LIAR, "openings", "answerVerdict", ident, told.case.batch, verdict)
    arena.send("keeper", "court", "concludeOpening", ident)
    jury(arena, ident, told.case.juror(index), told.case.juror(index))
    close(arena, ident)
    again(arena, told.case)
    fell = arena.batch(told.case.batch).overturned == 1
    return told.outcome(fell, moves=len(path) + 1, earned_by_the_watcher=told.reward)


@row("Bribed majority with a false sum", "3 of 5 members, with the miner", Ruling.CAUGHT)
def false_sum(arena: Arena, trial: int) -> Outcome:
    """Every verdict is true, only the units at the root are not. Two nodes prove it on chain, with
    no vote and no bond."""
    probe = arena.view("market", "count") + 1
    truth = Case(probe, 2_496, False, None).truth  # type: ignore[arg-type]
    told = Bribed(arena, Attestation(truth.attestation.root, 2_496, 0))
    opened = (path_to(truth, 0)[0][:1], [], False, 0, (0, 0, 0, 0, 0))
    arena.send(WATCHER, "court", "proveFault", told.case.batch, opened)
    again(arena, told.case)
    return told.outcome(
        arena.batch(told.case.batch).overturned == 1, earned_by_the_watcher=told.reward
    )


@row(
    "Bribed majority with a verdict counted twice", "3 of 5 members, with the miner", Ruling.CAUGHT
)
def duplicate_index(arena: Arena, trial: int) -> Outcome:
    """The tree of a batch with one right trace holds that trace's verdict everywhere. The second
    one stands at an index that is not its own: its path proves it on chain."""
    batch = arena.view("market", "count") + 1
    right = Case(batch, 2_496, True, None)  # type: ignore[arg-type]
    leaf = right.truth._levels[0][0]
    tree = VerdictTree([leaf] * right.count)
    told = Bribed(arena, tree.attestation)
    index = 1 + trial * 53 % (right.count - 1)
    path, rights = path_to(tree, index)
    opened = (path, rights, True, batch, right.verdict(0, true=True))
    arena.send(WATCHER, "court", "proveFault", batch, opened)
    again(arena, told.case)
    return told.outcome(arena.batch(batch).overturned == 1, earned_by_the_watcher=told.reward)


@row("Bribed majority, nobody looks", "3 of 5 members, with the miner", Ruling.OPEN)
def bribed_majority_unwatched(arena: Arena, trial: int) -> Outcome:
    """The same lie, and nobody disputes it within the window: it is paid, and the two honest
    members lose what incoherence costs. Price: the signers' stake is at the mercy of anybody who
    re-checks a trace, and no batch may be worth more than what a majority is sure to lose."""
    told = Bribed(arena)
    arena.settle(told.case.batch)
    staked = sum(
        told.arena.view("stake", "get", arena.address(who))[0] for who in told.signers.names
    )
    return told.outcome(False, stake_of_the_signers=staked / TUSD)


@row("All stake lies through all appeals", "every verifier, with the miner", Ruling.OPEN, trials=5)
def all_stake(arena: Arena, trial: int) -> Outcome:
    """Committee, jury and appeal jury are bribed: nobody is left to draw. The lie is paid, and the
    watcher loses its bonds. Price: whoever does it must own or bribe every seat of the market,
    whose stake is measured here, and its worth with it."""
    miner, poster, watcher = (arena.watch(name) for name in (LIAR, POSTER, WATCHER))
    all_of_them = arena.watch(*arena.verifiers)
    one = case(arena)
    lie, leaf = one.lie.attestation, one.false_juror(0)
    arena.attest(one.batch, lie, lie)
    ident = dispute(arena, WATCHER, one, 0)
    jury(arena, ident, leaf, leaf)
    arena.send(WATCHER, "court", "appeal", ident, arena.decision(ident))
    jury(arena, ident, leaf, leaf)
    close(arena, ident)
    arena.settle(one.batch)
    staked = sum(arena.view("stake", "get", arena.address(who))[0] for who in arena.verifiers)
    return Outcome(
        False,
        miner.cost + all_of_them.cost,
        miner.gain + all_of_them.gain,
        poster.cost + watcher.cost,
        {"stake of all": staked / TUSD},
    )


@row("Lazy majority, nobody looks", "3 of 5 members", Ruling.OPEN)
def lazy_unwatched(arena: Arena, trial: int) -> Outcome:
    """Three members sign "all right" without looking, as for every batch; this one is worthless,
    and nobody disputes it. They earn the fee of honest checking. Price: see the next row."""
    poster = arena.watch(POSTER)
    one = case(arena, VICTIM)
    members = arena.draw(arena.batch(one.batch).round)
    lazy = arena.watch(*members[:3])
    lie = one.lie.attestation
    arena.attest(one.batch, majority(lie, one.truth.attestation, len(members)), lie)
    arena.settle(one.batch)
    return Outcome(False, lazy.cost, lazy.gain, poster.cost)


@row(
    "Lazy majority, one batch in five planted", "3 of 5 members", Ruling.CAUGHT, trials=6, deep=True
)
def lazy_audited(arena: Arena, trial: int) -> Outcome:
    """Of five batches like any other one holds a trace whose verdict its planter knows. Three of
    each committee sign without looking. The planter disputes that verdict, opens the planting, and
    gets its fees back; what the lazy ones earn from the other four is less than what they lose."""
    planter = arena.watch(WATCHER, "planter")
    bounty = arena.open_bounty(1_600 * TUSD, poster=WATCHER)
    trap_at, cost, gain, missed = trial % 5, 0, 0, False
    salt = keccak(b"trap")
    for place in range(5):
        good = place != trap_at
        if not good:
            number = arena.view("market", "count") + 1
            known = Case(number, 2_496, False, None)  # type: ignore[arg-type]
            planted = known.verdict(7, true=True)
            root = root_of(arena, "planter", bounty, 2_496)
            leaf = arena.view("audits", "leafOf", root, planted, salt)
            arena.send("planter", "audits", "plant", leaf)
            arena.pass_time(60)
        one = case(arena, "planter", bounty=bounty, good=good)
        members = arena.draw(arena.batch(one.batch).round)
        lazy = arena.watch(*members[:3])
        signed = one.truth.attestation if good else one.lie.attestation
        arena.attest(one.batch, majority(signed, one.truth.attestation, len(members)), signed)
        if not good:
            proof = [node(sibling) for sibling in one.lie.proof(7)]
            lie = one.verdict(7, true=False)
            arena.send("planter", "audits", "open", one.batch, planted, salt, leaf, [], lie, proof)
            missed = arena.view("audits", "auditOf", one.batch)[2]
            ident = dispute(arena, "planter", one, 7)
            jury(arena, ident, one.juror(7), one.juror(7))
            close(arena, ident)
            again(arena, one)
        else:
            arena.settle(one.batch)
        cost, gain = cost + lazy.cost, gain + lazy.gain
    change = (planter.gain - planter.cost) / TUSD
    return Outcome(missed and gain <= cost, cost, gain, 0, {"change of the planter": change})


@row("Good content called unavailable", "3 of 5 members", Ruling.UNPROFITABLE)
def false_unavailable(arena: Arena, trial: int) -> Outcome:
    """A majority answers "unavailable" to be paid without work. The miner disputes the outcome; a
    jury reads the content, a fresh committee pays the batch. Nobody is convicted, since content may
    come late: the members lose what absence costs, the miner what the jurors are paid."""
    victim = arena.watch(VICTIM)
    one = case(arena, VICTIM, good=True)
    with arena.aside():
        arena.attest(one.batch, one.truth.attestation, one.truth.attestation)
        arena.settle(one.batch)
        alone = victim.gain - victim.cost
    members = arena.draw(arena.batch(one.batch).round)
    idle = arena.watch(*members[:3])
    arena.attest(one.batch, majority(UNAVAILABLE, one.truth.attestation, len(members)), UNAVAILABLE)
    ident = _outcome_dispute(arena, one)
    jury(arena, ident, SOUND, SOUND)
    close(arena, ident)
    again(arena, one)
    harm = alone - (victim.gain - victim.cost)
    return Outcome(False, idle.cost, idle.gain, max(0, harm))


@row("Good content called malformed", "3 of 5 members", Ruling.CAUGHT)
def false_malformed(arena: Arena, trial: int) -> Outcome:
    """A majority calls a sound batch malformed, to cost its miner the bond. That is a fact that
    everybody sees alike: the jury finds it sound, and the signers are convicted. The miner gets its
    bond back and is paid."""
    victim = arena.watch(VICTIM)
    one = case(arena, VICTIM, good=True)
    members = arena.draw(arena.batch(one.batch).round)
    liars = arena.watch(*members[:3])
    arena.attest(one.batch, majority(MALFORMED, one.truth.attestation, len(members)), MALFORMED)
    ident = _outcome_dispute(arena, one)
    jury(arena, ident, SOUND, SOUND)
    close(arena, ident)
    again(arena, one)
    return Outcome(arena.batch(one.batch).overturned == 1, liars.cost, liars.gain, victim.cost)


def _outcome_dispute(arena: Arena, one: Case) -> int:
    done = arena.send(VICTIM, "court", "disputeOutcome", one.batch, arena.attested(one.batch))
    return int(done.event("DisputeOpened")["dispute"])


@row("Stake withdrawn in time", "3 of 5 members, with the miner", Ruling.CAUGHT)
def stake_withdrawn(arena: Arena, trial: int) -> Outcome:
    """The signers ask for all of their free stake back as soon as they have voted, and try to claim
    it before the dispute ends. Unbonding stake stays within reach, for longer than any dispute."""
    told = Bribed(arena)
    with arena.aside():
        ident = dispute(arena, WATCHER, told.case, 3)
        jury(arena, ident, told.case.juror(3), told.case.juror(3))
        close(arena, ident)
        staying = told.signers.cost
    refused = []
    for who in told.signers.names:
        staked, _, _, seats, _ = arena.view("stake", "get", arena.address(who))
        free = staked - seats * arena.p.seat_stake
        arena.send(who, "stake", "requestUnstake", free)
        refused.append(arena.refusal(who, "stake", "requestUnstake", 1))
    ident = dispute(arena, WATCHER, told.case, 3)
    jury(arena, ident, told.case.juror(3), told.case.juror(3))
    arena.pass_time(arena.p.appeal_window + 1)
    for who in told.signers.names:
        refused.append(arena.refusal(who, "stake", "claim", arena.address(who)))
    arena.send("keeper", "court", "close", ident)
    again(arena, told.case)
    held = {"VerifierStake_InsufficientFreeStake", "VerifierStake_StillUnbonding"}
    kept = set(refused) == held and arena.batch(told.case.batch).overturned == 1
    return told.outcome(kept and told.signers.cost == staying > 0)


@row("Slash to oneself", "3 of 5 members, with miner and challenger", Ruling.CAUGHT)
def slash_to_oneself(arena: Arena, trial: int) -> Outcome:
    """The signers' own accomplice challenges first, to keep the challenger's share in the family.
    It gets no more than what checking one seat's part of the batch would have paid."""
    accomplice = arena.watch("accomplice")
    told = Bribed(arena)
    ident = dispute(arena, "accomplice", told.case, 0)
    try:
        dispute(arena, WATCHER, told.case, 0)
        second = True
    except Refused:
        second = False
    jury(arena, ident, told.case.juror(0), told.case.juror(0))
    close(arena, ident)
    again(arena, told.case)
    family = told.outcome(not second)
    return Outcome(
        family.caught,
        family.cost + accomplice.cost,
        family.gain + accomplice.gain,
        family.harm,
        {"back in the family": (accomplice.gain - accomplice.cost) / TUSD},
    )
