"""Abuse of the court: disputes that are not meant."""

from __future__ import annotations

from arena import LIAR, TUSD, VICTIM, WATCHER, Arena
from cases import Case, again, case, close, dispute, jury, node, path_to
from matrix import Outcome, Ruling, row
from rows_majority import Bribed


def _attested(arena: Arena, miner: str = VICTIM, **options: object) -> Case:
    """A good batch, rightly attested."""
    one = case(arena, miner, good=True, **options)  # type: ignore[arg-type]
    truth = one.truth.attestation
    arena.attest(one.batch, truth, truth)
    return one


@row("Frivolous dispute", "challenger", Ruling.CAUGHT)
def frivolous_dispute(arena: Arena, trial: int) -> Outcome:
    """A true verdict is disputed. The jury confirms it; the bond pays the jurors, and half of what
    is left goes to the miner that had to wait."""
    one = _attested(arena)
    victim, liar = arena.watch(VICTIM), arena.watch(LIAR)
    opened = arena.now
    index = trial * 7 % one.count
    ident = dispute(arena, LIAR, one, index, attested_true=True)
    jury(arena, ident, one.juror(index), one.juror(index))
    close(arena, ident)
    arena.settle(one.batch)
    pay = one.count * TUSD // 10 + arena.batch(one.batch).bond
    return Outcome(
        arena.phase(one.batch) == "settled",
        liar.cost,
        liar.gain,
        max(0, pay - victim.gain),
        {
            "paid to the miner beyond its work": (victim.gain - pay) / TUSD,
            "hours of delay": (arena.now - opened - arena.p.challenge_window) / 3600,
        },
    )


@row("Frivolous dispute, appealed to the end", "challenger", Ruling.CAUGHT, trials=8)
def frivolous_appeals(arena: Arena, trial: int) -> Outcome:
    """The challenger appeals each decision with twice the bond, until no larger jury can be drawn.
    The decision before it stands; every bond that a jury was drawn for is lost."""
    one = _attested(arena)
    victim, liar = arena.watch(VICTIM), arena.watch(LIAR)
    opened = arena.now
    ident = dispute(arena, LIAR, one, 0, attested_true=True)
    appeals = _appeal_to_the_end(arena, ident, one, LIAR)
    arena.send("keeper", "court", "close", ident)
    arena.settle(one.batch)
    pay = one.count * TUSD // 10 + arena.batch(one.batch).bond
    return Outcome(
        arena.phase(one.batch) == "settled",
        liar.cost,
        liar.gain,
        max(0, pay - victim.gain),
        {
            "appeals": appeals,
            "paid to the miner beyond its work": (victim.gain - pay) / TUSD,
            "hours of delay": (arena.now - opened - arena.p.challenge_window) / 3600,
        },
    )


def _appeal_to_the_end(arena: Arena, ident: int, one: Case, who: str) -> int:
    """Honest juries, each appealed by `who`; the last one can't be drawn or is final."""
    appeals = 0
    while True:
        if not _seat(arena, ident, one):
            return appeals
        if arena.view("court", "phaseOf", ident) != 3:
            return appeals
        arena.send(who, "court", "appeal", ident, arena.decision(ident))
        appeals += 1


def _seat(arena: Arena, ident: int, one: Case) -> bool:
    """The dispute's jury votes the truth; False where it can't be drawn and its time has passed."""
    round_ = arena.view("court", "get", ident)[3]
    arena.draw(round_)
    if arena.round(round_)["drawnAt"] == 0:
        arena.pass_time(arena.p.draw_timeout + 1)
        arena.send("keeper", "court", "tallyJury", ident, (bytes(32), 0, 0))
        return False
    jury(arena, ident, one.juror(0), one.juror(0))
    return True


@row("Appeal exhaustion by the guilty", "3 of 5 members, with the miner", Ruling.CAUGHT, trials=8)
def guilty_appeals(arena: Arena, trial: int) -> Outcome:
    """The signers of a false attestation lose before the first jury and appeal to the end, to tire
    the watcher out. The watcher needs no second bond: who appeals pays for the larger jury."""
    told = Bribed(arena)
    ident = dispute(arena, WATCHER, told.case, 0)
    appeals = _appeal_to_the_end(arena, ident, told.case, LIAR)
    arena.send("keeper", "court", "close", ident)
    again(arena, told.case)
    fell = arena.batch(told.case.batch).overturned == 1
    return told.outcome(fell, appeals=appeals, earned_by_the_watcher=told.reward)


