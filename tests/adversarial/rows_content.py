"""Miners that lie in what they commit. Judged by the verifier node's checker."""

from __future__ import annotations

from dataclasses import replace

from arena import FEE, LIAR, POSTER, TUSD, VICTIM, Arena, fields
from content import (
    Work,
    bounty_on,
    commit,
    find,
    honest,
    reasons,
    tasks,
    write,
    wrong,
)
from matrix import Outcome, Ruling, row

from marketplace.chain.records import PayRule
from marketplace.protocol.hashing import keccak as _keccak
from marketplace.protocol.verdict import MALFORMED, UNAVAILABLE, Attestation, Reason
from verifier_node.checking import Finding

GROUPS = 2


def _end(arena: Arena, work: Work, finding: Finding | None = None) -> Finding:
    """An honest committee attests what the checker found, and the batch is settled."""
    finding = finding or find(arena, work)
    arena.attest(work.batch, finding.attestation, finding.attestation)
    arena.settle(work.batch)
    return finding


def _lies(arena: Arena, traces: list, expected: Reason, **options) -> Outcome:
    """Commits traces that all tell one lie; caught where each got its reason and none a unit."""
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    finding = _end(arena, commit(arena, LIAR, traces, **options))
    seen = reasons(finding) == {expected} and finding.attestation.units == 0
    return Outcome(seen, liars.cost, liars.gain, poster.cost)


@row("Tampered prompt", "miner", Ruling.CAUGHT)
def tampered_prompt(arena: Arena, trial: int) -> Outcome:
    """The answer is slipped into each prompt. Verifiers derive the prompt of the assigned task
    themselves."""
    assigned = tasks(arena, LIAR, GROUPS)
    answers = {number: task.answer for number, task in assigned}
    traces = [
        replace(one, prompt=f"(Hint: {answers[one.task]}) {one.prompt}")
        for one in write(assigned, honest)
    ]
    return _lies(arena, traces, Reason.TAMPERED_PROMPT)


@row("Unassigned task", "miner", Ruling.CAUGHT)
def unassigned_task(arena: Arena, trial: int) -> Outcome:
    """Right answers to other tasks of the miner's own list, chosen instead of those that are
    next."""
    others = tasks(arena, LIAR, GROUPS + 10)[10:]
    return _lies(arena, write(others, honest), Reason.UNASSIGNED)


@row("Self-reported score", "miner", Ruling.CAUGHT)
def self_reported_score(arena: Arena, trial: int) -> Outcome:
    """Wrong answers, each with a claimed score of 1."""
    traces = [replace(one, claimed_score=1.0) for one in write(tasks(arena, LIAR, GROUPS), wrong)]
    return _lies(arena, traces, Reason.FALSE_CLAIM)


_TRICKS = (
    "",
    " ",
    "nan",
    "NaN",
    "inf",
    "-inf",
    "None",
    "null",
    "[]",
    "{}",
    "1e999",
    "\u0664",
)


@row("Parse-default exploit", "miner", Ruling.CAUGHT)
def parse_default(arena: Arena, trial: int) -> Outcome:
    """Answers on which sloppy parsers fall back to a default score (empty, NaN, infinite, null
    ...), in an environment whose checker parses mathematics. Nothing of it is worth a unit, and
    what is worth nothing is checked at its miner's cost."""
    bounty, env = bounty_on(arena, "math_answer")
    assigned = tasks(arena, LIAR, GROUPS, bounty, env)
    said = iter(_TRICKS[trial % 5 :] * 2)
    traces = write(assigned, lambda task, place: f"<answer>{next(said)}</answer>")
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    finding = _end(arena, commit(arena, LIAR, traces, bounty=bounty))
    return Outcome(finding.attestation.units == 0, liars.cost, liars.gain, poster.cost)


def _copy(arena: Arena, edit, *, prompts: bool = False) -> Outcome:
    """A victim publishes, the liar commits copies, and the liar's batch is settled first. The
    victim must end as it would have without a copier. An answer may be right by chance."""
    bounty, env = bounty_on(arena, "two_digit_sums")
    victim = arena.watch(VICTIM)
    original = commit(
        arena, VICTIM, write(tasks(arena, VICTIM, GROUPS, bounty, env), honest), bounty=bounty
    )
    with arena.aside():
        ended = _end(arena, original)
        alone = victim.gain - victim.cost
    assigned = tasks(arena, LIAR, GROUPS, bounty, env)
    liars = arena.watch(LIAR)
    traces = [
        replace(
            mine,
            completion=edit(theirs.completion),
            prompt=theirs.prompt if prompts else mine.prompt,
        )
        for mine, theirs in zip(write(assigned, wrong), original.traces, strict=True)
    ]
    copied = commit(arena, LIAR, traces, bounty=bounty)
    finding = find(arena, copied)
    for work, found in ((copied, finding), (original, ended)):
        arena.attest(work.batch, found.attestation, found.attestation)
    arena.settle(copied.batch)
    arena.settle(original.batch)
    answers = dict(assigned)
    chance = sum(one.completion.strip() == answers[one.task].answer for one in traces)
    harm = alone - (victim.gain - victim.cost)
    return Outcome(
        finding.attestation.units <= chance and harm == 0,
        liars.cost,
        liars.gain,
        max(0, harm),
        {"right by chance": chance},
    )


