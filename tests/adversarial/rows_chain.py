"""Gas and reorganizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from arena import LIAR, MINER, STAKE, VICTIM, WATCHER, Arena, fields
from cases import Case, again, case, close, dispute, jury
from matrix import Outcome, Ruling, row

from marketplace.protocol.verdict import Attestation

BLOCK: Final = 30_000_000
"""Gas of a block; a call that needs more than half of it is taken for stuck."""

# --- gas -----------------------------------------------------------------------------------


@row("A settlement too large for a block", "3 to 6 members", Ruling.CAUGHT, trials=3)
def dear_settlement(arena: Arena, trial: int) -> Outcome:
    """Members split their votes so that each round ends in conflict and a larger one follows, up to
    the last (5, 11, 23 seats); then the batch must be settled in one call."""
    one = case(arena, VICTIM, traces=4, good=True)
    truth = one.truth.attestation
    lies = [Attestation(bytes([7 + number]) * 32, 1, 0) for number in range(2)]
    liars: set[str] = set()
    cost = gain = 0
    watches = []
    for last in (False, False, True):
        round_ = arena.batch(one.batch).round
        members = arena.draw(round_)
        fresh = [who for who in members[: len(members) // 2 + 1] if who not in liars and not last]
        watches.append(arena.watch(*fresh))
        liars.update(fresh)
        split = len(members) // 2 + 1
        arena.vote(
            round_,
            lambda seat, who, n=split, end=last: truth if end or seat >= n else lies[seat % 2],
        )
        if not last:
            ends = arena.view("rounds", "endsAt", round_)
            arena.pass_time(ends + arena.p.opening_window + 1 - arena.now)
        arena.send("keeper", "market", "tally", one.batch, fields(truth))
    gas = arena.settle(one.batch).gas
    for held in watches:
        cost, gain = cost + held.cost, gain + held.gain
    return Outcome(gas < BLOCK // 2, cost, gain, 0, {"gas": gas, "seats": 5 + 11 + 23})


@row("A verdict of juries too large for a block", "challenger", Ruling.CAUGHT, trials=1, deep=True)
def dear_close(arena: Arena, trial: int) -> Outcome:
    """With 64 more verifiers in the market a frivolous challenger appeals to the last jury the
    preset allows (11, 23, 47 seats); all of them are judged and paid in one call."""
    more = [f"extra {number}" for number in range(64)]
    for name in more:
        arena.send(name, "stake", "stake", STAKE)
    one = case(arena, VICTIM, traces=4, good=True)
    truth = one.truth.attestation
    arena.attest(one.batch, truth, truth)
    liar = arena.watch(LIAR)
    ident = dispute(arena, LIAR, one, 0, attested_true=True)
    seats = len(jury(arena, ident, one.juror(0), one.juror(0)))
    for _ in range(2):
        arena.send(LIAR, "court", "appeal", ident, arena.decision(ident))
        seats += len(jury(arena, ident, one.juror(0), one.juror(0)))
    arena.pass_time(arena.p.appeal_window + 1)
    gas = arena.send("keeper", "court", "close", ident).gas
    figures = {"gas": gas, "jurors": seats, "gas of a juror": gas / seats}
    return Outcome(gas < BLOCK // 2, liar.cost, liar.gain, 0, figures)


@row("Many due draws before somebody else's call", "miner", Ruling.CAUGHT, trials=3)
def due_draws(arena: Arena, trial: int) -> Outcome:
    """24 batches wait for their draws, which whoever stakes must make first. A call makes sixteen
    at most and says so where more are due; anybody makes them, a few in each call."""
    for _ in range(24):
        case(arena, LIAR, traces=4)
    arena.mine(arena.preset.randomness_delay + 1)
    error = arena.refusal("newcomer", "stake", "stake", STAKE)
    most = 0
    while arena.view("rounds", "nextDraw"):
        most = max(most, arena.send("keeper", "rounds", "drawDue", 8).gas)
        arena.mine(arena.preset.randomness_delay + 1)
    staked = arena.refusal("newcomer", "stake", "stake", STAKE)
    caught = error == "Rounds_DrawDue" and staked is None and most < BLOCK // 2
    return Outcome(caught, 0, 0, 0, {"gas of eight draws": most})


# --- reorganizations -------------------------------------------------------------------------


def _lose(arena: Arena, step: Callable[[], object], check: Callable[[], object]) -> bool:
    """A step is mined, then its blocks are replaced by empty ones: its transactions are lost. True
    if the state is again what it was before."""
    before, first = check(), arena.node.block_number()
    step()
    depth = arena.node.block_number() - first
    arena.lose(depth)
    return check() == before


def _reorganized(arena: Arena, phase: str) -> Outcome:
    """A good batch whose life is interrupted once; those whose call was lost make it again. The
    miner must end as without, and no member may lose."""
    miner, members = arena.watch(MINER), arena.watch(*arena.verifiers)
    arena.enrol(MINER)
    with arena.aside():
        one = case(arena, MINER, traces=8, good=True)
        truth = one.truth.attestation
        arena.attest(one.batch, truth, truth)
        arena.settle(one.batch)
        alone = miner.gain - miner.cost
    lost = True
    made: list[Case] = []

    def commit() -> None:
        made.append(case(arena, MINER, traces=8, good=True))

    if phase == "commit":
        lost &= _lose(arena, commit, lambda: (arena.view("market", "count"), arena.wealth(MINER)))
    commit()
    one = made[-1]
    truth = one.truth.attestation
    round_ = arena.batch(one.batch).round

    def drawn() -> list[str]:
        return arena.members(round_)

    if phase == "draw":
        lost &= _lose(arena, lambda: arena.draw(round_), drawn)
    seated = arena.draw(round_)

    def votes() -> None:
        for seat, who in enumerate(seated):
            arena.commit_vote(round_, seat, who, truth)

    def reveals() -> None:
        for seat, who in enumerate(seated):
            arena.reveal_vote(round_, seat, who, truth)

    def progress() -> tuple[int, int]:
        seen = arena.round(round_)
        return seen["committed"], seen["revealed"]

    if phase == "vote":
        # The draw is lost too: another committee may sit, and commits with its own salts.
        with_draw = arena.node.block_number()
        votes()
        arena.lose(arena.node.block_number() - with_draw + 2)
        lost &= progress() == (0, 0)
        seated = arena.draw(round_)
    votes()
    if phase == "reveal":
        lost &= _lose(arena, reveals, progress)
    reveals()

    def tally() -> None:
        arena.send("keeper", "market", "tally", one.batch, fields(truth))

    if phase == "attestation":
        lost &= _lose(arena, tally, lambda: arena.phase(one.batch))
    tally()
    arena.settle(one.batch)
    harm = max(0, alone - (miner.gain - miner.cost)) + members.cost
    return Outcome(lost and arena.phase(one.batch) == "settled", 0, 0, harm)


@row("Reorg of a batch's commit", "block proposers", Ruling.CAUGHT, trials=5, alone=True)
def reorg_commit(arena: Arena, trial: int) -> Outcome:
    """The commit and its bond are lost with their block. The miner commits the same batch again,
    from its spool; nothing of it was published."""
    return _reorganized(arena, "commit")


@row("Reorg of a draw", "block proposers", Ruling.CAUGHT, trials=5, alone=True)
def reorg_draw(arena: Arena, trial: int) -> Outcome:
    """The draw and the block of its hash are replaced: another committee is drawn and does the
    work."""
    return _reorganized(arena, "draw")


@row("Reorg of votes, with their draw", "block proposers", Ruling.CAUGHT, trials=5, alone=True)
def reorg_vote(arena: Arena, trial: int) -> Outcome:
    """All commitments are lost, and the draw with them. Who sits now commits with the salts of its
    journal; a commitment names round, content and verifier, so none of the lost ones fits
    elsewhere."""
    return _reorganized(arena, "vote")


@row("Reorg of reveals", "block proposers", Ruling.CAUGHT, trials=5, alone=True)
def reorg_reveal(arena: Arena, trial: int) -> Outcome:
    """Reveals are lost after everybody has read them. The commitments stand, so the same votes are
    revealed again, and none can be changed."""
    return _reorganized(arena, "reveal")


@row("Reorg of an attestation", "block proposers", Ruling.CAUGHT, trials=5, alone=True)
def reorg_attestation(arena: Arena, trial: int) -> Outcome:
    """The tally is lost; anybody makes it again from what is revealed."""
    return _reorganized(arena, "attestation")


@row(
    "Reorg of a dispute",
    "block proposers, for a bribed majority",
    Ruling.CAUGHT,
    trials=5,
    alone=True,
)
def reorg_dispute(arena: Arena, trial: int) -> Outcome:
    """The only dispute of a false attestation is lost with its block, and its bond comes back with
    it. It is sent again: the window is far longer than any reorg."""
    from rows_majority import Bribed

    told = Bribed(arena)
    lost = _lose(
        arena,
        lambda: dispute(arena, WATCHER, told.case, 2),
        lambda: (arena.view("court", "count"), arena.wealth(WATCHER)),
    )
    ident = dispute(arena, WATCHER, told.case, 2)
    jury(arena, ident, told.case.juror(2), told.case.juror(2))
    close(arena, ident)
    again(arena, told.case)
    return told.outcome(lost and arena.batch(told.case.batch).overturned == 1)


@row(
    "Reorg that renumbers batches",
    "block proposers, or a miner",
    Ruling.CAUGHT,
    trials=5,
    alone=True,
)
def reorg_renumber(arena: Arena, trial: int) -> Outcome:
    """Two commits change places in a reorg, so that a batch's number names another content. A
    member's commitment binds the content: what it made for the one does not open for the other."""
    for name in (MINER, VICTIM):
        arena.enrol(name)
    first = arena.node.block_number()
    one = case(arena, MINER, traces=4, good=True)
    subject = bytes(arena.round(arena.batch(one.batch).round)["subject"])
    arena.lose(arena.node.block_number() - first)
    other = case(arena, VICTIM, traces=4, good=True)
    case(arena, MINER, traces=4, good=True)
    assert other.batch == one.batch
    renamed = bytes(arena.round(arena.batch(other.batch).round)["subject"])
    return Outcome(subject != renamed, 0, 0)