@row("Many leaves disputed at once", "challenger", Ruling.CAUGHT, trials=8)
def many_leaves(arena: Arena, trial: int) -> Outcome:
    """Five true verdicts of one batch are disputed at once, to hold its miner up. Each has its bond
    and its jury; they run side by side, so five delay no longer than one."""
    one = _attested(arena)
    victim, liar = arena.watch(VICTIM), arena.watch(LIAR)
    opened = arena.now
    idents = [dispute(arena, LIAR, one, index, attested_true=True) for index in range(5)]
    _together(arena, one, idents, range(5))
    arena.pass_time(arena.p.appeal_window + 1)
    for ident in idents:
        arena.send("keeper", "court", "close", ident)
    arena.settle(one.batch)
    pay = one.count * TUSD // 10 + arena.batch(one.batch).bond
    return Outcome(
        arena.phase(one.batch) == "settled",
        liar.cost,
        liar.gain,
        max(0, pay - victim.gain),
        {
            "paid to the miner beyond its work": (victim.gain - pay) / TUSD,
            "hours of delay": (arena.now - opened - arena.p.challenge_window) / 3600,
        },
    )


def _together(arena: Arena, one: Case, idents: list[int], indices: range) -> None:
    """All juries vote within the same windows, those that can be drawn; the truth."""
    juries = [arena.view("court", "get", ident)[3] for ident in idents]
    arena.mine(arena.preset.randomness_delay + 1)
    while arena.view("rounds", "nextDraw"):
        if arena.send("keeper", "rounds", "drawDue", 4).events.get("RoundDrawn") is None:
            break
    for act in (arena.commit_vote, arena.reveal_vote):
        for round_, index in zip(juries, indices, strict=True):
            for seat, who in enumerate(arena.members(round_)):
                act(round_, seat, who, one.juror(index))
    stalled = [
        ident for ident, round_ in zip(idents, juries, strict=True) if not _drawn(arena, round_)
    ]
    if stalled:
        arena.pass_time(arena.p.draw_timeout + 1)
    for ident, index in zip(idents, indices, strict=True):
        leader = (bytes(32), 0, 0) if ident in stalled else _fields(one, index)
        arena.send("keeper", "court", "tallyJury", ident, leader)


def _drawn(arena: Arena, round_: int) -> bool:
    return bool(arena.round(round_)["drawnAt"])


def _fields(one: Case, index: int) -> tuple[bytes, int, int]:
    vote = one.juror(index)
    return (vote.root, vote.units, vote.faults)


@row("Opening demanded and left", "challenger", Ruling.CAUGHT)
def opening_abandoned(arena: Arena, trial: int) -> Outcome:
    """A challenger demands the opening of an honest tree, lets the miner answer and says nothing
    more: the side that does not move loses."""
    one = _attested(arena)
    victim, liar = arena.watch(VICTIM), arena.watch(LIAR)
    done = arena.send(LIAR, "court", "demandOpening", one.batch, arena.attested(one.batch))
    ident = done.event("DisputeOpened")["dispute"]
    path, rights = path_to(one.truth, 9)
    for step in range(trial % 4 + 1):
        arena.send(VICTIM, "openings", "answer", ident, path[step])
        if step < trial % 4:
            arena.send(LIAR, "openings", "ask", ident, rights[step])
    arena.pass_time(arena.p.opening_window + 1)
    arena.send("keeper", "court", "concludeOpening", ident)
    close(arena, ident)
    arena.settle(one.batch)
    return Outcome(arena.phase(one.batch) == "settled", liar.cost, liar.gain, victim.cost)