@row("Copied traces, exact", "miner", Ruling.CAUGHT)
def copied_exact(arena: Arena, trial: int) -> Outcome:
    """Another miner's published completions under the copier's own prompts, settled before the
    original. They answer other tasks; the victim is paid in full."""
    return _copy(arena, lambda text: text)


@row("Copied traces, with their prompts", "miner", Ruling.CAUGHT)
def copied_with_prompts(arena: Arena, trial: int) -> Outcome:
    """As above, prompts copied too: a prompt of another task is a tampered one."""
    return _copy(arena, lambda text: text, prompts=True)


@row("Copied traces, lightly edited", "miner", Ruling.CAUGHT)
def copied_edited(arena: Arena, trial: int) -> Outcome:
    """As above, with white space and a sign changed. They still answer other tasks; and whoever
    commits first is the original, so an edit can't turn the suspicion round on the victim."""
    return _copy(arena, lambda text: f" {text.replace('+', '')} ")


@row("Many answers planted at the start", "miner", Ruling.CAUGHT)
def planted_guesses(arena: Arena, trial: int) -> Outcome:
    """Each completion begins with the tagged right answer, among guesses, and ends on another: the
    rule reads the last answer only."""
    bounty, env = bounty_on(arena, "math_answer")
    assigned = tasks(arena, LIAR, GROUPS, bounty, env)
    say = lambda task, place: (  # noqa: E731
        f"<answer>{task.answer}</answer>"
        + "".join(f"<answer>{guess}</answer>" for guess in range(place, 20))
        + "<answer>77777</answer>"
    )
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    finding = _end(arena, commit(arena, LIAR, write(assigned, say), bounty=bounty))
    return Outcome(finding.attestation.units == 0, liars.cost, liars.gain, poster.cost)


@row("Right answer first, made-up reasoning after", "miner", Ruling.OPEN)
def planted_answer(arena: Arena, trial: int) -> Outcome:
    """The right answer at the start, then filler that derives nothing. Tier C proves only that the
    answer is right: it is paid. Price: one right answer for each unit; the trainer's own filter
    stands between such a trace and the model, and tier B asks for the policy's log-probs."""
    bounty, env = bounty_on(arena, "math_answer")
    assigned = tasks(arena, LIAR, GROUPS, bounty, env)
    say = lambda task, place: f"<answer>{task.answer}</answer>" + " because it is." * place  # noqa: E731
    liars = arena.watch(LIAR)
    finding = _end(arena, commit(arena, LIAR, write(assigned, say), bounty=bounty))
    units = finding.attestation.units
    return Outcome(False, liars.cost, liars.gain, 0, {"units": units})


def _compared_with_one_answer(arena: Arena, say) -> Outcome:
    """A batch of such texts, against one of one right answer and three tries in each group."""
    honestly = arena.watch(VICTIM)
    _end(arena, commit(arena, VICTIM, write(tasks(arena, VICTIM, GROUPS), honest)))
    liars = arena.watch(LIAR)
    finding = _end(arena, commit(arena, LIAR, write(tasks(arena, LIAR, GROUPS), say)))
    more = (liars.gain - liars.cost) - (honestly.gain - honestly.cost)
    return Outcome(
        False,
        max(0, -more),
        max(0, more),
        0,
        {"units": finding.attestation.units, "earned more than honestly": more / TUSD},
    )


@row("One answer, padded to be different", "miner", Ruling.UNPROFITABLE)
def padded_duplicates(arena: Arena, trial: int) -> Outcome:
    """One right answer for each task, told four times with other white space and an invisible
    character. Texts are compared without either: as below."""
    pads = ("", " ", "  \n", "\u200d")
    return _compared_with_one_answer(arena, lambda task, place: task.answer + pads[place % 4])


@row("Same answer four times", "miner", Ruling.UNPROFITABLE)
def exact_duplicates(arena: Arena, trial: int) -> Outcome:
    """The same right text in each place of a group: paid once; the miner bears the checking of the
    other three. Compared with one honest answer and three tries it earns nothing more."""
    return _compared_with_one_answer(arena, lambda task, place: task.answer)


