"""From attested batches to groups that GRPO can use. Pure: content in, groups and counts out.

Nothing is believed that can be recomputed. `open_attested` accepts a batch only if its lines lead
to the batch root that the miner committed to and its verdicts to the attestation that the chain
finalized (ProofFailed otherwise). `build_groups` then leaves out, and counts by reason, what
can't teach anything or would teach the wrong thing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from marketplace.protocol import merkle
from marketplace.protocol.batch_terms import BatchTerms
from marketplace.protocol.errors import MalformedTrace, ProofFailed
from marketplace.protocol.seeds import PPM
from marketplace.protocol.trace import Tier, Trace, decode_line
from marketplace.protocol.verdict import (
    CHECKER_STATES,
    FAULTS,
    Attestation,
    Reason,
    Verdict,
    batch_verdicts,
)
from trainer.advantages import is_informative, is_solved

# Why a trace or a group is left out, as the training record counts them.
FAULT: Final = "fault"
CHECKER: Final = "checker error"
TOO_LONG: Final = "too long"
UNREADABLE: Final = "unreadable line"
MISPLACED: Final = "not the task and sample of its place"
OTHER_PROMPT: Final = "another prompt than its group's first"
NEGATIVE_OPAQUE: Final = "tier C without a full score"
REPEATED_OPAQUE: Final = "tier C, same text twice in a group"
NO_LOGPROBS: Final = "no log-probabilities"
OTHER_CHECKPOINT: Final = "sampled from another checkpoint"
TOO_STALE: Final = "sampled too many checkpoints ago"
OTHER_TEMPERATURE: Final = "sampled at another temperature"
OTHER_VOCABULARY: Final = "tokens outside the vocabulary"
NO_PROMPT: Final = "prompt without a token"
NOT_ITS_TEXT: Final = "tokens do not give the text"
NOT_ITS_END: Final = "tokens go on after the end or break off before it"
OVER_CONTEXT: Final = "longer than the context"
SINGLE: Final = "alone in its group"
ALL_ALIKE: Final = "same score throughout its group"
OFF_POLICY: Final = "log-probabilities not its checkpoint's"
NOT_REPLAYED: Final = "not what its seed samples"
COPY: Final = "copy of a text that was bought before"
TOO_OFTEN: Final = "same text more often than by chance"
IMPROBABLE: Final = "text far less likely than others"


class TokenCodec(Protocol):
    """What the trainer needs of marketplace.gym.policy.Codec."""

    vocabulary: int

    def encode(self, text: str) -> tuple[int, ...]: ...

    def encode_completion(self, text: str, stop: Sequence[str]) -> tuple[int, ...]: ...

    def completion(self, tokens: Sequence[int], stop: Sequence[str]) -> str: ...

    def finish(self, tokens: Sequence[int], stop: Sequence[str], max_tokens: int) -> str | None: ...


@dataclass(frozen=True, slots=True)
class AttestedBatch:
    """A final batch whose content was proven. Made by `open_attested` only.

    lines: raw trace lines. verdicts: one per line. drawn: what its committee was drawn with, which
    its miner could not know; empty where there was no draw.
    """

    terms: BatchTerms
    lines: tuple[bytes, ...]
    verdicts: tuple[Verdict, ...]
    attestation: Attestation
    drawn: bytes = b""


@dataclass(frozen=True, slots=True)
class TrainingGroup:
    """Traces of one task that are compared with each other; or tier C positives (opaque).

    prompt, completions: token ids. behaviour: log-probabilities per token of each completion
    under the policy that sampled (claimed, until verified), None if opaque. proximal: the same
    under the parent; None: the same values. scores: in [0, 1]. miner: address. tier.
    checkpoint, age: which checkpoint sampled, and how many before the parent it is.
    seed, samples: what tier A is replayed from; places in the group as sold. copies: which were
    attested as copies of another text (empty: none). drawn: of the batch.
    """

    batch: int
    task: int
    prompt: tuple[int, ...]
    completions: tuple[tuple[int, ...], ...]
    behaviour: tuple[tuple[float, ...], ...] | None
    scores: tuple[float, ...]
    proximal: tuple[tuple[float, ...], ...] | None = None
    miner: str = ""
    tier: Tier = Tier.B
    checkpoint: int = 0
    age: int = 0
    seed: bytes = b""
    samples: tuple[int, ...] = ()
    copies: tuple[bool, ...] = ()
    drawn: bytes = b""

    def only(self, places: Sequence[int]) -> TrainingGroup:
        """The group with these traces only."""

        def some(values: tuple[Any, ...]) -> tuple[Any, ...]:
            return tuple(values[place] for place in places) if values else values

        return replace(
            self,
            completions=some(self.completions),
            behaviour=None if self.behaviour is None else some(self.behaviour),
            scores=some(self.scores),
            proximal=None if self.proximal is None else some(self.proximal),
            samples=some(self.samples),
            copies=some(self.copies),
        )

    @property
    def tokens(self) -> int:
        """Completion tokens: what the loss is averaged over."""
        return sum(map(len, self.completions))


@dataclass(frozen=True, slots=True)
class Dataset:
    """Groups to train on, and what was left out.

    traces: all that came in. skipped: traces left out, by reason. mean_score: over all traces
    that were scored, trained on or not. mean_tokens: of the completions with token ids.
    """

    groups: tuple[TrainingGroup, ...]
    traces: int
    skipped: dict[str, int]
    mean_score: float
    mean_tokens: float


def open_attested(
    terms: BatchTerms,
    *,
    root: bytes,
    lines: Sequence[bytes],
    verdicts: Sequence[Verdict],
    attestation: Attestation,
    drawn: bytes = b"",
) -> AttestedBatch:
    """The batch, if lines lead to `root` and verdicts to `attestation`, both read from the chain.

    Raises ProofFailed, naming the batch and both values, if either does not.
    """
    if not lines or len(lines) != len(verdicts) or len(lines) % terms.group_size:
        raise ProofFailed(
            f"batch {terms.batch} has {len(lines)} lines and {len(verdicts)} verdicts, "
            f"not whole groups of {terms.group_size}"
        )
    found = merkle.batch_tree(terms.chain_id, terms.market, terms.bounty, terms.miner, lines).root
    if found != root:
        raise ProofFailed(
            f"the lines of batch {terms.batch} lead to root 0x{found.hex()}, "
            f"but 0x{root.hex()} was committed",
            fix="fetch the batch from another source",
        )
    summed = batch_verdicts(terms.batch, verdicts).attestation
    if summed != attestation:
        raise ProofFailed(
            f"the verdicts of batch {terms.batch} lead to root 0x{summed.root.hex()} with "
            f"{summed.units} units and {summed.faults} faults, but 0x{attestation.root.hex()} "
            f"with {attestation.units} and {attestation.faults} is final",
            fix="fetch the verdict file from another verifier",
        )
    return AttestedBatch(terms, tuple(lines), tuple(verdicts), attestation, drawn)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRules:
    """What a group must fit.

    checkpoint: the one to be trained. ages: earlier checkpoints of its lineage and how many
    before it each is; traces of tiers A and B must name it or one of them, at most max_staleness
    back. stop, max_tokens, temperature (None: any): the environment's. context: most tokens of
    prompt and completion together. solved: whether groups in which all have the full score are of
    use.
    """

    checkpoint: int
    stop: tuple[str, ...]
    max_tokens: int
    context: int
    temperature: float | None = None
    ages: Mapping[int, int] = field(default_factory=dict)
    max_staleness: int = 0
    solved: bool = False

    def age(self, checkpoint: int | None) -> int | None:
        """How many checkpoints before the parent; None if not of its lineage."""
        if checkpoint == self.checkpoint:
            return 0
        return None if checkpoint is None else self.ages.get(checkpoint)


def build_groups(batches: Iterable[AttestedBatch], codec: TokenCodec, rules: GroupRules) -> Dataset:
    """The usable groups of the batches, in order, and what was left out.

    Tiers A and B: traces of the checkpoint (or an earlier one, within bounds), with tokens that
    give their text and with log-probabilities, in groups of two or more that differ in score
    (or, with rules.solved, that are all right).
    Tier C: fully scored traces only, and opaque: nothing is known of the policy that sampled them.
    """
    skipped: Counter[str] = Counter()
    groups: list[TrainingGroup] = []
    scores: list[float] = []
    lengths: list[int] = []
    traces = 0
    for batch in batches:
        terms = batch.terms
        build = _opaque_group if terms.tier is Tier.C else _scorable_group
        traces += len(batch.lines)
        judged = list(zip(batch.lines, batch.verdicts, strict=True))
        for start in range(0, len(judged), terms.group_size):
            task = terms.first_task + start // terms.group_size
            members = list(_admitted(judged[start : start + terms.group_size], task, skipped))
            scores += [one.score for one in members]
            lengths += [len(one.trace.tokens) for one in members if one.trace.tokens]
            if members and (group := build(terms, members, codec, rules, skipped)):
                groups.append(replace(group, drawn=batch.drawn))
    left_out = {reason: count for reason, count in sorted(skipped.items()) if count}
    return Dataset(tuple(groups), traces, left_out, _mean(scores), _mean(lengths))


@dataclass(frozen=True, slots=True)
class _Member:
    trace: Trace
    score: float
    copy: bool


def _admitted(
    judged: Sequence[tuple[bytes, Verdict]], task: int, skipped: Counter[str]
) -> Iterator[_Member]:
    """The traces of a task's group that a score was given to, with that score in [0, 1].

    A trace's own word for its task and sample is held to its place: both pick the noise that tier
    A is replayed with, and whoever may choose them replays the best of any number of samples.
    """
    prompt: str | None = None
    for sample, (line, verdict) in enumerate(judged):
        if verdict.reason in FAULTS:
            skipped[FAULT] += 1
        elif verdict.reason in CHECKER_STATES:
            skipped[CHECKER] += 1
        elif verdict.reason is Reason.TOO_LONG:
            skipped[TOO_LONG] += 1
        else:
            copy = verdict.reason is Reason.DUPLICATE
            try:
                trace = decode_line(line)
            except MalformedTrace:  # a committee attested what it can't have read
                skipped[UNREADABLE] += 1
                continue
            if (trace.task, trace.sample) != (task, sample):
                skipped[MISPLACED] += 1
            elif prompt is not None and trace.prompt != prompt:
                skipped[OTHER_PROMPT] += 1
            else:
                prompt = trace.prompt
                yield _Member(trace, verdict.score_ppm / PPM, copy)


def _scorable_group(
    terms: BatchTerms,
    members: Sequence[_Member],
    codec: TokenCodec,
    rules: GroupRules,
    skipped: Counter[str],
) -> TrainingGroup | None:
    first = members[0].trace
    prompt = codec.encode(first.prompt)
    kept: list[_Member] = []
    for one in members:
        if reason := _objection(one.trace, prompt, codec, rules):
            skipped[reason] += 1
        else:
            kept.append(one)
    # A group has one policy; of a mixture only one part can be compared.
    checkpoint = kept[0].trace.checkpoint if kept else None
    skipped[OTHER_CHECKPOINT] += sum(one.trace.checkpoint != checkpoint for one in kept)
    kept = [one for one in kept if one.trace.checkpoint == checkpoint]
    scores = tuple(one.score for one in kept)
    if not (is_informative(scores) or (rules.solved and is_solved(scores))):
        skipped[ALL_ALIKE if len(kept) > 1 else SINGLE] += len(kept)
        return None
    return TrainingGroup(
        batch=terms.batch,
        task=first.task,
        prompt=prompt,
        completions=tuple(one.trace.tokens or () for one in kept),
        behaviour=tuple(one.trace.logprobs or () for one in kept),
        scores=scores,
        miner=_owner(terms),
        tier=terms.tier,
        checkpoint=checkpoint or 0,
        age=rules.age(checkpoint) or 0,
        seed=terms.seed(first.task) if terms.tier is Tier.A else b"",
        samples=tuple(one.trace.sample for one in kept),
        copies=tuple(one.copy for one in kept),
    )


def _objection(
    trace: Trace, prompt: tuple[int, ...], codec: TokenCodec, rules: GroupRules
) -> str | None:
    """What speaks against a trace of tiers A and B, before any model is asked."""
    age = rules.age(trace.checkpoint)
    if not trace.tokens or trace.logprobs is None:
        return NO_LOGPROBS
    if age is None:
        return OTHER_CHECKPOINT
    if age > rules.max_staleness:
        return TOO_STALE
    if rules.temperature is not None and trace.temperature != rules.temperature:
        return OTHER_TEMPERATURE
    if not prompt:
        return NO_PROMPT
    if len(prompt) + len(trace.tokens) > rules.context:
        return OVER_CONTEXT
    if max(trace.tokens) >= codec.vocabulary:
        return OTHER_VOCABULARY
    if codec.completion(trace.tokens, rules.stop) != trace.completion:
        return NOT_ITS_TEXT
    # The text says nothing of what stands behind its end, and verifiers look at the tokens of a
    # few groups only. Tokens are what a batch's weight, and so its royalties, are counted in.
    if codec.finish(trace.tokens, rules.stop, rules.max_tokens) != trace.finish:
        return NOT_ITS_END
    return None


def _opaque_group(
    terms: BatchTerms,
    members: Sequence[_Member],
    codec: TokenCodec,
    rules: GroupRules,
    skipped: Counter[str],
) -> TrainingGroup | None:
    first = members[0].trace
    prompt = codec.encode(first.prompt)
    # The same text twice would only weigh it double: a miner must not set its own weight.
    kept: dict[str, tuple[int, ...]] = {}
    for one in members:
        trace = one.trace
        if one.score < 1.0 or trace.finish != "stop":
            skipped[NEGATIVE_OPAQUE] += 1
        elif one.copy:
            skipped[COPY] += 1
        elif not prompt:
            skipped[NO_PROMPT] += 1
        elif trace.completion in kept:
            skipped[REPEATED_OPAQUE] += 1
        else:
            tokens = codec.encode_completion(trace.completion, rules.stop)
            if len(prompt) + len(tokens) > rules.context:
                skipped[OVER_CONTEXT] += 1
            else:
                kept[trace.completion] = tokens
    if not kept:
        return None
    return TrainingGroup(
        batch=terms.batch,
        task=first.task,
        prompt=prompt,
        completions=tuple(kept.values()),
        behaviour=None,
        scores=(1.0,) * len(kept),
        miner=_owner(terms),
        tier=terms.tier,
    )


def _owner(terms: BatchTerms) -> str:
    return terms.miner if isinstance(terms.miner, str) else "0x" + terms.miner.hex()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