@row("A false proof of fraud", "challenger", Ruling.CAUGHT)
def false_proof(arena: Arena, trial: int) -> Outcome:
    """Proofs of faults that are none, against an honest tree: true nodes, forged nodes, a true
    verdict passed off as another's. Each is refused."""
    one = _attested(arena)
    liar, victim = arena.watch(LIAR), arena.watch(VICTIM)
    path, rights = path_to(one.truth, 4)
    forged = [((bytes(32), 5, 0), path[0][1])]
    none = (0, 0, 0, 0, 0)
    moved = (5, *one.verdict(4, true=True)[1:])
    tries = [
        (path, rights[:-1], False, 0, none),
        (forged, [], False, 0, none),
        (path, rights, True, one.batch, one.verdict(4, true=True)),
        (path, rights, True, one.batch, moved),
        (path, rights, True, one.batch + 1, one.verdict(4, true=True)),
    ]
    errors = [arena.refusal(LIAR, "court", "proveFault", one.batch, opened) for opened in tries]
    arena.settle(one.batch)
    proper = {
        "Evidence_NoFault",
        "VerdictFaults_NotTheChildren",
        "VerdictFaults_NotTheVerdict",
    }
    caught = all(error in proper for error in errors)
    return Outcome(caught, liar.cost, liar.gain, victim.cost, {"tries": len(tries)})


@row("Conflict by a splinter vote", "1 of 5 members", Ruling.CAUGHT)
def splinter(arena: Arena, trial: int) -> Outcome:
    """Two members are absent by accident, two vote the truth, one votes otherwise, so that no root
    has a quorum. Anybody narrows the two votes to the first verdict on which they differ, without a
    bond; the jury's answer becomes the attestation."""
    one = case(arena, VICTIM, good=True)
    members = arena.draw(arena.batch(one.batch).round)
    liar, victim = arena.watch(members[4]), arena.watch(VICTIM)
    truth, lie = one.truth, one.lie
    votes = [None, None, truth.attestation, truth.attestation, lie.attestation]
    arena.vote(arena.batch(one.batch).round, lambda seat, who: votes[seat])
    claims = [
        (
            (tree.attestation.root, tree.attestation.units, tree.attestation.faults),
            one.verdict(0, true=tree is truth),
            [node(sibling) for sibling in tree.proof(0)],
        )
        for tree in (truth, lie)
    ]
    arena.pass_time(arena.p.reveal_window + 1)
    done = arena.send(WATCHER, "court", "narrow", one.batch, *claims)
    ident = done.event("DisputeOpened")["dispute"]
    jury(arena, ident, one.juror(0), one.juror(0))
    close(arena, ident)
    arena.settle(one.batch)
    units = arena.batch(one.batch).attestation[1]
    return Outcome(units == one.count, liar.cost, liar.gain, victim.cost)


@row(
    "Jury seats taken by frivolous disputes",
    "3 of 5 members, with the miner",
    Ruling.CAUGHT,
    trials=3,
    deep=True,
)
def clogged_jury(arena: Arena, trial: int) -> Outcome:
    """Before a false attestation can be disputed, its miner disputes so many true verdicts of a
    small batch of its own that their juries have more seats than the market. Juries are drawn
    from all stake, whether its seats are free or not, so the jury of the true dispute is seated
    all the same; the miner's own bonds are lost."""
    miner = arena.watch(LIAR)
    decoy = case(arena, LIAR, traces=64, good=True)
    truth = decoy.truth.attestation
    arena.attest(decoy.batch, truth, truth)
    told = Bribed(arena)
    idents = [dispute(arena, LIAR, decoy, index, attested_true=True) for index in range(16)]
    ident = dispute(arena, WATCHER, told.case, 0)
    _together(arena, decoy, idents, range(16))
    seated = bool(arena.draw(arena.view("court", "get", ident)[3]))
    if seated:
        jury(arena, ident, told.case.juror(0), told.case.juror(0))
        close(arena, ident)
        again(arena, told.case)
    else:
        arena.pass_time(arena.p.draw_timeout + 1)
        arena.send("keeper", "court", "tallyJury", ident, (bytes(32), 0, 0))
        close(arena, ident)
        arena.settle(told.case.batch)
    for one in idents:
        arena.send("keeper", "court", "close", one)
    harm = told.poster.cost + told.watcher.cost + told.others.cost
    cost, gain = told.signers.cost + miner.cost, told.signers.gain + miner.gain
    return Outcome(seated, cost, gain, harm, {"disputes of the miner's own": len(idents)})
