"""How members vote: attempts on commit and reveal."""

from __future__ import annotations

from arena import MINER, Arena, fields
from cases import Case, case
from matrix import Outcome, Ruling, row

from marketplace.protocol.commitments import commitment
from marketplace.protocol.hashing import keccak
from marketplace.protocol.verdict import Attestation

WHERE = (keccak(b"verdicts"), 0x55)


class Round:
    """A good batch and its drawn committee. The last member is the liar, the others are honest."""

    def __init__(self, arena: Arena) -> None:
        self.arena = arena
        self.case: Case = case(arena, MINER, good=True)
        self.id = arena.batch(self.case.batch).round
        self.members = arena.draw(self.id)
        self.truth = self.case.truth.attestation
        self.last = len(self.members) - 1
        self.liar = self.members[self.last]
        self.held = arena.watch(self.liar)
        self.honest = arena.watch(MINER, *self.members[: self.last])

    def commit(self, seats: range | None = None) -> None:
        for seat in seats or range(self.last):
            self.arena.commit_vote(self.id, seat, self.members[seat], self.truth)

    def reveal(self, seats: range | None = None) -> None:
        for seat in seats or range(self.last):
            self.arena.reveal_vote(self.id, seat, self.members[seat], self.truth)

    def finish(self, caught: bool, **figures: float) -> Outcome:
        """Whatever the liar still owes is not coming; the batch is tallied and settled."""
        arena = self.arena
        arena.pass_time(arena.p.commit_window + arena.p.reveal_window + 1)
        arena.send("keeper", "market", "tally", self.case.batch, fields(self.truth))
        arena.settle(self.case.batch)
        named = {name.replace("_", " "): value for name, value in figures.items()}
        return Outcome(caught, self.held.cost, self.held.gain, self.honest.cost, named)


@row("Commitment copied from another verifier", "verifier", Ruling.CAUGHT)
def copied_commitment(arena: Arena, trial: int) -> Outcome:
    """A member commits what the first one committed, and reveals with that one's vote and salt,
    read from its reveal. A commitment names its verifier: the copy opens to nothing, and is
    late."""
    told = Round(arena)
    told.commit()
    copied = bytes(arena.view("rounds", "seatOf", told.id, 0)[2])
    arena.send(told.liar, "rounds", "commitVerdict", told.id, told.last, copied)
    told.reveal()
    error = arena.refusal(
        told.liar,
        "rounds",
        "revealVerdict",
        told.id,
        told.last,
        fields(told.truth),
        arena.salt(told.members[0]),
        WHERE,
    )
    return told.finish(error == "Rounds_CommitmentMismatch")


def _replayed(arena: Arena, **elsewhere: object) -> Outcome:
    """A commitment made for somewhere else, with its own vote and salt."""
    told = Round(arena)
    place = {
        "chain_id": arena.deployment.chain_id,
        "rounds": arena.deployment.address("rounds"),
        "round_id": told.id,
        "subject": bytes(arena.round(told.id)["subject"]),
    } | elsewhere
    digest = commitment(
        **place,  # type: ignore[arg-type]
        verifier=arena.address(told.liar),
        attestation=told.truth,
        salt=arena.salt(told.liar),
    )
    told.commit()
    arena.send(told.liar, "rounds", "commitVerdict", told.id, told.last, digest)
    told.reveal()
    error = arena.refusal(
        told.liar,
        "rounds",
        "revealVerdict",
        told.id,
        told.last,
        fields(told.truth),
        arena.salt(told.liar),
        WHERE,
    )
    return told.finish(error == "Rounds_CommitmentMismatch")


@row("Commitment replayed from another chain", "verifier", Ruling.CAUGHT)
def replayed_chain(arena: Arena, trial: int) -> Outcome:
    """The commitment of the same vote in the same round of the same contract on chain 1."""
    return _replayed(arena, chain_id=1)


@row("Commitment replayed from another contract", "verifier", Ruling.CAUGHT)
def replayed_contract(arena: Arena, trial: int) -> Outcome:
    """The commitment of the same vote in another deployment's round of the same number."""
    return _replayed(arena, rounds=arena.deployment.address("court"))


@row("Commitment replayed from another round", "verifier", Ruling.CAUGHT)
def replayed_round(arena: Arena, trial: int) -> Outcome:
    """The commitment of the same vote in a later round (even trials), or about another subject, as
    after a reorg that renumbered batches (odd ones)."""
    if trial % 2:
        return _replayed(arena, subject=keccak(b"another batch"))
    return _replayed(arena, round_id=10_000 + trial)