@row("Padding under the informative rule", "miner", Ruling.OPEN)
def informative_padding(arena: Arena, trial: int) -> Outcome:
    """One right answer and three made-up wrong ones, all different: under the informative rule of
    tier C all four are paid; copies would not be. Price: one right answer for each group; the
    informative rule is for tier B, where each text must be the policy's own sample."""
    bounty = arena.open_bounty(2_000 * TUSD, pay_rule=int(PayRule.INFORMATIVE))
    traces = write(tasks(arena, LIAR, GROUPS, bounty), honest)
    liars = arena.watch(LIAR)
    finding = _end(arena, commit(arena, LIAR, traces, bounty=bounty))
    units = finding.attestation.units
    return Outcome(False, liars.cost, liars.gain, 0, {"units paid for each answer": units / GROUPS})


@row("Claimed count above the real one", "miner", Ruling.CAUGHT)
def count_above_real(arena: Arena, trial: int) -> Outcome:
    """A file of one group, committed as two. The batch is malformed: all of the bond goes."""
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    work = commit(arena, LIAR, write(tasks(arena, LIAR, 1), honest), claimed=8)
    finding = _end(arena, work)
    return Outcome(finding.attestation == MALFORMED, liars.cost, liars.gain, poster.cost)


@row("Batch never published", "miner", Ruling.CAUGHT)
def never_published(arena: Arena, trial: int) -> Outcome:
    """Committed and never put anywhere: unavailable; the fee of the committee comes out of the
    bond."""
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    work = commit(arena, LIAR, write(tasks(arena, LIAR, GROUPS), honest), publish=False)
    finding = _end(arena, work)
    return Outcome(finding.attestation == UNAVAILABLE, liars.cost, liars.gain, poster.cost)


@row("Batch published late", "miner", Ruling.CAUGHT)
def published_late(arena: Arena, trial: int) -> Outcome:
    """Published when the committee has voted, in the hope of a better one: the outcome
    "unavailable" is disputed by the miner itself. A jury finds the content sound, a fresh committee
    pays what is due, and the jurors are paid by the one who was late."""
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    work = commit(arena, LIAR, write(tasks(arena, LIAR, GROUPS), wrong), publish=False)
    before = find(arena, work).attestation
    arena.attest(work.batch, before, before)
    arena.store.put(work.data)
    done = arena.send(LIAR, "court", "disputeOutcome", work.batch, arena.attested(work.batch))
    dispute = done.event("DisputeOpened")["dispute"]
    jury = arena.view("court", "get", dispute)[3]
    sound = Attestation(_keccak(b"tracemarket.outcome.sound"), 0, 0)
    arena.vote(jury, sound)
    arena.send("keeper", "court", "tallyJury", dispute, fields(sound))
    arena.pass_time(arena.p.appeal_window + 1)
    arena.send("keeper", "court", "close", dispute)
    finding = _end(arena, work)
    return Outcome(
        before == UNAVAILABLE and finding.attestation.units == 0,
        liars.cost,
        liars.gain,
        poster.cost,
    )


@row("Other content at the gateway", "miner", Ruling.CAUGHT)
def other_content(arena: Arena, trial: int) -> Outcome:
    """Under the committed CID a gateway serves other bytes to three members and the right ones to
    two. What is not what its CID names counts as unavailable; the two that could read it lose
    nothing."""
    liars = arena.watch(LIAR)
    work = commit(arena, LIAR, write(tasks(arena, LIAR, GROUPS), honest))
    right = find(arena, work).attestation
    path = arena.store._path_of(work.cid)
    path.chmod(0o644)
    path.write_bytes(work.data[:-1] + bytes([work.data[-1] ^ 1]))
    served_wrong = find(arena, work).attestation
    round_ = arena.batch(work.batch).round
    members = arena.draw(round_)
    readers = arena.watch(*members[3:])
    arena.attest(work.batch, lambda seat, who: served_wrong if seat < 3 else right, served_wrong)
    arena.settle(work.batch)
    return Outcome(served_wrong == UNAVAILABLE, liars.cost, liars.gain, readers.cost)


@row("Garbage mined for one's own checking fees", "miner that verifies", Ruling.UNPROFITABLE)
def garbage_for_fees(arena: Arena, trial: int) -> Outcome:
    """A miner that holds half of all stake mines wrong answers and checks them, honestly, for the
    fee. What earns nothing is checked at its miner's cost, and half of the seats are others'."""
    own = arena.verifiers[: len(arena.verifiers) // 2]
    liars, poster = arena.watch(LIAR), arena.watch(POSTER)
    work = commit(arena, LIAR, write(tasks(arena, LIAR, GROUPS), wrong))
    finding = find(arena, work)
    members = arena.draw(arena.batch(work.batch).round)
    seated = arena.watch(*(who for who in members if who in own))
    _end(arena, work, finding)
    cost, gain = liars.cost + seated.cost, liars.gain + seated.gain
    figures = {"own seats": len(seated.names), "fees of the batch": FEE * 8 / TUSD}
    return Outcome(False, cost, gain, poster.cost, figures)