@row("Withheld reveal", "verifier", Ruling.CAUGHT)
def withheld_reveal(arena: Arena, trial: int) -> Outcome:
    """A member sees that its lie will lose and does not reveal it. That is late, which costs more
    than absence; and the batch goes on without it."""
    told = Round(arena)
    told.commit()
    arena.commit_vote(told.id, told.last, told.liar, told.case.lie.attestation)
    told.reveal()
    arena.pass_time(arena.p.reveal_window + 1)
    phase = arena.view("rounds", "seatOf", told.id, told.last)[1]
    return told.finish(phase == 2)


@row("Last-second reveal", "verifier", Ruling.UNPROFITABLE)
def last_second_reveal(arena: Arena, trial: int) -> Outcome:
    """A member waits until everybody else's vote is known and reveals in the last second of the
    window. It can only reveal what it committed: it is paid as always, and holds the batch up by
    that window."""
    told = Round(arena)
    with arena.aside():
        arena.attest(told.case.batch, told.truth, told.truth)
        arena.settle(told.case.batch)
        honestly = told.held.gain - told.held.cost
    told.commit(range(told.last + 1))
    told.reveal()
    started = int(arena.round(told.id)["allCommittedAt"])
    arena.node.rpc("evm_setNextBlockTimestamp", started + arena.p.reveal_window)
    other = Attestation(b"\x77" * 32, told.truth.units, 0)
    arena.reveal_vote(told.id, told.last, told.liar, told.truth)
    again = arena.refusal(
        told.liar,
        "rounds",
        "revealVerdict",
        told.id,
        told.last,
        fields(other),
        arena.salt(told.liar),
        WHERE,
    )
    ended = told.finish(False, hours_of_delay=arena.p.reveal_window / 3600)
    assert again is not None
    more = ended.gain - ended.cost - honestly
    return Outcome(False, max(0, -more), max(0, more), ended.harm, ended.figures)


@row("Vote changed after the first reveal", "verifier", Ruling.CAUGHT)
def changed_vote(arena: Arena, trial: int) -> Outcome:
    """A member commits a guess, and after the first reveal tries to reveal that one's vote instead,
    or to commit again. Both are refused; it stays late."""
    told = Round(arena)
    guess = Attestation(b"\x66" * 32, 1, 0)
    told.commit()
    arena.commit_vote(told.id, told.last, told.liar, guess)
    told.reveal(range(1))
    salt = arena.salt(told.liar)
    place = (told.id, told.last)
    errors = [
        arena.refusal(
            told.liar, "rounds", "revealVerdict", *place, fields(told.truth), salt, WHERE
        ),
        arena.refusal(told.liar, "rounds", "commitVerdict", *place, b"\x55" * 32),
    ]
    told.reveal(range(1, told.last))
    return told.finish(errors == ["Rounds_CommitmentMismatch", "Rounds_WrongPhase"])


@row("Everybody copies the first to reveal", "4 of 5 members", Ruling.CAUGHT)
def copying_committee(arena: Arena, trial: int) -> Outcome:
    """Four members wait for the fifth to reveal, to vote as it did. Nobody can commit once reveals
    have begun: there is no quorum, the four were absent, and another committee judges the batch."""
    told = Round(arena)
    copiers = arena.watch(*told.members[1:])
    told.commit(range(1))
    arena.pass_time(arena.p.commit_window + 1)
    told.reveal(range(1))
    errors = {
        arena.refusal(
            who,
            "rounds",
            "commitVerdict",
            told.id,
            seat,
            arena.digest(told.id, who, told.truth),
        )
        for seat, who in enumerate(told.members)
        if seat
    }
    arena.send("keeper", "market", "tally", told.case.batch, (bytes(32), 0, 0))
    members = arena.attest(told.case.batch, told.truth, told.truth)
    arena.settle(told.case.batch)
    again = len(set(members) & set(told.members[1:]))
    return Outcome(
        errors == {"Rounds_WrongPhase"},
        copiers.cost,
        copiers.gain,
        max(0, told.honest.before[MINER] - arena.wealth(MINER)),
        {"of them drawn again": again},
    )


@row("A vote for somebody else's seat", "verifier", Ruling.CAUGHT)
def foreign_seat(arena: Arena, trial: int) -> Outcome:
    """A member tries to commit for the seats of the others, and a stranger for all of them."""
    told = Round(arena)
    errors = {
        arena.refusal(who, "rounds", "commitVerdict", told.id, seat, b"\x44" * 32)
        for who in (told.liar, "stranger")
        for seat in range(told.last)
    }
    told.commit(range(told.last + 1))
    told.reveal(range(told.last + 1))
    ended = told.finish(errors == {"Rounds_NotYourSeat"})
    return Outcome(ended.caught, 0, 0, ended.harm)
